"""amalgam evolve: which models, recipes and settings make a search, and what is said of those that do not.

search_space_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import shutil
import sys

from merging import ROOT, Merging, expert_values, write_model

test = Merging(sys.argv)
ZOO = os.path.join(ROOT, "tests", "data", "zoo")
for name in ("search", "heldout"):
    with open(os.path.join(ZOO, "tasks", "math-ja", name + ".jsonl")) as file:
        test.write(name + ".jsonl", "".join(file.readlines()[:24]))


def model(name):
    return os.path.join(ZOO, "models", name)


def search(name, models, settings, merge='merge_method = "linear"\nparameters.weight = 1.0\ndtype = "bfloat16"'):
    return test.place(test.write(name + ".toml", f"""[zoo]
root = "{test.root}"
[merge]
{merge}
models = {json.dumps(models)}
[search]
evaluations = 24
{settings}
[[tasks]]
search = "search.jsonl"
heldout = "heldout.jsonl"
"""))  # fmt: skip


def evolve(config, run, *words, code=0, launcher=()):
    """names count from zoo.root, not from where it runs"""
    found = test.run("evolve", config, test.place(run), "--quiet", *words, cwd=ROOT, env=test.environment, timeout=300,
                     launcher=launcher)  # fmt: skip
    test.expect(found.returncode == code, f"evolve {config} {words}", found)
    test.expect(code == 0 or not os.path.exists(test.place(run)), f"{config} {words}: a folder is left")
    return found


def refused(what, config, *words, contains=(), code=1):
    found = evolve(config, "refused", *words, code=code)
    test.expect_message(what, found.stderr, contains)


def result(run):
    with open(test.place(run, "result.json")) as file:
        return json.load(file)


def score(model, items):
    scores = test.run("evaluate", model, "--task", test.place(items), "--json", "-", cwd=test.root)
    test.expect(scores.returncode == 0, f"evaluate {model}", scores)
    return json.loads(scores.stdout)["score"]


# Paths take layers of models of any depth; merges do not
test.write("seven.toml", f"""merge_method = "passthrough"
dtype = "bfloat16"
slices = [
  {{ sources = [{{ model = "{model("math-en")}", layer_range = [0, 5] }}] }},
  {{ sources = [{{ model = "{model("math-en")}", layer_range = [4, 6] }}] }},
]
""")  # fmt: skip
test.expect(test.merge("seven.toml", "seven", "--quiet").returncode == 0, "a model of seven layers")
other = shutil.copytree(model("base"), test.place("other"))
for name in ("", *os.listdir(other)):
    os.chmod(os.path.join(other, name), 0o755)
with open(os.path.join(other, "tokenizer_config.json"), "a") as file:
    file.write("\n")
depths = search("depths", ["seven", model("lang-ja")],
                'space = "dfs"\ndata_flow = { fixed_ends = false, scales = "low-rank" }')  # fmt: skip
evolve(depths, "depths", "--set", "merge.tokenizer_source=other")
found = result("depths")
slots = {gene for gene in found["best"]["genome"] if gene.startswith("0:")}
test.expect(slots == {f"0:0.{layer}" for layer in range(7)} | {f"0:1.{layer}" for layer in range(6)}, f"slots {slots}")
test.expect(all("heldout" in source for source in found["sources"].values()), f"sources {found['sources']}")
test.expect("7 layers" in found["uniform"]["error"], f"uniform merge {found['uniform']}")
test.expect(score(test.place("depths", "best"), "heldout.jsonl") == found["best"]["heldout"], "the winner's checkpoint")
test.expect(test.merge(test.place("depths", "best.toml"), "again", "--quiet").returncode == 0, "best.toml")
test.expect(score(test.place("again"), "search.jsonl") == found["best"]["search"], "best.toml is another merge")
tokenizers = []
for folder in (other, test.place("depths", "best")):
    with open(os.path.join(folder, "tokenizer_config.json")) as file:
        tokenizers.append(file.read())
test.expect(tokenizers[0] == tokenizers[1], "the winner of tokenizer_source has another tokenizer")
found = evolve(depths, "no-base", "--set", "merge.base_model=nowhere", "--no-checkpoint")
test.expect("merge.base_model has no effect" in found.stderr, "a base of a path", found)
evolve(depths, "base", "--set", "merge.tokenizer_source=base", "--set", "merge.base_model=other", "--no-checkpoint")
with open(test.place("base", "best.toml")) as file:
    test.expect(f'tokenizer_source = "{test.place("other")}"' in file.read(), "tokenizer_source = base")
for space in ("ps", "ps-dfs"):
    refused(f"models of different depth, {space}", depths, "--set", f"search.space={space}", "--set",
            "search.genes.weight.low=0", "--set", "search.data_flow.evaluations=12",
            contains=["seven has 7 layers", "lang-ja has 6", "need the same depth"])  # fmt: skip
write_model(test.place("wide"), expert_values(test.shapes, 1, 0), "BF16")
refused("models of different width", search("widths", [model("lang-ja"), "wide"], 'space = "dfs"'),
        contains=["wide", "lang-ja", "cannot be stacked", "96 and 333"])  # fmt: skip
refused("no such tokenizer", depths, "--set", "merge.tokenizer_source=none", contains=[test.place("none")])

# Recipes made by hand are those of other orders, never of other models or numbers
numbers = search("numbers", [model("math-en"), "other"], "genes.weight = { low = -1, high = 3 }")
by_hand = ["--set", f'search.hand_made=["{test.place("hand.toml")}"]']
bounds = "(must be in [-1, 3], the bounds of search.genes.weight)"
for first, weight, message in (
    ("math-en", 0.25, ""),
    ("third", 0.25, "model=third is none of [merge] (math-en, other)"),
    ("math-en", 9, "weight of math-en=9 " + bounds),
):
    test.write("hand.toml", f"""merge_method = "linear"
models = [
  {{ model = "other", parameters.weight = 1.5 }},
  {{ model = "{first}", parameters.weight = {weight} }},
]
""")  # fmt: skip
    if message:
        refused(f"by hand: {message}", numbers, *by_hand, contains=["hand.toml:4: " + message])
        continue
    evolve(numbers, "numbers", *by_hand, "--no-checkpoint")
    with open(test.place("numbers", "journal.jsonl")) as file:
        records = [json.loads(line[17:]) for line in file]
    genomes = [record["genome"] for record in records if record.get("origin") == "injected"]
    test.expect(genomes == [[weight, 1.5]], f"by hand: {genomes}")

# Weights may begin at 0, whole numbers between two of them
evolve(search("zero", [model("math-en"), "other"], "genes.weight = { low = -1, high = 1 }"), "zero", "--no-checkpoint")
whole = search("whole", [model("math-en"), "other"], "genes.max_iter = { low = 1, high = 4 }",
               'merge_method = "karcher"\ndtype = "bfloat16"')  # fmt: skip
evolve(whole, "whole", "--no-checkpoint")
test.expect(result("whole")["best"]["genome"]["max_iter"] in range(1, 5), "a whole number")

# Settings without an effect, and weights of tasks
found = evolve(numbers, "idle", "--no-checkpoint", "--set", "search.options.population=100", "--set",
               "search.data_flow.repeats=2")  # fmt: skip
for message in ("a generation has 100 candidates, but there are evaluations for 23", "search.data_flow has no effect"):
    test.expect(found.stderr.count(message) == 1, f"no warning: {message}", found)
refused("no task counts", numbers, "--set", "tasks.0.weight=0", contains=["the weight of", "search.jsonl is 0"])

# Groups need ranks, without mpirun too
for ranks in (0, 2):
    found = evolve(numbers, "refused", "--groups", "3", code=2, launcher=test.launcher(ranks))
    test.expect("--groups 3: must be from 1 to 1" in found.stderr, f"--groups 3, {ranks} ranks", found)
test.done()
