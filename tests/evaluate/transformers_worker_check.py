#!/usr/bin/env python3
"""configs/evaluators/transformers_worker.py under `amalgam evaluate --worker` says of merges, item by item, what `amalgam
evaluate --task` says. Needs transformers; CI runs it in a virtual environment of its own.

transformers_worker_check.py PROGRAM
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MATH = os.path.join(ROOT, "tests", "data", "zoo", "tasks", "math-ja", "search.jsonl")
CANDIDATES = [{"recipe": "configs/zoo-ties.toml"}, {"recipe": "configs/zoo-ties.toml", "set": ["parameters.lambda=0.5"]}]


def write_lines(path, lines):
    with open(path, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def write_choices(path):
    """each answer between two others of the file; no two are equal, which rounding alone would decide"""
    with open(MATH) as file:
        items = [json.loads(line) for line in file]
    answers = [list(ids) for ids in sorted({tuple(item["answer_ids"]) for item in items})]
    made = [{"task": {"metric": "choice_normalised"}}]
    for i, item in enumerate(items):
        others = [ids for ids in answers if ids != item["answer_ids"]]
        choices = [others[i % len(others)], item["answer_ids"], others[(i + 1) % len(others)]]
        made.append({"prompt_ids": item["prompt_ids"], "choices_ids": choices, "answer": 1})
    return write_lines(path, made)


def evaluate(program, listed, *words):
    run = subprocess.run([program, "evaluate", "--recipes", listed, "--json", "-", *words], cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, check=True)
    found = json.loads(run.stdout)
    assert found["failed"] == 0, found
    return [[item["score"] for task in candidate["tasks"] for item in task["items"]] for candidate in found["candidates"]]


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        listed = write_lines(os.path.join(folder, "list.jsonl"), CANDIDATES)
        tasks = [MATH, write_choices(os.path.join(folder, "choices.jsonl"))]
        worker = [sys.executable, os.path.join(ROOT, "configs", "evaluators", "transformers_worker.py"), *tasks]
        wanted = evaluate(program, listed, *[word for task in tasks for word in ("--task", task)])
        found = evaluate(program, listed, "--worker", shlex.join(worker))
    assert [len(items) for items in wanted] == [512, 512], "items"
    assert wanted[0] != wanted[1], "two merges with the same scores: nothing is compared"
    for one, other in zip(found, wanted):
        assert one == other, f"{sum(a != b for a, b in zip(one, other))} items differ"
    print(f"transformers scores as amalgam does: {[sum(items) / len(items) for items in wanted]}")


if __name__ == "__main__":
    main()
