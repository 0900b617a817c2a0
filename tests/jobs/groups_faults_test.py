"""What befalls merges whose models are spread over groups of ranks, and merges on GPUs: killed and gone on with on another grid
or another device, GPUs with little memory or with calls that fail, an input that shrinks. The bytes are those of one rank.

groups_faults_test.py PROGRAM MPIEXEC EMULATED [light]        EMULATED: the program with stand-ins for GPUs
"""

import copy
import os
import shutil
import signal
import sys

from merging import Merging, files_hash, read_report
from started import Started

test = Merging([*sys.argv[:3], *sys.argv[4:]])
gpu = copy.copy(test)
gpu.path = os.path.abspath(sys.argv[3])
gpu.environment = {**test.environment, "AMALGAM_EMULATION_DEVICES": "4", "AMALGAM_EMULATION_LEAKS": "ignore"}
ELEMENTS = 1_500_000
BLOCKS = ELEMENTS / 65536
SETTINGS = ["--memory", "64MiB", "--threads", "1", "--quiet"]


def remove(out="out"):
    for path in (test.place(out), test.place(out + ".partial")):
        shutil.rmtree(path, ignore_errors=True)


made = test.run("synthesize", test.place("models"), "--experts", "6", "--flat", ELEMENTS, "--dtype", "float32", "--quiet")
test.expect(made.returncode == 0, "synthesize", made)
EXPERTS = [f"models/expert-{number + 1}" for number in range(6)]
RECIPES = [
    test.recipe("ties", "ties", EXPERTS, "models/base", "weight = 1, density = 0.2"),
    test.recipe("dare", "dare_ties", EXPERTS, "models/base", "weight = 0.7, density = 0.4"),
]
WANT = {}
for each in RECIPES:
    result = test.merge(each, "out", *SETTINGS)
    test.expect(result.returncode == 0, each, result)
    WANT[each] = files_hash(test.place("out"))
    remove()


def whole(what, program, recipe, ranks, *arguments):
    """a start that must finish; bytes it need not compute again"""
    report = test.place("report.json")
    result = program.merge(recipe, "out", *SETTINGS, *arguments, "--report", report, ranks=ranks, timeout=300)
    test.expect(result.returncode == 0, what, result)
    if result.returncode:
        return 0
    test.expect(files_hash(test.place("out")) == WANT[recipe], f"{what}: other bytes")
    remove()
    return read_report(report)["bytes_resumed"]


CPU, CUDA = (test, ["--device", "cpu"]), (gpu, ["--device", "cuda"])
TURNS = [  # share done when it is killed; device, ranks and groups before and after
    (0.3, CPU, 4, 2, CPU, 3, 3),
    (0.6, CPU, 3, 3, CPU, 0, 1),
    (0.3, CUDA, 2, 2, CPU, 4, 2),
    (0.5, CPU, 4, 4, CUDA, 2, 1),
    (0.5, CUDA, 0, 1, CUDA, 4, 2),
]
killed = resumed = 0
for number, (share, before, ranks, groups, after, later_ranks, later_groups) in enumerate(TURNS[::2] if test.light else TURNS):
    recipe = RECIPES[number % 2]
    what = f"{recipe} killed at {share}: {before[1]}, {ranks} ranks in {groups} groups; then {after[1]}, {later_ranks} in {later_groups}"
    started = Started(before[0], recipe, "out", *SETTINGS, *before[1], "--model-groups", str(groups), ranks=ranks)
    members = started.wait_for(share * BLOCKS)
    started.end(members, signal.SIGKILL)
    if os.path.exists(test.place("out")):
        test.expect(files_hash(test.place("out")) == WANT[recipe], f"{what}: something else was published")
        remove()
        continue
    killed += 1
    resumed += whole(what, after[0], recipe, later_ranks, *after[1], "--model-groups", str(later_groups)) > 0
print(f"{killed} killed in time, {resumed} went on")
test.expect(killed > 0 and resumed > 0, f"{killed} killed in time, {resumed} went on")

# GPUs with hardly any memory
little = copy.copy(gpu)
little.environment = {**gpu.environment, "AMALGAM_EMULATION_MEMORY": str(24 << 20)}
whole("a GPU of 24 MiB", little, RECIPES[0], 0, "--device", "cuda")
whole("two GPUs of 24 MiB, 2 groups", little, RECIPES[1], 2, "--device", "cuda", "--model-groups", "2")

# Calls that fail: one message, nothing published, and a CPU goes on
for call in ("cudaMalloc:1", "cudaMemcpyAsync:9", "kernel:2")[:: 2 if test.light else 1]:
    for ranks in (0, 2):
        failing = copy.copy(gpu)
        failing.environment = {**gpu.environment, "AMALGAM_EMULATION_FAIL": call}
        result = failing.merge(RECIPES[0], "out", *SETTINGS, "--device", "cuda", ranks=ranks)
        what = f"{call} fails, {ranks} ranks"
        test.expect(result.returncode == 1, f"{what}: exit code {result.returncode}", result)
        lines = {line.partition("error: ")[2] for line in result.stderr.splitlines() if "error: " in line}
        test.expect(len(lines) == 1, f"{what}: not one message", result)
        test.expect(not os.path.exists(test.place("out")), f"{what}: something is published")
        whole(f"{what}; then on the CPU", test, RECIPES[0], 0)

# An input that loses its end while groups pass planes on
victim = test.place("models/expert-5/model.safetensors")
with open(victim, "rb") as file:
    content = file.read()
for _ in range(20):
    started = Started(test, RECIPES[0], "out", *SETTINGS, "--model-groups", "2", ranks=4)
    members = started.wait_for(0.1 * BLOCKS)
    if members:
        os.truncate(victim, len(content) // 3)
    code = started.end(members, signal.SIGCONT)
    with open(victim, "wb") as file:
        file.write(content)
    if not os.path.exists(test.place("out")):
        break
    remove()  # it had read all
test.expect(code == 1, f"an input that shrinks: exit code {code}\n{started.text()}")
test.expect("expert-5/model.safetensors" in started.text(), f"the message does not name the file\n{started.text()}")
whole("after the file was made whole", test, RECIPES[0], 4, "--model-groups", "2")
test.done()
