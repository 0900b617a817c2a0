#!/usr/bin/env python3
"""tools/make_tasks.py with the zoo's tokenizer makes the zoo's own token ids of its texts. Needs transformers; CI runs it in a
virtual environment of its own."""

import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ZOO = os.path.join(ROOT, "tests", "data", "zoo")
MODEL = os.path.join(ZOO, "models", "base")


def lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def make(folder, items, *options):
    source, out = os.path.join(folder, "in.jsonl"), os.path.join(folder, "out.jsonl")
    with open(source, "w") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    tool = os.path.join(ROOT, "tools", "make_tasks.py")
    subprocess.run([sys.executable, tool, MODEL, source, out, *options], check=True, stdout=subprocess.DEVNULL)
    header, *made = lines(out)
    return header["task"], made


def refuse(folder, items, *options, contains):
    """no task is made that amalgam evaluate would refuse, or score without its filter"""
    out = os.path.join(folder, "refused.jsonl")
    source = os.path.join(folder, "in.jsonl")
    with open(source, "w") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    tool = os.path.join(ROOT, "tools", "make_tasks.py")
    result = subprocess.run([sys.executable, tool, MODEL, source, out, *options], capture_output=True, text=True)
    assert result.returncode != 0 and contains in result.stderr, (result.returncode, result.stderr)
    assert not os.path.exists(out), "a file of a task that was refused"


def main():
    with tempfile.TemporaryDirectory() as folder:
        wanted = lines(os.path.join(ZOO, "tasks", "math-ja", "heldout.jsonl"))
        header, made = make(folder, [{"prompt": w["prompt"], "answer": w["answer"]} for w in wanted])
        assert header == {"metric": "exact_match"}, header
        assert [(m["prompt_ids"], m["answer_ids"]) for m in made] == [(w["prompt_ids"], w["answer_ids"]) for w in wanted]

        corpus = lines(os.path.join(ZOO, "tasks", "corpus.jsonl"))
        header, made = make(folder, [{"text": c["text"]} for c in corpus])
        assert header == {"metric": "perplexity"}, header
        # The corpus has the end token as well.
        assert [m["ids"] for m in made] == [c["ids"][:-1] for c in corpus]

        choice = {"prompt": wanted[0]["prompt"], "choices": ["san desu", "ten"], "answer": 0}
        header, made = make(folder, [choice])
        assert header == {"metric": "choice"} and made[0]["choices_ids"] == [[16, 82], [215]], made

        header, made = make(folder, [{"prompt": "a", "answer": "ten"}], "--metric", "last_number", "--allow", "ten |desu ")
        assert header["tokens"] == "out.tokens.json" and header["allowed_ids"] == [82, 215], header
        with open(os.path.join(folder, "out.tokens.json")) as file:
            pieces = json.load(file)
        assert pieces[215] == "ten " and pieces[0] == "", pieces

        good = {"prompt": "a", "answer": "ten"}
        refuse(folder, [good], "--allow", "ZZZ.*", contains="--allow ZZZ.*: no token's whole text matches")
        refuse(folder, [{"text": "tom has"}], "--allow", "ten ", contains="metric perplexity")
        refuse(folder, [{"text": "tom has"}, {"text": ""}], contains="item 2 cannot be asked: its text has fewer")
        refuse(folder, [{**choice, "choices": ["ten", " "]}], contains="item 1 cannot be asked: one of its choices")
        refuse(folder, [{**choice, "answer": 2}], contains="its answer is no choice's number")
        refuse(folder, [{**good, "answer": ""}], "--metric", "rouge_l", contains="its answer is empty")
        refuse(folder, [good, {"prompt": "a"}], contains="item 2 has no 'answer'")
    print("make_tasks.py makes the zoo's tasks")


if __name__ == "__main__":
    main()
