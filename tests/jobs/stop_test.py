"""SIGUSR1: a merge ends early with exit code 0, publishes nothing, makes the file that REQUEUE_MARKER names, and the same
command goes on to the same bytes; on ranks, in groups, in statistics and in the fold, whoever of the ranks is told. Other
signals ask for no second start.

stop_test.py PROGRAM MPIEXEC [light]
"""

import os
import shutil
import signal
import sys
import time

from merging import Merging, files_hash, read_report
from started import Started

test = Merging(sys.argv)
ELEMENTS = 2_000_000 if test.light else 8_000_000
BLOCKS = ELEMENTS / 65536
# A part of the tensors at a time, so that there are moments to be stopped at
SETTINGS = ["--memory", "16MiB" if test.light else "64MiB", "--threads", "1", "--quiet"]
MARKER = test.place("marker")
test.environment["REQUEUE_MARKER"] = MARKER

made = test.run("synthesize", test.place("models"), "--experts", "4", "--flat", ELEMENTS, "--quiet", timeout=300)
test.expect(made.returncode == 0, "synthesize", made)
EXPERTS = [f"models/expert-{number + 1}" for number in range(4)]
EACH = "weight = 1, density = 0.2"
TIES = test.recipe("ties", "ties", EXPERTS, "models/base", EACH)
PAPER = test.recipe("paper", "ties", EXPERTS, "models/base", EACH, top='compat = "paper"')
KARCHER = test.recipe("karcher", "karcher", EXPERTS)


def remove():
    for name in ("out", "out.partial"):
        shutil.rmtree(test.place(name), ignore_errors=True)
    if os.path.exists(MARKER):
        os.remove(MARKER)


WANT = {}
for recipe in (TIES, PAPER, KARCHER):
    result = test.merge(recipe, "out", *SETTINGS, timeout=300)
    test.expect(result.returncode == 0, recipe, result)
    WANT[recipe] = files_hash(test.place("out"))
    remove()


def is_told(process):
    """A signal waits for a process that sleeps, or the process is gone."""
    try:
        with open(f"/proc/{process}/status") as file:
            waiting = next(line for line in file if line.startswith("ShdPnd:"))
    except OSError:
        return True
    return int(waiting.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1


def stop(recipe, share, ranks, words, told):
    """told: which of the processes are given the signal. Whether it came in time."""
    what = f"{recipe}, {ranks} ranks, {words}, stopped at {share}, {told}"
    started = Started(test, recipe, "out", *SETTINGS, *words, ranks=ranks)
    members = started.wait_for(share * BLOCKS)
    some = {"all": members, "launcher": members[:1], "last": members[-1:]}[told]
    # The others go on once the signal is there, also where mpirun passes it on.
    for member in some:
        os.kill(member, signal.SIGUSR1)
    if told == "launcher" and members:
        os.kill(members[0], signal.SIGCONT)
        deadline = time.monotonic() + 10
        while not all(map(is_told, members[1:])) and time.monotonic() < deadline:
            time.sleep(0.001)
    code = started.end(members, signal.SIGCONT)
    test.expect(code == 0 or not members, f"{what}: exit code {code}\n{started.text()}")
    early = not os.path.exists(test.place("out"))
    test.expect(early == os.path.exists(MARKER), f"{what}: marker {os.path.exists(MARKER)}, stopped {early}")
    test.expect(early == os.path.exists(test.place("out.partial")), f"{what}: nothing is left to go on from")
    report = test.place("report.json")
    other = {0: 3, 2: 0}.get(ranks, 2)
    result = test.merge(recipe, "out", *SETTINGS, "--report", report, ranks=other, timeout=300)
    test.expect(result.returncode == 0, f"{what}: going on", result)
    test.expect(files_hash(test.place("out")) == WANT[recipe], f"{what}: other bytes")
    resumed = read_report(report)["bytes_resumed"] if early else 0
    remove()
    return early, resumed


CASES = [
    (TIES, -1, 0, [], "all"),
    (TIES, 0.3, 0, ["--read", "direct"], "all"),
    (TIES, 0.02, 3, ["--read", "mmap"], "launcher"),
    (TIES, 0.4, 4, ["--read", "direct"], "launcher"),
    (TIES, 0.4, 3, [], "last"),
    (TIES, -1, 4, ["--model-groups", "2"], "launcher"),
    (PAPER, -1, 3, [], "launcher"),
    (PAPER, -1, 4, ["--model-groups", "2"], "last"),
    (PAPER, 0.3, 2, [], "last"),
    (KARCHER, -1, 4, [], "launcher"),
    (KARCHER, 0.3, 0, [], "all"),
    (KARCHER, 0.05, 4, ["--model-groups", "4"], "launcher"),
]
early = went_on = 0
for case in CASES[:5:2] + CASES[6:8] if test.light else CASES:
    seen = set()
    for _ in range(10):  # a merge may be over before it is told, and stop before anything is done
        stopped, resumed = stop(*case)
        seen |= {("stopped", stopped), ("went on", resumed > 0)}
        if stopped and (resumed or case[1] < 0):
            break
    early, went_on = early + (("stopped", True) in seen), went_on + (("went on", True) in seen)
    print(f"{case}: {sorted(what for what, happened in seen if happened)}")
print(f"{early} stopped early, {went_on} went on with some of it")
test.expect(early >= (2 if test.light else 9) and went_on >= (1 if test.light else 4), "too few came in time")

# What is not SIGUSR1 ends it at once, and asks for nothing
started = Started(test, TIES, "out", *SETTINGS)
members = started.wait_for(0.1 * BLOCKS)
if members:
    code = started.end(members, signal.SIGTERM)
    test.expect(code == -signal.SIGTERM, f"SIGTERM: exit code {code}")
    test.expect(not os.path.exists(MARKER) and not os.path.exists(test.place("out")), "SIGTERM: a marker, or an output")
remove()
# A marker that cannot be made is said
test.environment["REQUEUE_MARKER"] = test.place("nowhere", "marker")
for _ in range(5):
    started = Started(test, TIES, "out", *SETTINGS)
    members = started.wait_for(0.1 * BLOCKS)
    code = started.end(members, signal.SIGUSR1)
    if not os.path.exists(test.place("out")):
        test.expect(code == 1, f"no place for the marker: exit code {code}")
        test.expect_message("no place for the marker", started.text(), ["nowhere/marker"])
        break
    remove()
test.done()
