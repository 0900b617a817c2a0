"""One answer: every method and variant gives the same bytes for any number of ranks and threads, any memory, work block
and way of reading, and the same tensors for any shard size. Tensors of odd sizes and several blocks, that straddle ranks.

same_bytes_test.py PROGRAM MPIEXEC even|odd [light]

even, odd: every other of the methods, and every other of the further variants, so that two tests share the work.
"""

import shutil
import sys
from collections import defaultdict

import numpy as np

from merging import SHAPES, Merging, expert_values, files_hash, read_report, tensor_hashes, write_model

test = Merging(sys.argv)

# name, method, base, models, parameters of each model, parameters of the whole, more lines of the recipe
PAPER = 'compat = "paper"'
TIES = "weight = 0.7, density = 0.23"
DARE = "weight = 0.4, density = 0.31"
BAND = "weight = 0.4, density = 0.7, gamma = 0.02"
DELLA = "weight = 0.4, density = 0.4, epsilon = 0.1"
VARIANTS = [
    ("linear", "linear", None, 4, "weight = 0.3", "", ""),
    ("linear-unnormalised", "linear", None, 4, "weight = [0.3, -0.2]", "normalize = false", ""),
    ("slerp", "slerp", "e1", 2, "", "t = 0.37", ""),
    ("nuslerp", "nuslerp", "base", 2, "weight = 0.5", "", ""),
    ("nuslerp-rows", "nuslerp", "base", 2, "weight = 0.5", "nuslerp_flatten = false", ""),
    ("nuslerp-columns", "nuslerp", None, 2, "weight = 0.5", "nuslerp_flatten = false, nuslerp_row_wise = true", ""),
    ("multislerp", "multislerp", "base", 4, "weight = 0.25", "", ""),
    ("karcher", "karcher", None, 4, "", "max_iter = 20", ""),
    ("model-stock", "model_stock", "base", 4, "", "", ""),
    ("model-stock-filter-wise", "model_stock", "base", 4, "", "filter_wise = true", ""),
    ("task-arithmetic", "task_arithmetic", "base", 4, "weight = [0.5, -0.3]", "lambda = 1.2", ""),
    ("ties", "ties", "base", 4, TIES, "", ""),
    ("ties-rescaled", "ties", "base", 4, TIES, "rescale = true", ""),
    ("ties-paper", "ties", "base", 4, TIES, "", PAPER),
    ("dare-linear", "dare_linear", "base", 4, "weight = 0.4, density = 0.11", "lambda = 1.2", ""),
    ("dare-linear-paper", "dare_linear", "base", 4, DARE, "", PAPER + "\nseed = 77"),
    ("dare-ties", "dare_ties", "base", 4, DARE, "", ""),
    ("dare-ties-paper", "dare_ties", "base", 4, DARE, "", PAPER + "\nseed = 9223372036854775807"),
    ("della", "della", "base", 4, DELLA, "", ""),
    ("della-paper", "della", "base", 4, DELLA, "", PAPER),
    ("della-linear", "della_linear", "base", 4, DELLA, "", ""),
    ("della-linear-paper", "della_linear", "base", 4, DELLA, "", PAPER),
    ("breadcrumbs", "breadcrumbs", "base", 4, BAND, "", ""),
    ("breadcrumbs-ties", "breadcrumbs_ties", "base", 4, BAND, "", ""),
    ("breadcrumbs-ties-rescaled", "breadcrumbs_ties", "base", 4, BAND, "rescale = true", ""),
    ("breadcrumbs-ties-paper", "breadcrumbs_ties", "base", 4, BAND, "", PAPER),
    ("nearswap", "nearswap", "e1", 2, "", "t = 0.01", ""),
    ("sce", "sce", "base", 4, "", "select_topk = 0.3", ""),
    ("ram", "ram", "base", 4, "", "", ""),
    ("ramplus-tl", "ramplus_tl", "base", 4, "", "", ""),
    ("arcee-fusion", "arcee_fusion", "e1", 2, "", "", ""),
    ("passthrough", "passthrough", None, 1, "", "", ""),
    ("passthrough-scaled", "passthrough", None, 1, "scale = 0.7", "", ""),
]

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


def make_models():
    """bf16: not all finite; f32: on a finer grid; mixed: a base of bfloat16 among wider experts"""
    for model in range(5):
        values = expert_values(SHAPES, 1, model)
        name = f"e{model}" if model else "base"
        if model == 2:
            flat = values["odd.long.weight"]
            flat[[70, 65536, 150001]] = np.nan, np.inf, -np.inf
        write_model(test.place("bf16", name), values, "BF16", shards=1 + model % 3)
        finite = {k: np.where(np.isfinite(v), v, 0.25) for k, v in values.items()}
        fine = {k: v * 1.0009765625 + v * v * 1e-4 for k, v in finite.items()}
        write_model(test.place("f32", name), fine, "F32")
        mixed = ["BF16", "F32", "F64", "F16", lambda tensor: "F64" if "mlp" in tensor else "BF16"][model]
        write_model(test.place("mixed", name), fine, mixed)


def facts_of(report):
    """what a report says about the result"""
    facts = {key: report[key] for key in ("method", "saturated_elements", "emptied_task_vectors", "nonfinite")}
    facts["tensors"] = [{k: t[k] for k in ("name", "dtype", "shape", "bytes", "hash")} for t in report["tensors"]]
    return facts


def compare(name, folder, recipe, runs, arguments):
    want_tensors = want_facts = None
    want_files = {}
    for ranks, threads, memory, block, read, shard in runs:
        words = ["--threads", threads, "--read", read, "--report", test.place("report.json")]
        for option, value in (("--memory", memory), ("--block", block), ("--shard-size", shard)):
            words += [option, value] if value else []
        title = f"{name}, {folder}, {ranks} ranks, {' '.join(words[:4] + words[6:])}"
        out = test.place("out")
        result = test.merge(recipe, out, *words, *arguments, "--quiet", ranks=ranks, cwd=test.place(folder))
        if result.returncode:
            test.expect(False, title, result)
        else:
            tensors, files, facts = tensor_hashes(out), files_hash(out), facts_of(read_report(words[5]))
            want_tensors, want_facts = want_tensors or tensors, want_facts or facts
            different = sorted(t for t in want_tensors if tensors.get(t) != want_tensors[t])
            test.expect(tensors == want_tensors, f"{title}: other tensors: {different}")
            test.expect(want_files.setdefault(shard, files) == files, f"{title}: other files")
            test.expect(facts == want_facts, f"{title}: the report says other things about the result")
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out + ".partial", ignore_errors=True)
        counts[folder] += 1
    return want_tensors


make_models()
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
