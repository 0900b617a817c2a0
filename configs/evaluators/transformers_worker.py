#!/usr/bin/env python3
"""Scores checkpoints by Hugging Face transformers, for `amalgam evaluate --worker`. Needs torch and transformers.

    amalgam evaluate --recipes list.txt --worker 'python3 configs/evaluators/transformers_worker.py TASK.jsonl...'

Tasks are files of docs/tasks.md whose items have answer_ids (exact match of greedy decoding) or choices_ids (the largest
log-likelihood, by tokens if the task's metric is choice_normalised). The score is the mean over tasks of the mean over items.

The protocol (docs/evaluation.md): a line {"id": 1, "model": FOLDER, ...} comes in, a line {"id": 1, "score": 0.5, "items":
[1, 0, ...]} or {"id": 1, "error": "..."} goes out.
"""

import argparse
import gc
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM

METRICS = ("exact_match", "choice", "choice_normalised")


def read_task(path):
    """its metric, tokens that end an answer (None: the model's own), and items"""
    with open(path, encoding="utf-8") as file:
        items = [json.loads(line) for line in file if line.strip()]
    header = items.pop(0)["task"] if "task" in items[0] else {}
    metric = header.get("metric", "choice" if "choices_ids" in items[0] else "exact_match")
    unknown = set(header) & {"allowed_ids", "allowed_share"}
    if metric not in METRICS or unknown:
        sys.exit(f"{path}: {metric} {sorted(unknown)}: this example knows {', '.join(METRICS)} only")
    return metric, header.get("end_ids"), items


def end_tokens(model):
    ids = getattr(model.generation_config, "eos_token_id", None)
    if ids is None:
        ids = model.config.eos_token_id
    return ids if isinstance(ids, list) else [ids]


class Scorer:
    def __init__(self, folder, options):
        model = AutoModelForCausalLM.from_pretrained(folder)
        self.model = model.to(device=options.device, dtype=getattr(torch, options.dtype)).eval()
        self.batch = options.batch

    def answers(self, texts):
        """for each (prompt, answer): logits in front of every answer token and behind the last"""
        for first in range(0, len(texts), self.batch):
            some = texts[first : first + self.batch]
            longest = max(len(prompt) + len(answer) for prompt, answer in some)
            # Padding comes last, where no token that counts sees it.
            ids = torch.tensor([(p + a + [0] * longest)[:longest] for p, a in some], device=self.model.device)
            with torch.inference_mode():
                logits = self.model(input_ids=ids, use_cache=False).logits.float()
            if not torch.isfinite(logits).all():
                raise ValueError("logits are not finite")
            for row, (prompt, answer) in zip(logits, some):
                yield row[len(prompt) - 1 : len(prompt) + len(answer)], answer

    def exact_match(self, items, end_ids):
        """Greedy decoding writes an answer if, and only if, each of its tokens is the likeliest in its place."""
        end = set(end_ids or end_tokens(self.model))
        for logits, answer in self.answers([(item["prompt_ids"], item["answer_ids"]) for item in items]):
            likeliest = logits.argmax(-1).tolist()
            yield float(likeliest[:-1] == answer and likeliest[-1] in end)

    def choice(self, items, by_tokens):
        texts = [(item["prompt_ids"], choice) for item in items for choice in item["choices_ids"]]
        sums = []
        for logits, answer in self.answers(texts):
            each = logits[:-1].log_softmax(-1).gather(-1, torch.tensor(answer, device=logits.device)[:, None])
            sums.append(each.sum().item() / (len(answer) if by_tokens else 1))
        for item in items:
            own, sums = sums[: len(item["choices_ids"])], sums[len(item["choices_ids"]) :]
            yield float(own.index(max(own)) == item["answer"])

    def score(self, task):
        metric, end_ids, items = task
        if metric == "exact_match":
            return list(self.exact_match(items, end_ids))
        return list(self.choice(items, metric == "choice_normalised"))


def answer(request, tasks, options):
    scorer = Scorer(request["model"], options)
    scores = [scorer.score(task) for task in tasks]
    return {
        "score": sum(sum(each) / len(each) for each in scores) / len(scores),
        "items": [score for each in scores for score in each],
    }


def default_device():
    """A GPU for each of the workers that amalgam runs on this machine, as far as they go"""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('AMALGAM_LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", metavar="TASK.jsonl")
    parser.add_argument("--device", default=default_device(), help="[a GPU by AMALGAM_LOCAL_RANK, else cpu]")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 [float32]")
    parser.add_argument("--batch", type=int, default=32, help="texts that are scored together [32]")
    options = parser.parse_args()

    # Answers alone go to standard output; what libraries print goes to the log.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tasks = [read_task(path) for path in options.tasks]
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = answer(request, tasks, options)
        except Exception as error:  # a candidate that cannot be scored is no reason to end
            result = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps({"id": request["id"], **result}) + "\n")
        answers.flush()
        gc.collect()


if __name__ == "__main__":
    main()
