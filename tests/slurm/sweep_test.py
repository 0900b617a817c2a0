"""slurm/sweep.sbatch on a real Slurm: the table of an array has the scores that amalgam evaluate gives, whatever befalls a task.

sweep_test.py PROGRAM
"""

import json
import os
import signal
import sys

from local_slurm import ROOT, LocalSlurm

slurm = LocalSlurm(sys.argv, nodes=2)
from merging import files_hash  # noqa: E402
from started import signal_all  # noqa: E402

ZOO = os.path.join(ROOT, "tests/data/zoo")
for name in ("math-en", "lang-ja"):
    with open(os.path.join(ZOO, "tasks", name, "search.jsonl")) as file:
        slurm.write(name + ".jsonl", "".join(file.readlines()[:48]))
for name in ("ties", "linear"):
    with open(os.path.join(ROOT, f"configs/zoo-{name}.toml")) as file:
        slurm.write(name + ".toml", file.read().replace('"tests/data/zoo/', f'"{ZOO}/'))
# Its ranks sleep before they begin while there is a file of the task's number.
HOLDING = slurm.write("holding", f"""#!/bin/bash
if [ "$1" != doctor ] && [ -e "hold.${{SLURM_ARRAY_TASK_ID:-}}" ]; then echo $$ >>held; kill -STOP $$; fi
exec {slurm.path} "$@"
""")  # fmt: skip
os.chmod(HOLDING, 0o755)
TASKS = "math-en.jsonl lang-ja.jsonl"


def table(out):
    """number -> the other cells"""
    rows = [line.split("\t") for line in slurm.read(f"{out}/table.tsv").splitlines()]
    slurm.expect(rows and rows[0] == ["number", "variant", "state", "score", "tasks"], f"{out}: head of the table: {rows[:1]}")
    return {int(row[0]): row[1:] for row in rows[1:]}


def by_hand(recipe, *settings, options=()):
    """the cells of its scores: the whole and each task's"""
    words = [word for setting in settings for word in ("--set", setting)]
    words += [word for task in TASKS.split() for word in ("--task", task)]
    result = slurm.command(slurm.path, "evaluate", "--recipe", recipe, *words, *options, "--json", "-")
    slurm.expect(result.returncode == 0, f"evaluate {recipe} {settings}", result)
    scores = json.loads(result.stdout)
    return [repr(scores["score"]), *(f"{task['name']}={task['score']!r}" for task in scores["tasks"])]


def submit(array, *options, **knobs):
    knobs = {"RECIPE": "ties.toml", "TASKS": TASKS, "FABRIC": "tcp", "INTERFACE": "lo"} | knobs
    return slurm.submit("sweep.sbatch", f"--array={array}", *options, **knobs)


def ended(job, number, want="COMPLETED", contains=()):
    return slurm.ended(f"{job}_{number}", want, contains=contains)


def held(ranks):
    """ids of the ranks that sleep"""
    slurm.wait_until("the ranks are held", lambda: len(slurm.read("held").split()) == ranks)
    found = list(map(int, slurm.read("held").split()))

    def asleep(process):
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    slurm.wait_until("they are asleep", lambda: all(map(asleep, found)))
    os.remove(slurm.place("held"))
    return found


# Recipes and values; two that cannot be, and a task without a line
slurm.write("variants.txt", """# lambda first

parameters.lambda=0.5
parameters.lambda=0.8 parameters.density=0.3
  # another recipe
linear.toml
parameters.density=3
nowhere.toml parameters.lambda=1
""")  # fmt: skip
job = submit("0-5")
for number in (0, 1, 2):
    ended(job, number, contains=["exit code 0"])
for number in (3, 4):
    ended(job, number, "FAILED", contains=["error: "])
ended(job, 5, contains=["nothing to do"])
rows = table("sweep")
WANT = {
    0: ["parameters.lambda=0.5", "finished", *by_hand("ties.toml", "parameters.lambda=0.5")],
    1: ["parameters.lambda=0.8 parameters.density=0.3", "finished",
        *by_hand("ties.toml", "parameters.lambda=0.8", "parameters.density=0.3")],
    2: ["linear.toml", "finished", *by_hand("linear.toml")],
    3: ["parameters.density=3", "failed (1): density=3 in --set parameters.density=3 (must be in [0, 1])"],
    4: ["nowhere.toml parameters.lambda=1", "failed (1): nowhere.toml: there is no such file"],
}  # fmt: skip
for number in WANT:
    slurm.expect(rows.get(number) == WANT[number], f"row {number}: {rows.get(number)} instead of {WANT[number]}")
slurm.expect(len(rows) == 5, f"{len(rows)} rows")
slurm.expect(len({rows[n][2] for n in (0, 1, 2)}) > 1, "the variants do not differ: this says nothing")
slurm.expect(not os.path.exists(slurm.place("amalgam-jobs")), "files about the jobs are left")

# Submitted again: what is finished stays, what failed is tried, and a line that changed is another variant
before = {number: os.stat(slurm.place(f"sweep/{number}.json")).st_mtime_ns for number in (0, 1, 2)}
slurm.write("variants.txt", slurm.read("variants.txt").replace("lambda=0.8", "lambda=0.7").replace("density=3", "density=0.2"))
job = submit("0-3")
for number in range(4):
    ended(job, number, contains=["finished by an earlier job" if number in (0, 2) else "exit code 0"])
rows = table("sweep")
WANT[1] = ["parameters.lambda=0.7 parameters.density=0.3", "finished",
           *by_hand("ties.toml", "parameters.lambda=0.7", "parameters.density=0.3")]  # fmt: skip
WANT[3] = ["parameters.density=0.2", "finished", *by_hand("ties.toml", "parameters.density=0.2")]
for number in WANT:
    slurm.expect(rows.get(number) == WANT[number], f"again, row {number}: {rows.get(number)} instead of {WANT[number]}")
after = {number: os.stat(slurm.place(f"sweep/{number}.json")).st_mtime_ns for number in (0, 1, 2)}
slurm.expect([after[n] != before[n] for n in (0, 1, 2)] == [False, True, False], f"scored again: {before} {after}")

# Blanks within a value, and where they cannot be
GRADIENT = "models.0.parameters.weight=[0.1, 0.9]"
slurm.write("blanks.txt", f"""{GRADIENT} parameters.lambda=0.7
linear.toml  parameters.density=[0.1, 0.3 parameters.lambda=1
parameters.lambda = 0.5
""")  # fmt: skip
job = submit("0-2", VARIANTS="blanks.txt", OUT="blanks")
ended(job, 0, contains=["exit code 0"])
for number, words in ((1, "a bracket or quote is not closed"), (2, "blanks outside of brackets")):
    slurm.ended(f"{job}_{number}", "FAILED", code=2, contains=[words, "correct its line in blanks.txt"])
rows = table("blanks")
want = [f"{GRADIENT} parameters.lambda=0.7", "finished", *by_hand("ties.toml", GRADIENT, "parameters.lambda=0.7")]
slurm.expect(rows[0] == want, f"blanks: {rows[0]} instead of {want}")
slurm.expect(want[2:] != by_hand("ties.toml", "parameters.lambda=0.7"), "the gradient changes nothing: this says nothing")
slurm.expect(rows[1][1] == "failed (2): a bracket or quote is not closed: parameters.density=[0.1, 0.3 parameters.lambda=1", f"{rows[1]}")
slurm.expect(rows[2][1].startswith("failed (2): parameters.lambda and 0.5: two recipes"), f"{rows[2]}")

# Written ones. The array's last task, whose number is that of the array, is asked to stop: it alone is started again.
slurm.write("two.txt", "parameters.lambda=0.5\nlinear.toml\n")
slurm.write("hold.1", "")
job = submit("0-1", VARIANTS="two.txt", OUT="written", WRITE="yes", AMALGAM=HOLDING)
ranks = held(2)
ended(job, 0)
slurm.expect([row[1] for row in table("written").values()] == ["finished", "runs"], f"{table('written')}")
os.remove(slurm.place("hold.1"))
slurm.ask_to_stop(f"{job}_1", ranks)
ended(job, 1, contains=["asked to stop", "is started again", "start 2"])
slurm.expect(slurm.facts(f"{job}_0").get("Restarts") == "0", "the whole array is started again")
rows = table("written")
for number, (recipe, settings) in enumerate((("ties.toml", ["parameters.lambda=0.5"]), ("linear.toml", []))):
    slurm.expect(rows[number][1:] == ["finished", *by_hand(recipe, *settings)], f"written, row {number}: {rows[number]}")
    options = [word for setting in settings for word in ("--set", setting)]
    slurm.command(slurm.path, "merge", recipe, f"alone-{number}", *options, "--quiet")
    slurm.expect(files_hash(slurm.place(f"alone-{number}")) == files_hash(slurm.place("written", str(number))), f"bytes of {number}")

# Stopped, or killed, as often as it may be
slurm.write("hold.0", "")
job = submit("0", VARIANTS="two.txt", OUT="stopped", MOST_STARTS=0, STATE="elsewhere", AMALGAM=HOLDING)
ranks = held(2)
slurm.expect(os.path.isdir(slurm.place("elsewhere")) and not os.path.exists(slurm.place("amalgam-jobs")), "STATE")
slurm.ask_to_stop(f"{job}_0", ranks)
ended(job, 0, "FAILED", contains=["sbatch again to go on"])
slurm.expect(table("stopped")[0][1:] == ["stopped"], f"stopped: {table('stopped')}")
# Cancelled: Slurm wakes its ranks, and ends them soon after
job = submit("0", VARIANTS="two.txt", OUT="cancelled", **slurm.recorded(before="exec sleep 60"))
slurm.wait_until("the ranks are there", lambda: len(slurm.read("calls").splitlines()) == 2)
slurm.command("scancel", job)
ended(job, 0, "CANCELLED", contains=["asked to stop (TERM)"])
slurm.expect(table("cancelled")[0][1:] == ["stopped"], f"cancelled: {table('cancelled')}")
job = submit("0", VARIANTS="two.txt", OUT="killed", MOST_FAILURES=0, STATE="elsewhere", AMALGAM=HOLDING)
ranks = held(2)
signal_all(ranks[:1], signal.SIGKILL)
signal_all(ranks, signal.SIGCONT)
ended(job, 0, "FAILED", contains=["not started again"])
slurm.expect(table("killed")[0][1] in ("failed (137)", "failed (143)"), f"killed: {table('killed')}")
# Killed once: until it starts again, which Slurm lets wait for two minutes, it is stopped
job = submit("0", VARIANTS="two.txt", OUT="again", STATE="elsewhere", AMALGAM=HOLDING)
ranks = held(2)
os.remove(slurm.place("hold.0"))
signal_all(ranks[:1], signal.SIGKILL)
signal_all(ranks, signal.SIGCONT)
slurm.wait_until("it waits for another start", lambda: slurm.states(f"{job}_0") == {"PENDING"} and not slurm.remains(job))
slurm.expect(table("again")[0][1:] == ["stopped"], f"to start again: {table('again')}")
ended(job, 0, contains=["killed (exit code", "start 2"])
slurm.expect(table("again")[0][1] == "finished", f"started again: {table('again')}")

# The ranks cannot be started, of which srun's exit code says nothing
job = submit("0", "--hold", VARIANTS="two.txt", OUT="unstarted", MOST_FAILURES=0)
with slurm.unable_to_start(job):
    slurm.wait_until("it ends", lambda: slurm.states(job) == {"FAILED"})
ended(job, 0, "FAILED", contains=["the ranks were not started", "killed 1 times: not started again"])
slurm.expect(table("unstarted")[0][1:] == ["failed (255)"], f"unstarted: {table('unstarted')}")
slurm.expect(not os.path.exists(slurm.place("elsewhere")), "files about the jobs are left")

# The other knobs
job = submit("1", "--ntasks-per-node=1", VARIANTS="two.txt", OUT="knobs", WRITE="yes", LAUNCHER="mpirun", DOCTOR="yes", DOCTOR_SECONDS=200,
             MPIRUN_OPTIONS="--bind-to none --tag-output", MEMORY="64MiB", DEVICE="cpu", MERGE_OPTIONS="--shard-size 100kB",
             SCORE_OPTIONS="--weight math-en=3", **slurm.recorded())  # fmt: skip
text = ended(job, 1, contains=["started by mpirun", "[1,0]<stdout>"])
want = by_hand("linear.toml", options=["--weight", "math-en=3"])
slurm.expect(table("knobs")[1][1:] == ["finished", *want], f"knobs: {table('knobs')}")
calls = [call for call in slurm.read("calls").splitlines() if "/knobs/" in call]
slurm.expect(len(calls) == 2 and all("--device cpu" in call and "--memory 64MiB" in call for call in calls), f"MEMORY, DEVICE: {calls}")
slurm.expect(sum(f.endswith(".safetensors") for f in os.listdir(slurm.place("knobs/1"))) > 1, "MERGE_OPTIONS")
wrong = {
    "DOCTOR=strict": dict(DOCTOR="strict", MEMORY="1000PB"),
    "LAUNCHER=rsh": dict(LAUNCHER="rsh"),
    "SITE=nowhere": dict(SITE="nowhere"),
    "VARIANTS=nowhere": dict(VARIANTS="nowhere"),
    "AMALGAM: no such program": dict(AMALGAM="nowhere"),
    "neither WRITE=yes nor TASKS": dict(TASKS=""),
    "pmi-of-nobody": dict(MPI="pmi-of-nobody"),
    "bind-to-nothing": dict(BIND="bind-to-nothing"),
}
jobs = {words: submit("0", **{"VARIANTS": "two.txt", "OUT": words.split("=")[0]} | knobs) for words, knobs in wrong.items()}
for words, job in jobs.items():
    ended(job, 0, "FAILED", contains=[words])
for out in ("DOCTOR", "LAUNCHER"):
    slurm.expect(table(out)[0][1:] == ["failed (2)"], f"{out}: {table(out)}")
slurm.expect_every_knob("sweep.sbatch")
slurm.expect_accepted("sweep.sbatch")
slurm.done()
