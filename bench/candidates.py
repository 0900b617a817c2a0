#!/usr/bin/env python3
"""Candidates per second on a zoo: random recipes, TIES and task arithmetic with weights by layer group, scored in memory.

    candidates.py PROGRAM BASE EXPERT... --task FILE [--candidates 200] [--warm-up 10] [--groups 3] [--ranks N] [--group N]
                  [--products build/release/bench/bench_products] [--against COMMAND]

Prints candidates a second after the warm-up, where the time goes (fold, weights laid out, forward pass, rest; share of the threads
that is idle), and, with --products, the share of the processor's speed of products that the forward pass reaches: that of
the largest matrix of a layer on one core, measured in the same run, times the cores. --against runs another command in the same run
and prints what it prints.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("base")
    parser.add_argument("experts", nargs="+")
    parser.add_argument("--task", required=True, action="append")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--ranks", type=int, default=0)
    parser.add_argument("--group", type=int, default=1)
    parser.add_argument("--products")
    parser.add_argument("--against")
    return parser.parse_args()


def write_recipes(options, folder, layers):
    for method in ("ties", "task_arithmetic"):
        lines = [f'merge_method = "{method}"', f"base_model = {json.dumps(options.base)}", 'dtype = "bfloat16"']
        for expert in options.experts:
            lines += ["[[models]]", f"model = {json.dumps(expert)}", "parameters.weight = 0.5"]
            lines += ["parameters.density = 0.5"] if method == "ties" else []
        with open(os.path.join(folder, method + ".toml"), "w") as file:
            file.write("\n".join(lines) + "\n")
    draw = random.Random(options.seed)
    path = os.path.join(folder, "list.txt")
    with open(path, "w") as file:
        for number in range(options.warm_up + options.candidates):
            method = ("ties", "task_arithmetic")[number % 2]
            changes = []
            for expert in range(len(options.experts)):
                weights = [round(draw.gauss(0.5, 0.2), 4) for _ in range(options.groups)]
                by_layer = [weights[layer * options.groups // layers] for layer in range(layers)]
                changes.append(f"models.{expert}.parameters.weight={json.dumps(by_layer)}")
                if method == "ties":
                    changes.append(f"models.{expert}.parameters.density={round(draw.uniform(0.2, 0.9), 4)}")
            file.write(json.dumps({"recipe": os.path.join(folder, method + ".toml"), "set": changes}) + "\n")
    return path


def product_flops(config, scored):
    """of all matrix products of one candidate; `scored`: tokens that are fed and tokens that are judged"""
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    heads, kv = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])
    head = config.get("head_dim") or hidden // heads
    layer = hidden * head * (heads + 2 * kv) + heads * head * hidden + 3 * hidden * mlp
    return 2 * (scored[0] * layer * config["num_hidden_layers"] + scored[1] * hidden * config["vocab_size"])


def tokens(paths):
    """of exact-match items: prompt and answer are fed, the answer and the end behind it are judged"""
    fed = judged = 0
    for path in paths:
        with open(path) as file:
            for line in map(json.loads, file):
                if "answer_ids" in line:
                    fed += len(line["prompt_ids"]) + len(line["answer_ids"])
                    judged += len(line["answer_ids"]) + 1
    return fed, judged


def peak_products(program, config):
    shape = f"256/{2 * config['intermediate_size']}/{config['hidden_size']}/0"
    words = [program, f"--benchmark_filter=products/{shape}$", "--benchmark_format=json"]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["benchmarks"]
    return len(os.sched_getaffinity(0)) * found[0]["FLOP/s"] if found else None


def main():
    options = read_options()
    with open(os.path.join(options.base, "config.json")) as file:
        config = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        listed = write_recipes(options, folder, config["num_hidden_layers"])
        out = os.path.join(folder, "scores.json")
        words = [options.program, "evaluate", "--recipes", listed, "--json", out]
        words += [word for task in options.task for word in ("--task", task)]
        if options.ranks:
            words = ["mpirun", "-n", str(options.ranks), "--oversubscribe", *words, "--group", str(options.group)]
        start = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - start
        with open(out) as file:
            timed = json.load(file)["candidates"][options.warm_up :]
    total = sum(each["seconds"]["total"] for each in timed)
    at_once = max(1, options.ranks // options.group)
    print(f"{len(timed)} candidates, {len(timed) * at_once / total:.1f} a second after {options.warm_up} to warm up; "
          f"the whole command, started and ended, {whole:.2f} s")
    for method in ("ties", "task_arithmetic"):
        own = [each for each in timed if method in os.path.basename(each["model"])]
        split = {key: sum(each["seconds"][key] for each in own) / len(own) for key in own[0]["seconds"]}
        rest = split["total"] - split["merge"] - split["weights"] - split["forward"]
        print(f"  {method}: {1e3 * split['total']:.1f} ms = fold {1e3 * split['merge']:.1f} + weights "
              f"{1e3 * split['weights']:.1f} + forward {1e3 * split['forward']:.1f} + rest {1e3 * rest:.1f}; threads idle "
              f"{statistics.mean(each['idle_share'] for each in own):.0%}")
    if options.products:
        peak = peak_products(options.products, config)
        forward = sum(each["seconds"]["forward"] for each in timed) / len(timed) / at_once
        flops = product_flops(config, tokens(options.task))
        if peak:
            print(f"  products of a forward pass: {flops / 1e9:.2f} GFLOP, {flops / forward / 1e9:.0f} GFLOP/s, "
                  f"{flops / forward / peak:.0%} of the {peak / 1e9:.0f} GFLOP/s of products alone")
    if options.against:
        print(f"\n{options.against}", flush=True)
        subprocess.run(options.against, shell=True, check=True)


if __name__ == "__main__":
    main()
