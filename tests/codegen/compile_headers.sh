#!/bin/sh
# Compiles every kernel header with nvcc, all passes instantiated in kernels: what CUDA runs is the body the CPU runs.
# compile_headers.sh SOURCE_FOLDER [WORK_FOLDER]; exit code 77 where nvcc is missing.
set -eu
root=$(cd "$1" && pwd)
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if ! command -v "$nvcc" >/dev/null; then
    echo "skipped: nvcc was not found in PATH or /usr/local/cuda (CUDA Toolkit); NVCC=/path/to/nvcc says where it is"
    exit 77
fi
work=${2:-$(mktemp -d)}
mkdir -p "$work"
rm -f "$work"/passes.*

# Headers of the host alone: they decide what to compute.
host_only="threshold.h tree_sum.h blends.h"
headers=0
for header in "$root"/kernels/*.h "$root"/kernels/methods/*.h; do
    name=${header#"$root"/}
    case " $host_only " in *" ${name#kernels/} "*) continue ;; esac
    echo "#include \"$name\"" >>"$work/passes.cu"
    headers=$((headers + 1))
done
cat "$root/tests/codegen/passes.cu.in" >>"$work/passes.cu"

# Unoptimised: whole packs unrolled in one thread take the optimiser many minutes, and are not how a device would run.
"$nvcc" -std=c++20 -fmad=false -I"$root" -Xcompiler -fopenmp-simd,-ffp-contract=off,-Wall,-Wextra -Werror all-warnings \
    -arch=sm_80 -Xcicc -O0 -Xptxas -O0 --keep --keep-dir "$work" -c "$work/passes.cu" -o "$work/passes.o"

kernels=$(grep -c '\.entry' "$work/passes.ptx")
expected=53
if [ "$kernels" -ne $expected ]; then
    echo "$kernels kernels were compiled, not $expected"
    exit 1
fi
# A product and a sum without .rn may become one fused instruction, and other bits than the CPU's.
fused='\b(fma|mad)\.|\b(add|sub|mul)\.f(32|64)'
if grep -nE "$fused" "$work/passes.ptx" | grep -vE 'mad\.(lo|hi|wide)' | head -5 | grep .; then
    echo "the lines above of $work/passes.ptx are fused, or may be: compile with -fmad=false"
    exit 1
fi
echo "$headers headers, $kernels kernels"
