"""slurm/evaluate-after.sh on a real Slurm: a merge or a search, its scores, a report; and what becomes of the rest when one fails.

chain_test.py PROGRAM
"""

import json
import os
import shutil
import sys

from local_slurm import ROOT, SCRIPTS, LocalSlurm, knobs

slurm = LocalSlurm(sys.argv, nodes=2)
CHAIN = os.path.join(SCRIPTS, "evaluate-after.sh")
ZOO = os.path.join(ROOT, "tests/data/zoo")
TASKS = ("math-en", "lang-ja")
for name in TASKS:
    with open(os.path.join(ZOO, "tasks", name, "search.jsonl")) as file:
        slurm.write(name + ".jsonl", "".join(file.readlines()[:48]))
with open(os.path.join(ROOT, "configs/zoo-ties.toml")) as file:
    slurm.write("recipe.toml", file.read().replace('"tests/data/zoo/', f'"{ZOO}/'))
with open(os.path.join(ROOT, "configs/evolve-tiny.toml")) as file:
    text = file.read().replace('"tests/data/zoo"', f'"{ZOO}"').replace("evaluations = 600", "evaluations = 60")
slurm.write("search.toml", text.replace("tests/data/zoo/", ZOO + "/"))
FIRST = ["--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1"]
DEFAULTS = {
    "FIRST": os.path.join(SCRIPTS, "merge.sbatch"), "TASKS": "math-en.jsonl lang-ja.jsonl", "FABRIC": "tcp", "INTERFACE": "lo",
    "EVALUATE_WITH": "--ntasks=1 --cpus-per-task=2 --time=5",
}  # fmt: skip


def chain(*options, **variables):
    """numbers of the three jobs"""
    variables = DEFAULTS | variables
    known = slurm.environment | variables
    slurm.changed.setdefault("evaluate-after.sh", set()).update(n for n, default in knobs(CHAIN).items() if known.get(n, default) != default)
    result = slurm.command(CHAIN, *FIRST, *options, **variables)
    jobs = result.stdout.split()
    slurm.expect(result.returncode == 0 and len(jobs) == 3, f"{variables}", result)
    return jobs


def by_hand(*options, model):
    """the line of a model, but for its name"""
    words = [word for task in TASKS for word in ("--task", task + ".jsonl")]
    result = slurm.command(slurm.path, "evaluate", model, *words, *options, "--json", "-")
    slurm.expect(result.returncode == 0, f"evaluate {model}", result)
    scores = json.loads(result.stdout)
    return [repr(scores["score"]), *(f"{task['name']}={task['score']!r}" for task in scores["tasks"])]


def expect_scores(folder, models, *options):
    lines = [line.split("\t") for line in slurm.read(f"{folder}/scores.tsv").splitlines()]
    slurm.expect(lines[:1] == [["model", "score", "tasks"]], f"{folder}: head {lines[:1]}")
    want = [[model, *by_hand(*options, model=model)] for model in models]
    slurm.expect(lines[1:] == want, f"{folder}: {lines[1:]} instead of {want}")


def expect_cut(jobs, failed):
    """The job of this place failed; those behind it are cancelled, and nothing is left in the queue"""
    for place, job in enumerate(jobs):
        want = "COMPLETED" if place < failed else "FAILED" if place == failed else "CANCELLED"
        slurm.ended(job, want)
    waiting = slurm.command("squeue", "-h").stdout
    slurm.expect(waiting == "", f"left in the queue: {waiting}")


# A merge, with two models to compare it with
base, math = (os.path.join(ZOO, "models", name) for name in ("base", "math-en"))
odd = slurm.place('a,"b",c')
os.symlink(math, odd)
jobs = chain("--time=7", OUT="out", COMPARE=f"{base} {math} {odd}", REPORT_TO="scores", SCORE_OPTIONS="--weight math-en=3",
             REPORT_WITH="--ntasks=1 --time=9")  # fmt: skip
limits = [slurm.facts(job).get("TimeLimit") for job in jobs]
slurm.expect(limits == ["00:07:00", "00:05:00", "00:09:00"], f"options of the jobs: {limits}")
for job in jobs:
    text = slurm.ended(job)
slurm.expect(text.startswith("model\tscore\ttasks\nout\t"), f"the last job's log has no table:\n{text}")
expect_scores("scores", ["out", base, math, odd], "--weight", "math-en=3")
with open(slurm.place("scores/merge.json")) as file:
    slurm.expect(json.load(file).get("method") == "ties", "the merge's report")

# The first job starts twice: the others wait for its end.
held = slurm.write("held-once", f"""#!/bin/bash
if [ "$1" = merge ] && [ "${{SLURM_RESTART_COUNT:-0}}" = 0 ]; then echo $$ >>held; kill -STOP $$; fi
exec {slurm.path} "$@"
""")  # fmt: skip
os.chmod(held, 0o755)
jobs = chain(OUT="again", REPORT_TO="again-scores", AMALGAM=held)
slurm.wait_until("the ranks are held", lambda: len(slurm.read("held").split()) == 4)
slurm.ask_to_stop(jobs[0], list(map(int, slurm.read("held").split())))
slurm.ended(jobs[0], contains=["is started again", "start 2"])
for job in jobs[1:]:
    slurm.ended(job)
expect_scores("again-scores", ["again"])

# A search, in a copy of the file with a folder of its own
with open(os.path.join(SCRIPTS, "evolve.sbatch")) as file:
    slurm.write("my-search.sbatch", file.read().replace("RUN=${RUN:-run}", "RUN=${RUN:-runs/of/mine}"))
jobs = chain(FIRST="my-search.sbatch", SEARCH="search.toml", GRACE=5)
for job in jobs:
    slurm.ended(job)
expect_scores("report", ["runs/of/mine/best"])
slurm.expect("</html>" in slurm.read("report/search.html"), "no page of the search")

# The merge, or the evaluation, fails
expect_cut(chain(RECIPE="nowhere.toml", OUT="none", REPORT_TO="none-scores"), 0)
slurm.expect(os.listdir(slurm.place("none-scores")) == [], "scores of a merge that failed")
expect_cut(chain(OUT="again", COMPARE="nowhere", REPORT_TO="half"), 1)
slurm.expect(not os.path.exists(slurm.place("half/scores.tsv")), "a table of half of the scores")

# The environment of the later jobs cannot be had
slurm.write("site.sh", f'[ "$SLURM_JOB_NAME" != evaluate ] || FABRIC=ethernet\n. {slurm.environment["SITE"]}\n')
jobs = chain(OUT="again", REPORT_TO="astray", SITE="site.sh")
expect_cut(jobs, 1)
slurm.ended(jobs[1], "FAILED", code=2, contains=["FABRIC=ethernet"])

# The merge is stopped and does not start again: it is not complete, and nothing may follow.
shutil.rmtree(slurm.place("again"))
os.remove(slurm.place("held"))
jobs = chain(OUT="again", REPORT_TO="stopped", AMALGAM=held, MOST_STARTS=0)
slurm.wait_until("the ranks are held", lambda: len(slurm.read("held").split()) == 4)
slurm.ask_to_stop(jobs[0], list(map(int, slurm.read("held").split())))
expect_cut(jobs, 0)

# Mistakes are said before there is a job
for words, variables in {
    "FIRST=nowhere": {"FIRST": "nowhere"},
    "TASKS: which": {"TASKS": ""},
    "nowhere.jsonl: there is no such file": {"TASKS": "math-en.jsonl nowhere.jsonl"},
    "cannot be submitted; cancelled: ": {"EVALUATE_WITH": "--no-such-option"},
    "the chain cannot be submitted; cancelled: ": {"REPORT_WITH": "--no-such-option"},
    "SITE=nowhere": {"SITE": "nowhere"},
}.items():
    result = slurm.command(CHAIN, *FIRST, "--hold", **DEFAULTS | variables)
    slurm.expect(result.returncode != 0 and words in result.stderr, f"{variables}", result)
    slurm.wait_until("nothing is left in the queue", lambda: slurm.command("squeue", "-h").stdout == "")
slurm.expect_every_knob("evaluate-after.sh")
slurm.done()
