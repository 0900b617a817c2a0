"""slurm/evolve.sbatch on a real Slurm: stopped, killed, or with a group lost, the search finds what an undisturbed one finds.

evolve_test.py PROGRAM
"""

import json
import os
import shutil
import signal
import sys
import time

from local_slurm import ROOT, LocalSlurm

slurm = LocalSlurm(sys.argv)
ZOO = os.path.join(ROOT, "tests/data/zoo")
BUDGET = 300
for name in ("search", "heldout"):
    with open(os.path.join(ZOO, "tasks/math-ja", name + ".jsonl")) as file:
        slurm.write(name + ".jsonl", "".join(file.readlines()[:64]))
with open(os.path.join(ROOT, "configs/evolve-tiny.toml")) as file:
    text = file.read().replace('"tests/data/zoo"', f'"{ZOO}"').replace("evaluations = 600", f"evaluations = {BUDGET}\nlease = 8")
text = text.replace("tasks/math-ja/", slurm.place(""))
slurm.write("search.toml", text)


def records(run):
    found = []
    for line in slurm.read(f"{run}/journal.jsonl").splitlines():
        try:
            found.append(json.loads(line[17:]))
        except ValueError:
            pass
    return found


def trajectory(run):
    """what decides, in order of candidates; without times, groups and numbers of records"""
    return {(r["phase"], r["generation"], r["candidate"], r["set"], r["recipe_hash"]): (r["genome"], r.get("objective"), r["ok"])
            for r in records(run) if r["kind"] == "evaluation"}  # fmt: skip


def winner(run):
    with open(slurm.place(run, "best", "model.safetensors"), "rb") as file:
        return file.read()


alone = slurm.command(slurm.path, "evolve", "search.toml", "alone", "--quiet", "--threads", 2)
slurm.expect(alone.returncode == 0, "a search without Slurm", alone)
WANT, BEST = trajectory("alone"), winner("alone")


def same(run, what):
    slurm.expect(trajectory(run) == WANT, f"{what}: another trajectory")
    slurm.expect(winner(run) == BEST, f"{what}: another winner")
    slurm.expect(slurm.read(f"{run}/done") == "finished\n", f"{what}: no done file")
    slurm.expect(not os.path.exists(slurm.place("amalgam-jobs")), f"{what}: files about the job are left")


def submit(run, *options, **knobs):
    knobs = {"RUN": run, "GRACE": 5, "FABRIC": "tcp", "INTERFACE": "lo"} | knobs
    return slurm.submit("evolve.sbatch", *options, **knobs)


def evaluated(run, count):
    return slurm.wait_until(f"{run}: {count} evaluations",
                            lambda: sum(r["kind"] == "evaluation" for r in records(run)) >= count)  # fmt: skip


# Undisturbed, by both launchers
for launcher in ("mpirun", "srun"):
    job = submit(launcher, "--nodes=2", LAUNCHER=launcher)
    slurm.ended(job, name="evolve", contains=["exit code 0"])
    same(launcher, launcher)

# Asked to stop, started again
for launcher in ("mpirun", "srun"):
    run = f"stopped-{launcher}"
    job = submit(run, "--nodes=2", LAUNCHER=launcher)
    evaluated(run, 6)
    slurm.asked_to_stop(job)
    slurm.ended(job, name="evolve", contains=["asked to stop", "is started again", "start 2"])
    slurm.expect(any(r["kind"] == "resumed" for r in records(run)), f"{run}: did not go on")
    same(run, run)

# A rank of a group is killed: the search goes on without the group, in the same start
job = submit("lost", "--nodes=2")
evaluated("lost", 6)
members = slurm.processes("evolve")


def rank_of(process):
    with open(f"/proc/{process}/environ", "rb") as file:
        variables = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
    return int(variables[b"OMPI_COMM_WORLD_RANK"])


os.kill(next(m for m in members if rank_of(m) == 2), signal.SIGKILL)
text = slurm.ended(job, name="evolve", contains=["exit code 0"])
slurm.expect("start 2" not in text, "a lost group: started again")
slurm.expect(any(r["kind"] == "group_lost" for r in records("lost")), "the group is not known to be lost")
same("lost", "a lost group")

# Rank 0 is killed: nothing to wait for, another start
job = submit("headless", "--nodes=2")
evaluated("headless", 6)
os.kill(next(m for m in slurm.processes("evolve") if rank_of(m) == 0), signal.SIGKILL)
slurm.ended(job, name="evolve", contains=["killed (exit code 137)", "start 2"])
same("headless", "rank 0 killed")

# Cancelled: no start
job = submit("cancelled", "--nodes=2")
evaluated("cancelled", 6)
slurm.command("scancel", job)
slurm.expect(slurm.wait(job) == "CANCELLED", f"scancel: {slurm.facts(job)}")
slurm.wait_until("the ranks end", lambda: not slurm.processes("evolve"))
slurm.expect(not os.path.exists(slurm.place("cancelled", "best")), "scancel: a winner")
shutil.rmtree(slurm.place("amalgam-jobs"), ignore_errors=True)

# A mistake is said and not tried again
job = submit("wrong", SEARCH="nowhere.toml")
slurm.ended(job, "FAILED", name="evolve", contains=["nowhere.toml", "exit code 1"])
slurm.expect(not slurm.processes("evolve"), "processes are left")
slurm.done()
