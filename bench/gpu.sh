#!/usr/bin/env bash
# What a person with a GPU runs once: builds the preset `cuda`, runs the tests labelled gpu, and prints the table of docs/gpu.md:
# kernels as a share of the memory's bandwidth, whole jobs against the CPU, hashes of both, tokens a second of evaluation.
#
#     bench/gpu.sh [RANKS]        PEAK=3350 bench/gpu.sh: GB/s of the GPU's memory, if the script does not know it
set -eu
cd "$(dirname "$0")/.."
ranks=${1:-1}
command -v nvidia-smi >/dev/null || { echo "no nvidia-smi here: this script needs a GPU and its driver"; exit 77; }
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
peak=${PEAK:-$(case $gpu in
    *A100*80GB*) echo 2039 ;; *A100*) echo 1555 ;; *H100*PCIe*) echo 2000 ;; *H100*) echo 3350 ;; *H200*) echo 4800 ;;
    *B200*) echo 8000 ;; *L40S*) echo 864 ;; *L4*) echo 300 ;; *4090*) echo 1008 ;; *3090*) echo 936 ;; *) echo 0 ;;
esac)}
echo "$gpu, $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1); memory ${peak} GB/s (0: unknown, set PEAK)"
cmake --preset cuda
cmake --build --preset cuda
AMALGAM_GPU_TESTS=required ctest --preset cuda --label-regex gpu

echo
echo "| GPU | pass | GB/s | share of peak | same bytes as CPU |"
echo "|---|---|---|---|---|"
build/cuda/bench/bench_lane cuda $((1 << 26)) "$peak"

# Whole jobs: eight models of 2^28 elements, cached.
work=$(mktemp -d "${TMPDIR:-/tmp}/amalgam-gpu-XXXXXX")
trap 'rm -rf "$work"' EXIT
program=$PWD/build/cuda/jobs/amalgam
cd "$work"
"$program" synthesize zoo --experts 8 --flat 268435456 --quiet
cat zoo/*/*.safetensors >/dev/null
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
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
        mpirun -n "$ranks" "$program" merge $method.toml out --device $device --report report.json --quiet
        python3 - $method $device <<'PYTHON'
import hashlib, json, sys
report = json.load(open("report.json"))
hashes = hashlib.sha256("".join(t["hash"] for t in report["tensors"]).encode()).hexdigest()[:16]
seconds = report["seconds"]["total"]
print(f"| {sys.argv[1]} | {sys.argv[2]} | {seconds:.2f} | {report['bytes_read'] / seconds / 1e9:.1f} | {hashes} |")
PYTHON
    done
done

# Forward passes: a random decoder of 0.7 billion parameters. Each task is run once and twice over; the difference is the work alone.
"$program" synthesize decoder --experts 1 --hidden 2048 --mlp 5632 --layers 14 --heads 16 --kv-heads 4 --vocabulary 32000 --quiet
python3 - <<'PYTHON'
import json, random
draw = random.Random(0)
texts = [[draw.randrange(3, 32000) for _ in range(512)] for _ in range(128)]
for times in (1, 2):
    with open(f"score-{times}.jsonl", "w") as file:
        file.writelines(json.dumps({"ids": ids}) + "\n" for ids in texts * times)
    with open(f"write-{times}.jsonl", "w") as file:
        # No end: a token that the model hardly writes.
        file.write(json.dumps({"task": {"metric": "rouge_l", "limit": 64 * times, "end_ids": [0]}}) + "\n")
        file.writelines(json.dumps({"prompt_ids": ids[:64], "answer_ids": [5]}) + "\n" for ids in texts)
PYTHON
echo
echo "| scoring | device | tokens/s scored | tokens/s written |"
echo "|---|---|---|---|"
for compute in float32 bfloat16; do
    for device in cuda cpu; do
        python3 - "$program" $compute $device <<'PYTHON'
import subprocess, sys, time
program, compute, device = sys.argv[1:]
def seconds(name):
    start = time.perf_counter()
    run = subprocess.run([program, "evaluate", "decoder/base", "--task", name + ".jsonl", "--compute", compute,
                          "--device", device], capture_output=True, text=True)
    if run.returncode:
        print(f"| {compute} | {device} | {run.stderr.strip()} | |")
        sys.exit()
    return time.perf_counter() - start
scored = 128 * 511 / (seconds("score-2") - seconds("score-1"))
written = 128 * 64 / (seconds("write-2") - seconds("write-1"))
print(f"| {compute} | {device} | {scored:.0f} | {written:.0f} |", flush=True)
PYTHON
    done
done
