"""slurm/merge.sbatch on a real Slurm: whatever befalls the job, the result is that of an undisturbed merge, or there is none.

merge_test.py PROGRAM
"""

import os
import shutil
import sys
import threading
import time
from signal import SIGCONT, SIGKILL

from local_slurm import LocalSlurm

slurm = LocalSlurm(sys.argv)
from merging import files_hash  # noqa: E402
from started import BLOCK_RECORD, signal_all  # noqa: E402

ELEMENTS = 16_000_000
BLOCKS = ELEMENTS / 65536
STATES = {"late": "late-jobs", "stuck": "stuck-jobs"}  # of jobs that run beside the others
MODELS = [f"expert-{number + 1}" for number in range(4)]


def recipe(name, folder):
    models = "".join(f'[[models]]\nmodel = "{folder}{model}"\n' for model in MODELS)
    parameters = "parameters = { density = 0.3, weight = 1 }"
    slurm.write(name, f'merge_method = "ties"\nbase_model = "{folder}base"\n{parameters}\n{models}')


made = slurm.command(slurm.path, "synthesize", "zoo", "--experts", 4, "--flat", ELEMENTS, "--quiet")
slurm.expect(made.returncode == 0, "synthesize", made)
recipe("recipe.toml", "zoo/")
recipe("other.toml", "")  # as for copies on the nodes
alone = slurm.command(slurm.path, "merge", "recipe.toml", "alone", "--quiet")
slurm.expect(alone.returncode == 0, "a merge without Slurm", alone)
WANT = files_hash(slurm.place("alone"))


def is_published(out):
    return os.path.exists(slurm.place(out))


def same_bytes(what, out="merged"):
    there = sorted(os.listdir(slurm.place(out))) if is_published(out) else "nothing"
    slurm.expect(is_published(out) and files_hash(slurm.place(out)) == WANT, f"{what}: other bytes, or none: {there}")
    slurm.expect(not os.path.exists(slurm.place(out + ".partial")), f"{what}: the .partial folder is left")
    slurm.expect(not os.path.exists(slurm.place(STATES.get(out, "amalgam-jobs"))), f"{what}: files about the job are left")
    remove(out)


def remove(out="merged"):
    for name in (out, out + ".partial"):
        shutil.rmtree(slurm.place(name), ignore_errors=True)


def journaled(out):
    """share of the merge that the journals know to be done"""
    folder = slurm.place(out + ".partial")
    try:
        names = [name for name in os.listdir(folder) if name.startswith("journal-")]
        return sum(os.path.getsize(os.path.join(folder, name)) for name in names) / (BLOCKS * BLOCK_RECORD)
    except OSError:
        return 0


def hold(ranks, out):
    """The ranks of a job, asleep in the middle of the merge: some is done, and there is more to do than what journals have not
    heard of. None if it was over before."""
    members = []

    def found():
        members[:] = slurm.processes("merge", slurm.place(out))
        return len(members) == ranks or is_published(out)

    slurm.wait_until(f"{ranks} ranks", found)
    while len(members) == ranks:
        slurm.put_to_sleep(members)
        share = journaled(out)
        if 0.1 < share < 0.6 and not is_published(out):
            return members
        signal_all(members, SIGCONT)
        if share >= 0.6 or is_published(out):
            break
        time.sleep(0.0005 if os.path.exists(slurm.place(out + ".partial")) else 0.005)
    return []


def submitted(*options, nodes=3, out="merged", **knobs):
    """A job, and its ranks, held in the middle"""
    for _ in range(10):
        job = slurm.submit("merge.sbatch", f"--nodes={nodes}", *options, OUT=out, THREADS=1, MEMORY="64MiB", **knobs)
        members = hold(2 * nodes, out)
        if members:
            return job, members
        slurm.wait(job)
        remove(out)
    slurm.expect(False, "no merge could be held in the middle")
    return job, []


# The time is really over, beside all that follows: Slurm itself sends the signal, the merge stops, starts again and goes on.
# Another does not stop, and is ended.
late_jobs = {out: submitted("--time=1", "--signal=B:USR1@50", nodes=1, out=out, STATE=STATES[out]) for out in STATES}


def stop_when_time_is_over():
    job, members = late_jobs["late"]
    slurm.let_stop(members, 90)
    slurm.ended(job, contains=["asked to stop", "stopped early as asked", "is started again", "start 2"])


late_thread = threading.Thread(target=stop_when_time_is_over)
late_thread.start()


# Undisturbed: by both launchers, in a partition of GPUs, with every knob turned
slurm.expect_accepted("merge.sbatch")
recorded = slurm.recorded("srun", "mpirun")
slurm.write("site.sh", f'export SITE_WAS_HERE=yes\n. {slurm.environment["SITE"]}\n')
job = slurm.submit("merge.sbatch", "--nodes=2", "--partition=gpu", "--gpus-per-node=2", **recorded, DEVICE="cpu", READ="direct",
                   THREADS=2, MEMORY="96MiB", PATIENCE=77, OPTIONS="--fail-on-nonfinite --block 4096", REPORT="report.json",
                   SITE="site.sh", STATE="job-states", MPI="pmix_v4", BIND="none")  # fmt: skip
slurm.ended(job, code=0)
slurm.expect_called(job, "srun", "--mpi=pmix_v4", "--cpu-bind=none", "--kill-on-bad-exit=1", "--cpus-per-task=1")
slurm.expect_called(job, "amalgam", "--device cpu", "--read direct", "--threads 2", "--memory 96MiB", "PATIENCE=77",
                    "--fail-on-nonfinite --block 4096", "--report " + slurm.place("report.json"), "GPUS=0,1", "SITE=yes")  # fmt: skip
slurm.expect(len(slurm.calls(job, "amalgam")) == 4 and os.path.exists(slurm.place("report.json")), "not four ranks, or no report")
slurm.expect(not os.path.exists(slurm.place("job-states")), "the folder of states is left")
same_bytes("every knob of srun")
job = slurm.submit("merge.sbatch", "--nodes=2", **recorded, LAUNCHER="mpirun", MPIRUN_OPTIONS="--bind-to none --map-by node",
                   INTERFACE="lo")  # fmt: skip
slurm.ended(job, code=0)
slurm.expect_called(job, "mpirun", "--bind-to none --map-by node")
slurm.expect(not slurm.calls(job, "srun"), "LAUNCHER=mpirun: srun was called")
same_bytes("every knob of mpirun")
job = slurm.submit("merge.sbatch", "--nodes=2", OUT="some/where/merged", DOCTOR="strict", BIND="none")
slurm.ended(job, code=0, contains=["started by srun"])
same_bytes("folders that are yet to be made", "some/where/merged")

# What the user got wrong is said, and not tried again
for code, words, wrong in [
    (1, "nowhere.toml", {"RECIPE": "nowhere.toml"}),
    (2, "AMALGAM", {"AMALGAM": "./nowhere"}),
    (2, "SITE=nowhere.sh", {"SITE": "nowhere.sh"}),
    (2, "LAUNCHER=prun", {"LAUNCHER": "prun"}),
    (2, "STAGE=some", {"STAGE": "some"}),
    (2, "/recipe.toml/merged: the folder", {"OUT": "recipe.toml/merged"}),
    (2, "%n", {"STAGE": "sbcast", "LOCAL": slurm.place("%n")}),
    (2, "DOCTOR=strict", {"DOCTOR": "strict"} | slurm.recorded(before='[ "$1" != doctor ] || exit 1')),
]:
    job = slurm.submit("merge.sbatch", **wrong)
    slurm.ended(job, "FAILED", code=code, contains=[words])
    slurm.expect(slurm.restarts(job) == 0 and not is_published("merged"), f"{wrong}: started again, or published")

# Asked to stop before there is anything to stop: while amalgam doctor looks around
job = slurm.submit("merge.sbatch", DOCTOR="yes", **slurm.recorded(before='[ "$1" != doctor ] || [ "$SLURM_RESTART_COUNT" ] || exec sleep 60'))
slurm.wait_until("the doctor", lambda: len(slurm.calls(job, "amalgam")) == 2)
slurm.command("scancel", "--batch", "--signal=USR1", job)
slurm.ended(job, contains=["asked to stop", "start 2"])
slurm.expect_called(job, "amalgam", "doctor", "merge")
same_bytes("asked to stop too early")

# A doctor that hangs is ended, and the merge goes on without
hangs = slurm.recorded(before='[ "$1" != doctor ] || exec sleep 60')
job = slurm.submit("merge.sbatch", "--nodes=1", DOCTOR="yes", DOCTOR_SECONDS=1, **hangs)
slurm.ended(job, contains=["amalgam doctor was not done after 1 s"])
slurm.expect("start 2" not in slurm.log(job), "a doctor that hangs: another start")
same_bytes("a doctor that hangs")

# Asked to stop: it stops, is started again, goes on
# Also if Slurm's controller does not answer at once
asked = slurm.place("asked")
busy = slurm.recorded("squeue", before=f'echo x >>{asked}; [ "$(wc -l <{asked})" -gt 2 ] || exit 1', of="squeue")
for launcher, more in (("srun", busy), ("mpirun", {})):
    job, members = submitted(LAUNCHER=launcher, nodes=2, **more)
    slurm.ask_to_stop(job, members)
    slurm.ended(job, contains=["asked to stop", "stopped early as asked", "is started again", "start 2"])
    slurm.expect(slurm.restarts(job) == 1, f"USR1, {launcher}: {slurm.restarts(job)} restarts")
    same_bytes(f"USR1, {launcher}")

# Not for ever: the next sbatch goes on
job, members = submitted(nodes=2, MOST_STARTS=0)
slurm.ask_to_stop(job, members)
slurm.ended(job, "FAILED", code=75, contains=["sbatch again to go on"])
slurm.expect(not is_published("merged") and slurm.restarts(job) == 0, "MOST_STARTS: published, or started again")
slurm.ended(slurm.submit("merge.sbatch", REPORT="report.json"))
slurm.expect('"bytes_resumed": 0,' not in slurm.read("report.json"), "MOST_STARTS: nothing was gone on with")
same_bytes("submitted again")

# A rank is killed: the step ends, and the job is started again, a few times
for launcher in ("srun", "mpirun"):
    job, members = submitted(LAUNCHER=launcher, nodes=2)
    signal_all(members[-1:], SIGKILL)
    signal_all(members, SIGCONT)
    slurm.ended(job, contains=["killed (exit code", "start 2"])
    slurm.expect(not slurm.processes("merge", slurm.place("merged")), f"a rank was killed, {launcher}: processes are left")
    same_bytes(f"a rank was killed, {launcher}")
job, members = submitted(nodes=2, MOST_FAILURES=0)
signal_all(members[:1], SIGKILL)
signal_all(members, SIGCONT)
slurm.ended(job, "FAILED", contains=["not started again"])
slurm.expect(not is_published("merged") and slurm.restarts(job) == 0, "MOST_FAILURES=0: published, or started again")
slurm.expect(not os.path.exists(slurm.place("amalgam-jobs")), "MOST_FAILURES=0: files about the job are left")
remove()

# Slurm cannot start the ranks, of which srun's exit code says nothing
job = slurm.submit("merge.sbatch", "--nodes=1", "--hold")
with slurm.unable_to_start(job):
    slurm.wait_until("it is known", lambda: "the ranks were not started" in slurm.log(job))
slurm.ended(job, contains=["start 2"])
same_bytes("no ranks were started")

# A node is lost: Slurm starts the job again by itself
job, members = submitted("--nodelist=node2,node3", nodes=2)
slurm.lose_node("node3")
signal_all(members, SIGCONT)
slurm.ended(job, contains=["start 2"])
same_bytes("a node was lost")

# Preempted: its ranks are ended, which is no failure of theirs
early = slurm.recorded(before='[ "$SLURM_RESTART_COUNT" ] || exec sleep 60')
job = slurm.submit("merge.sbatch", "--nodes=2", "--nodelist=node2,node3", MOST_FAILURES=0, **early)
slurm.wait_until("the ranks are there", lambda: len(slurm.calls(job, "amalgam")) == 4)
slurm.preempt("node2")
slurm.ended(job, contains=["preempted (exit code 143)", "start 2"])
same_bytes("preempted")

# Cancelled: nothing is published, it is not started again, and another sbatch goes on with what there is
job, members = submitted(nodes=2)
slurm.command("scancel", job)
signal_all(members, SIGCONT)
slurm.ended(job, "CANCELLED")
slurm.expect(not slurm.processes("merge", slurm.place("merged")), "scancel: processes are left")
slurm.expect(not is_published("merged") and slurm.restarts(job) == 0, "scancel: published, or started again")
slurm.expect(os.path.exists(slurm.place("merged.partial")), "scancel: nothing to go on with")
slurm.ended(slurm.submit("merge.sbatch"))
same_bytes("after scancel")


# Models on the nodes' own disks
def on_nodes(folder):
    """node -> models that are there"""
    there = slurm.place(folder)
    return {node: sorted(m for m in os.listdir(os.path.join(there, node)) if not m.endswith(".copied")) for node in os.listdir(there)}


spread = dict(STAGE="copy", MODEL_GROUPS=2, RECIPE="other.toml", MODELS_AT="zoo", LOCAL=slurm.place("disks/%n"), MEMORY="64MiB")
os.makedirs(slurm.place("disks"))
job = slurm.submit("merge.sbatch", "--nodes=2", **spread, KEEP_LOCAL="yes", **recorded)
slurm.ended(job, contains=[f"copies {model}" for model in ["base", *MODELS]])
slurm.expect(sorted(on_nodes("disks").values()) == [["base", *MODELS[:2]], ["base", *MODELS[2:]]], f"STAGE=copy: {on_nodes('disks')}")
slurm.expect_called(job, "amalgam", "--model-groups 2")
slurm.expect(any("PWD=" + slurm.place("disks/node") in call for call in slurm.calls(job, "amalgam")), "STAGE=copy: read elsewhere")
same_bytes("STAGE=copy")
job = slurm.submit("merge.sbatch", "--nodes=2", f"--nodelist={','.join(sorted(on_nodes('disks')))}", **spread)
slurm.expect("copies" not in slurm.ended(job), "KEEP_LOCAL: copied again")
same_bytes("KEEP_LOCAL")
slurm.expect(not on_nodes("disks"), "the copies are left on the nodes")
job = slurm.submit("merge.sbatch", "--nodes=2", **spread | {"STAGE": "sbcast", "LOCAL": slurm.place("disks/all")})
text = slurm.ended(job, contains=[f"copies {model}" for model in MODELS])
slurm.expect("copies base" not in text, "STAGE=sbcast: what all read was copied by each")
same_bytes("STAGE=sbcast")
slurm.expect(not os.listdir(slurm.place("disks")), "STAGE=sbcast: the copies are left")
# Asked to stop while they are sent: not after the file that is under way, and sent again by the next start
first = '[ "$SLURM_RESTART_COUNT" ] || kill -USR1 $PPID'
sent = {"STAGE": "sbcast", "LOCAL": slurm.place("disks/all"), "MODEL_GROUPS": 1}
job = slurm.submit("merge.sbatch", "--nodes=2", **spread | sent | slurm.recorded("sbcast", before=first, of="sbcast"))
slurm.ended(job, contains=["asked to stop (USR1)", "is started again", "start 2"])
files = sum(len(names) for model in ["base", *MODELS] for _, _, names in os.walk(slurm.place("zoo", model)))
slurm.expect(files > 1 and len(slurm.calls(job, "sbcast")) == 1 + files, f"{len(slurm.calls(job, 'sbcast'))} files sent, of {files}")
same_bytes("asked to stop while models are sent")
# No node has copied, of which srun's exit code says nothing
nothing = slurm.recorded("srun", before='[ "$SLURM_RESTART_COUNT" ] || exit 0', of="srun")
job = slurm.submit("merge.sbatch", "--nodes=2", **spread | nothing)
slurm.ended(job, contains=["of 2 nodes 0 have copied", "start 2"])
same_bytes("nothing was copied")
late_thread.join()
same_bytes("the time was over", "late")

job, members = late_jobs["stuck"]
slurm.ended(job, "TIMEOUT")
slurm.expect(not is_published("stuck") and not slurm.processes("merge"), "TIMEOUT: published, or processes are left")
# On all nodes
job = slurm.submit("merge.sbatch", "--nodes=4", OUT="stuck", STATE=STATES["stuck"])
slurm.ended(job, code=0)
same_bytes("goes on after TIMEOUT", "stuck")
slurm.expect_every_knob("merge.sbatch")
slurm.done()
