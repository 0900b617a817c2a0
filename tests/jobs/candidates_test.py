"""Merges scored in memory: what `amalgam evaluate --recipe` says of a recipe is, item by item, what it says of the written
merge; whatever the memory and the threads. A candidate that fails costs nobody else.

candidates_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import shutil
import struct
import subprocess
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


def scores(*words, tasks=(TASK,), ranks=0):
    out = test.place("scores.json")
    asked = [word for task in tasks for word in ("--task", task)]
    launcher = test.launcher(ranks)
    result = test.run("evaluate", *asked, "--json", out, *words, cwd=test.root, timeout=300, launcher=launcher,
                      env=test.environment)
    test.expect(result.returncode == 0, f"evaluate {words}, {ranks} ranks", result)
    with open(out) as file:
        return json.load(file)


def facts(evaluation):
    return {key: evaluation[key] for key in ("score", "tasks", "compute")}


def written_text(source, name, items):
    """A task whose items a model has to write, judged by their overlap with the answer; from items of exact match"""
    with open(source) as file:
        lines = [line for line in map(json.loads, file) if "prompt_ids" in line][:items]
    head = {"task": {"metric": "rouge_l", "limit": 9}}
    kept = [{key: line[key] for key in ("prompt_ids", "answer_ids")} for line in lines]
    return test.write(name, "".join(json.dumps(line) + "\n" for line in [head, *kept]))


def misfitting_copy(source, name, tensor):
    """A model one of whose vectors has become a matrix of one column"""
    copy = shutil.copytree(model(source), test.place(name))
    path = os.path.join(copy, "model.safetensors")
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header[tensor]["shape"].append(1)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return copy


RECIPES = [
    recipe("ties", "ties", "weight = 0.8, density = 0.4"),
    recipe("linear", "linear", "weight = 1", base=False),
    recipe("dare", "dare_ties", "weight = 0.8, density = 0.5"),
    recipe("paper", "ties", "weight = 0.8, density = 0.3", top='compat = "paper"'),
    recipe("stock", "model_stock", ""),
    recipe("della", "della", "weight = 0.8, density = 0.5, epsilon = 0.1"),
]
# A stack of twelve layers: their names are not in the order of their numbers.
STACK = test.write("stack.yaml", "merge_method: passthrough\ndtype: bfloat16\nslices:\n" + "".join(
    f"  - sources: [{{model: {model(name)}, layer_range: [0, 6]}}]\n" for name in ("math-en", "lang-ja")))
known = {}
for each in [STACK, *RECIPES[:2]] if test.light else [STACK, *RECIPES]:
    test.expect(test.merge(each, test.place("out"), "--quiet").returncode == 0, f"merge {each}")
    written = facts(scores(test.place("out")))
    shutil.rmtree(test.place("out"))
    known[each] = written
    for words in ([], ["--threads", "1"], ["--memory", "1MiB"]):
        test.expect(facts(scores("--recipe", each, *words)) == written, f"{each} {words}: other scores in memory")
test.expect(known[RECIPES[0]] != known[RECIPES[1]], "two merges with the same scores: nothing is compared")

# Ranks that share a candidate, and texts that they write; with little memory, layers are folded again for every token.
WRITTEN = written_text(TASK, "written.jsonl", 7 if test.light else 41)
both = facts(scores("--recipe", RECIPES[0], tasks=(TASK, WRITTEN)))
test.expect(len(both["tasks"]) == 2 and both["tasks"][1]["items"][0]["ids"], "nothing was written")
for ranks in (2, 3) if test.light else (1, 2, 3, 4):
    for words in ([], ["--memory", "1MiB"], ["--threads", "2"]):
        got = scores("--recipe", RECIPES[0], *words, tasks=(TASK, WRITTEN), ranks=ranks)
        test.expect(facts(got) == both, f"{words}, {ranks} ranks: other scores")
# Folded once and kept by the ranks that folded it: between the two, and without folding again for each token.
again = test.write("again.txt", RECIPES[0] + "\n")
for ranks in (0, 3):
    needs = test.json("plan", RECIPES[0], "--ranks", max(ranks, 1), cwd=test.root)["scoring"]
    for way, memory in (("resident", 1 << 40), ("spread", needs["spread"]), ("streamed", needs["streamed"])):
        words = ["--recipes", again, "--memory", memory // 3 * 4 + 4, "--group", max(ranks, 1)]
        got = scores(*words, tasks=(TASK, WRITTEN), ranks=ranks)["candidates"][0]
        test.expect(facts(got) == both, f"{way}, {ranks} ranks: other scores")
        found = "resident" if got["resident"] else "spread" if got["spread"] else "streamed"
        test.expect(found == way, f"{ranks} ranks with {memory} bytes: {found} instead of {way}")
        folded = got["tensors"]["folded"]
        once = folded if way == "resident" else once
        test.expect((folded == once) == (way != "streamed"), f"{way}, {ranks} ranks: {folded} folds, once {once}")
streamed = facts(scores("--recipe", RECIPES[0], "--memory", "1MiB", tasks=(TASK, WRITTEN)))
test.expect(streamed == both, "other scores with little memory")
for each in [RECIPES[3]] if test.light else RECIPES[1:]:
    for words in ([], ["--memory", "1MiB"]):
        test.expect(facts(scores("--recipe", each, *words, ranks=3)) == known.get(each, facts(scores("--recipe", each))),
                    f"{each} {words}: other scores on 3 ranks")
test.expect(facts(scores(model("math-en"), ranks=3)) == facts(scores(model("math-en"))), "a model's scores on 3 ranks")

# A budget that not even one layer fits in is refused, with the one that does; a guess is not.
NEEDED = test.json("plan", RECIPES[0], cwd=test.root)["scoring"]["least_memory"]
wide = test.run("synthesize", test.place("wide"), "--experts", "1", "--hidden", "512", "--mlp", "512", "--layers", "1", "--vocabulary",
                "300", "--quiet")  # fmt: skip
test.expect(wide.returncode == 0, "synthesize", wide)
one = test.recipe("one", "linear", ["wide/expert-1"], None, "weight = 1")
needed = test.json("plan", one, cwd=test.root)["scoring"]["least_memory"]
for memory, small in ((needed - 1, True), (needed, False)):  # a merge has least a megabyte
    planned = test.run("plan", one, "--memory", memory, cwd=test.root)
    test.expect(("(the budget is too small" in planned.stdout) == small, f"plan with {memory} bytes", planned)
asked = ["evaluate", "--recipe", RECIPES[0], "--task", TASK, "--memory"]
test.expect_error(1, *asked, NEEDED - 1, contains=["give --memory more", RECIPES[0]], cwd=test.root)
least = facts(scores("--recipe", RECIPES[0], "--memory", NEEDED))
test.expect(least == known[RECIPES[0]], "other scores with the least memory")

# Keys and values of texts that are written stay within the budget, and take nothing before they are there.
MADE = test.run("synthesize", test.place("deep"), "--experts", "1",
                "--hidden", "64", "--mlp", "32", "--layers", "32", "--vocabulary", "300", "--quiet")
test.expect(MADE.returncode == 0, "synthesize", MADE)

OTHER = test.run("synthesize", test.place("other"), "--experts", "1", "--hidden", "64", "--mlp", "32", "--layers", "32",
                 "--vocabulary", "310", "--seed", "2", "--quiet")
test.expect(OTHER.returncode == 0, "synthesize", OTHER)


def peak(*words):
    out = test.place("peak.json")
    with open(test.place("peak.txt"), "w") as text:
        program = subprocess.Popen([test.path, "evaluate", *words, "--threads", "2", "--json", out],
                                   stdout=text,
                                   stderr=text, cwd=test.root)
        _, status, usage = os.wait4(program.pid, 0)
    with open(test.place("peak.txt")) as text:
        test.expect(status == 0, f"evaluate {words}: {text.read()}")
    with open(out) as file:
        return usage.ru_maxrss * 1024, facts(json.load(file))


def endless(name, limit, **more):
    head = {"task": {"metric": "rouge_l", "limit": limit, **more}}
    prompts = [[(text * 31 + place * 7) % 300 for place in range(30)] for text in range(16)]
    items = [{"prompt_ids": prompt, "answer_ids": prompt[:9]} for prompt in prompts]
    return test.write(name, "".join(json.dumps(line) + "\n" for line in [head, *items]))


if not test.light:
    long = endless("endless.jsonl", 300, end_ids=[299])
    wide, narrow = (peak(test.place("deep/base"), "--task", long, "--memory", memory) for memory in ("2GiB", "8MiB"))
    test.expect(wide[1] == narrow[1], "other texts with little memory")
    ended = endless("ended.jsonl", 300, end_ids=list(range(300)))
    none = peak(test.place("deep/base"), "--task", ended, "--memory", "2GiB")
    # All texts together have 115 MB of keys and values.
    for name, (most, _) in (("8 MiB of memory", narrow), ("texts that end at once", none)):
        test.expect(wide[0] - most > 60e6, f"{name}: {most / 1e6:.0f} MB at most, else {wide[0] / 1e6:.0f} MB")

# What a merge would warn of is said once, however many candidates have it, and whichever group they are on.
cut = test.recipe("cut", "linear", [test.place("deep/base"), test.place("other/base")], None, "weight = 0.5")
same = test.recipe("same", "linear", [test.place("deep/base"), test.place("deep/expert-1")], None, "weight = 0.5")
lines = [same, cut, same, json.dumps({"recipe": cut, "set": ["parameters.weight=0.3"]})]
few = endless("few.jsonl", 1, end_ids=[299])
out = test.place("warned.json")
one, many = ["--recipe", cut], ["--recipes", test.write("cut.txt", "\n".join(lines))]
for ranks, words in ((0, one), (2, one), (0, many), (2, many)):
    result = test.run("evaluate", *words, "--task", few, "--json", out, cwd=test.root, launcher=test.launcher(ranks),
                      env=test.environment)
    test.expect(result.returncode == 0, f"{words}, {ranks} ranks", result)
    for tensor in ("lm_head", "embed_tokens"):
        said = sum("VOCABULARIES DIFFER" in line and tensor in line for line in result.stderr.splitlines())
        test.expect(said == 1, f"{words}, {ranks} ranks: said {said} times of {tensor}", result)
with open(out) as file:
    listed = json.load(file)["candidates"]
test.expect([len(each.get("warnings", [])) for each in listed] == [0, 2, 0, 2], "warnings of candidates")

# Models that have the base's tensors: what nothing changes is folded once, whatever the weights.
copies = [shutil.copytree(model("base"), test.place(f"copy-{number}")) for number in (1, 2)]
alike = test.recipe("alike", "ties", copies, model("base"), "weight = 0.7, density = 0.5")
lines = [json.dumps({"recipe": alike, "set": [f"models.0.parameters.weight={w}"]}) for w in (0.3, -0.2)]
first, second = scores("--recipes", test.write("alike.txt", "\n".join(lines) + "\n"))["candidates"]
test.expect(facts(first) == facts(second) == facts(scores(model("base"))), "the base, merged with itself, is another")
test.expect(first["tensors"]["folded"] > 0 and first["tensors"]["known"] == 0, f"{first['tensors']}")
test.expect(second["tensors"]["folded"] == 0 and second["tensors"]["known"] > 0, f"{second['tensors']}")

# A model that does not fit is left out of a tensor where that is asked for, as in the written merge.
misfit = misfitting_copy("math2-en", "misfit", "model.layers.0.input_layernorm.weight")
unfit = test.recipe("unfit", "ties", [model("math-en"), misfit], model("base"), "weight = 0.8, density = 0.4")
skip = ("--on-mismatch", "skip")
test.expect(test.merge(unfit, test.place("out"), *skip, "--quiet").returncode == 0, "merge of what does not fit")
written = facts(scores(test.place("out")))
shutil.rmtree(test.place("out"))
test.expect(facts(scores("--recipe", unfit, *skip)) == written, "what does not fit: other scores in memory")
test.expect_error(1, "evaluate", "--recipe", unfit, "--task", TASK, cwd=test.root, contains=["--on-mismatch skip"])
test.expect_error(2, "evaluate", "--recipe", unfit, "--task", TASK, "--on-mismatch", "x", contains=["error, skip"])

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
test.expect(candidates[4]["tensors"]["thresholds_looked_up"] > 0, "no threshold is known from the order of magnitudes")
test.expect(candidates[4]["tensors"]["thresholds_counted"] == 0, "thresholds are counted though their order is known")


def strip(listing):
    return [{k: v for k, v in c.items() if k not in ("seconds", "idle_share", "tensors")} for c in listing["candidates"]]


for ranks, group in ((2, 1), (4, 2)) if test.light else ((2, 1), (3, 1), (4, 2), (4, 4)):
    again = scores("--recipes", test.place("list.txt"), "--group", group, ranks=ranks)
    test.expect(strip(again) == strip(listed) and again["failed"] == 2, f"a list on {ranks} ranks in groups of {group}")
for ranks in (0, 2):
    result = test.run("evaluate", "--recipes", test.write("none.txt", "missing.toml\nmissing.toml\n"), "--task", TASK,
                      cwd=test.root, timeout=100, launcher=test.launcher(ranks), env=test.environment)
    test.expect(result.returncode == 1 and result.stderr.count("error: no candidate has a score (2 failed)") == 1,
                f"no candidate has a score, {ranks} ranks", result)
    test.expect(result.stdout.count("missing.toml") >= 2, "reasons of failures in the table", result)
test.expect_error(2, "evaluate", "--recipe", RECIPES[0], "--task", TASK, "--group", "2", contains=["--group"])
test.expect_error(2, "evaluate", model("base"), "--task", TASK, "--group", "1", contains=["--group"])
test.expect_error(2, "evaluate", model("base"), "--recipe", RECIPES[0], "--task", TASK, contains=["give one of them"])
test.expect_error(2, "evaluate", "--task", TASK, contains=["what is to be scored"])
test.done()
