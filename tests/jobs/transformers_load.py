#!/usr/bin/env python3
"""Merges the tiny zoo by TIES, loads the result with Hugging Face transformers, and compares its logits with those of
the same merge done in numpy by the oracle.

    transformers_load.py PROGRAM

PROGRAM may be several words ("mpirun -n 4 build/jobs/amalgam"). Needs torch, transformers and numpy; CI runs it in a
virtual environment of its own.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ZOO = os.path.join(TESTS, "data", "zoo")
sys.path.insert(0, os.path.join(TESTS, "reference"))
import small_yaml  # noqa: E402
from resolve import expected_output  # noqa: E402
from safetensors_io import read_model, round_to  # noqa: E402

PROMPTS = 8
# largest difference of a logit, relative to the largest logit: the numbers differ in the last bits of float32, which
# turn into a last bit of bfloat16 here and there
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-3}


def recipe(dtype):
    """Weights of few bits: on the grid of bfloat16 deltas, 0.6 x 5 - 1.0 x 3 is a vote of 0 that rounding decides."""
    model = lambda name: os.path.join(ZOO, "models", name)
    entry = lambda name, weight, density: {"model": model(name), "parameters": {"weight": weight, "density": density}}
    by_part = [{"filter": "mlp", "value": 0.5}, {"value": 0.25}]
    return {
        "merge_method": "ties",
        "base_model": model("base"),
        "models": [entry("math-en", 0.75, 0.5), entry("math2-en", by_part, 0.3), entry("lang-ja", 1.0, 0.7)],
        "parameters": {"normalize": False, "lambda": 1.1},
        "dtype": "float32",
        "out_dtype": dtype,
    }


def prompts():
    with open(os.path.join(ZOO, "tasks", "math-ja", "search.jsonl")) as file:
        return [json.loads(line)["prompt_ids"] for _, line in zip(range(PROMPTS), file)]


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].float().numpy()


def in_numpy(made, dtype, folder):
    """the same merge by the oracle, in a model of the same class"""
    references = [made["base_model"]] + [entry["model"] for entry in made["models"]]
    expected = expected_output(made, {r: read_model(r) for r in references})
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float()
    stored = {"float32": "F32", "bfloat16": "BF16"}[dtype]
    state = {name: torch.from_numpy(round_to(stored, e.merged.values).astype("f4")) for name, e in expected.items()}
    model.load_state_dict(state, strict=True)
    return model


def compare(program, dtype, root):
    """ "" or what is wrong"""
    made = recipe(dtype)
    with open(os.path.join(root, dtype + ".yaml"), "w") as file:
        file.write(small_yaml.dump(made))
    folder = os.path.join(root, "merged-" + dtype)
    run = subprocess.run(program + ["merge", dtype + ".yaml", folder], cwd=root, capture_output=True, text=True)
    if run.returncode:
        return f"the merge ended with {run.returncode}: {run.stderr}"
    merged, info = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"]:
        return f"missing keys {info['missing_keys']}, unexpected keys {info['unexpected_keys']}"
    twin = in_numpy(made, dtype, folder)
    base = AutoModelForCausalLM.from_pretrained(made["base_model"], torch_dtype=torch.float32)
    worst = moved = 0.0
    for ids in prompts():
        got, want = logits(merged, ids), logits(twin, ids)
        size = np.abs(want).max()
        worst = max(worst, np.abs(got - want).max() / size)
        moved = max(moved, np.abs(want - logits(base, ids)).max() / size)
    print(f"{dtype}: logits of {PROMPTS} prompts differ by {worst:.1e} of the largest (from the base's by {moved:.1e})")
    if not worst <= TOLERANCE[dtype]:
        return f"logits differ by {worst:.1e}, at most {TOLERANCE[dtype]:.0e} is allowed"
    return "" if moved > 0.1 else "the merge hardly differs from the base: the comparison shows nothing"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    program = shlex.split(sys.argv[1])
    if os.path.exists(program[-1]):
        program[-1] = os.path.abspath(program[-1])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as root:
        wrong = [f"{dtype}: {why}" for dtype in TOLERANCE if (why := compare(program, dtype, root))]
    print("\n".join(wrong) or "transformers loads what amalgam writes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
