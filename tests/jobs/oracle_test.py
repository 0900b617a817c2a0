"""Random models and recipes of every method, awkward ones, and ones to be refused: every element against the oracle of
tests/reference, alone, and a part of them again on three ranks with little memory.

oracle_test.py PROGRAM MPIEXEC [light]
"""

import os
import shutil
import subprocess
import sys

from merging import Merging
from program import PARITY, ROOT

test = Merging(sys.argv)
os.environ.update(test.environment)

import run as oracle  # noqa: E402  (found by merging)

SEED = 20250131

check = [sys.executable, os.path.join(ROOT, "tests", "reference", "self_check.py"), PARITY]
result = subprocess.run(check, capture_output=True, text=True, timeout=300)
test.expect(
    result.returncode == 0 and "34 of 34 goldens agree with the oracle" in result.stdout, "the oracle itself", result
)


def cases(count, step):
    """`count` random cases of each method, and every `step`-th of the others"""
    for method in oracle.METHODS:
        yield from ((oracle.judge_case, c) for c in oracle.random_cases(method, SEED, count))
    yield from ((oracle.judge_case, c) for c in list(oracle.awkward_cases(SEED))[::step])
    yield from ((oracle.judge_verdict, c) for c in list(oracle.verdict_cases(SEED))[::step])


def judge(title, ranks, arguments, chosen):
    judged = 0
    for way, case in chosen:
        folder = test.place("case")
        try:
            why = way([*test.launcher(ranks), test.path], folder, case, arguments)
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            why = f"{type(error).__name__}: {error}"
        test.expect(not why, f"{title}: {case.name}: {why}")
        judged += 1
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{title}: {judged} cases")


judge("alone", 0, [], cases(1, 3) if test.light else cases(2, 1))
spread = ["--memory", "8MiB", "--threads", "2"]
judge("three ranks", 3, spread, list(cases(1, 12))[:: 3 if test.light else 1])
test.done()
