#!/usr/bin/env bash
# What a person with a GPU runs once: builds the preset `cuda`, runs the tests labelled gpu, and prints the tables of docs/gpu.md:
# kernels as a share of the memory's bandwidth, every method's bytes against the CPU's, whole jobs against the CPU, tokens a second
# of evaluation. What fails is said again at the end; the exit code is 1 then.
#
#     bench/gpu.sh [RANKS]        PEAK=3350 bench/gpu.sh: GB/s of the GPU's memory, if the script does not know it
#
# STAND_IN=build/cpu/tests/emulation/amalgam_emulated bench/gpu.sh tries the script where there is no GPU: with that program, which is
# there already, and small models, without tests and kernels. Its seconds mean nothing.
set -eu
cd "$(dirname "$0")/.."
ranks=${1:-1}
stand_in=${STAND_IN:+$(realpath "$STAND_IN")}
failed=()
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

if [ -n "$stand_in" ]; then
    program=$stand_in size=tiny elements=100000
    decoder=(--hidden 64 --mlp 96 --layers 2 --heads 4 --kv-heads 2 --vocabulary 500)
    texts=8 length=32 limit=8 vocabulary=500
else
    program=$PWD/build/cuda/jobs/amalgam size="" elements=268435456
    decoder=(--hidden 2048 --mlp 5632 --layers 14 --heads 16 --kv-heads 4 --vocabulary 32000)
    texts=128 length=512 limit=64 vocabulary=32000
fi

build_and_time_kernels() {
    command -v nvidia-smi >/dev/null || { echo "no nvidia-smi here: this script needs a GPU and its driver"; exit 77; }
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    peak=${PEAK:-$(case $gpu in
        *A100*80GB*) echo 2039 ;; *A100*) echo 1555 ;; *H100*PCIe*) echo 2000 ;; *H100*) echo 3350 ;; *H200*) echo 4800 ;;
        *B200*) echo 8000 ;; *L40S*) echo 864 ;; *L4*) echo 300 ;; *4090*) echo 1008 ;; *3090*) echo 936 ;; *) echo 0 ;;
    esac)}
    echo "$gpu, $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1); memory ${peak} GB/s (0: unknown, set PEAK)"
    cmake --preset cuda
    cmake --build --preset cuda
    AMALGAM_REQUIRE_GPU=1 ctest --preset cuda --label-regex '^gpu$' || failed+=("tests labelled gpu")

    echo
    echo "| GPU | pass | GB/s | share of peak | same bytes as CPU |"
    echo "|---|---|---|---|---|"
    build/cuda/bench/bench_lane cuda $((1 << 26)) "$peak" || failed+=("kernels")
}
[ -n "$stand_in" ] || build_and_time_kernels

echo
# The Python that the tests use, which has what they need.
python=${PYTHON:-$(sed -n 's/^_Python3_EXECUTABLE:INTERNAL=//p' build/c*/CMakeCache.txt 2>/dev/null | head -n 1)}
# shellcheck disable=SC2086  # no word if it is empty
"$python" bench/gpu_methods.py "$program" mpirun "$ranks" $size || failed+=("bytes of every method")

# Whole jobs: eight models of 2^28 elements, cached.
work=$(mktemp -d "${TMPDIR:-/tmp}/amalgam-gpu-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
"$program" synthesize zoo --experts 8 --flat "$elements" --quiet
cat zoo/*/*.safetensors >/dev/null
echo
echo "| job | device | seconds | GB/s read | hash |"
echo "|---|---|---|---|---|"
for method in linear ties dare_ties model_stock; do
    {
        echo "merge_method = \"$method\""
        [ $method = linear ] || echo 'base_model = "zoo/base"'
        for model in zoo/expert-*; do
            echo "[[models]]"
            echo "model = \"$model\""
            case $method in
                linear) echo 'parameters = { weight = 1 }' ;;
                ties | dare_ties) echo 'parameters = { weight = 0.3, density = 0.2 }' ;;
            esac
        done
    } >$method.toml
    for device in cpu cuda; do
        rm -rf out
        mpirun --oversubscribe -n "$ranks" "$program" merge $method.toml out --device $device --report report.json --quiet
        python3 - $method $device <<'PYTHON' | tee $method.$device
import hashlib, json, sys
report = json.load(open("report.json"))
hashes = hashlib.sha256("".join(t["hash"] for t in report["tensors"]).encode()).hexdigest()[:16]
seconds = report["seconds"]["total"]
print(f"| {sys.argv[1]} | {sys.argv[2]} | {seconds:.2f} | {report['bytes_read'] / seconds / 1e9:.1f} | {hashes} |")
PYTHON
    done
    [ "$(cut -d'|' -f6 $method.cpu)" = "$(cut -d'|' -f6 $method.cuda)" ] || failed+=("bytes of the whole job $method")
done

# Forward passes: a random decoder of 0.7 billion parameters. Each task is run once and twice over; the difference is the work alone.
"$program" synthesize decoder --experts 1 "${decoder[@]}" --quiet
python3 - $texts $length $limit $vocabulary <<'PYTHON'
import json, random, sys
count, length, limit, vocabulary = map(int, sys.argv[1:])
draw = random.Random(0)
texts = [[draw.randrange(3, vocabulary) for _ in range(length)] for _ in range(count)]
for times in (1, 2):
    with open(f"score-{times}.jsonl", "w") as file:
        file.writelines(json.dumps({"ids": ids}) + "\n" for ids in texts * times)
    with open(f"write-{times}.jsonl", "w") as file:
        # No end: a token that the model hardly writes.
        file.write(json.dumps({"task": {"metric": "rouge_l", "limit": limit * times, "end_ids": [0]}}) + "\n")
        file.writelines(json.dumps({"prompt_ids": ids[: length // 8], "answer_ids": [5]}) + "\n" for ids in texts)
PYTHON
echo
echo "| scoring | device | tokens/s scored | tokens/s written |"
echo "|---|---|---|---|"
for compute in float32 bfloat16; do
    for device in cuda cpu; do
        python3 - "$program" $compute $device $texts $length $limit <<'PYTHON' || failed+=("scoring in $compute on $device")
import subprocess, sys, time
program, compute, device = sys.argv[1:4]
texts, length, limit = map(int, sys.argv[4:])
def seconds(name):
    start = time.perf_counter()
    run = subprocess.run([program, "evaluate", "decoder/base", "--task", name + ".jsonl", "--compute", compute,
                          "--device", device], capture_output=True, text=True)
    if run.returncode:
        print(f"| {compute} | {device} | {run.stderr.strip()} | |")
        # Not every processor multiplies bfloat16.
        sys.exit(0 if device == "cpu" and compute == "bfloat16" else 1)
    return time.perf_counter() - start
scored = texts * (length - 1) / (seconds("score-2") - seconds("score-1"))
written = texts * limit / (seconds("write-2") - seconds("write-1"))
print(f"| {compute} | {device} | {scored:.0f} | {written:.0f} |", flush=True)
PYTHON
    done
done

[ ${#failed[@]} = 0 ] || { printf 'failed: %s\n' "${failed[@]}"; exit 1; }
