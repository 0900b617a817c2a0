#!/usr/bin/env python3
"""Merges by every method and variant, on the CPU and on the GPU, as a table: hashes of the results, and whether they are
the same. Small models of odd sizes; the exit code is 1 if any differ. gpu.sh runs it.

gpu_methods.py PROGRAM MPIEXEC RANKS [tiny]
"""

import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "jobs"))
from merging import Merging, read_report  # noqa: E402
from variants import VARIANTS, make_models  # noqa: E402

test = Merging(sys.argv)
ranks = int(sys.argv[3])


def result_hash(recipe, device):
    report = test.place("report.json")
    result = test.merge(recipe, test.place("out"), "--device", device, "--report", report, "--force", "--quiet",
                        ranks=ranks if ranks > 1 else 0, cwd=test.place("bf16"))
    if result.returncode:
        return f"failed: {result.stderr.strip()}"
    tensors = "".join(tensor["hash"] for tensor in read_report(report)["tensors"])
    return hashlib.sha256(tensors.encode()).hexdigest()[:16]


make_models(test)
print("| variant | method | hash | same bytes as CPU |\n|---|---|---|---|")
for name, method, base, models, each, shared, top in VARIANTS:
    recipe = test.place(test.recipe(name, method, [f"e{i + 1}" for i in range(models)], base, each, shared, top))
    cpu, cuda = result_hash(recipe, "cpu"), result_hash(recipe, "cuda")
    same = cpu == cuda and not cpu.startswith("failed")
    test.failures += not same
    print(f"| {name} | {method} | {cuda} | {'yes' if same else 'NO: ' + cpu} |", flush=True)
test.done()
