#!/usr/bin/env python3
"""Tokens per second of scoring passes: `amalgam evaluate` against Hugging Face transformers, in turns, in one run.

    evaluate_speed.py PROGRAM MODEL [--dtype float32 bfloat16] [--texts 16] [--tokens 256] [--rounds 5] [--threads N]
                      [--no-decoding]

MODEL is a folder of a decoder. Both score the same random texts: forward pass and log-likelihood of every token. amalgam runs
once on the texts and once on the texts twice over, so that the difference is scoring alone, without starting and loading;
transformers is timed within the process, 8 texts at a time. The best round of each counts. Also decoding: greedy, 64 tokens for 8
prompts, likewise. Needs torch and transformers.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-decoding", action="store_true")
    return parser.parse_args()


NEW_TOKENS = 64


def write_tasks(folder, texts):
    """score-1, score-2: the texts once and twice; write-1, write-2: prompts, some and twice as many new tokens"""
    for times in (1, 2):
        with open(os.path.join(folder, f"score-{times}.jsonl"), "w") as file:
            for ids in texts * times:
                file.write(json.dumps({"ids": ids}) + "\n")
        with open(os.path.join(folder, f"write-{times}.jsonl"), "w") as file:
            # No end: a token that the model hardly writes here.
            task = {"metric": "rouge_l", "limit": NEW_TOKENS * times, "end_ids": [0]}
            file.write(json.dumps({"task": task}) + "\n")
            for ids in texts[:8]:
                file.write(json.dumps({"prompt_ids": ids[:32], "answer_ids": [5]}) + "\n")


def amalgam_seconds(options, folder, name, dtype):
    start = time.perf_counter()
    subprocess.run([options.program, "evaluate", options.model, "--task", os.path.join(folder, name + ".jsonl"),
                    "--compute", dtype, "--threads", str(options.threads)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


class Peer:
    def __init__(self, model, dtype, threads):
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self.torch = torch
        load = transformers.AutoModelForCausalLM.from_pretrained
        self.model = load(model, torch_dtype=getattr(torch, dtype)).eval()

    def score_seconds(self, texts):
        torch = self.torch
        start = time.perf_counter()
        with torch.no_grad():
            for first in range(0, len(texts), 8):
                ids = torch.tensor(texts[first : first + 8])
                logits = self.model(ids[:, :-1], use_cache=False).logits.float()
                torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None]).sum().item()
        return time.perf_counter() - start

    def write_seconds(self, texts, count):
        ids = self.torch.tensor([text[:32] for text in texts[:8]])
        start = time.perf_counter()
        with self.torch.no_grad():
            self.model.generate(ids, attention_mask=self.torch.ones_like(ids), max_new_tokens=count,
                                min_new_tokens=count, do_sample=False, pad_token_id=0)
        return time.perf_counter() - start


def compare(options, folder, texts, dtype):
    peer = Peer(options.model, dtype, options.threads)
    best = {}

    def note(name, seconds):
        best[name] = min(best.get(name, 1e9), seconds)

    for _ in range(options.rounds):
        for name in ("score-1", "score-2"):
            note(name, amalgam_seconds(options, folder, name, dtype))
        note("peer score", peer.score_seconds(texts))
        if options.no_decoding:
            continue
        for name in ("write-1", "write-2"):
            note(name, amalgam_seconds(options, folder, name, dtype))
        for times in (1, 2):
            note(f"peer write-{times}", peer.write_seconds(texts, NEW_TOKENS * times))
    scored, written = len(texts) * options.tokens, min(8, len(texts)) * NEW_TOKENS
    own, other = scored / (best["score-2"] - best["score-1"]), scored / best["peer score"]
    print(f"{dtype} scoring:  amalgam {own:7.0f} tokens/s, transformers {other:7.0f}, ratio {own / other:.2f}", flush=True)
    if options.no_decoding:
        return
    own = written / (best["write-2"] - best["write-1"])
    other = written / (best["peer write-2"] - best["peer write-1"])
    print(f"{dtype} decoding: amalgam {own:7.0f} tokens/s, transformers {other:7.0f}, ratio {own / other:.2f}", flush=True)


def main():
    options = read_options()
    import random

    with open(os.path.join(options.model, "config.json")) as file:
        vocabulary = json.load(file)["vocab_size"]
    generator = random.Random(0)
    texts = [[generator.randrange(3, vocabulary) for _ in range(options.tokens + 1)] for _ in range(options.texts)]
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(folder, texts)
        for dtype in options.dtype:
            compare(options, folder, texts, dtype)


if __name__ == "__main__":
    main()
