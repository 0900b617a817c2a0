"""slurm/evolve.sbatch on a real Slurm: stopped, killed, or with a group lost, the search finds what an undisturbed one finds.

evolve_test.py PROGRAM
"""

import json
import os
import shutil
import sys
import threading
import time
from signal import SIGCONT, SIGKILL

from local_slurm import ROOT, LocalSlurm

slurm = LocalSlurm(sys.argv)
from merging import files_hash  # noqa: E402
from started import signal_all  # noqa: E402

ZOO = os.path.join(ROOT, "tests/data/zoo")
BUDGET = 64
for name in ("search", "heldout"):
    with open(os.path.join(ZOO, "tasks/math-ja", name + ".jsonl")) as file:
        slurm.write(name + ".jsonl", "".join(file.readlines()[:64]))
with open(os.path.join(ROOT, "configs/evolve-tiny.toml")) as file:
    text = file.read().replace('"tests/data/zoo"', f'"{ZOO}"').replace("evaluations = 600", f"evaluations = {BUDGET}")
slurm.write("search.toml", text.replace("tasks/math-ja/", slurm.place("")))


def records(run):
    found = []
    for line in slurm.read(f"{run}/journal.jsonl").splitlines():
        try:
            found.append(json.loads(line[17:]))
        except ValueError:
            pass
    return found


def count(run, kind):
    return sum(record["kind"] == kind for record in records(run))


def trajectory(run):
    """what decides, by candidate; without times, groups and numbers of records"""
    return {(r["phase"], r["generation"], r["candidate"], r["set"], r["recipe_hash"]): (r["genome"], r.get("objective"), r["ok"])
            for r in records(run) if r["kind"] == "evaluation"}  # fmt: skip


alone = slurm.command(slurm.path, "evolve", "search.toml", "alone", "--quiet", "--threads", 1)
slurm.expect(alone.returncode == 0, "a search without Slurm", alone)
WANT, BEST = trajectory("alone"), files_hash(slurm.place("alone", "best"))


def is_published(run):
    return os.path.exists(slurm.place(run, "best"))


def same(run, what):
    slurm.expect(trajectory(run) == WANT, f"{what}: another trajectory")
    slurm.expect(is_published(run) and files_hash(slurm.place(run, "best")) == BEST, f"{what}: another winner, or none")
    slurm.expect(slurm.read(f"{run}/done") == "finished\n", f"{what}: no done file")
    slurm.expect(not os.path.exists(slurm.place("late-jobs" if run == "late" else "amalgam-jobs")), f"{what}: files about the job are left")


def submit(run, *options, nodes=2, **knobs):
    return slurm.submit("evolve.sbatch", f"--nodes={nodes}", *options, **{"RUN": run, "GRACE": 3, "THREADS": 1} | knobs)


def held(run, ranks):
    """The ranks, asleep with a few candidates judged and more to come; none if it was over before"""
    members = []

    def found():
        members[:] = slurm.processes("evolve", slurm.place(run))
        return len(members) == ranks or is_published(run)

    slurm.wait_until(f"{ranks} ranks", found)
    while len(members) == ranks:
        slurm.put_to_sleep(members)
        judged = count(run, "evaluation")
        if 5 < judged < BUDGET / 2:
            return members
        signal_all(members, SIGCONT)
        if judged >= BUDGET / 2:
            break
        time.sleep(0.01)
    return []


def submitted(run, *options, nodes=2, **knobs):
    """A job, and its ranks, held in the middle"""
    for _ in range(10):
        job = submit(run, *options, nodes=nodes, **knobs)
        members = held(run, 2 * nodes)
        if members:
            return job, members
        slurm.wait(job)
        shutil.rmtree(slurm.place(run), ignore_errors=True)
    slurm.expect(False, "no search could be held in the middle")
    return job, []


def rank_of(process):
    with open(f"/proc/{process}/environ", "rb") as file:
        variables = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
    return int(variables.get(b"OMPI_COMM_WORLD_RANK") or variables[b"SLURM_PROCID"])


def kill(members, rank):
    killed = [member for member in members if rank_of(member) == rank]
    slurm.expect(len(killed) == 1, f"{len(killed)} processes are rank {rank}")
    signal_all(killed, SIGKILL)
    signal_all(members, SIGCONT)


# The time is really over, beside all that follows: Slurm itself sends the signal, the search stops, starts again and goes on
late_job, late_members = submitted("late", "--time=1", "--signal=B:USR1@50", nodes=1, STATE="late-jobs")


def stop_when_time_is_over():
    slurm.let_stop(late_members, 90)
    slurm.ended(late_job, contains=["asked to stop", "stopped early as asked", "is started again", "start 2"])


late_thread = threading.Thread(target=stop_when_time_is_over)
late_thread.start()

# Undisturbed, by both launchers, in a partition of GPUs
slurm.expect_accepted("evolve.sbatch")
recorded = slurm.recorded("srun", "mpirun")
job = submit("mpirun", "--partition=gpu", "--gpus-per-node=2", **recorded, DEVICE="cpu", MPIRUN_OPTIONS="--bind-to none --tag-output")
slurm.ended(job, code=0, contains=["exit code 0"])
slurm.expect_called(job, "mpirun", "--enable-recovery", "--tag-output")
slurm.expect_called(job, "amalgam", "--device cpu", "--compute float32", "--threads 1", "GPUS=0,1")
same("mpirun", "mpirun")
job = submit("srun", nodes=1, **recorded, LAUNCHER="srun")
slurm.ended(job, code=0)
slurm.expect_called(job, "srun", "--kill-on-bad-exit=1", "--mpi=pmix", "--cpu-bind=cores")
same("srun", "srun")
job = submit("some/where/run", nodes=1, DOCTOR="strict")
slurm.ended(job, code=0, contains=["started by mpirun"])
same("some/where/run", "folders that are yet to be made")
# Once more, when Slurm cannot start the ranks, of which srun's exit code says nothing: the result that is there does not hide it
job = submit("srun", "--hold", nodes=1, LAUNCHER="srun")
with slurm.unable_to_start(job):
    slurm.wait_until("it is known", lambda: "the ranks were not started" in slurm.log(job))
slurm.ended(job, contains=["start 2"])
same("srun", "no ranks were started")

# All other knobs
slurm.write("site.sh", f'export SITE_WAS_HERE=yes\n. {slurm.environment["SITE"]}\n')
slurm.write("other.toml", slurm.read("search.toml"))
job = submit("knobs", **recorded, LAUNCHER="srun", SEARCH="other.toml", OPTIONS="--evaluations 8 --seed 7", GROUPS_OF_RANKS=1, MPI="pmix_v4",
             BIND="none", MEMORY="96MiB", THREADS=2, COMPUTE="bfloat16", PATIENCE=77, SITE="site.sh", STATE="job-states", DOCTOR="yes",
             DOCTOR_SECONDS=200)  # fmt: skip
slurm.ended(job, code=0)
slurm.expect_called(job, "srun", "--mpi=pmix_v4", "--cpu-bind=none")
slurm.expect_called(job, "amalgam", "doctor", slurm.place("other.toml"), "--evaluations 8 --seed 7", "--groups 1", "--memory 96MiB", "--threads 2",
                    "--compute bfloat16", "PATIENCE=77", "SITE=yes")  # fmt: skip
slurm.expect(not os.path.exists(slurm.place("job-states")), "the folder of states is left")

# What the user got wrong is said, and not tried again
for code, words, wrong in [
    (1, "nowhere.toml", {"SEARCH": "nowhere.toml"}),
    (2, "LAUNCHER=prun", {"LAUNCHER": "prun", "DOCTOR": "yes"}),
    (2, "/search.toml/run: the folder", {"RUN": "search.toml/run"}),
    (2, "DOCTOR=strict", {"DOCTOR": "strict"} | slurm.recorded(before='[ "$1" != doctor ] || exit 1')),
]:
    job = submit("wrong", nodes=1, **wrong)
    slurm.ended(job, "FAILED", code=code, contains=[words])
    slurm.expect(slurm.restarts(job) == 0 and not is_published("wrong"), f"{wrong}: started again, or a winner")

# Asked to stop: it stops, is started again, goes on
for launcher in ("mpirun", "srun"):
    run = f"stopped-{launcher}"
    job, members = submitted(run, LAUNCHER=launcher)
    slurm.ask_to_stop(job, members)
    slurm.ended(job, contains=["asked to stop", "stopped early as asked", "is started again", "start 2"])
    slurm.expect(count(run, "resumed") == 1 and slurm.restarts(job) == 1, f"{run}: did not go on")
    same(run, run)

# Not for ever: the next sbatch goes on
job, members = submitted("often", MOST_STARTS=0)
slurm.ask_to_stop(job, members)
slurm.ended(job, "FAILED", code=75, contains=["sbatch again to go on"])
slurm.expect(not is_published("often") and slurm.restarts(job) == 0, "MOST_STARTS: a winner, or started again")
slurm.ended(submit("often"))
slurm.expect(count("often", "resumed") == 1, "MOST_STARTS: did not go on")
same("often", "submitted again")

# A rank of a group is killed: the search goes on without the group, in the same start, and gives its candidate to another
job, members = submitted("lost", OPTIONS="--set search.lease=3", AMALGAM_NETWORK_SECONDS=30)
kill(members, 2)
text = slurm.ended(job, contains=["exit code 0"])
slurm.expect("start 2" not in text, "a lost group: started again")
slurm.expect(any(r.get("attempt", 1) > 1 for r in records("lost")), "nobody was given the candidate of the lost group")
same("lost", "a lost group")
# Without recovery all end, and there is another start
job, members = submitted("unrecovered", RECOVER="no")
kill(members, 2)
slurm.ended(job, contains=["killed (exit code", "start 2"])
same("unrecovered", "RECOVER=no")
# As for rank 0: there is nothing to wait for
job, members = submitted("headless")
kill(members, 0)
slurm.ended(job, contains=["killed (exit code 137)", "start 2"])
same("headless", "rank 0 was killed")
# Not for ever
job, members = submitted("failing", MOST_FAILURES=0, LAUNCHER="srun", nodes=1)
kill(members, 1)
slurm.ended(job, "FAILED", contains=["not started again"])
slurm.expect(not is_published("failing") and slurm.restarts(job) == 0, "MOST_FAILURES=0: a winner, or started again")

# Preempted: its ranks are told so, and not the script
job, members = submitted("preempted", "--nodelist=node2,node3", LAUNCHER="srun", MOST_FAILURES=0)
slurm.preempt("node2")
slurm.ended(job, contains=["stopped early as asked", "start 2"])
same("preempted", "preempted")

# A node is lost: Slurm starts the job again by itself
job, members = submitted("node", "--nodelist=node2,node3")
slurm.lose_node("node3")
signal_all(members, SIGCONT)
slurm.ended(job, contains=["start 2"])
same("node", "a node was lost")

# Cancelled: no winner, no other start, and the next sbatch goes on
job, members = submitted("cancelled")
slurm.command("scancel", job)
signal_all(members, SIGCONT)
slurm.ended(job, "CANCELLED")
slurm.expect(not slurm.processes("evolve", slurm.place("cancelled")), "scancel: processes are left")
slurm.expect(not is_published("cancelled") and slurm.restarts(job) == 0, "scancel: a winner, or started again")
slurm.ended(submit("cancelled", nodes=1))
same("cancelled", "after scancel")

late_thread.join()
same("late", "the time was over")
slurm.expect_every_knob("evolve.sbatch")
slurm.done()
