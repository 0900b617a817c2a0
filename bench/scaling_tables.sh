#!/bin/bash
# Prints the tables of docs/scaling.md: bench/scaling_tables.sh AMALGAM. Only headers exist: the weights of the models are holes in
# sparse files, all models but the base are links to one.
set -euo pipefail
program=$(realpath "${1:?usage: bench/scaling_tables.sh AMALGAM}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 - <<'PYTHON'
import json, os, struct

shapes = {"model.embed_tokens.weight": [32000, 8192], "lm_head.weight": [32000, 8192], "model.norm.weight": [8192]}
for layer in range(80):
    for name, shape in {
        "self_attn.q_proj": [8192, 8192],
        "self_attn.k_proj": [1024, 8192],
        "self_attn.v_proj": [1024, 8192],
        "self_attn.o_proj": [8192, 8192],
        "mlp.up_proj": [28672, 8192],
        "mlp.gate_proj": [28672, 8192],
        "mlp.down_proj": [8192, 28672],
        "input_layernorm": [8192],
        "post_attention_layernorm": [8192],
    }.items():
        shapes[f"model.layers.{layer}.{name}.weight"] = shape
header, offset = {}, 0
for name, shape in shapes.items():
    end = offset + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
    offset = end
text = json.dumps(header).encode()
for folder in ("base", "model"):
    os.mkdir(folder)
    with open(f"{folder}/config.json", "w") as file:
        json.dump({"num_hidden_layers": 80, "vocab_size": 32000}, file)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
for i in range(256):
    os.mkdir(f"m{i}")
    for name in ("config.json", "model.safetensors"):
        os.link(f"model/{name}", f"m{i}/{name}")
for models in (8, 64, 256):
    entries = "".join(f'{{model = "m{i}"}},\n' for i in range(models))
    with open(f"ties-{models}.toml", "w") as file:
        file.write(
            'merge_method = "ties"\nbase_model = "base"\n[parameters]\ndensity = 0.2\nweight = 1\n'.replace(
                "[parameters]", f"models = [\n{entries}]\n[parameters]"
            )
        )
    with open(f"karcher-{models}.toml", "w") as file:
        file.write(f'merge_method = "karcher"\nmodels = [\n{entries}]\n')

# A node of 8 GPUs of 3.3 TB/s and 34 TFLOP/s in double precision, four NVMe disks, 400 Gbit/s of network; a file system
# of 400 GB/s for all.
common = 'ranks_per_node = 8\nwrite = 20\nmemory = 26400\narithmetic = 272000\nnetwork = 50\nlatency = 30\n'
with open("shared.toml", "w") as file:
    file.write('name = "8 GPUs a node, shared file system"\nread = 40\ntotal_read = 400\ntotal_write = 200\n' + common)
with open("local.toml", "w") as file:
    file.write('name = "8 GPUs a node, NVMe in the nodes"\nread = 25\nlocal = true\n' + common)
PYTHON

plan() { "$program" plan "$1" --ranks "$2" --memory 40GB --machine "$3" --json "${@:4}"; }

table='
import json, sys
method, models, nodes, groups = sys.argv[1:]
plan = json.load(sys.stdin)
total, times = plan["total"], plan["times"]
def size(count):
    for unit in ("B", "KB", "MB", "GB", "TB", "PB"):
        if count < 1000:
            break
        count /= 1000
    return f"{count:.3g} {unit}"
def time(seconds):
    if seconds == 0:
        return "-"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.3g} min"
network = total["bytes_sent"] + total["bytes_handed_on"]
cells = [models, nodes] + ([groups] if groups != "-" else [])
cells += [size(total["bytes_read"] + total["bytes_read_again"]), size(total["bytes_written"]), size(network)]
if groups != "-":
    cells += [size(plan["bytes_held"]), time(times["models_to_disks"])]
cells += [time(times[key]) for key in ("read", "write", "memory", "arithmetic", "network")]
cells += [time(times["overlapped"]) + " (" + times["bound"] + ")"]
print("| " + " | ".join(cells) + " |")
'

for method in ties karcher; do
    printf '\n### %s, a shared file system\n\n' "$method"
    echo '| models | nodes | read | written | network | read | write | memory | arithmetic | network | whole (bound) |'
    echo '|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|'
    for models in 8 64 256; do
        for nodes in 1 8 64; do
            plan "$method-$models.toml" $((8 * nodes)) shared.toml | python3 -c "$table" "$method" "$models" "$nodes" -
        done
    done
    printf '\n### %s, models on the disks of the nodes\n\n' "$method"
    echo '| models | nodes | groups | read | written | network | held by a node | to bring it | read | write | memory | arithmetic | network | whole (bound) |'
    echo '|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|'
    for models in 8 64 256; do
        for nodes in 1 8 64; do
            for groups in 1 8 64; do
                if ((groups > nodes || groups > models)); then continue; fi
                plan "$method-$models.toml" $((8 * nodes)) local.toml --model-groups "$groups" |
                    python3 -c "$table" "$method" "$models" "$nodes" "$groups"
            done
        done
    done
done

printf '\n### What the program says\n\n'
for recipe in ties-64 ties-256 karcher-64; do
    echo "\`amalgam plan $recipe.toml --ranks 512 --model-groups 8\`:"
    "$program" plan "$recipe.toml" --ranks 512 --memory 40GB --machine local.toml --model-groups 8 | tail -n 2 | sed 's/^/> /'
    echo
done
