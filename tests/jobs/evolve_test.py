"""amalgam evolve: the same trajectory and winner for any number of ranks and groups, and after being killed; the winner's
checkpoint scores what the result says; what is wrong with a search file is said.

evolve_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from merging import ROOT, Merging, folder_hash

test = Merging(sys.argv)
ZOO = os.path.join(ROOT, "tests", "data", "zoo")
CONFIG = os.path.join(ROOT, "configs", "evolve-tiny.toml")
BUDGET = 24 if test.light else 60
# Fewer items, so that a candidate is quick.
for name in ("search", "heldout"):
    with open(os.path.join(ZOO, "tasks", "math-ja", name + ".jsonl")) as file:
        test.write(name + ".jsonl", "".join(file.readlines()[: 24 if test.light else 64]))
COMMON = ["--set", f"zoo.root={ZOO}", "--set", f"tasks.0.search={test.place('search.jsonl')}",
          "--set", f"tasks.0.heldout={test.place('heldout.jsonl')}", "--quiet", "--evaluations", str(BUDGET)]  # fmt: skip


def evolve(run, *words, ranks=0, launcher=None, config=CONFIG, code=0):
    result = test.run("evolve", config, test.place(run), *COMMON, *words, cwd=test.root, env=test.environment, timeout=300,
                      launcher=launcher if launcher is not None else test.launcher(ranks))
    test.expect(result.returncode == code, f"evolve {run} {words}, {ranks} ranks", result)
    return result


def records(run):
    with open(test.place(run, "journal.jsonl")) as file:
        return [json.loads(line[17:]) for line in file]


def trajectory(run):
    """what decides, in order of candidates; without times, groups and numbers of records"""
    kept = {}
    for record in records(run):
        if record["kind"] == "evaluation":
            place = (record["phase"], record["generation"], record["candidate"], record["set"], record["recipe_hash"])
            kept[place] = (record["genome"], record.get("objective"), record["ok"])
    return kept


def result(run):
    with open(test.place(run, "result.json")) as file:
        found = json.load(file)
    found.pop("seconds")
    found.pop("groups")
    return found


# The same search on one rank, on groups, and killed
evolve("alone")
want, path = result("alone"), trajectory("alone")
test.expect(want["evaluations"] == BUDGET, f"{want['evaluations']} evaluations")
test.expect(len([r for r in records("alone") if r["kind"] == "generation"]) > (1 if test.light else 4), "no generations in the journal")
for ranks, words in ((3, ["--groups", "1"]),) if test.light else ((2, []), (4, []), (3, ["--groups", "1"]), (5, ["--groups", "2"])):
    run = f"ranks-{ranks}"
    evolve(run, *words, "--no-checkpoint", ranks=ranks)
    test.expect(result(run) == want, f"{ranks} ranks {words}: another result")
    test.expect(trajectory(run) == path, f"{ranks} ranks {words}: another trajectory")
evolve("seed", "--seed", "5", "--no-checkpoint")
test.expect(trajectory("seed") != path, "another seed has no effect")

# Numbers that somebody knows
known = [round(0.1 * number, 1) for number in range(4)]
known_models = [f"models/{name}" for name in ("math-en", "math2-en", "lang-ja", "distract")]
hand = test.recipe("hand", "task_arithmetic", known_models, "models/base", "weight = 0")
with open(test.place(hand)) as file:
    text = file.read()
for weight in known:
    text = text.replace("weight = 0 ", f"weight = {weight} ", 1) if weight else text.replace("weight = 0 ", "weight = 0.0 ", 1)
test.write("hand.toml", text)
evolve("hand", "--set", f'search.hand_made=["{test.place("hand.toml")}"]', "--no-checkpoint")
injected = [r["genome"] for r in records("hand") if r["kind"] == "evaluation" and r["origin"] == "injected"]
test.expect(injected[:1] == [[weight for weight in known for _ in range(4)]], f"injected: {injected}\n{text}")

test.expect([1.0] * 8 + [0.0] * 8 in injected, f"no pair of the first two models: {injected}")

# Killed at some moments, and gone on with on another number of ranks
draw = random.Random(1)
killed = 0
for number in range(2 if test.light else 6):
    ranks = (0, 3)[number % 2]
    command = [*test.launcher(ranks), test.path, "evolve", CONFIG, test.place("killed"), *COMMON, "--no-checkpoint"]
    process = subprocess.Popen(command, cwd=test.root, env=test.environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    wanted = draw.randrange(3, BUDGET)
    journal, deadline = test.place("killed", "journal.jsonl"), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if os.path.exists(journal) and sum(1 for _ in open(journal, "rb")) > wanted:
            break
        time.sleep(0.002)
    if process.poll() is None:
        killed += 1
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = [r for r in records("killed") if r["kind"] == "evaluation"] if os.path.exists(journal) else []
    evolve("killed", "--no-checkpoint", ranks=(2, 0)[number % 2])
    test.expect(result("killed") == want, f"killed after {wanted} records: another result")
    test.expect(trajectory("killed") == path, f"killed after {wanted} records: another trajectory")
    asked = [r["recipe_hash"] + r["set"] for r in records("killed") if r["kind"] == "evaluation" and "duplicate_of" not in r]
    test.expect(len(asked) == len(set(asked)), "something was evaluated twice")
    test.expect(len(before) <= len(asked), "records are gone")
    shutil.rmtree(test.place("killed"))
print(f"{killed} killed in time")
test.expect(killed > 0, "none was killed in time")
# A signal that asks for an end: exit code 0, and it goes on
process = subprocess.Popen([test.path, "evolve", CONFIG, test.place("asked"), *COMMON, "--no-checkpoint"], cwd=test.root,
                           env=test.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while process.poll() is None and not os.path.exists(test.place("asked", "journal.jsonl")):
    time.sleep(0.01)
process.send_signal(signal.SIGUSR1)
test.expect(process.wait(timeout=60) == 0, "a search that is asked to stop")
evolve("asked", "--no-checkpoint")
test.expect(result("asked") == want, "asked to stop, then gone on with: another result")

# What the result says is what the checkpoint scores
scores = test.run("evaluate", test.place("alone", "best"), "--task", test.place("heldout.jsonl"), "--json", "-", cwd=test.root)
test.expect(scores.returncode == 0, "evaluate the winner", scores)
test.expect(json.loads(scores.stdout)["score"] == want["best"]["heldout"], "the winner's checkpoint has another score")
for recipe in ("best.toml", "best.yaml"):
    test.expect(test.merge(test.place("alone", recipe), test.place("again"), "--quiet").returncode == 0, recipe)
    scores = test.run("evaluate", test.place("again"), "--task", test.place("search.jsonl"), "--json", "-", cwd=test.root)
    test.expect(json.loads(scores.stdout)["score"] == want["best"]["search"], f"{recipe} is another merge")
    shutil.rmtree(test.place("again"))
known = test.run("evaluate", os.path.join(ZOO, "models", "math-en"), "--task", test.place("heldout.jsonl"), "--json", "-", cwd=test.root)
test.expect(json.loads(known.stdout)["score"] == want["sources"]["math-en"]["heldout"], "a source has another score")

# A path through layers, and a path of what was found
for space, more in (("dfs", []), ("ps-dfs", ["--set", "search.data_flow.evaluations=12"])):
    evolve(space, "--set", f"search.space={space}", "--set", "search.data_flow.repeats=1", *more, "--no-checkpoint")
    test.expect(result(space)["space"] == space, f"{space}: another space")
    phases = [(r["name"], len(r["genes"])) for r in records(space) if r["kind"] == "phase"]
    for name, genes in phases:
        test.expect({len(r["genome"]) for r in records(space) if r["kind"] == "evaluation" and r["phase"] == name} == {genes},
                    f"{space}: genes of {name}")
    test.expect([name for name, _ in phases] == space.split("-"), f"{space}: phases {phases}")
evolve("random", "--set", "search.optimiser=random", "--no-checkpoint")
# Candidates without a score rank last, with their reason; here all of them: a model has a NaN
broken = shutil.copytree(ZOO, test.place("broken-zoo"))
for place, folders, names in os.walk(broken):
    for name in (*folders, *names):
        os.chmod(os.path.join(place, name), 0o755)
weights = os.path.join(broken, "models", "distract", "model.safetensors")
with open(weights, "r+b") as file:
    data = bytearray(file.read())
    header = int.from_bytes(data[:8], "little")
    begin = json.loads(data[8 : 8 + header])["model.norm.weight"]["data_offsets"][0]
    data[8 + header + begin : 8 + header + begin + 2] = b"\xc0\x7f"  # NaN
    file.seek(0)
    file.write(data)
failed = evolve("broken", "--set", f"zoo.root={broken}", "--no-checkpoint", code=1)
test.expect("no candidate could be scored" in failed.stderr and "finite" in failed.stderr, "a search without any score", failed)
test.expect(any(r["kind"] == "evaluation" and not r["ok"] and "finite" in r["error"] for r in records("broken")),
            "a merge with NaN has a score")

# Every search file that ships is understood, as far as its tasks, which are elsewhere
shipped = [name for name in sorted(os.listdir(os.path.join(ROOT, "configs"))) if name.startswith(("evolve-", "sakana-"))]
test.expect(len(shipped) >= 5, f"search files: {shipped}")
for name in shipped:
    opened = test.run("evolve", os.path.join(ROOT, "configs", name), test.place("shipped"), "--set", "zoo.root=/nowhere", cwd=test.root)
    test.expect(opened.returncode == 1 and opened.stderr.count("error: ") == 1 and "there is no such task file" in opened.stderr
                and "warning: " not in opened.stderr,
                f"{name} is not understood", opened)

# Another search does not go on in its folder, and changes nothing there; mistakes are named
before = folder_hash(test.place("alone"))
changed_zoo = shutil.copytree(ZOO, test.place("changed-zoo"))
shutil.copy(os.path.join(ZOO, "models", "math-en", "model.safetensors"),
            os.path.join(changed_zoo, "models", "math2-en", "model.safetensors"))  # fmt: skip
for words, what in ((["--set", "search.genes.weight.high=2.5"], "settings"), (["--seed", "5"], "seed"),
                    (["--set", f"zoo.root={changed_zoo}"], "models"), (["--compute", "bfloat16"], "arithmetic")):  # fmt: skip
    changed = evolve("alone", *words, code=1)
    test.expect("another one" in changed.stderr and f"other {what}" in changed.stderr, f"another search goes on: {words}", changed)
    test.expect(folder_hash(test.place("alone")) == before, f"{words}: refused, and the folder is changed")
# Items that cannot be asked are seen before anything is done
with open(test.place("heldout.jsonl")) as file:
    lines = [json.loads(line) for line in file]
lines[5]["answer_ids"][0] = 99999
test.write("beyond.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
failed = evolve("beyond", "--set", f"tasks.0.heldout={test.place('beyond.jsonl')}", code=1)
test.expect("beyond.jsonl:6" in failed.stderr and "99999" in failed.stderr, "a token beyond the vocabulary", failed)
test.expect(not os.path.exists(test.place("beyond")), "a folder is left")
# Other held-out items cost their own scores only
test.write("fewer.jsonl", "".join(json.dumps(line) + "\n" for line in lines[6:]))
searched = len([r for r in records("seed") if r["kind"] == "evaluation" and r["set"] == "search"])
evolve("seed", "--seed", "5", "--no-checkpoint", "--set", f"tasks.0.heldout={test.place('fewer.jsonl')}")
test.expect(len([r for r in records("seed") if r["kind"] == "evaluation" and r["set"] == "search"]) == searched,
            "other held-out items: searched again")  # fmt: skip
test.expect(len(result("seed")["items"]["heldout"]["best"]) == len(lines) - 6, "the former held-out items")
# A damaged journal is said, and kept
with open(test.place("seed", "journal.jsonl"), "r+b") as file:
    text = file.read()
    file.seek(text.index(b"\n", len(text) // 2) - 3)
    file.write(b"?")
repaired = evolve("seed", "--seed", "5", "--no-checkpoint", "--set", f"tasks.0.heldout={test.place('fewer.jsonl')}")
test.expect("is damaged" in repaired.stderr and os.path.exists(test.place("seed", "journal.jsonl.damaged-1")), "damage", repaired)
for words, message in (
    (["--set", "search.genes.wieght={}"], 'did you mean "weight"'),
    (["--set", "search.optimiser=cmaes"], "cmaes"),
    (["--set", "search.options.populatoin=3"], "populatoin"),
    (["--set", "search.genes.weight.low=5"], "low=5"),
    (["--set", "search.layer_groups=7"], "7"),
    (["--set", "search.evaluatoins=3"], "evaluatoins"),
    (["--set", "tasks.0.search=none.jsonl"], "none.jsonl"),
    (["--set", "zoo.root=/nowhere"], "/nowhere"),
):
    failed = evolve("wrong", *words, code=1)
    test.expect(message in failed.stderr and failed.stderr.count("error: ") == 1, f"{words}: {message}", failed)
    test.expect(not os.path.exists(test.place("wrong")), f"{words}: a folder is left")
test.done()
