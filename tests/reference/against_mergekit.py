#!/usr/bin/env python3
"""Compares the oracle with mergekit itself, to find misreadings of what mergekit does. Not part of the test suite: run
it with the python of an environment that has mergekit.

    against_mergekit.py [--seed S] [--cases N] [--method M]

First whole recipes of random Llama models through mergekit's planner (parameters, gradients, filters, slices), then
every tensor of every awkward case through mergekit's method alone. Methods that draw at random take part where nothing
is drawn. Prints a line per difference.
"""

import argparse
import os
import tempfile

import numpy as np
import torch
from mergekit import merge_methods
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.merge_methods.base import ParameterScope, TensorEntry, TensorGroup
from mergekit.options import MergeOptions

import oracle
from awkward import awkward_cases
from oracle import FAMILY, Context, Input, MergeError
from recipes import random_case
from resolve import METHODS, expected_output, gather, tasks_of
from safetensors_io import COMPUTED, read_model, write_model

RANDOM = ("random", "rows")


def near(got, merged):
    """float32 throughout on their side: 2e-5 of the terms' size"""
    scale = np.where(np.isfinite(merged.scale), merged.scale, 0)
    tolerance = 2e-5 * (scale + 0.1 * scale.max(initial=0))
    with np.errstate(invalid="ignore"):
        good = (
            (np.abs(got - merged.values) <= tolerance)
            | (np.isnan(got) & np.isnan(merged.values))
            | (got == merged.values)
        )
        return good if merged.other is None else good | (np.abs(got - merged.other) <= tolerance)


def make_dense(parameters):
    """density 1 wherever it stands, so that nothing is drawn"""
    if parameters and "density" in parameters:
        parameters["density"] = 1.0


def whole_recipe(case):
    method = case.recipe["merge_method"]
    if FAMILY.get(method, (None,))[0] in RANDOM:
        sources = [s for part in case.recipe.get("slices", []) for s in part["sources"] + [part]]
        for entry in case.recipe.get("models", []) + sources + [case.recipe]:
            make_dense(entry.get("parameters"))
    case.recipe.update(dtype="float32")
    case.recipe.pop("out_dtype", None)
    expected = expected_output(case.recipe, {r: m.tensors for r, m in case.models.items()})
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        for reference, model in case.models.items():
            write_model(reference, model.tensors, model.config, model.shards)
        LoaderCache().loaders.clear()  # it goes by path
        run_merge(
            MergeConfiguration.model_validate(case.recipe),
            "out",
            MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True),
        )
        got = read_model("out")
        os.chdir("/")
    if set(got) != set(expected):
        return [f"tensors differ: {sorted(set(got) ^ set(expected))[:4]}"]
    wrong = []
    for name, want in expected.items():
        merged = want.merged or oracle.Merged(want.copy.values, np.abs(want.copy.values))
        good = near(got[name].values, merged)
        if not good.all():
            at = np.flatnonzero(~good.reshape(-1))[0]
            wrong.append(
                f"{name}: {(~good).sum()} of {good.size} differ, mergekit {got[name].values.reshape(-1)[at]!r}, "
                f"oracle {merged.values.reshape(-1)[at]!r}"
            )
    return wrong


def by_tensor(case):
    """mergekit's method on every tensor, in float32 (float64 if an input is)"""
    recipe, method = case.recipe, merge_methods.get(case.recipe["merge_method"])
    models = {r: m.tensors for r, m in case.models.items()}
    kind, wrong = FAMILY.get(recipe["merge_method"], (None,))[0], []
    for task in tasks_of(recipe, models):
        base, inputs, options = gather(recipe, task, models, case.skip_on_mismatch)
        tensors = [t for _, t, _ in inputs] + ([] if base is None else [base])
        if any(t.dtype not in COMPUTED for t in tensors):
            continue
        if kind in RANDOM and any(f["density"] < 1 for _, _, f in inputs):
            return []
        if kind == "largest" and any(0 < f["density"] and int(f["density"] * t.bits.size) == 0 for _, t, f in inputs):
            continue  # mergekit keeps one element, amalgam none
        wide = any(t.dtype == "F64" for t in tensors)
        torch_of = lambda t: torch.tensor(t.values, dtype=torch.float64 if wide else torch.float32)
        entries = [TensorEntry(id=i, tensor=torch_of(t)) for i, (_, t, _) in enumerate(inputs)]
        if base is not None:
            entries.append(TensorEntry(id="base", tensor=torch_of(base), is_base=True))
        arguments = {k: v for k, v in options.items() if k in {p.name for p in method.spec.parameters}}
        for p in method.spec.input_parameters:
            arguments[p.name] = {i: f.get(p.name, 1.0) for i, (_, _, f) in enumerate(inputs)}
            if p.scope == ParameterScope.INPUT and base is not None:
                arguments[p.name]["base"] = 0.0
        for p in method.spec.shared_parameters:
            if p.name in arguments and isinstance(arguments[p.name], float) and p.value_type in (bool, int):
                arguments[p.name] = p.value_type(arguments[p.name])
        parts = [Input(t.values, s.position, f) for s, t, f in inputs]
        try:
            merged = oracle.merge(
                recipe["merge_method"], None if base is None else base.values, parts, Context(task.name, options, wide)
            )
        except MergeError as error:
            merged = error
        try:
            (got,) = method((TensorGroup(tuple(entries)),), parameters=arguments)
            got = got.double().numpy()
        except Exception as error:  # whatever it is: the difference is what matters
            got = error
        if isinstance(got, Exception) or isinstance(merged, Exception):
            if not (isinstance(got, Exception) and isinstance(merged, Exception)):
                shown = lambda x: f"{type(x).__name__} {x}" if isinstance(x, Exception) else "a value"
                wrong.append(f"{task.name}: mergekit {shown(got)}, oracle {shown(merged)}")
            continue
        good = near(got, merged)
        if not good.all():
            at = np.flatnonzero(~good.reshape(-1))[0]
            wrong.append(
                f"{task.name} {good.shape}: {(~good).sum()} of {good.size} elements differ, mergekit "
                f"{got.reshape(-1)[at]!r}, oracle {merged.values.reshape(-1)[at]!r}"
            )
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=5)
    parser.add_argument("--method")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def work():
        for method in METHODS:
            for index in range(options.cases):
                # half precision has equal magnitudes, of which mergekit's unstable sort keeps what comes first
                trims = FAMILY.get(method, (None,))[0] in ("largest", "band") or method == "sce"
                inputs = "F32" if trims else ("F32", "BF16", "F16", "mixed")[index % 4]
                yield whole_recipe, random_case(method, options.seed, index, inputs, "float32", llama=True)
        for case in awkward_cases(options.seed):
            # among equal magnitudes mergekit keeps what its unstable sort brings first
            trims = FAMILY.get(case.recipe["merge_method"], (None,))[0] in ("largest", "band") or "sce" in case.name
            if not case.paper and not (trims and ("magnitude" in case.name or "cancelling" in case.name)):
                yield by_tensor, case
                if "slices" in case.recipe:
                    yield whole_recipe, case

    done = differ = 0
    for judge, case in work():
        if options.method not in (None, case.recipe["merge_method"]):
            continue
        try:
            wrong = judge(case)
        except Exception as error:
            wrong = [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]
        done, differ = done + 1, differ + bool(wrong)
        if wrong:
            print(
                f"{case.name} ({judge.__name__}): {wrong[0]}"
                + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
                flush=True,
            )
    print(f"{done} compared, {differ} differ")


if __name__ == "__main__":
    main()
