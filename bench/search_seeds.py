#!/usr/bin/env python3
"""What a search reaches over seeds, and against another optimiser at equal budget.

    search_seeds.py PROGRAM CONFIG [--seeds 0-9] [--budgets 200,600] [--against random] [--set PATH=VALUE ...] [--keep FOLDER]
                    [--at-once N] [--report FILE]

Runs the search of CONFIG (docs/search.md) for each seed and budget, and again with the optimiser of --against ("" for none),
its settings as they are by default and without pairs. Prints
scores of each seed, medians and worst, and of pairs of equal seed: how often the search is better, and the p values of the exact
sign test and of Wilcoxon's signed-rank test (exact, two-sided; ties share ranks, pairs without a difference are left out).
With --keep, searches that are done are not done again, and --report writes the page of the first seed with the largest budget
against all others of that budget. --at-once runs so many searches at a time, each with one thread.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from math import comb


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("config")
    parser.add_argument("--seeds", default="0-9", help="first-last, or a list with commas")
    parser.add_argument("--budgets", default="200,600")
    parser.add_argument("--against", default="random")
    parser.add_argument("--set", action="append", default=[], help="as for amalgam evolve")
    parser.add_argument("--keep")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--report")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    options.seeds = list(range(int(first), int(last) + 1)) if last else [int(seed) for seed in first.split(",")]
    options.budgets = [int(budget) for budget in options.budgets.split(",")]
    return options


class Search:
    """One kind of search, in a folder for each seed and budget."""

    def __init__(self, name, options, folder, *settings):
        self.name, self.options, self.folder = name, options, folder
        self.words = [word for setting in (*options.set, *settings) for word in ("--set", setting)]

    def place(self, seed, budget):
        return os.path.join(self.folder, f"{self.name}-{budget}", f"seed-{seed}")

    def run(self, seed, budget):
        command = [self.options.program, "evolve", self.options.config, self.place(seed, budget), "--seed", str(seed),
                   "--evaluations", str(budget), "--no-checkpoint", "--quiet", *self.words]
        if self.options.at_once > 1:
            command += ["--threads", "1"]
        if not os.path.exists(os.path.join(self.place(seed, budget), "result.json")):
            os.makedirs(os.path.dirname(self.place(seed, budget)), exist_ok=True)
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)}\n{done.stderr}")
        with open(os.path.join(self.place(seed, budget), "result.json")) as file:
            return json.load(file)


def sign_test(differences):
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    tail = sum(comb(better + worse, k) for k in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2 ** (better + worse))


def signed_rank_test(differences):
    """Of every choice of signs, the share whose sum of positive ranks is as far from the middle."""
    differences = sorted((one for one in differences if one), key=abs)
    ranks, first = [], 0  # doubled, so that shared ranks are whole
    while first < len(differences):
        last = first
        while last < len(differences) and abs(differences[last]) == abs(differences[first]):
            last += 1
        ranks += [first + 1 + last] * (last - first)
        first = last
    counts = {0: 1}
    for rank in ranks:
        more = dict(counts)
        for total, count in counts.items():
            more[total + rank] = more.get(total + rank, 0) + count
        counts = more
    off = abs(2 * sum(rank for rank, one in zip(ranks, differences) if one > 0) - sum(ranks))
    return sum(count for total, count in counts.items() if abs(2 * total - sum(ranks)) >= off) / 2 ** len(ranks)


def percents(values):
    return "  ".join(f"{100 * value:6.1f}" for value in values)


def print_budget(budget, seeds, searches, results):
    print(f"\n{budget} evaluations: search / held-out items in %, seconds")
    print("seed    " + "".join(f"{search.name:>24}" for search in searches))
    for seed in seeds:
        cells = [results[search.name, seed, budget] for search in searches]
        print(f"{seed:<8}" + "".join(f"{100 * cell['best']['search']:10.1f} {100 * cell['best']['heldout']:6.1f} "
                                     f"{cell['seconds']:6.1f}" for cell in cells))
    heldout = {search.name: [results[search.name, seed, budget]["best"]["heldout"] for seed in seeds] for search in searches}
    print("held-out  median   worst    best    mean")
    for name, scores in heldout.items():
        print(f"{name:<8}{percents([statistics.median(scores), min(scores), max(scores), statistics.mean(scores)])}")
    if len(searches) == 2:
        differences = [a - b for a, b in zip(*heldout.values())]
        better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
        print(f"{searches[0].name} is better {better} times, worse {worse} times, by {100 * statistics.median(differences):.1f} "
              f"points in the middle; sign test p = {sign_test(differences):.2g}, signed ranks p = "
              f"{signed_rank_test(differences):.2g}")


def write_report(options, searches, budget):
    first, *others = [search.place(seed, budget) for search in searches for seed in options.seeds]
    against = [word for other in others for word in ("--against", other)]
    subprocess.run([options.program, "report", first, *against, "--out", options.report], check=True)


def main():
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="amalgam-bench-") as scratch:
        folder = options.keep or scratch
        searches = [Search("search", options, folder)]
        if options.against:
            searches.append(Search(options.against, options, folder, f'search.optimiser="{options.against}"',
                                   "search.options={}", "search.pairs=false"))
        keys = [(search, seed, budget) for budget in options.budgets for seed in options.seeds for search in searches]
        with ThreadPoolExecutor(options.at_once) as pool:
            found = list(pool.map(lambda key: key[0].run(*key[1:]), keys))
        results = {(search.name, seed, budget): result for (search, seed, budget), result in zip(keys, found)}
        for budget in options.budgets:
            print_budget(budget, options.seeds, searches, results)
        if options.report:
            write_report(options, searches, max(options.budgets))


if __name__ == "__main__":
    main()
