#!/usr/bin/env python3
"""Runs merges of random models through amalgam and compares every element with the oracle.

    run.py PROGRAM [--seed S] [--cases N] [--method M] [--only TEXT] [--keep FOLDER] [-- extra arguments of `merge`]

PROGRAM may be several words ("mpirun -n 3 build/jobs/amalgam"). N random cases for each method (default 4), then the
awkward cases of `awkward.py` and the refusals of `verdicts.py`; --method keeps those of one method, --only those whose
name contains TEXT. One line for each failing case, then a count. Needs numpy.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import numpy as np

import small_yaml
from awkward import awkward_cases
from oracle import MergeError
from recipes import random_case
from resolve import METHODS, expected_output, layer_of
from safetensors_io import FORMATS, PRECISION, SATURATES, quantum, read_model, round_to, write_model
from verdicts import verdict_cases

# of the size of the terms that were added up: a handful of roundings
SLACK = {False: 1e-6, True: 1e-13}


def close_to(dtype, got, want, slack):
    """Half a unit of the output's dtype around the exact value, and the slack of the working precision."""
    rounded = round_to(dtype, want)
    if dtype in SATURATES:
        want = np.clip(want, -PRECISION[dtype][2], PRECISION[dtype][2])
    with np.errstate(invalid="ignore"):
        near = np.abs(got - want) <= 0.5 * quantum(dtype, want) + slack
    return near | (got == rounded) | (np.isnan(got) & np.isnan(want))


def judge_tensor(name, got, expected):
    """ "" or what is wrong"""
    if got.dtype != expected.dtype:
        return f"{name} is {got.dtype}, should be {expected.dtype}"
    shape = (expected.copy.bits if expected.merged is None else expected.merged.values).shape
    if got.shape != shape:
        return f"{name} has shape {got.shape}, should be {shape}"
    if expected.merged is None:
        return "" if np.array_equal(got.bits, expected.copy.bits) else f"{name} is no exact copy"
    merged, values = expected.merged, got.values
    scale = np.where(np.isfinite(merged.scale), merged.scale, 0)
    slack = SLACK[expected.wide] * (scale + 0.1 * scale.max(initial=0))
    good = close_to(got.dtype, values, merged.values, slack)
    if merged.other is not None:
        good |= close_to(got.dtype, values, merged.other, slack)
    wrong = np.flatnonzero(~good.reshape(-1))
    # every element, but for thresholds over large tensors, where a handful may fall on the other side
    if wrong.size <= values.size // 1000:
        return ""
    at = wrong[0]
    return (
        f"{name} {got.dtype} {values.shape}: {wrong.size} of {values.size} elements wrong, the first at {at}: "
        f"{values.reshape(-1)[at]!r}, should be {merged.values.reshape(-1)[at]!r}"
    )


def judge_config(folder, expected):
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    layers = {layer_of(n)[1] for n in expected if layer_of(n)[0] == "model.layers"}
    if config.get("num_hidden_layers") != len(layers):
        return f"config.json: num_hidden_layers is {config.get('num_hidden_layers')}, should be {len(layers)}"
    embedding = expected.get("model.embed_tokens.weight")
    if embedding:
        rows = (embedding.copy.bits if embedding.merged is None else embedding.merged.values).shape[0]
        if config.get("vocab_size") != rows:
            return f"config.json: vocab_size is {config.get('vocab_size')}, should be {rows}"
        if config.get("tie_word_embeddings") is not ("lm_head.weight" not in expected):
            return f"config.json: tie_word_embeddings is {config.get('tie_word_embeddings')}"
    dtypes = {e.dtype for e in expected.values() if FORMATS[e.dtype][1]}
    if len(dtypes) == 1:
        said = config.get("dtype", config.get("torch_dtype"))
        if said != FORMATS[next(iter(dtypes))][1]:
            return f"config.json: dtype is {said}, should be {FORMATS[next(iter(dtypes))][1]}"
    return ""


def toml_value(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return json.dumps(value)


def set_up(folder, case):
    os.makedirs(folder)
    for reference, model in case.models.items():
        write_model(os.path.join(folder, reference), model.tensors, model.config, model.shards)
    with open(os.path.join(folder, "recipe.yaml"), "w") as file:
        file.write(small_yaml.dump(case.recipe))
    rules = {"seed": case.seed, "compat": "paper" if case.paper else "mergekit"} if hasattr(case, "paper") else {}
    with open(os.path.join(folder, "recipe.toml"), "w") as file:
        file.write("".join(f"{key} = {toml_value(value)}\n" for key, value in {**case.recipe, **rules}.items()))


def run_program(program, folder, arguments, recipe="recipe.yaml", out="merged"):
    return subprocess.run(
        program + ["merge", recipe, out] + arguments, cwd=folder, capture_output=True, text=True, timeout=600
    )


def last_words(run):
    lines = (run.stderr or run.stdout).strip().splitlines()
    return lines[-1] if lines else ""


def judge_case(program, folder, case, extra):
    expected = expected_output(
        case.recipe, {r: m.tensors for r, m in case.models.items()}, case.paper, case.seed, case.skip_on_mismatch
    )
    set_up(folder, case)
    arguments = list(case.arguments) + extra
    if not case.toml:
        arguments += ["--set", "compat=paper"] if case.paper else []
        arguments += ["--set", f"seed={case.seed}"] if case.seed else []
    run = run_program(program, folder, arguments, "recipe.toml" if case.toml else "recipe.yaml")
    if run.returncode:
        return f"exit status {run.returncode}: {last_words(run)}"
    if case.warns and case.warns not in run.stderr:
        return f"no warning that says {case.warns!r}"
    got = read_model(os.path.join(folder, "merged"))
    if set(got) != set(expected):
        return f"tensors: missing {sorted(set(expected) - set(got))[:3]}, extra {sorted(set(got) - set(expected))[:3]}"
    wrong = [why for name in expected if (why := judge_tensor(name, got[name], expected[name]))]
    wrong += [why for why in [judge_config(os.path.join(folder, "merged"), expected)] if why]
    return f"{wrong[0]} (and {len(wrong) - 1} more)" if len(wrong) > 1 else "".join(wrong)


def judge_verdict(program, folder, verdict, extra):
    """A merge that must be refused: exit status of a user's error, a text that says what, nothing published."""
    set_up(folder, verdict)
    verdict.spoil(folder)
    run = run_program(program, folder, verdict.arguments + extra, verdict.recipe_file, verdict.out)
    if verdict.says is None:
        return "" if run.returncode == 0 else f"exit status {run.returncode}: {last_words(run)}"
    if not 1 <= run.returncode <= 9:
        return f"exit status {run.returncode}, should be 1 to 9: {last_words(run)}"
    says = lambda word: re.search(rf"(?<!\w){re.escape(word)}(?!\w)", run.stderr, re.IGNORECASE)
    missing = [word for word in verdict.says if not says(word)]
    if missing:
        return f"the message does not say {missing}: {run.stderr.strip()[:400]}"
    if verdict.out == "merged" and os.path.exists(os.path.join(folder, "merged")):
        return "something was published"
    return ""


def random_cases(method, seed, count):
    index = made = 0
    while made < count:
        case = random_case(method, seed, index)
        index += 1
        try:
            expected_output(case.recipe, {r: m.tensors for r, m in case.models.items()}, case.paper, case.seed)
        except MergeError:
            continue  # random weights that cancel: refused by rule
        made += 1
        yield case


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--method")
    parser.add_argument("--only", default="")
    parser.add_argument("--keep")
    arguments, extra = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, extra = arguments[:cut], arguments[cut + 1 :]
    options = parser.parse_args(arguments)
    program = shlex.split(options.program)
    if os.path.exists(program[-1]):
        program[-1] = os.path.abspath(program[-1])
    root = options.keep or tempfile.mkdtemp()
    wanted = lambda case: options.only in case.name and options.method in (None, case.recipe["merge_method"])
    passed = failed = 0

    def work():
        for method in METHODS:
            if options.method in (None, method):
                yield from ((judge_case, c) for c in random_cases(method, options.seed, options.cases))
        yield from ((judge_case, c) for c in awkward_cases(options.seed))
        yield from ((judge_verdict, c) for c in verdict_cases(options.seed))

    for judge, case in work():
        if not wanted(case):
            continue
        folder = os.path.join(root, case.name)
        try:
            why = judge(program, folder, case, extra)
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            why = f"{type(error).__name__}: {error}"
        passed, failed = passed + (not why), failed + bool(why)
        if why:
            print(f"{case.name}: {why}", flush=True)
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
