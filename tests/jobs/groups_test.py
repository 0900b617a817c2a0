"""The model axis: groups of ranks that read different models give the bytes of one rank that reads all, for every method.

groups_test.py PROGRAM MPIEXEC [light] [tiny] [more arguments of `amalgam merge`]
"""

import os
import shutil
import sys

import numpy as np

from merging import Merging, files_hash, read_report, tensor_hashes, write_model
from variants import VARIANTS, facts_of, make_models

test = Merging(sys.argv)
MORE = [word for word in sys.argv[3:] if word not in ("light", "tiny")]
test.need_gpu(MORE)
GRIDS = [(2, 2), (3, 3), (4, 2), (6, 2), (6, 3)]  # ranks, groups
SETTINGS = [[], ["--memory", "8MiB", "--threads", "2"], ["--shard-size", "1MB"], ["--read", "direct", "--threads", "2"]]


def merged(recipe, out, folder, ranks, *arguments):
    """hashes of tensors, hash of files, what the report says; None if it failed"""
    report = test.place("report.json")
    words = [recipe, test.place(out), "--report", report, "--quiet", *arguments]
    result = test.merge(*words, ranks=ranks, cwd=test.place(folder))
    if result.returncode:
        test.expect(False, f"{os.path.basename(recipe)}, {folder}, {ranks} ranks, {arguments}", result)
        return None
    facts = tensor_hashes(test.place(out)), files_hash(test.place(out)), facts_of(read_report(report))
    shutil.rmtree(test.place(out))
    return facts


def compare(name, recipe, folder, grids, first, all_settings=SETTINGS):
    want = merged(recipe, "alone", folder, 0, "--device", "cpu")
    for place, (ranks, groups) in enumerate(grids):
        settings = all_settings[(first + place) % len(all_settings)]
        got = merged(recipe, "out", folder, ranks, "--model-groups", str(groups), *settings, *MORE)
        if not want or not got:
            continue
        different = sorted(tensor for tensor in want[0] if got[0].get(tensor) != want[0][tensor])
        title = f"{name}, {folder}, {ranks} ranks in {groups} groups, {settings}"
        test.expect(got[0] == want[0], f"{title}: other tensors: {different}")
        test.expect(got[2] == want[2], f"{title}: the report says other things about the result")
        if "--shard-size" not in settings:
            test.expect(got[1] == want[1], f"{title}: other files")


make_models(test)
for index, (name, method, base, models, each, shared, top) in enumerate(VARIANTS):
    names = [f"e{i + 1}" for i in range(models)]
    recipe = test.place(test.recipe(name, method, names, base, each, shared, top))
    again = index > 0 and VARIANTS[index - 1][1] == method
    some = [GRIDS[index % len(GRIDS)]]
    compare(name, recipe, "bf16", some if again or test.light else GRIDS, index)
    if index % 2 and not test.light:
        compare(name, recipe, "mixed", some, index + 1)

# Hundreds of models over four groups.
COUNT = 40 if test.light else 200
shapes = {"a.weight": (71, 93), "b.weight": (401, 333), "c.bias": (7,)}
for model in range(COUNT + 1):
    rng = np.random.Generator(np.random.SFC64([5, model]))
    values = {tensor: rng.integers(-64, 65, shape) / 64.0 for tensor, shape in shapes.items()}
    write_model(test.place("many", f"m{model}"), values, "BF16")
MANY = {
    "ties": "weight = 0.02, density = 0.2",
    "dare_ties": "weight = 0.02, density = 0.3",
    "linear": "weight = 1",
    "model_stock": "",
}
for method, each in MANY.items():
    base = "m0" if method != "linear" else None
    recipe = test.place(test.recipe(f"many-{method}", method, [f"m{i + 1}" for i in range(COUNT)], base, each))
    compare(f"{COUNT} models, {method}", recipe, "many", [(4, 4)] if test.light else [(4, 4), (8, 4)], 0,
            [[], ["--memory", "64MiB", "--threads", "2"]])
test.done()
