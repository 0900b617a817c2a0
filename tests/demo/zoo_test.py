"""Every recipe of configs/ runs on two ranks, and the merges can do what the README of the zoo says.

zoo_test.py PROGRAM MPIEXEC
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np  # noqa: E402
from tiny_llama import TinyLlama, score  # noqa: E402
from safetensors_io import read_model  # noqa: E402

program, mpiexec = sys.argv[1:]
root = pathlib.Path(__file__).resolve().parents[2]
zoo = root / "tests" / "data" / "zoo"
task = zoo / "tasks" / "math-ja" / "heldout.jsonl"
ITEMS = 96
# Least share of right answers; each model they are made of has at most 6 %.
AT_LEAST = {"zoo-ties": 0.4, "zoo-dare-ties": 0.4, "zoo-slerp": 0.4, "zoo-task-arithmetic": 0.6}
failures = []


def expect(condition, what):
    print("ok    " if condition else "FAILED", what, flush=True)
    if not condition:
        failures.append(what)


def check_llama():
    """the judge itself, against logits and answers of another implementation"""
    for name in ("base", "math-en"):
        model = TinyLlama(zoo / "models" / name)
        for item in json.loads((zoo / "reference" / f"{name}.json").read_text())["prompts"]:
            ids = item["prompt_ids"]
            logits = model.logits(np.array([ids]), np.array([len(ids) - 1]))[0]
            expect(np.abs(logits - item["last_logits"]).max() < 1e-3, f"{name}: logits after {len(ids)} tokens")
            expect(model.answers([ids])[0] == item["greedy_ids"], f"{name}: answer {item['greedy_ids']}")


def check_stack(folder):
    """layers 0-3 of one model, then 2-5 of the other, whose two scaled matrices differ"""
    first, second, result = (read_model(path) for path in (zoo / "models" / "math2-en", zoo / "models" / "lang-ja", folder))
    config = json.loads((folder / "config.json").read_text())
    expect(config["num_hidden_layers"] == 8, "8 layers in config.json")
    for layer in range(8):
        source, number = (first, layer) if layer < 4 else (second, layer - 2)
        names = [name for name in result if name.startswith(f"model.layers.{layer}.")]
        same = [name for name in names
                if np.array_equal(result[name].bits, source[name.replace(f".{layer}.", f".{number}.", 1)].bits)]
        expect(len(names) == 9 and len(same) == (9 if layer < 4 else 7), f"layer {layer} is copied")


check_llama()
for name in ("base", "math-en", "math2-en", "lang-ja", "distract"):
    share = score(TinyLlama(zoo / "models" / name), task, ITEMS)
    expect(share <= 0.06, f"{name}: {share:.0%} right")
with tempfile.TemporaryDirectory() as out:
    for recipe in sorted((root / "configs").glob("zoo-*.toml")):
        folder = pathlib.Path(out) / recipe.stem
        result = subprocess.run([mpiexec, "-n", "2", "--oversubscribe", program, "merge", recipe, folder, "--quiet"],
                                cwd=root, capture_output=True, text=True)
        expect(result.returncode == 0, f"{recipe.name}: {result.stderr}")
        if result.returncode == 0 and recipe.stem in AT_LEAST:
            share = score(TinyLlama(folder), task, ITEMS)
            expect(share >= AT_LEAST[recipe.stem], f"{recipe.stem}: {share:.0%} right")
    check_stack(pathlib.Path(out) / "zoo-layer-stack")
sys.exit(1 if failures else 0)
