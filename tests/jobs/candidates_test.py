"""Merges scored in memory: what `amalgam evaluate --recipe` says of a recipe is, item by item, what it says of the written
merge; whatever the memory and the threads. A candidate that fails costs nobody else.

candidates_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import shutil
import sys

from merging import ROOT, Merging

test = Merging(sys.argv)
ZOO = os.path.join(ROOT, "tests", "data", "zoo")
TASK = os.path.join(ZOO, "tasks", "math-ja", "search.jsonl")
EXPERTS = ["math-en", "lang-ja", "math2-en"]


def model(name):
    return os.path.join(ZOO, "models", name)


def recipe(name, method, each, base=True, models=EXPERTS, top=""):
    return test.recipe(name, method, [model(m) for m in models], model("base") if base else None, each, "", top)


def scores(*words):
    out = test.place("scores.json")
    result = test.run("evaluate", "--task", TASK, "--json", out, *words, cwd=test.root, timeout=300)
    test.expect(result.returncode == 0, f"evaluate {words}", result)
    with open(out) as file:
        return json.load(file)


def facts(evaluation):
    return {key: evaluation[key] for key in ("score", "tasks", "compute")}


RECIPES = [
    recipe("ties", "ties", "weight = 0.8, density = 0.4"),
    recipe("linear", "linear", "weight = 1", base=False),
    recipe("dare", "dare_ties", "weight = 0.8, density = 0.5"),
    recipe("paper", "ties", "weight = 0.8, density = 0.3", top='compat = "paper"'),
    recipe("stock", "model_stock", ""),
    recipe("della", "della", "weight = 0.8, density = 0.5, epsilon = 0.1"),
]
known = {}
for each in RECIPES[:2] if test.light else RECIPES:
    test.expect(test.merge(each, test.place("out"), "--quiet").returncode == 0, f"merge {each}")
    written = facts(scores(test.place("out")))
    shutil.rmtree(test.place("out"))
    known[each] = written
    for words in ([], ["--threads", "1"], ["--memory", "1MiB"]):
        test.expect(facts(scores("--recipe", each, *words)) == written, f"{each} {words}: other scores in memory")
test.expect(known[RECIPES[0]] != known[RECIPES[1]], "two merges with the same scores: nothing is compared")

# Many, of which some fail.
lines = [
    RECIPES[0],
    json.dumps({"recipe": RECIPES[1], "set": []}),
    json.dumps({"recipe": RECIPES[0], "set": ["models.0.parameters.density=1.5"]}),
    "missing.toml",
    json.dumps({"recipe": RECIPES[0], "set": ["models.0.parameters.weight=0.1"]}),
]
listed = scores("--recipes", test.write("list.txt", "\n".join(lines) + "\n"))
test.expect(listed["failed"] == 2, f"{listed['failed']} of the candidates failed, 2 should")
candidates = listed["candidates"]
test.expect(facts(candidates[0]) == known[RECIPES[0]] and facts(candidates[1]) == known[RECIPES[1]], "scores of a list")
test.expect("density=1.5" in candidates[2]["error"] and "missing.toml" in candidates[3]["error"], "reasons of failures")
test.expect(facts(candidates[4]) != facts(candidates[0]), "an override without effect")
test.expect_error(2, "evaluate", model("base"), "--recipe", RECIPES[0], "--task", TASK, contains=["give one of them"])
test.expect_error(2, "evaluate", "--task", TASK, contains=["what is to be scored"])
test.done()
