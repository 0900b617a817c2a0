"""slurm/merge.sbatch on a real Slurm: whatever befalls the job, the result is that of an undisturbed merge, or there is none.

merge_test.py PROGRAM
"""

import os
import shutil
import signal
import sys
import time

from local_slurm import LocalSlurm

slurm = LocalSlurm(sys.argv)
from merging import files_hash  # noqa: E402
from started import BLOCK_RECORD, journal_bytes, signal_all  # noqa: E402

ELEMENTS = 24_000_000
BLOCKS = ELEMENTS / 65536
made = slurm.command(slurm.path, "synthesize", "zoo", "--experts", 4, "--flat", ELEMENTS, "--dtype", "bfloat16", "--quiet")
slurm.expect(made.returncode == 0, "synthesize", made)
MODELS = "".join(f'[[models]]\nmodel = "zoo/expert-{i + 1}"\n' for i in range(4))
slurm.write("recipe.toml", f'merge_method = "ties"\nbase_model = "zoo/base"\nparameters = {{ density = 0.3, weight = 1 }}\n{MODELS}')
OUT = slurm.place("merged")
alone = slurm.command(slurm.path, "merge", "recipe.toml", "alone", "--quiet")
slurm.expect(alone.returncode == 0, "a merge without Slurm", alone)
WANT = files_hash(slurm.place("alone"))


def remove():
    for name in (OUT, OUT + ".partial"):
        shutil.rmtree(name, ignore_errors=True)


def same_bytes(what):
    slurm.expect(os.path.exists(OUT) and files_hash(OUT) == WANT, f"{what}: other bytes, or none")
    slurm.expect(not os.path.exists(OUT + ".partial"), f"{what}: the .partial folder is left")
    slurm.expect(not os.path.exists(slurm.place("amalgam-jobs")), f"{what}: files about the job are left")
    remove()


def hold(job, share=0.1):
    """The ranks of a job, asleep with so much of the merge done; none if it was faster"""
    deadline = time.monotonic() + 60
    moment = 0.002
    while time.monotonic() < deadline and slurm.states(job) & {"PENDING", "CONFIGURING"}:
        time.sleep(0.05)
    while time.monotonic() < deadline and not os.path.exists(OUT):
        members = slurm.processes("merge")
        signal_all(members, signal.SIGSTOP)
        if members and journal_bytes(OUT + ".partial") > share * BLOCKS * BLOCK_RECORD:
            return members
        signal_all(members, signal.SIGCONT)
        time.sleep(moment)
    return []


def submitted(*options, **knobs):
    """A job that is held in the middle"""
    for _ in range(10):
        job = slurm.submit("merge.sbatch", "--nodes=4", *options, THREADS=1, MEMORY="64MiB", **knobs)
        members = hold(job)
        if members:
            return job, members
        slurm.wait(job)
        remove()
    slurm.expect(False, "no merge could be held in the middle")
    return job, []


def restarts(job):
    return int(slurm.facts(job).get("Restarts", -1))


# Undisturbed, on one node and on four
for nodes in (1, 4):
    job = slurm.submit("merge.sbatch", f"--nodes={nodes}")
    slurm.ended(job, contains=["exit code 0"])
    same_bytes(f"{nodes} nodes")

# Asked to stop, as before the time is over: it stops, is started again, goes on
job, members = submitted()
slurm.asked_to_stop(job)
slurm.told(members)
signal_all(members, signal.SIGCONT)
text = slurm.ended(job, contains=["asked to stop", "stopped as asked", "is started again", "start 2"])
slurm.expect(restarts(job) == 1, f"USR1: {restarts(job)} restarts")
same_bytes("USR1")

# The time is really over: Slurm sends the signal itself. Asked again and again, it is not started for ever.
job, members = submitted("--time=1", "--signal=B:USR1@55", MOST_STARTS=0)
slurm.told(members)
signal_all(members, signal.SIGCONT)
slurm.ended(job, "FAILED", contains=["sbatch again to go on"])
slurm.expect(not os.path.exists(OUT) and os.path.exists(OUT + ".partial"), "MOST_STARTS: published, or nothing to go on from")
job = slurm.submit("merge.sbatch")
slurm.ended(job)
shutil.rmtree(slurm.place("amalgam-jobs"), ignore_errors=True)
same_bytes("submitted again after the time was over")

# A rank is killed: all of the step end, and the job is started again, a few times
job, members = submitted()
signal_all(members[-1:], signal.SIGKILL)
signal_all(members, signal.SIGCONT)
slurm.ended(job, contains=["killed (exit code", "start 2"])
same_bytes("a rank was killed")
job, members = submitted(MOST_FAILURES=0)
signal_all(members[:1], signal.SIGKILL)
signal_all(members, signal.SIGCONT)
text = slurm.ended(job, "FAILED", contains=["not started again"])
slurm.expect(not os.path.exists(OUT), "MOST_FAILURES=0: published")
shutil.rmtree(slurm.place("amalgam-jobs"), ignore_errors=True)
remove()

# A node is lost: Slurm starts it again by itself
job, members = submitted("--nodes=3")
slurm.command("scontrol", "update", "nodename=node2", "state=down", "reason=test")
signal_all(members, signal.SIGCONT)
slurm.ended(job, contains=["start 2"])
slurm.command("scontrol", "update", "nodename=node2", "state=resume")
slurm.wait_until("node2", lambda: "down" not in slurm.command("sinfo", "-h", "-o", "%T").stdout, 30)
same_bytes("a node was lost")

# Cancelled: nothing is published, it is not started again, and what there is can be gone on with
job, members = submitted()
slurm.command("scancel", job)
signal_all(members, signal.SIGCONT)
slurm.expect(slurm.wait(job) == "CANCELLED", f"scancel: {slurm.facts(job)}")
slurm.wait_until("the ranks end", lambda: not slurm.processes("merge"))
slurm.expect(not os.path.exists(OUT) and restarts(job) == 0, "scancel: published, or started again")
shutil.rmtree(slurm.place("amalgam-jobs"), ignore_errors=True)
job = slurm.submit("merge.sbatch")
slurm.ended(job)
same_bytes("after scancel")

# An error of the user is not tried again
job = slurm.submit("merge.sbatch", RECIPE="nowhere.toml")
slurm.ended(job, "FAILED", contains=["nowhere.toml", "exit code 1"])
slurm.expect(restarts(job) == 0, "a wrong recipe is tried again")
slurm.done()
