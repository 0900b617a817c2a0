"""amalgam evaluate as a user meets it.

command_test.py PROGRAM
"""
import json
import os
import random
import sys
import tempfile
import unicodedata

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "jobs"))
from program import ROOT, ZOO, Program  # noqa: E402

program = Program(sys.argv[1])
tasks = os.path.join(ROOT, "tests/data/zoo/tasks")
math, ja = (os.path.join(tasks, name, "search.jsonl") for name in ("math-en", "lang-ja"))
model = os.path.join(ZOO, "math-en")

with tempfile.TemporaryDirectory() as folder:
    out = os.path.join(folder, "out.json")
    result = program.run("evaluate", model, "--task", math, "--task", ja, "--weight", "lang-ja=3", "--json", out)
    program.expect(result.returncode == 0 and result.stderr == "", "evaluate", result)
    for text in ("math-en", "exact_match", "0.9062", "0.0664", "256"):
        program.expect(text in result.stdout, f"{text} in the table", result)
    found = json.load(open(out))
    program.expect([t["name"] for t in found["tasks"]] == ["math-en", "lang-ja"], "names of tasks")
    program.expect([t["metric"] for t in found["tasks"]] == ["exact_match"] * 2, "metrics")
    program.expect(found["tasks"][0]["score"] == 232 / 256 and found["tasks"][1]["score"] == 17 / 256, "scores")
    program.expect(abs(found["score"] - (232 + 3 * 17) / 4 / 256) < 1e-12, "score by weight")
    items = found["tasks"][0]["items"]
    program.expect(len(items) == 256 and sum(i["score"] for i in items) == 232, "items")
    program.expect(all(i["log_likelihood"] < 0 and i["tokens"] >= 2 for i in items), "log-likelihoods")

    def threads(count):
        result = program.run("evaluate", model, "--task", math, "--threads", count, "--json", "-")
        program.expect(result.returncode == 0, "evaluate on standard output", result)
        return result.stdout

    program.expect(json.loads(threads(1))["tasks"][0] == {**found["tasks"][0]}, "the same numbers alone")
    program.expect(threads(1) == threads(2) == threads(3), "threads change nothing")

    result = program.run("evaluate", model, "--task", math, "--compute", "auto", "--json", "-")
    scores = json.loads(result.stdout)
    program.expect(abs(scores["score"] - 232 / 256) < 0.02, f"--compute auto: {scores['score']}")
    program.expect(scores["compute"] in ("bfloat16", "float32"), "compute is named")

    # What is decoded: text by a token table.
    vocabulary = json.load(open(os.path.join(model, "tokenizer.json")))["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.get)
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    json.dump([str(numbers.index(w)) + " " if w in numbers else w + " " for w in words],
              open(os.path.join(folder, "tokens.json"), "w"))
    lines = [json.loads(line) for line in open(math)]
    with open(os.path.join(folder, "numbers.jsonl"), "w") as file:
        file.write(json.dumps({"task": {"metric": "last_number", "tokens": "tokens.json", "limit": 12}}) + "\n")
        for line in lines:
            file.write(json.dumps({"prompt_ids": line["prompt_ids"], "answer_ids": line["answer_ids"]}) + "\n")
    result = program.run("evaluate", model, "--task", os.path.join(folder, "numbers.jsonl"), "--json", "-")
    program.expect(result.returncode == 0, "last number", result)
    task = json.loads(result.stdout)["tasks"][0]
    program.expect(task["metric"] == "last_number" and task["score"] >= 232 / 256, f"last number: {task['score']}")
    program.expect(all("text" in item and item["ids"] for item in task["items"]), "texts")

    # ROUGE-L of texts in many scripts, counted again from Unicode's own names and categories.
    scripts = "東京日本語の首都はデスー、。「」・ｶﾅ々〇ไทยก็๕ລາວខ្មែរမြန်မာ한국어ÀéßжЯΩ７ＡｚＺ，．！abcXYZ019 .,-'“”…—\u3000€→😀𠮷"
    random.seed(1)
    pieces = ["".join(random.choices(scripts, k=random.randint(1, 3))) for _ in words]
    json.dump(pieces, open(os.path.join(folder, "scripts.json"), "w"))
    with open(os.path.join(folder, "rouge.jsonl"), "w") as file:
        head = {"metric": "rouge_l", "tokens": "scripts.json", "limit": 6, "end_ids": [0]}
        file.write(json.dumps({"task": head}) + "\n")
        answers = []
        for line in lines:
            answer = "".join(pieces[i] for i in line["answer_ids"]) + "".join(random.choices(scripts, k=5))
            answers.append(answer)
            file.write(json.dumps({"prompt_ids": line["prompt_ids"], "answer": answer}) + "\n")

    def words_of(text):
        alone = ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "IDEOGRAPHIC", "THAI", "LAO", "KHMER", "MYANMAR")
        found, inside = [], False
        for character in text:
            kind = unicodedata.category(character)
            if 0xFF01 <= ord(character) <= 0xFF5E:
                character = unicodedata.normalize("NFKC", character)
            name = unicodedata.name(character)
            single = kind[0] in "LM" and name.startswith(alone) or character in "ー〇"
            counts = kind[0] in "LMN" and not single
            if single or counts and not inside:
                found.append("")
            if single or counts:
                found[-1] += character.lower() if character.isascii() else character
            inside = counts
        return found

    def rouge(a, b):
        rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                rows[i + 1][j + 1] = rows[i][j] + 1 if x == y else max(rows[i][j + 1], rows[i + 1][j])
        return 2 * rows[-1][-1] / (len(a) + len(b)) if a or b else 1

    result = program.run("evaluate", model, "--task", os.path.join(folder, "rouge.jsonl"), "--json", "-")
    program.expect(result.returncode == 0, "rouge of many scripts", result)
    items = json.loads(result.stdout)["tasks"][0]["items"]
    for item, answer in zip(items, answers):
        wanted = rouge(words_of(item.get("text", "")), words_of(answer))
        program.expect(abs(item["score"] - wanted) < 1e-12, f"rouge of {item} and {answer}: {wanted}")
    program.expect(len({item["score"] for item in items}) > 20, "few different scores of ROUGE: nothing is compared")

    bad = os.path.join(folder, "bad.jsonl")
    with open(bad, "w") as file:
        file.write(open(math).readline() + '{"prompt_ids": [1, 5000], "answer_ids": [3]}\n')
    program.expect_error(1, "evaluate", model, "--task", bad, contains=["bad.jsonl:2", "5000"])
    with open(bad, "w") as file:
        file.write('{"prompt_ids": [' + ", ".join(["1"] * 128) + '], "answer_ids": [3]}\n')
    program.expect_error(1, "evaluate", model, "--task", bad, contains=["bad.jsonl:1", "context of 128"])
    program.expect_error(1, "evaluate", model, "--task", math, "--device", "cuda", contains=["--device cuda", "--device cpu"],
                         env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    program.expect_error(1, "evaluate", model, "--task", os.path.join(folder, "none"), contains=["no such task file"])
    program.expect_error(1, "evaluate", os.path.join(folder, "none"), "--task", math, contains=["none"])
    program.expect_error(1, "evaluate", model, "--task", math, "--json", os.path.join(folder, "no/such/folder"),
                         contains=["cannot be written", "nothing has been scored yet"])
    # What can be known at the end only costs no table; what is there is not touched before.
    result = program.run("evaluate", model, "--task", math, "--json", "/dev/full")
    program.expect(result.returncode == 1 and "0.9062" in result.stdout and "/dev/full" in result.stderr, "a full disk",
                   result)
    program.expect_error(1, "evaluate", model, "--task", bad, "--json", out, contains=["bad.jsonl"])
    program.expect(json.load(open(out)) == found, "a run that fails leaves earlier results")
    unborn = os.path.join(folder, "unborn.json")
    program.expect_error(1, "evaluate", model, "--task", bad, "--json", unborn, contains=["bad.jsonl"])
    program.expect(not os.path.exists(unborn), "a run that fails leaves an empty file")

    # Tasks of one name are told apart.
    both = [word for each in ("search", "heldout") for word in ("--task", math.replace("search", each))]
    result = program.run("evaluate", model, *both, "--weight", "math-en/heldout=0", "--json", "-")
    program.expect(result.returncode == 0, "two files of a task", result)
    tasks_found = json.loads(result.stdout)["tasks"]
    program.expect([(t["name"], t["weight"]) for t in tasks_found] == [("math-en/search", 1), ("math-en/heldout", 0)],
                   "names of two files of a task", result)
    program.expect_error(2, "evaluate", model, *both, "--weight", "math-en=0",
                         contains=["no task of this name", "math-en/search"])
    program.expect_error(2, "evaluate", model, *both[:2], *both[:2], contains=["second task", "once"])
    for option in ("--set", "--on-mismatch", "--integers"):
        program.expect_error(2, "evaluate", model, "--task", math, option, "skip", contains=[f"{option} belongs to"])
    program.expect_error(2, "evaluate", model, contains=["--task is missing"])
    program.expect_error(2, "evaluate", model, "--task", math, "--weight", "other=1", contains=["no task of this name"])
    program.expect_error(2, "evaluate", model, "--task", math, "--weight", "math-en=x", contains=["--weight"])
    program.expect_error(2, "evaluate", model, "--task", math, "--compute", "float16", contains=["float16"])

program.done()
