"""Merges scored by programs of the user's: each is a whole checkpoint, the bytes of `amalgam merge`, for as long as it is scored;
candidates whose program fails or hangs cost nobody else; nothing is left behind, however it ends.

external_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time

from merging import ROOT, Merging, files_hash

test = Merging(sys.argv)
ZOO = os.path.join(ROOT, "tests", "data", "zoo", "models")
SCRATCH = test.place("it's scratch")
os.mkdir(SCRATCH)

# What a checkpoint's recipe says in a comment is done with it; else its score is its bytes' hash.
test.write(
    "scorer.py",
    f"""
import json, os, sys, time
sys.path.insert(0, {os.path.join(ROOT, "tests", "jobs")!r})
from merging import files_hash

def score(model):
    names = sorted(os.listdir(model))
    assert {{"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}} <= set(names), names
    recipe = open(os.path.join(model, "amalgam_recipe.toml")).read()
    print("scoring", os.path.basename(model), file=sys.stderr, flush=True)
    if "# fails" in recipe:
        sys.exit("this one fails")
    if "# hangs" in recipe:
        with open("hangs.tmp", "w") as file:
            file.write(str(os.getpid()))
        os.rename("hangs.tmp", "hangs.pid")
        time.sleep(1000)
    return int(files_hash(model), 16) / 2**64

if len(sys.argv) > 1:
    assert sys.argv[1] == os.environ["AMALGAM_MODEL"]
    print("loading")
    print(json.dumps({{"results": {{"zoo": {{"hash,none": score(sys.argv[1])}}}}, "items": [0, 1]}}, indent=1))
else:
    for line in sys.stdin:
        request = json.loads(line)
        found = score(request["model"])
        print(json.dumps({{"id": request["id"], "score": found, "items": [len(request["set"])]}}), flush=True)
""",
)
SCORER = f"{shlex.quote(sys.executable)} scorer.py"
COMMAND = ("--command", SCORER + " {model}", "--score-at", "/results/zoo/hash,none")
WORKER = ("--worker", SCORER)


def recipe(name, top=""):
    models = [os.path.join(ZOO, m) for m in ("math-en", "lang-ja")]
    return test.recipe(name, "linear", models, None, "weight = 1", "", top)


def expected(name, *arguments):
    out = test.place("expected")
    result = test.merge(name, out, "--force", "--quiet", *arguments)
    test.expect(result.returncode == 0, f"merge {name}", result)
    return int(files_hash(out), 16) / 2**64


def evaluate(*words, **keywords):
    return test.run("evaluate", *words, cwd=test.root, timeout=200, env=test.environment, **keywords)


def expect_nothing_left(what):
    test.expect(os.listdir(SCRATCH) == [], f"{what}: left in the scratch folder: {os.listdir(SCRATCH)}")


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def soon(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


good, fails, hangs = recipe("good"), recipe("fails", "# fails"), recipe("hangs", "# hangs")
override = "models.0.parameters.weight=0.25"
scores = [expected(good), expected(good, "--set", override)]
test.expect(scores[0] != scores[1], "an override without effect")

lines = [good, fails, json.dumps({"recipe": good, "set": [override]}), hangs, "missing.toml", good]
test.write("list.txt", "\n".join(lines) + "\n")
for words, name in ((COMMAND, "command"), (WORKER, "worker")):
    result = evaluate("--recipes", "list.txt", *words, "--timeout", 12 if test.light else 4, "--scratch", SCRATCH, "--json", "-")
    test.expect(result.returncode == 0, f"{name}: a list", result)
    test.expect([line for line in result.stderr.splitlines() if line] ==
                ["warning: 3 of 6 candidates failed, for the reasons given with them"], f"{name}: what is said", result)
    found = json.loads(result.stdout)
    first, failed, second, hung, missing, last = found["candidates"]
    test.expect(found["failed"] == 3, f"{name}: {found['failed']} failed, 3 should")
    test.expect([c.get("score") for c in (first, second, last)] == [scores[0], scores[1], scores[0]], f"{name}: scores", result)
    items = [0, 1] if name == "command" else [0]
    task = {"name": name, "metric": "external", "score": scores[0], "weight": 1.0, "items": [{"score": i} for i in items]}
    test.expect(first == {"model": good, "score": scores[0], "tasks": [task], "set": []}, f"{name}: {first}")
    if name == "worker":
        test.expect(second["tasks"][0]["items"] == [{"score": 1}], "the worker is told of overrides")
    test.expect("exit code 1" in failed["error"] and "this one fails" in failed["error"], f"{name}: {failed}")
    test.expect(" s and was ended" in hung["error"], f"{name}: {hung}")
    test.expect("scoring candidate-4" in hung["error"], f"{name}: the log's end of what hangs: {hung}")
    test.expect("missing.toml" in missing["error"], f"{name}: {missing}")
    test.expect(not running(open(test.place("hangs.pid")).read()), f"{name}: what was ended goes on")
    os.remove(test.place("hangs.pid"))
    expect_nothing_left(name)

    test.expect_error(1, "evaluate", "--recipe", fails, *words, "--scratch", SCRATCH, cwd=test.root, env=test.environment,
                      contains=["exit code 1", "this one fails"])
    expect_nothing_left(f"{name} that fails")

    # However it ends: the checkpoint and the program go as well.
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen([test.path, "evaluate", "--recipe", hangs, *words, "--scratch", SCRATCH], cwd=test.root)
        test.expect(soon(lambda: os.path.exists(test.place("hangs.pid"))), f"{name}: the program starts")
        pid = open(test.place("hangs.pid")).read()
        test.expect(len(os.listdir(SCRATCH)) == 1, f"{name}: the checkpoint is there while it is scored")
        process.send_signal(number)
        test.expect(process.wait(60) == -number, f"{name}: end by signal {number}")
        test.expect(soon(lambda: not running(pid)), f"{name}: signal {number} leaves the program")
        soon(lambda: not os.listdir(SCRATCH))
        expect_nothing_left(f"{name}, signal {number}")
        os.remove(test.place("hangs.pid"))

# Ranks score different candidates, with a program each that does not take itself for a rank.
rankless = test.write("rankless.py", "import os\nassert not [n for n in os.environ if n.startswith(('OMPI_COMM_WORLD', 'PMIX'))]\n"
                      + open(test.place("scorer.py")).read())
test.write("many.txt", "\n".join([good, fails, good, lines[2], good]) + "\n")
result = evaluate("--recipes", "many.txt", "--worker", f"{shlex.quote(sys.executable)} {rankless}", "--scratch", SCRATCH,
                  "--json", "-", launcher=test.launcher(3))
test.expect(result.returncode == 0, "three ranks", result)
told = [c.get("score") for c in json.loads(result.stdout)["candidates"]]
test.expect(told == [scores[0], None, scores[0], scores[1], scores[0]], f"three ranks: {told}", result)
expect_nothing_left("three ranks")

test.write("three.txt", "\n".join([good] * 3) + "\n")


# One that is done leaves the core to those that are not.
def processor_seconds(pause):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    slow = f"""test $AMALGAM_LOCAL_RANK = 0 && sleep {pause}; echo '{{"score": 1}}'"""
    result = evaluate("--recipes", "three.txt", "--command", slow, "--scratch", SCRATCH, launcher=test.launcher(2))
    test.expect(result.returncode == 0, "a slow program", result)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


idle = processor_seconds(2.5) - processor_seconds(0)
test.expect(idle < 1.3, f"a rank that is done took {idle:.1f} s of a core while another waited for its programs")

# Which of the machine's programs one is; alone, the first of one.
told = test.write("told.py", """
import json, os, sys
for line in sys.stdin:
    local = [int(os.environ[f"AMALGAM_LOCAL_{name}"]) for name in ("RANK", "RANKS")]
    print(json.dumps({"id": json.loads(line)["id"], "score": 1, "items": local}), flush=True)
""")


def local_ranks(*words, ranks):
    result = evaluate(*words, "--scratch", SCRATCH, "--json", "-", launcher=test.launcher(ranks))
    test.expect(result.returncode == 0, f"{words}, {ranks} ranks", result)
    found = json.loads(result.stdout)
    return [[item["score"] for item in c["tasks"][0]["items"]] for c in found.get("candidates", [found])]


TELLER = ("--worker", f"{shlex.quote(sys.executable)} {told}")
for words, ranks, want in (
    (("--recipes", "three.txt"), 3, [[0, 3], [1, 3], [2, 3]]),
    (("--recipe", good), 2, [[0, 1]]),
    (("--recipe", good), 0, [[0, 1]]),
):
    got = local_ranks(*words, *TELLER, ranks=ranks)
    test.expect(got == want, f"{words}, {ranks} ranks: {got}")
as_command = ("--command", "echo '{\"score\": 1, \"items\": ['$AMALGAM_LOCAL_RANK, $AMALGAM_LOCAL_RANKS']}'")
got = local_ranks("--recipes", "three.txt", *as_command, ranks=2)
test.expect(got == [[0, 2], [1, 2], [0, 2]], f"places of commands: {got}")

# The examples share out GPUs by it: lm-eval and transformers are stand-ins that say which they were given.
EVALUATORS = os.path.join(ROOT, "configs", "evaluators")
os.makedirs(test.place("stubs"))
for name, text in (
    ("lm_eval", '#!/bin/sh\nwhile [ "$1" != --output_path ]; do shift; done\nmkdir "$2/model"\n'
                'echo "{\\"score\\": 1, \\"items\\": [${CUDA_VISIBLE_DEVICES:--1}]}" >"$2/model/results_0.json"\n'),
    ("nvidia-smi", "#!/bin/sh\nseq 4 5\n"),
    ("torch.py", "float32 = None\nclass cuda:\n    is_available = staticmethod(lambda: True)\n"
                 "    device_count = staticmethod(lambda: 2)\n"),
    ("transformers.py", "class AutoModelForCausalLM:\n"
                        "    from_pretrained = staticmethod(lambda folder: AutoModelForCausalLM())\n"
                        "    def to(self, device, dtype):\n        raise ValueError(f'on {device}')\n"),
):
    test.write(os.path.join("stubs", name), text)
    os.chmod(test.place("stubs", name), 0o755)
seen = {k: v for k, v in test.environment.items() if k != "CUDA_VISIBLE_DEVICES"} | {
    "PATH": test.place("stubs") + os.pathsep + os.environ["PATH"], "PYTHONPATH": test.place("stubs")}
LM_EVAL = ("--command", f"sh {shlex.quote(os.path.join(EVALUATORS, 'lm_eval.sh'))} {{model}}")


def chosen(ranks, *words, **variables):
    result = test.run("evaluate", "--recipes", "three.txt", *words, "--json", "-", cwd=test.root, timeout=200,
                      env=seen | variables, launcher=test.launcher(ranks))
    candidates = json.loads(result.stdout)["candidates"]
    return [c["error"] if "error" in c else c["tasks"][0]["items"][0]["score"] for c in candidates]


test.expect(chosen(3, *LM_EVAL) == [4, 5, 4], "lm-eval with two GPUs")
test.expect(chosen(2, *LM_EVAL, CUDA_VISIBLE_DEVICES="7,9,8") == [7, 9, 7], "lm-eval with GPUs that are named")
test.expect(chosen(2, *LM_EVAL, CUDA_VISIBLE_DEVICES="3") == [3, 3, 3], "lm-eval with one GPU for each rank")
test.expect(chosen(0, *LM_EVAL) == [-1, -1, -1], "lm-eval alone leaves the GPUs as they are")
task = os.path.join(ROOT, "tests", "data", "zoo", "tasks", "math-ja", "search.jsonl")
worker = os.path.join(EVALUATORS, "transformers_worker.py")
places = chosen(3, "--worker", shlex.join([sys.executable, worker, task]))
test.expect([f"cuda:{n}" in place for n, place in zip((0, 1, 0), places)] == [True] * 3, f"transformers: {places}")

# All of them; the table shows the last of a program's words.
test.write("two.txt", "\n".join([fails, fails]) + "\n")
for ranks in (0, 2):
    result = evaluate("--recipes", "two.txt", *WORKER, "--json", "all.json", launcher=test.launcher(ranks))
    test.expect(result.returncode == 1, f"{ranks} ranks: no candidate has a score", result)
    test.expect(result.stderr.count("error: no candidate has a score (2 failed)") == 1, f"{ranks} ranks", result)
    test.expect(json.load(open(test.place("all.json")))["failed"] == 2, f"{ranks} ranks: results of failures", result)
    lines = [line for line in result.stdout.splitlines() if line.startswith("fails.toml")]
    test.expect(len(lines) == 2 and all("exit code 1; its last words: this one fails" in line for line in lines),
                "reasons in the table", result)
    os.remove(test.place("all.json"))

# Models for the disks of different nodes: a merge for a program is one rank's work.
spread = test.write("spread.toml", 'merge_method = "linear"\n' + "".join(
    f'[[models]]\nmodel = "{os.path.join(ZOO, name)}"\ngroup = {group}\nparameters = {{ weight = 1 }}\n'
    for group, name in enumerate(("math-en", "lang-ja"))))
result = evaluate("--recipe", spread, *COMMAND, "--json", "-")
test.expect(result.returncode == 0, "models in groups", result)
test.expect(result.returncode or json.loads(result.stdout)["score"] == expected(spread, "--model-groups", 1),
            "models in groups: another merge", result)

# A checkpoint that is there already is scored where it is.
base = os.path.join(ZOO, "base")
result = evaluate(base, "--command", f"test {{model}} = {shlex.quote(base)} && echo '{{\"score\": 0.125}}'")
test.expect(result.returncode == 0 and "0.1250" in result.stdout, "a checkpoint", result)

# Where nothing is said, memory is used.
result = evaluate("--recipe", good, "--command", "echo {model} >&2; false")
test.expect("/dev/shm/amalgam-" in result.stderr or "/tmp/amalgam-" in result.stderr, "scratch by default", result)
place = result.stderr.rpartition("    ")[2].strip()
test.expect(place.endswith("/candidate-1") and not os.path.exists(os.path.dirname(place)), f"{place} is left")

# Names of files need not be UTF-8.
with open(test.place("odd.txt"), "wb") as file:
    file.write(b"odd\xff.toml\n" + good.encode() + b"\n")
result = evaluate("--recipes", "odd.txt", "--command", "echo '{\"score\": 3}'", "--json", "-")
test.expect(result.returncode == 0, "a name that is not UTF-8", result)
odd, other = json.loads(result.stdout)["candidates"]
test.expect("no such file" in odd["error"] and other["score"] == 3, f"a name that is not UTF-8: {odd}, {other}")

# Two at a time have folders of their own: each candidate waits for the other to be there as well.
both = f"""touch {{model}}/seen; for i in $(seq 1000); do test $(ls -d {shlex.quote(SCRATCH)}/*/*/seen | wc -l) = 2 && break; \
sleep 0.02; done; sleep 0.5; echo "{{\\"score\\": $(ls -d {shlex.quote(SCRATCH)}/*/*/seen | wc -l)}}" """
words = [test.path, "evaluate", "--recipe", good, "--command", both, "--scratch", SCRATCH, "--json", "-"]
pair = [subprocess.Popen(words, cwd=test.root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
told = [json.loads(process.communicate(timeout=100)[0])["score"] for process in pair]
test.expect(2 in told, f"two evaluators at a time saw {told} checkpoints")
expect_nothing_left("two at a time")

test.expect_error(2, "evaluate", base, "--command", "true", "--task", "x.jsonl", contains=["--task and --command"])
test.expect_error(2, "evaluate", base, "--worker", "true", "--compute", "auto", contains=["--compute and --worker"])
test.expect_error(2, "evaluate", "--recipe", good, "--worker", "true", "--group", 2, contains=["--group and --worker"])
test.expect_error(2, "evaluate", base, "--command", "true", "--device", "cpu", contains=["--device and --command"])
test.expect_error(2, "evaluate", base, "--worker", "true", "--command", "true", contains=["--command and --worker"])
test.expect_error(2, "evaluate", base, "--task", "x.jsonl", "--timeout", 3, contains=["--timeout belongs to"])
test.expect_error(2, "evaluate", "--command", "true", contains=["what is to be scored"])
test.expect_error(2, "evaluate", base, "--recipe", "x", "--command", "true", contains=["give one of them"])
test.expect_error(2, "evaluate", base, "--command", " ", contains=["empty"])
for place in ("", "/", "/a~2"):
    test.expect_error(2, "evaluate", base, "--command", f"touch {test.place('asked')}", "--score-at", place,
                      contains=["--score-at"])
test.expect(not os.path.exists(test.place("asked")), "a command ran though its score has no place")
test.expect_error(2, "evaluate", base, "--command", "true", "--scratch", SCRATCH, contains=["--scratch belongs to"])
test.expect_error(2, "evaluate", base, "--command", "true", "--set", "a=1", contains=["--set belongs to"])
test.expect_error(1, "evaluate", base, "--command", f"touch {test.place('asked')}", "--json", test.place("no", "where"),
                  contains=["no/where", "nothing has been scored"])
test.expect(not os.path.exists(test.place("asked")), "a command ran though its score cannot be kept")
test.expect_error(1, "evaluate", "--recipe", test.place(good), "--command", "true", "--scratch", test.place("none"),
                  contains=["--scratch", "No such file"])
test.done()
