"""One answer: every method and variant gives the same bytes for any number of ranks and threads, any memory, work block
and way of reading, and the same tensors for any shard size. Tensors of odd sizes and several blocks, that straddle ranks.

same_bytes_test.py PROGRAM MPIEXEC even|odd [light] [tiny] [more arguments of `amalgam merge`]

even, odd: every other of the methods, and every other of the further variants, so that two tests share the work.
"""

import shutil
import sys
from collections import defaultdict

from merging import Merging, files_hash, read_report, tensor_hashes
from variants import VARIANTS, facts_of, make_models

test = Merging(sys.argv)
MORE = [word for word in sys.argv[3:] if word not in ("even", "odd", "light", "tiny")]
test.need_gpu(MORE)

# ranks (0: without mpirun) x threads, memory, work block, reading, shard size. The settings move on by one with each
# variant, so that every number of ranks meets all of them.
RANKS = [0, 0, 0, 2, 3, 4, 7, 8]
FEWER_RANKS = [0, 0, 2, 6]  # for the second and third variant of a method
SETTINGS = [
    ("1", None, None, "mmap", None),
    ("2", "8MiB", "256", "direct", "1MB"),
    ("1", "8MiB", "4096", "mmap", "3MB"),
    ("1", None, "256", "mmap", None),
    ("2", "8MiB", None, "direct", None),
    ("1", "8MiB", "4096", "direct", "1MB"),
    ("2", None, "256", "mmap", "3MB"),
    ("1", "8MiB", None, "mmap", None),
]


def first_runs(index, again):
    """Bits of bfloat16"""
    all_ranks = [r + (r > 0 and index % 2) for r in FEWER_RANKS] if again else RANKS
    runs = [(ranks, *SETTINGS[(place + index) % len(SETTINGS)]) for place, ranks in enumerate(all_ranks)]
    return [runs[0], runs[1], runs[3 + index % (len(runs) - 3)]] if test.light else runs


def other_runs(index):
    """Wider types: the same passes over other elements"""
    if test.light:
        return [(0, *SETTINGS[0]), (0, *SETTINGS[1])]
    return [(0, *SETTINGS[0]), (0, *SETTINGS[1]), ((2, 3, 4, 7, 8)[index % 5], *SETTINGS[2 + index % 6])]


def compare(name, folder, recipe, runs, arguments):
    want_tensors = want_facts = None
    want_files = {}
    for ranks, threads, memory, block, read, shard in runs:
        words = [*(MORE if want_tensors else ["--device", "cpu"]), "--threads", threads, "--read", read]
        words += ["--report", test.place("report.json")]
        for option, value in (("--memory", memory), ("--block", block), ("--shard-size", shard)):
            words += [option, value] if value else []
        title = f"{name}, {folder}, {ranks} ranks, {' '.join(words)}"
        out = test.place("out")
        result = test.merge(recipe, out, *words, *arguments, "--quiet", ranks=ranks, cwd=test.place(folder))
        if result.returncode:
            test.expect(False, title, result)
        else:
            tensors, files, facts = tensor_hashes(out), files_hash(out), facts_of(read_report(test.place("report.json")))
            want_tensors, want_facts = want_tensors or tensors, want_facts or facts
            different = sorted(t for t in want_tensors if tensors.get(t) != want_tensors[t])
            test.expect(tensors == want_tensors, f"{title}: other tensors: {different}")
            test.expect(want_files.setdefault(shard, files) == files, f"{title}: other files")
            test.expect(facts == want_facts, f"{title}: the report says other things about the result")
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out + ".partial", ignore_errors=True)
        counts[folder] += 1
    return want_tensors


make_models(test)
counts = defaultdict(int)
seen = {}
turns = {True: 0, False: 0}
for index, (name, method, base, models, each, shared, top) in enumerate(VARIANTS):
    again = index > 0 and VARIANTS[index - 1][1] == method
    turns[again] += 1
    if turns[again] % 2 != ("odd" in sys.argv[3:]):
        continue
    names = [f"e{i + 1}" for i in range(models)]
    recipe = test.recipe(name, method, names, base, each, shared, top)
    recipe = test.place(recipe)
    tensors = compare(name, "bf16", recipe, first_runs(index, again), [])
    # Were variants the same by mistake (an option that does nothing), their bytes would be too.
    if tensors and any(tensors == other for other in seen.values()):
        test.expect(False, f"{name} gives what {[k for k, v in seen.items() if v == tensors]} gives")
    seen[name] = tensors
    if index // 2 % 2:
        compare(name, "f32", recipe, other_runs(index), [])
    else:
        compare(name, "mixed", recipe, other_runs(index), ["--set", "dtype=float32"] if index % 3 else [])
methods = test.json("methods")
methods = {entry["name"] for entry in (methods["methods"] if isinstance(methods, dict) else methods)}
test.expect(methods == {variant[1] for variant in VARIANTS}, f"methods that are not tried: {methods}")
print(f"{dict(counts)} runs of {len(VARIANTS)} variants of {len(methods)} methods")
test.done()
