"""What amalgam evolve chooses, worked out by hand: genes of filters and of whether a model takes part make the recipes
that their names say, and the winner is the finalist that is best on validation items.

chosen_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import re
import shutil
import sys

from merging import ROOT, Merging, tensor_hashes

test = Merging(sys.argv)
ZOO = os.path.join(ROOT, "tests", "data", "zoo")
MODELS = ["math-en", "math2-en", "lang-ja", "distract"]
FINALISTS, BUDGET, TIE_BREAKER = 4, 24 if test.light else 60, 0.5
# Sums are searched on, and language is what the winner is chosen on: the best of the one is not that of the other.
for name, task in (("search", "math-ja/search"), ("valid", "lang-ja/search"), ("heldout", "math-ja/heldout")):
    with open(os.path.join(ZOO, "tasks", task + ".jsonl")) as file:
        test.write(name + ".jsonl", "".join(file.readlines()[:32]))
models = ", ".join(f'"{ZOO}/models/{name}"' for name in MODELS)
test.write("search.toml", f"""
[merge]
merge_method = "task_arithmetic"
base_model = "{ZOO}/models/base"
dtype = "bfloat16"
models = [{models}]

[search]
evaluations = {BUDGET}
choose_models = true
filters = ["mlp"]
finalists = {FINALISTS}
mean_genome = false
tie_breaker = {TIE_BREAKER}
genes.weight = {{ low = -0.5, high = 2.0, start = 0.6, sigma = 0.4 }}
options = {{ population = 8 }}

[[tasks]]
search = "search.jsonl"
validation = "valid.jsonl"
heldout = "heldout.jsonl"
""")  # fmt: skip


def search(seed):
    """records of the journal, and the result"""
    shutil.rmtree(test.place("run"), ignore_errors=True)
    ran = test.run("evolve", "search.toml", "run", "--seed", seed, "--quiet", cwd=test.root, env=test.environment,
                   timeout=300)  # fmt: skip
    test.expect(ran.returncode == 0, "evolve", ran)
    with open(test.place("run/journal.jsonl")) as file, open(test.place("run/result.json")) as result:
        return [json.loads(line[17:]) for line in file], json.load(result)


def evaluations(records, items):
    """without those that came before, and models by themselves"""
    found = [r for r in records if r["kind"] == "evaluation" and r["ok"] and r["set"] == items and r["genome"]]
    return [r for r in found if "duplicate_of" not in r]


def says_something(records, result):
    """The winner leaves a model out, and another is better on the items searched on; which comes about by chance."""
    genome = result["best"]["genome"]
    leaves_out = [genome[name + ".takes_part"] < 0.5 for name in MODELS]
    names = [gene["name"] for gene in records[0]["genes"]]
    best = max(evaluations(records, "search"), key=lambda r: r["objective"])
    return any(leaves_out) and best["genome"] != [genome[name] for name in names]


for seed in range(8):
    records, result = search(seed)
    if says_something(records, result):
        break
else:
    test.expect(False, "of 8 seeds none has a winner without a model, that is not the best on the items searched on")
GENES = [gene["name"] for gene in records[0]["genes"]]
wanted = [f"{name}.{part}" for name in MODELS for part in ("weight(mlp)", "weight", "takes_part")]
test.expect(sorted(GENES) == sorted(wanted), f"genes {GENES}")


def by_hand(name, genome, changed=None):
    """The recipe that the names of the genes describe; a model that takes no part is not in it."""
    value = dict(zip(GENES, genome)) | (changed or {})
    lines = ['merge_method = "task_arithmetic"', f'base_model = "{ZOO}/models/base"', 'dtype = "bfloat16"']
    for model in MODELS:
        if value[f"{model}.takes_part"] >= 0.5:
            of_mlp, of_others = value[f"{model}.weight(mlp)"], value[f"{model}.weight"]
            weight = f'[{{ filter = "mlp", value = {of_mlp!r} }}, {{ value = {of_others!r} }}]'
            lines += ["[[models]]", f'model = "{ZOO}/models/{model}"', f"parameters.weight = {weight}"]
    return test.write(name, "\n".join(lines) + "\n")


def scored(recipe, items):
    words = ["evaluate", "--recipe", recipe, "--task", items, "--json", "-"]
    ran = test.run(*words, cwd=test.root, env=test.environment)
    test.expect(ran.returncode == 0, f"{recipe} on {items}", ran)
    task = json.loads(ran.stdout)["tasks"][0]
    return task["score"], task["score"] - TIE_BREAKER * task["mean_nll"]


def merged(recipe):
    ran = test.merge(recipe, recipe + ".out", "--quiet")
    test.expect(ran.returncode == 0, recipe, ran)
    return tensor_hashes(test.place(recipe + ".out"))


def close(a, b):
    return abs(a - b) < 1e-9 * max(1, abs(a), abs(b))


judged = evaluations(records, "search")
taking = GENES.index(f"{MODELS[0]}.takes_part")
absent = [r for r in judged if min(r["genome"][taking:]) < 0.5 <= max(r["genome"][taking:])]
test.expect(absent, "all models take part in all candidates")

# Candidates of which a model takes no part score what the recipe without it scores
for record in absent[:3]:
    score, objective = scored(by_hand("absent.toml", record["genome"]), "search.jsonl")
    test.expect(score == record["score"] and close(objective, record["objective"]),
                f"without a model: {score} {objective} instead of {record['score']} {record['objective']}")  # fmt: skip

# The finalists are the best on what was searched on; the winner is the one of them that is best on validation items.
finalists = evaluations(records, "validation")
test.expect(all(r["origin"] == "finalist" for r in finalists), "others than finalists were asked validation items")
best = sorted(judged, key=lambda r: -r["objective"])[:FINALISTS]
test.expect(sorted(r["genome"] for r in finalists) == sorted(r["genome"] for r in best),
            f"{len(finalists)} finalists are not the best {FINALISTS}")  # fmt: skip
objectives = []
for number, record in enumerate(finalists):
    score, objective = scored(by_hand(f"finalist-{number}.toml", record["genome"]), "valid.jsonl")
    test.expect(score == record["score"] and close(objective, record["objective"]),
                f"finalist {number}: {score} {objective}, not {record['score']} {record['objective']}")  # fmt: skip
    objectives.append(objective)
winner = finalists[objectives.index(max(objectives))]
chosen = result["best"]
genome = [chosen["genome"][name] for name in GENES]
test.expect(genome == winner["genome"], f"the winner has {genome}, not {winner['genome']}")
test.expect(chosen["chosen_on"] == "validation", f"chosen on {chosen['chosen_on']}")

# Bytes of the winner, and of a candidate without one model or more, are those of the recipe made by hand.
winners = merged(by_hand("winner.toml", genome))
test.expect(tensor_hashes(test.place("run/best")) == winners, "the winner's checkpoint is not that of its genes")
for name in MODELS:
    without = merged(by_hand(f"without-{name}.toml", genome, {f"{name}.takes_part": 0}))
    zero = {f"{name}.takes_part": 1, f"{name}.weight": 0.0, f"{name}.weight(mlp)": 0.0}
    same = merged(by_hand(f"zero-{name}.toml", genome, zero)) == without
    test.expect(same, f"{name} at weight 0 is not what leaving it out is")
# The gene of a filter changes the tensors that it names, that without one all others.
present = next(name for name in MODELS if chosen["genome"][f"{name}.takes_part"] >= 0.5)
for gene, of_filter in ((f"{present}.weight(mlp)", True), (f"{present}.weight", False)):
    other = merged(by_hand(f"changed-{of_filter}.toml", genome, {gene: chosen["genome"][gene] + 0.7}))
    changed = {name for name in winners if winners[name] != other[name]}
    want = {name for name in winners if ("mlp" in name) == of_filter}
    test.expect(changed <= want, f"{gene} changes {sorted(changed - want)}, too")
    test.expect(len(changed) > len(want) / 2, f"{gene} changes only {sorted(changed)}")
with open(test.place("run/best.toml")) as file:
    text = file.read()
test.expect(len(re.findall(r'filter = "mlp"', text)) >= 1, f"the winner's recipe has no filter\n{text}")
print(f"{len(judged)} candidates, {len(absent)} without a model, {len(finalists)} finalists")
test.done()
