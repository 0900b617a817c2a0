"""amalgam evaluate on the emulated GPU: the CPU's scores, item by item.

cuda_command_test.py PROGRAM MPIEXEC [few]
"""
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "jobs"))
from program import ROOT, ZOO, Program  # noqa: E402

program = Program(sys.argv[1])
launcher = [sys.argv[2], "-n", "2", "--oversubscribe"]
few = "few" in sys.argv[3:]
tasks = os.path.join(ROOT, "tests/data/zoo/tasks")


def environment(**changes):
    return {**os.environ, **changes}


def cut(path, to, count, head=None):
    """the first items of a task file, under another head"""
    with open(path) as file, open(to, "w") as out:
        if head:
            out.write(json.dumps({"task": head}) + "\n")
        out.writelines(list(file)[:count])
    return to


with tempfile.TemporaryDirectory() as folder:
    exact = [cut(f"{tasks}/{name}/search.jsonl", f"{folder}/{name}.jsonl", 16 if few else 256)
             for name in ("math-en", "lang-ja")]
    corpus = cut(f"{tasks}/corpus.jsonl", f"{folder}/corpus.jsonl", 5 if few else 100, {"metric": "perplexity"})
    written = cut(f"{tasks}/lang-ja/heldout.jsonl", f"{folder}/written.jsonl", 4 if few else 60,
                  {"metric": "rouge_l", "limit": 12})
    questions = [word for path in (*exact, corpus, written) for word in ("--task", path)]

    def scores(model, device, *words, **keywords):
        result = program.run("evaluate", os.path.join(ZOO, model), *questions, "--device", device, "--json", "-", *words,
                             timeout=500, **keywords)
        program.expect(result.returncode == 0 and result.stderr == "", f"{model} on {device}", result)
        return json.loads(result.stdout)

    for model in ("math-en",) if few else ("math-en", "lang-ja"):
        cpu, gpu = scores(model, "cpu"), scores(model, "cuda")
        for wanted, found in zip(cpu["tasks"], gpu["tasks"]):
            name = f"{model} {wanted['name']}"
            if wanted["metric"] != "perplexity":
                program.expect(wanted["score"] == found["score"], f"{name}: {wanted['score']} and {found['score']}")
            for number, (a, b) in enumerate(zip(wanted["items"], found["items"])):
                where = f"{name}, item {number}"
                program.expect(a.get("ids") == b.get("ids"), f"{where}: {a.get('ids')} and {b.get('ids')}")
                program.expect(a["tokens"] == b["tokens"], f"{where}: tokens")
                program.expect(abs(a["score"] - b["score"]) < (1e-4 if wanted["metric"] == "perplexity" else 1e-12),
                               f"{where}: {a['score']} and {b['score']}")
                if "log_likelihood" in a:
                    program.expect(abs(a["log_likelihood"] - b["log_likelihood"]) < 1e-4,
                                   f"{where}: {a['log_likelihood']} and {b['log_likelihood']}")
        program.expect(abs(cpu["score"] - gpu["score"]) < 1e-6, f"{model}: {cpu['score']} and {gpu['score']}")
        program.expect(cpu["tasks"][0]["items"] != gpu["tasks"][0]["items"], f"{model}: the GPU was not asked")
        devices = cpu["device"], gpu["device"]
        program.expect(devices[0] == "cpu" and devices[1].startswith("GPU 0: "), f"devices: {devices}")

    if not few:
        half = scores("math-en", "cuda", "--compute", "bfloat16")
        program.expect(half["compute"] == "bfloat16", "bfloat16")
        program.expect(abs(half["tasks"][0]["score"] - 232 / 256) < 0.02, f"bfloat16: {half['tasks'][0]['score']}")

    # Merges in memory, one after the other on one device; the one in between is broken.
    for name, weight in (("sum", 0.5), ("broken", 1e39)):
        with open(f"{folder}/{name}.toml", "w") as file:
            file.write('merge_method = "linear"\nparameters = { normalize = false }\n')
            for model in ("math-en", "lang-ja"):
                file.write(f'[[models]]\nmodel = "{os.path.join(ZOO, model)}"\nparameters = {{ weight = {weight} }}\n')
    with open(f"{folder}/list.txt", "w") as file:
        file.write(f"{folder}/sum.toml\n{folder}/broken.toml\n" + json.dumps(
            {"recipe": f"{folder}/sum.toml", "set": ["models.0.parameters.weight=0.7"]}) + "\n")
    candidates = ["evaluate", "--recipes", f"{folder}/list.txt", "--task", exact[0]]

    def list_scores(device, **keywords):
        result = program.run(*candidates, "--device", device, "--json", "-", timeout=500, **keywords)
        program.expect(result.returncode == 0, f"candidates on {device}", result)
        found = json.loads(result.stdout)
        program.expect(found["failed"] == 1 and "not finite" in found["candidates"][1]["error"], f"failed on {device}",
                       result)
        return [(entry.get("score"), entry["tasks"][0]["items"] if "tasks" in entry else [])
                for entry in found["candidates"]]

    wanted = list_scores("cpu")
    found = list_scores("cuda")
    program.expect(wanted[0][0] != wanted[2][0], "candidates differ")
    for (score, items), (other, others) in zip(wanted, found):
        program.expect(score == other, f"candidates: {score} and {other}")
        for a, b in zip(items, others):
            program.expect(abs(a["log_likelihood"] - b["log_likelihood"]) < 1e-4, f"candidates: {a} and {b}")
    if not few:
        # Each rank takes a GPU of its own; ranks that work together have none, and say what to do.
        listed = f"{folder}/two.txt"
        with open(listed, "w") as file:
            file.write(f"{folder}/sum.toml\n" * 2)
        pair = environment(AMALGAM_EMULATION_DEVICES="2")
        merges = ["evaluate", "--task", exact[0], "--json", "-", "--recipes", listed]
        result = program.run(*merges, launcher=launcher, env=pair, timeout=500)
        devices = [c["device"][:5] for c in json.loads(result.stdout)["candidates"]]
        program.expect(devices == ["GPU 0", "GPU 1"] and result.stderr == "", f"auto, a GPU each: {devices}", result)
        result = program.run(*merges, "--group", "2", launcher=launcher, env=pair, timeout=500)
        devices = [c["device"] for c in json.loads(result.stdout)["candidates"]]
        program.expect(devices == ["cpu", "cpu"], f"two ranks for a candidate: {devices}", result)
        program.expect(result.stderr.count("warning: ") == 1 and "the CPU scores" in result.stderr
                       and "--group 1" in result.stderr, "two ranks for a candidate: no reason", result)
        whole = ["evaluate", os.path.join(ZOO, "math-en"), "--task", exact[0]]
        result = program.run(*whole, launcher=launcher, env=pair, timeout=500)
        program.expect(result.stderr.count("warning: ") == 1 and "start one rank" in result.stderr,
                       "two ranks for a model", result)
        result = program.run(*whole, "--device", "cpu", launcher=launcher, env=pair, timeout=500)
        program.expect(result.returncode == 0 and result.stderr == "", "two ranks on the CPU that is asked for", result)
        program.expect(list_scores("cuda", launcher=launcher) == found, "two ranks with a GPU each give other scores")
        result = program.run(*candidates, "--group", "2", "--device", "cuda", launcher=launcher)
        program.expect(result.returncode == 2 and "--group 1" in result.stderr, "two ranks for one candidate", result)

    question = ["evaluate", os.path.join(ZOO, "math-en"), "--task",
                cut(f"{tasks}/math-en/search.jsonl", f"{folder}/three.jsonl", 3)]
    none = environment(AMALGAM_EMULATION_DEVICES="0")
    program.expect_error(1, *question, "--device", "cuda", contains=["--device cuda: no GPU is to be seen"], env=none)
    result = program.run(*question, env=none)
    program.expect(result.returncode == 0, "without a GPU the CPU scores", result)
    for failure, text in (("cublas:5", "cuBLAS failed"), ("kernel:9", "failed: "), ("cudaMalloc:2", "no room"),
                          ("cublasCreate:1", "cuBLAS failed")):
        program.expect_error(1, *question, "--device", "cuda", contains=[text],
                             env=environment(AMALGAM_EMULATION_FAIL=failure))
    program.expect_error(2, *question, "--device", "gpu", contains=["auto, cpu"])

program.done()
