"""The 34 recipes of tests/data/parity give what mergekit gives, alone and on three ranks with little memory.

parity_test.py PROGRAM MPIEXEC [light]
"""

import os
import shlex
import subprocess
import sys

from merging import Merging
from program import PARITY

test = Merging(sys.argv)
everything = sum(name.endswith(".safetensors") for name in os.listdir(os.path.join(PARITY, "golden")))
some = ["ties", "slerp-filters", "model-stock-rows", "sce", "passthrough-stack", "della-full-density"]

for ranks, arguments in ((0, []), (3, ["--memory", "8MiB"])):
    names = some if test.light and ranks else []
    command = shlex.join([*test.launcher(ranks), test.path])
    compare = [sys.executable, os.path.join(PARITY, "compare.py"), PARITY, command, *names, "--", *arguments]
    result = subprocess.run(compare, capture_output=True, text=True, env=test.environment, timeout=900)
    count = len(names) or everything
    test.expect(
        result.returncode == 0 and f"{count} of {count} recipes agree" in result.stdout, f"{ranks} ranks", result
    )
test.expect(everything == 34, f"{everything} recipes")
test.done()
