"""Folders of searches that never took place: what `amalgam evolve` would have left, with whatever one likes in it."""

import json
import math
import os
import random

MASK = (1 << 64) - 1
PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def rotate(value, bits):
    return ((value << bits) | (value >> (64 - bits))) & MASK


def xxh64(data):
    """XXH64 with seed 0, after its description."""
    one, two, three, four, five = PRIMES

    def mix(lane, word):
        return rotate((lane + word * two) & MASK, 31) * one & MASK

    def word_at(at, size):
        return int.from_bytes(data[at : at + size], "little")

    at = 0
    if len(data) >= 32:
        lanes = [(one + two) & MASK, two, 0, -one & MASK]
        while at + 32 <= len(data):
            lanes = [mix(lane, word_at(at + 8 * i, 8)) for i, lane in enumerate(lanes)]
            at += 32
        value = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & MASK
        for lane in lanes:
            value = ((value ^ mix(0, lane)) * one + four) & MASK
    else:
        value = five
    value = (value + len(data)) & MASK
    while at + 8 <= len(data):
        value = (rotate(value ^ mix(0, word_at(at, 8)), 27) * one + four) & MASK
        at += 8
    if at + 4 <= len(data):
        value = (rotate(value ^ (word_at(at, 4) * one & MASK), 23) * two + three) & MASK
        at += 4
    for byte in data[at:]:
        value = rotate(value ^ (byte * five & MASK), 11) * one & MASK
    value = (value ^ (value >> 33)) * two & MASK
    value = (value ^ (value >> 29)) * three & MASK
    return value ^ (value >> 32)


def line(record):
    text = json.dumps(record, ensure_ascii=False).encode() if not isinstance(record, bytes) else record
    return b"%016x " % xxh64(text) + text + b"\n"


class SearchRun:
    """A search on two tasks; everything follows from the seed. `genes`, `groups`, `sources` (names) and `tasks` (names) are
    as one likes; `seconds` is what an evaluation takes."""

    def __init__(self, seed=1, genes=12, groups=3, sources=("math-en", "chat-ja"), tasks=("math-ja", "chat"), heldout=200,
                 items=60, seconds=0.2, optimiser="cma", phase="ps", budget=400):
        self.random = random.Random(seed)
        self.genes, self.groups, self.sources, self.tasks = genes, groups, list(sources), list(tasks)
        self.heldout, self.items, self.seconds, self.phase, self.budget = heldout, items, seconds, phase, budget
        self.lines, self.free, self.offset, self.id, self.counted, self.best = [], [0.0] * groups, 0.0, 0, 0, (-1, None)
        names = [f"{self.sources[i % len(self.sources)]}.weight[{i}]" for i in range(genes)]
        self.names, self.generation, self.mean = names, 0, [0.5] * genes
        self.target = [self.random.uniform(-0.3, 1.8) for _ in range(genes)]
        self.add(kind="start", version=1, key="k", space="ps", optimiser=optimiser, seed=seed, evaluations=budget,
                 population=12, tie_breaker=0.1, time=1.7e9, sources=self.sources,
                 genes=[{"name": name, "low": -0.5, "high": 2, "kind": "continuous"} for name in names],
                 tasks=[{"name": name, "metric": "exact_match", "items": items, "heldout_items": heldout}
                        for name in self.tasks])

    def add(self, **record):
        self.lines.append(line(record))

    def digits(self, count, share):
        return "".join("1" if self.random.random() < share else "0" for _ in range(count))

    def evaluate(self, genome, generation, candidate, error=None, origin="drawn", set_name="search"):
        """Takes the group that is free first."""
        self.id += 1
        group = min(range(self.groups), key=lambda i: self.free[i])
        started = self.free[group]
        ended = started + self.seconds * self.random.uniform(0.7, 1.4)
        self.free[group] = ended
        record = dict(kind="evaluation", id=self.id, phase=self.phase, generation=generation, candidate=candidate,
                      origin=origin, set=set_name, genome=genome, recipe_hash=f"{self.id:016x}", ok=error is None,
                      group=group, started=started, ended=ended, attempt=1)
        distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(genome, self.target)) / max(1, len(genome)))
        share = max(0.0, 0.8 - 0.7 * distance) if genome else 0.3
        if error is None:
            tasks = []
            for _ in self.tasks:
                text = self.digits(self.items, share)
                tasks.append({"score": text.count("1") / len(text), "likelihood": -1.5 * distance, "items": text})
            score = sum(task["score"] for task in tasks) / len(tasks)
            record.update(score=score, objective=score - 0.15 * distance, tasks=tasks)
            if score > self.best[0]:
                self.best = (score, self.id)
        else:
            record["error"] = error
        self.counted += origin in ("drawn", "injected", "mean") and set_name == "search"
        self.add(**record)
        return record

    def search(self, generations, population=12, failing=(), duplicate_every=37):
        """`failing`: a reason for every so many candidates: [(17, "reason")]."""
        first = self.id
        for generation in range(self.generation + 1, self.generation + generations + 1):
            self.generation, mean, sigma = generation, self.mean, 0.4 * 0.95**generation
            scores = []
            for candidate in range(population):
                genome = [min(2, max(-0.5, value + sigma * self.random.gauss(0, 1))) for value in mean]
                number = self.id - first + 1
                error = next((reason for every, reason in failing if number % every == 0), None)
                record = self.evaluate(genome, generation, candidate, error)
                scores.append(record.get("objective", -9))
                if number % duplicate_every == 0 and error is None:
                    self.add(kind="evaluation", id=self.id, phase=self.phase, generation=generation,
                             candidate=candidate, origin="drawn", set="search", genome=genome, recipe_hash="d",
                             objective=record["objective"], score=record["score"], ok=True, duplicate_of=self.id)
            mean = [value + 0.1 * (target - value) for value, target in zip(mean, self.target)]
            self.mean = mean
            self.add(kind="generation", phase=self.phase, generation=generation, best=max(scores),
                     median=sorted(scores)[population // 2], mean_genome=mean,
                     facts={"sigma": sigma, "condition": 1.2**generation}, evaluations=self.counted,
                     time=max(self.free))

    def killed_and_started_again(self):
        self.free = [0.0] * self.groups
        self.add(kind="resumed", time=1.7e9 + 5000, groups=self.groups)

    def finish(self, folder, command="amalgam evolve search.toml run/", torn=b"", best_share=0.75):
        """Sources and winner on held-out items, and the files of an ended search."""
        for origin in ["source"] * len(self.sources) + ["uniform"]:
            for set_name in ("search", "heldout"):
                self.evaluate([], 0, 0, origin=origin, set_name=set_name)
        self.add(kind="end", reason=f"{self.counted} evaluations", evaluations=self.counted, seconds=max(self.free))
        count = self.heldout * len(self.tasks)
        shares = {"best": best_share, "uniform": 0.25}
        items = {name: self.digits(count, share) for name, share in shares.items()}
        items["sources"] = {name: self.digits(count, 0.1 + 0.2 * (i % 3)) for i, name in enumerate(self.sources)}

        def scores(text):
            share = text.count("1") / max(1, len(text))
            half = 1.96 * math.sqrt(share * (1 - share) / max(1, len(text)))
            return {"search": share, "heldout": share, "interval": [max(0, share - half), min(1, share + half)],
                    "p": 1e-30}

        best = scores(items["best"])
        best.update(name="best", origin="mean", chosen_on="search", recipe="best.toml", yaml="best.yaml",
                    checkpoint="best", genome=dict(zip(self.names, self.target)))
        tasks = []
        for i, name in enumerate(self.tasks):
            own = scores(items["best"][i * self.heldout : (i + 1) * self.heldout])
            tasks.append({"name": name, "metric": "exact_match", "weight": 1, **own})
        result = {"evaluations": self.counted, "seconds": max(self.free), "reason": f"{self.counted} evaluations",
                  "space": "ps", "optimiser": "cma", "seed": 1, "tie_breaker": 0.1, "best": best, "groups": self.groups,
                  "sources": {name: scores(text) for name, text in items["sources"].items()},
                  "uniform": scores(items["uniform"]), "constant": {**scores(self.digits(count, 0.15)), "answer": "17 4"},
                  "tasks": tasks, "items": {"heldout": items}, "random": None}
        self.write(folder, command, torn)
        with open(os.path.join(folder, "result.json"), "w") as file:
            json.dump(result, file)
        return result

    def write(self, folder, command="amalgam evolve search.toml run/", torn=b""):
        os.makedirs(folder, exist_ok=True)
        for name, text in (("command.txt", command), ("search.toml", '[search]\nspace = "ps"\n# </script> & "quotes"\n'),
                           ("best.toml", 'method = "linear"\n')):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        with open(os.path.join(folder, "journal.jsonl"), "wb") as file:
            file.write(b"".join(self.lines) + torn)
        return folder
