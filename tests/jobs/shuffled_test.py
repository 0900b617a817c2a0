"""amalgam evolve where there is nothing to find: with answers that belong to other questions, the winner is no better than the
best constant answer; with the right ones, the same search finds better.

shuffled_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import random
import sys

from merging import ROOT, Merging

test = Merging(sys.argv)
ZOO = os.path.join(ROOT, "tests", "data", "zoo")
BUDGET = 100


def write_items(folder, seed):
    """`seed` 0: as they are"""
    os.makedirs(test.place(folder), exist_ok=True)
    for name in ("search", "heldout"):
        with open(os.path.join(ZOO, "tasks", "math-ja", name + ".jsonl")) as file:
            items = [json.loads(line) for line in file]
        answers = [(item["answer"], item["answer_ids"]) for item in items]
        if seed:
            random.Random(f"{seed} {name}").shuffle(answers)
        for item, (answer, ids) in zip(items, answers):
            item["answer"], item["answer_ids"] = answer, ids
        test.write(os.path.join(folder, name + ".jsonl"), "".join(json.dumps(item) + "\n" for item in items))


def search(config, seed):
    folder = f"items-{seed}"
    write_items(folder, seed)
    run = f"{config}-{seed}"
    done = test.run("evolve", os.path.join(ROOT, "configs", config + ".toml"), test.place(run), "--set", f"zoo.root={ZOO}", "--set",
                    f"tasks.0.search={test.place(folder, 'search.jsonl')}", "--set",
                    f"tasks.0.heldout={test.place(folder, 'heldout.jsonl')}", "--evaluations", str(BUDGET), "--quiet",
                    "--no-checkpoint", cwd=test.root, timeout=300)  # fmt: skip
    test.expect(done.returncode == 0, f"{run}: failed", done)
    with open(test.place(run, "result.json")) as file:
        result = json.load(file)
    best, constant = result["best"], result["constant"]
    print(f"{run}: {best['heldout']:.3f}, constant {constant['heldout']:.3f}, p {constant['p']:.2g}")
    return best["heldout"] > constant["heldout"] and constant["p"] < 0.01


for number in (1, 2):
    test.expect(not search("evolve-tiny", number), "numbers that fit shuffled answers fit others of them")
test.expect(not search("evolve-tiny-dfs", 3), "a path that fits shuffled answers fits others of them")
test.expect(search("evolve-tiny", 0), "right answers are no better than shuffled ones: the test above says nothing")
test.done()
