#!/bin/bash
# Prints the tables of docs/scaling.md: bench/scaling_tables.sh AMALGAM
set -euo pipefail
program=$(realpath "${1:?usage: bench/scaling_tables.sh AMALGAM}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
machines=$(realpath "$(dirname "$0")/../configs")
python3 "$(dirname "$0")/zoo_70b.py" "$folder"
cd "$folder"

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
            plan "$method-$models.toml" $((8 * nodes)) "$machines/machine-gpus-shared.toml" | python3 -c "$table" "$method" "$models" "$nodes" -
        done
    done
    printf '\n### %s, models on the disks of the nodes\n\n' "$method"
    echo '| models | nodes | groups | read | written | network | held by a node | to bring it | read | write | memory | arithmetic | network | whole (bound) |'
    echo '|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|'
    for models in 8 64 256; do
        for nodes in 1 8 64; do
            for groups in 1 8 64; do
                if ((groups > nodes || groups > models)); then continue; fi
                plan "$method-$models.toml" $((8 * nodes)) "$machines/machine-gpus-local.toml" --model-groups "$groups" |
                    python3 -c "$table" "$method" "$models" "$nodes" "$groups"
            done
        done
    done
done

printf '\n### What the program says\n\n'
for recipe in ties-64 ties-256 karcher-64; do
    echo "\`amalgam plan $recipe.toml --ranks 512 --model-groups 8\`:"
    "$program" plan "$recipe.toml" --ranks 512 --memory 40GB --machine "$machines/machine-gpus-local.toml" --model-groups 8 | tail -n 2 | sed 's/^/> /'
    echo
done
