"""A search loses a group of ranks, its controller, or all of them, at random moments, and its trajectory stays what it was.

evolve_faults_test.py PROGRAM MPIEXEC [light] [moments=N]
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from merging import ROOT, Merging, files_hash
from started import session_of, signal_all

test = Merging(sys.argv)
MOMENTS = next((int(word.split("=")[1]) for word in sys.argv if word.startswith("moments=")), 2 if test.light else 6)
ZOO = os.path.join(ROOT, "tests", "data", "zoo")
BUDGET = 24 if test.light else 48
RANKS = 4
test.environment["AMALGAM_NETWORK_SECONDS"] = "20" if test.light else "3"
for name in ("search", "heldout"):
    with open(os.path.join(ZOO, "tasks", "math-ja", name + ".jsonl")) as file:
        test.write(name + ".jsonl", "".join(file.readlines()[: 16 if test.light else 64]))
ARGUMENTS = ["--set", f"zoo.root={ZOO}", "--set", f"tasks.0.search={test.place('search.jsonl')}", "--set",
             f"tasks.0.heldout={test.place('heldout.jsonl')}", "--set", f"search.lease={20 if test.light else 1}", "--set",
             "search.racing=16", "--quiet", "--evaluations", str(BUDGET), "--threads", "1"]  # fmt: skip


def start(run, ranks=RANKS):
    launcher = [test.mpiexec, "--enable-recovery", "-n", str(ranks), "--oversubscribe"] if ranks else []
    command = [*launcher, test.path, "evolve", os.path.join(ROOT, "configs", "evolve-tiny.toml"), test.place(run)]
    with open(test.place("log"), "w") as log:
        return subprocess.Popen([*command, *ARGUMENTS], cwd=test.root, env=test.environment, stdout=log, stderr=log,
                                start_new_session=True)


def log():
    with open(test.place("log")) as file:
        return file.read()[-2000:]


def rank_of(process):
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            for word in file.read().split(b"\0"):
                if word.startswith(b"OMPI_COMM_WORLD_RANK="):
                    return int(word.split(b"=")[1])
    except OSError:
        pass
    return None


def records(run):
    try:
        with open(test.place(run, "journal.jsonl"), "rb") as file:
            return [json.loads(line[17:]) for line in file if line.endswith(b"\n")]
    except OSError:
        return []


def lines(run):
    try:
        with open(test.place(run, "journal.jsonl"), "rb") as file:
            return file.read().count(b"\n")
    except OSError:
        return 0


def trajectory(run):
    return {(r["phase"], r["generation"], r["candidate"], r["set"], r["recipe_hash"]): (r["genome"], r.get("objective"))
            for r in records(run) if r["kind"] == "evaluation"}  # fmt: skip


def result(run):
    with open(test.place(run, "result.json")) as file:
        found = json.load(file)
    for key in ("seconds", "groups"):
        found.pop(key)
    return found


def done(run):
    try:
        with open(test.place(run, "done")) as file:
            return file.read().strip()
    except OSError:
        return ""


def end_of(process, run, seconds=240):
    """Until it ended, or rank 0 says that it did all: mpirun may wait for ever for a rank that is lost."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and done(run) != "finished" and time.monotonic() < deadline:
        time.sleep(0.02)
    finished = done(run) == "finished"
    time.sleep(0.1)
    signal_all(session_of(process), signal.SIGKILL)
    process.wait()
    return finished


def wait_until(process, run, count):
    """Until its journal has so many records; the process of each rank, {} if it is over before. Who they are is found out first:
    on a busy machine that takes longer than some candidates."""
    deadline = time.monotonic() + 120
    ranks = {}
    while process.poll() is None and time.monotonic() < deadline:
        if len(ranks) < RANKS:
            ranks = {rank_of(member): member for member in session_of(process) if rank_of(member) is not None}
        elif lines(run) >= count:
            return ranks
        time.sleep(0.002)
    return {}


process = start("want", 0)
process.wait(timeout=240)
test.expect(process.returncode == 0, "the undisturbed search", None)
want, path, weights = result("want"), trajectory("want"), files_hash(test.place("want", "best"))
test.expect(want["evaluations"] == BUDGET, f"{want['evaluations']} evaluations")

draw = random.Random(7)
lonely = 0
struck = {"group": 0, "controller": 0, "all": 0}
for number in range(MOMENTS):
    victim = ("group", "controller", "all")[number % 3]
    moment = draw.randrange(2, BUDGET)
    what = f"{victim} killed after {moment} records"
    process = start("run")
    ranks = wait_until(process, "run", moment)
    before = len(records("run"))
    if ranks:
        killed = {"group": [ranks[draw.randrange(1, RANKS)]], "controller": [ranks[0]], "all": session_of(process)}[victim]
        # Not while the winner is written, which all ranks do together.
        signal_all([ranks[0]], signal.SIGSTOP)
        in_time = not os.path.exists(test.place("run", "result.json"))
        if in_time or victim != "group":
            signal_all(killed, signal.SIGKILL)
            struck[victim] += in_time
        signal_all([ranks[0]], signal.SIGCONT)
    if victim == "group":
        test.expect(end_of(process, "run"), f"{what}: the others do not go on\n{log()}")
    else:
        if ranks and victim == "controller":  # the others notice by themselves
            deadline = time.monotonic() + 60
            while any(rank_of(member) is not None for member in session_of(process)) and time.monotonic() < deadline:
                time.sleep(0.05)
            test.expect(time.monotonic() < deadline, f"{what}: the groups wait for ever")
            lonely += "has not been heard of" in log()
        signal_all(session_of(process), signal.SIGKILL)
        process.wait()
        again = start("run", draw.choice((0, 2, 3)))
        test.expect(end_of(again, "run"), f"{what}: does not go on\n{log()}")
    test.expect(result("run") == want, f"{what}: another result\n{log()}")
    test.expect(trajectory("run") == path, f"{what}: another trajectory")
    test.expect(files_hash(test.place("run", "best")) == weights, f"{what}: another checkpoint")
    asked = [r["recipe_hash"] + r["set"] for r in records("run") if r["kind"] == "evaluation" and "duplicate_of" not in r]
    test.expect(len(asked) == len(set(asked)), f"{what}: something was evaluated twice")
    test.expect(len(records("run")) >= before, f"{what}: records are gone")
    shutil.rmtree(test.place("run"))
# Suspended for longer than a lease and than anybody waits for the network, as Slurm does with jobs it preempts
process = start("run")
ranks = wait_until(process, "run", 6)
signal_all(session_of(process), signal.SIGSTOP)
slept = bool(ranks) and not os.path.exists(test.place("run", "result.json"))
time.sleep(24 if test.light else 7)
signal_all(session_of(process), signal.SIGCONT)
test.expect(end_of(process, "run"), f"suspended: does not go on\n{log()}")
test.expect(slept, "suspended: it was over before")
test.expect(not any(r["kind"] == "group_lost" for r in records("run")), f"suspended: a group is taken for lost\n{log()}")
test.expect(result("run") == want and trajectory("run") == path, f"suspended: another result\n{log()}")

print(", ".join(f"{victim}: {count} in time" for victim, count in struck.items()))
test.expect(struck["group"] > 0 and sum(struck.values()) > 1, "nothing was killed in time")
test.expect(lonely > 0, "no group said that rank 0 is gone")
test.done()
