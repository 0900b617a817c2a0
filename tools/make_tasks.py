#!/usr/bin/env python3
"""Makes a task file for `amalgam evaluate` from text, with a model's own tokenizer.

    make_tasks.py MODEL INPUT.jsonl OUT.jsonl [--metric NAME] [--limit N] [--template TEXT] [--allow REGEX] ...

MODEL is a folder or a hub name that Hugging Face's AutoTokenizer knows. Lines of INPUT are JSON objects with

    {"text": ...}                                          perplexity
    {"prompt": ..., "answer": ...}                         exact_match, last_number, rouge_l, language
    {"prompt": ..., "choices": [..., ...], "answer": 1}    choice, choice_normalised

and keep their other keys. Answers and choices are tokenized as they continue the prompt: put the blank between the two
at the beginning of the answer, or give --glue " ". Metrics that read text get a token table, OUT.tokens.json.
docs/tasks.md describes what comes out.
"""

import argparse
import json
import os
import re
import sys

TEXT_METRICS = ("last_number", "rouge_l")
METRICS = ("perplexity", "choice", "choice_normalised", "exact_match", "language", *TEXT_METRICS)


def gpt2_bytes():
    """the printable characters that stand for bytes in byte-level BPE vocabularies"""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + place): b for place, b in enumerate(rest)}}


def piece_bytes(token, byte_level, table):
    """the bytes a token stands for"""
    if byte_level and all(character in table for character in token):
        return bytes(table[character] for character in token)
    if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def token_pieces(tokenizer):
    """a list with a string or a list of bytes for every id; special tokens are empty"""
    vocabulary = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    # Only byte-level vocabularies have this sign for a blank in most words.
    byte_level = sum(token.startswith("\u0120") for token in vocabulary) > 0.01 * len(vocabulary)
    table = gpt2_bytes()
    pieces = [""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        if number in special:
            continue
        content = piece_bytes(token, byte_level, table)
        try:
            pieces[number] = content.decode()
        except UnicodeDecodeError:
            pieces[number] = list(content)
    word_level = not byte_level and not any("\u2581" in token for token in vocabulary)
    return [piece + " " if word_level and isinstance(piece, str) and piece else piece for piece in pieces]


def text_of(piece):
    return piece if isinstance(piece, str) else bytes(piece).decode(errors="replace")


def require(condition, message):
    if not condition:
        raise ValueError(message)


class Maker:
    def __init__(self, tokenizer, options):
        self.tokenizer, self.options = tokenizer, options

    def prompt_ids(self, text):
        if self.options.chat:
            message = [{"role": "user", "content": text}]
            shown = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
            return self.plain_ids(shown)
        return self.tokenizer(text).input_ids

    def plain_ids(self, text):
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def continuation(self, prompt, text):
        """ids of `text` behind `prompt`: the rest of the whole if that begins with the prompt's ids, else on its own"""
        text = self.options.glue + text
        if not self.options.chat:
            before, whole = self.plain_ids(prompt), self.plain_ids(prompt + text)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        return self.plain_ids(text)

    def item(self, item):
        made = dict(item)
        self.fill(made, item)
        return made

    def fill(self, made, item):
        if self.options.metric == "perplexity":
            ids = self.tokenizer(item["text"]).input_ids
            first = self.tokenizer.bos_token_id
            # Without a first token, the first word of a text could not be judged.
            made["ids"] = ids if first is None or ids[:1] == [first] else [first, *ids]
            require(len(made["ids"]) >= 2, "its text has fewer than two tokens: there is nothing to judge")
            return
        prompt = self.options.template.replace("{prompt}", item["prompt"])
        made["prompt_ids"] = self.without_end(self.prompt_ids(prompt))
        require(made["prompt_ids"], "its prompt has no tokens: a model needs one to start from")
        if self.options.metric.startswith("choice"):
            made["choices_ids"] = [self.continuation(prompt, choice) for choice in item["choices"]]
            require(len(item["choices"]) >= 2, "it has fewer than two choices")
            require(all(made["choices_ids"]), "one of its choices has no tokens")
            require(item["answer"] in range(len(item["choices"])), "its answer is no choice's number, from 0 on")
        elif self.options.metric != "language" or "answer" in item:
            made["answer_ids"] = self.continuation(prompt, str(item["answer"]))
            require(str(item["answer"]) or self.options.metric not in TEXT_METRICS, "its answer is empty")

    def without_end(self, ids):
        """some tokenizers close every text"""
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id else ids


def header(options, pieces, tokens_name):
    task = {"metric": options.metric}
    if options.metric in TEXT_METRICS:
        task["tokens"] = tokens_name
    if options.limit:
        task["limit"] = options.limit
    if options.allow:
        allowed = re.compile(options.allow)
        if options.metric == "perplexity" or options.metric.startswith("choice"):
            sys.exit(f"--allow: metric {options.metric} judges no answer that a language filter could apply to")
        task["allowed_ids"] = [n for n, piece in enumerate(pieces) if piece and allowed.fullmatch(text_of(piece))]
        if not task["allowed_ids"]:
            sys.exit(f"--allow {options.allow}: no token's whole text matches, so that no answer could pass")
        task["allowed_share"] = options.share
    elif options.metric == "language":
        sys.exit("metric language needs --allow: which tokens may an answer have?")
    return task


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("out")
    parser.add_argument("--metric", choices=METRICS, help="what follows from the keys of the first line without it")
    parser.add_argument("--template", default="{prompt}", help="text with {prompt} in it")
    parser.add_argument("--chat", action="store_true", help="prompts go through the model's chat template")
    parser.add_argument("--glue", default="", help="text between prompt and answer")
    parser.add_argument("--limit", type=int, help="most tokens that are generated")
    parser.add_argument("--allow", help="language filter: tokens whose whole text matches this regular expression")
    parser.add_argument("--share", type=float, default=1.0, help="least share of tokens that must be allowed")
    return parser.parse_args()


def main():
    options = read_options()
    from transformers import AutoTokenizer

    with open(options.input) as file:
        items = [json.loads(line) for line in file if line.strip()]
    if not items:
        sys.exit(f"{options.input}: no items")
    if not options.metric:
        first = items[0]
        options.metric = "perplexity" if "prompt" not in first else "choice" if "choices" in first else "exact_match"
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    maker = Maker(tokenizer, options)
    pieces = token_pieces(tokenizer)
    tokens_path = re.sub(r"\.jsonl$", "", options.out) + ".tokens.json"
    task = header(options, pieces, os.path.basename(tokens_path))
    made = []
    for number, item in enumerate(items, 1):
        try:
            made.append(maker.item(item))
        except KeyError as key:
            sys.exit(f"{options.input}: item {number} has no {key}, which metric {options.metric} needs")
        except ValueError as error:
            sys.exit(f"{options.input}: item {number} cannot be asked: {error}")
    with open(options.out, "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in [{"task": task}, *made])
    if "tokens" in task:
        with open(tokens_path, "w") as file:
            json.dump(pieces, file)
    print(f"{options.out}: {len(items)} items, {options.metric}")


if __name__ == "__main__":
    main()
