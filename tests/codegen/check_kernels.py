#!/usr/bin/env python3
"""What nvcc makes of the GPU's kernels: 16-byte accesses, no fused arithmetic, few registers, nothing in local memory.

check_kernels.py SOURCE_FOLDER WORK_FOLDER ARCHITECTURE...    (80 90 100); exit code 77 where nvcc is missing.
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

FLAGS = ["-std=c++20", "-fmad=false", "-Werror", "all-warnings",
         "-Xcompiler", "-fopenmp-simd,-ffp-contract=off,-Wall,-Wextra"]
# Kernels of each source: one that is lost is noticed.
KERNELS = {"decoder_attention": 6, "decoder_head": 1, "decoder_rows": 10, "fold": 24, "gram": 3, "row_fold": 14, "rows": 8, "select": 21, "statistics": 17}
# Registers: two blocks of 256 threads on a multiprocessor (65,536 registers); computing in double may take more, and so do
# tiles of products.
REGISTERS, WIDE_REGISTERS, GRAM_REGISTERS = 128, 208, 184
# The ranks of a row keep one operand in memory, far from any inner loop.
STACK = {"rank_kernel": 16}
# A product and a sum without .rn may become one instruction, and other bits than the CPU's.
FUSED = re.compile(r"\b(?:fma|mad)\.(?!lo|hi|wide)|\b(?:add|sub|mul)\.f(?:32|64)")
VECTOR_LOAD = re.compile(r"\bld\.global(?:\.\w+)*\.v4\.")
VECTOR_STORE = re.compile(r"\bst\.global(?:\.\w+)*\.v4\.")


def find_tool(name):
    tool = os.environ.get(name.upper()) or shutil.which(name) or f"/usr/local/cuda/bin/{name}"
    return tool if os.access(tool, os.X_OK) else None


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def entries(ptx):
    """Mangled name and body of each kernel."""
    parts = re.split(r"^\s*(?:\.visible |\.weak )?\.entry ", ptx, flags=re.M)[1:]
    return {re.match(r"\w+", part)[0]: part for part in parts}


def resources(text):
    """Registers, stack and spills of each kernel, from ptxas -v."""
    found = {}
    for part in text.split("Compiling entry function '")[1:]:
        numbers = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        registers = re.search(r"Used (\d+) registers", part)
        found[part[:part.index("'")]] = (int(registers[1]), *map(int, numbers.groups()))
    return found


def check(source, architecture, nvcc, ptxas, root, work):
    """Complaints about one source."""
    name = source.stem
    ptx, cubin = work / f"{name}_{architecture}.ptx", work / f"{name}_{architecture}.cubin"
    run([nvcc, *FLAGS, f"-I{root}", f"-arch=compute_{architecture}", "-ptx", source, "-o", ptx])
    text = ptx.read_text()
    bodies = entries(text)
    used = resources(run([ptxas, "-v", f"-arch=sm_{architecture}", ptx, "-o", cubin]))
    where = f"{name}.cu for sm_{architecture}"
    if len(bodies) != KERNELS.get(name) or bodies.keys() != used.keys():
        yield f"{where}: {len(bodies)} kernels, {len(used)} assembled, not {KERNELS.get(name)}"
    for number, line in enumerate(text.splitlines(), 1):
        if FUSED.search(line):
            yield f"{ptx}:{number}: fused, or may be (is -fmad=false missing?): {line.strip()}"
            break
    most = 0
    for kernel, (registers, stack, stores, loads) in used.items():
        wide = "IdE" in kernel or re.search(r"Ed(?:EE|E)v|PassId", kernel)
        limit = GRAM_REGISTERS if "gram_kernel" in kernel else WIDE_REGISTERS if wide else REGISTERS
        most = max(most, registers)
        if registers > limit:
            yield f"{where}: {kernel} uses {registers} registers, more than {limit}"
        allowed = max((size for part, size in STACK.items() if part in kernel), default=0)
        if stores or loads or stack > allowed:
            yield f"{where}: {kernel} has {stack} bytes of stack and spills {stores} and {loads} bytes"
        if "fold_kernel" in kernel and name == "fold":
            for what, pattern in (("load", VECTOR_LOAD), ("store", VECTOR_STORE)):
                if not pattern.search(bodies.get(kernel, "")):
                    yield f"{where}: {kernel} has no 16-byte {what}"
    print(f"{where}: {len(bodies)} kernels, at most {most} registers", flush=True)


def main():
    root, work, architectures = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3:]
    nvcc, ptxas = find_tool("nvcc"), find_tool("ptxas")
    if not nvcc or not ptxas:
        print("skipped: nvcc and ptxas are neither in PATH nor in /usr/local/cuda/bin (CUDA Toolkit); NVCC and PTXAS say where")
        return 77
    work.mkdir(parents=True, exist_ok=True)
    sources = sorted((root / "kernels/cuda").glob("*.cu"))
    complaints = [complaint for architecture in architectures for source in sources
                  for complaint in check(source, architecture, nvcc, ptxas, root, work)]
    print(*complaints, sep="\n")
    return 1 if complaints or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
