"""Every dtype of the format, FP8 computed with, hundreds of models in little memory, and what the report says of them.

awkward_inputs_test.py PROGRAM MPIEXEC [light]
"""

import os
import shutil
import sys

import numpy as np

from merging import Merging, config, files_hash, read_report, safetensors_io, tensor_hashes, write_model
from program import write_safetensors

test = Merging(sys.argv)
RANKS = (0, 2) if test.light else (0, 1, 3)


def merged(recipe, *arguments, **keywords):
    """tensor hashes and the report of an output that must come about, and stays until the next"""
    shutil.rmtree(test.place("out"), ignore_errors=True)
    report = test.place("report.json")
    result = test.merge(recipe, "out", "--quiet", "--report", report, *arguments, **keywords)
    test.expect(result.returncode == 0, f"{recipe} {arguments} {keywords}", result)
    return (tensor_hashes(test.place("out")), read_report(report)) if result.returncode == 0 else ({}, {})


# Every dtype, byte for byte: bits of an element, more than two blocks of them, and few
BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32}
BITS |= {"F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}
FLOATS = ("F8_E5M2", "F8_E4M3", "F16", "BF16", "F32", "F64")


def every_dtype(name, seed):
    """random bits, NaNs with payloads among them; those that are never averaged are the same for every seed"""
    tensors = {}
    for index, (dtype, bits) in enumerate(BITS.items()):
        for size, shape in (("long", (2, 65536 + 24)), ("few", (8,)), ("none", (0, 3))):
            rng = np.random.default_rng([index, len(size), seed if dtype in FLOATS else 0])
            content = rng.integers(0, 2 if dtype == "BOOL" else 256, int(np.prod(shape)) * bits // 8, "u1").tobytes()
            tensors[f"layers.0.{dtype.lower()}.{size}"] = (dtype, shape, content)
    os.makedirs(test.place(name))
    write_safetensors(test.place(name, "model.safetensors"), tensors)
    return name


BYTES = [every_dtype(f"bytes-{seed}", seed) for seed in range(2)]
want = tensor_hashes(test.place(BYTES[0]))
copied = test.recipe("copied", "passthrough", BYTES[:1])
facts = {}
for ranks in RANKS:
    for more in ([], ["--shard-size", "1MB", "--read", "direct"], ["--block", "256", "--memory", "2MiB"]):
        tensors, report = merged(copied, *more, ranks=ranks)
        different = sorted(name for name in want if tensors.get(name) != want[name])
        test.expect(tensors == want, f"not copied byte for byte, {ranks} ranks, {more}: {different}")
        said = [{k: v for k, v in entry.items() if k != "file"} for entry in report["tensors"]]
        said += [report["nonfinite"], report["saturated_elements"], report["output_bytes"] if not more else 0]
        facts.setdefault(bool(more), said)
        test.expect(said == facts[bool(more)], f"the report says other things of the result, {ranks} ranks, {more}")
        test.expect(bool(more[:1] == ["--shard-size"]) == (len({e["file"] for e in report["tensors"]}) > 1), "shards")
average = test.recipe("average", "linear", BYTES, None, "weight = 0.5")
for ranks in RANKS:
    tensors, _ = merged(average, ranks=ranks)
    for name, entry in want.items():
        exact = entry[0] not in FLOATS or name.endswith("none")
        test.expect((tensors.get(name) == entry) == exact, f"an average of {name}, {ranks} ranks")

# A warning of the recipe is told once
warned = test.recipe("warned", "linear", BYTES, None, "weight = 0.5, int8_mask = true")
shutil.rmtree(test.place("out"))
for ranks in (0, 2):
    result = test.merge(warned, "out", "--quiet", "--force", ranks=ranks)
    test.expect(result.returncode == 0 and result.stderr.count("int8_mask has no effect") == 1, "warned twice", result)

# The report
FIELDS = "amalgam method compat seed recipe models ranks threads_per_rank memory_budget peak_memory bytes_read"
FIELDS += " bytes_written bytes_resumed output_bytes seconds saturated_elements nonfinite warnings tensors"
_, report = merged(average, ranks=3)
test.expect(set(FIELDS.split()) <= set(report), f"the report lacks {set(FIELDS.split()) - set(report)}")
with open(test.place(average)) as file:
    test.expect(report["recipe"] == file.read(), "the report has another recipe")
data = sum(entry["bytes"] for entry in report["tensors"])
test.expect((report["ranks"], report["method"], report["bytes_written"]) == (3, "linear", data), f"report: {report}")
test.expect([each["reference"] for each in report["models"]] == BYTES, "the report has other models")
test.expect(all(report["seconds"][stage] >= 0 for stage in ("total", "open", "statistics", "fold", "sync")), "seconds")
hashes = [entry["hash"] for entry in report["tensors"] if entry["bytes"]]
test.expect(len(set(hashes)) == len(hashes), "tensors with other bytes have the same hash")

# FP8: all pairs of two numbers, averaged and added, rounded once; overflow becomes the largest number and is counted
CODES = np.arange(256, dtype="u1")
PAIRS = {"rows": np.repeat(CODES, 256).reshape(256, 256), "columns": np.tile(CODES, 256).reshape(256, 256)}
for dtype in ("F8_E4M3", "F8_E5M2"):
    models = []
    for name, codes in PAIRS.items():
        models.append(f"{dtype}-{name}")
        tensors = {"layers.0.weight": safetensors_io.Tensor(dtype, codes)}
        torch = safetensors_io.FORMATS[dtype][1]
        safetensors_io.write_model(test.place(models[-1]), tensors, {**config(1), "torch_dtype": torch})
    first, second = (safetensors_io.Tensor(dtype, codes).values for codes in PAIRS.values())
    with np.errstate(invalid="ignore"):
        total = first + second
    for out in (dtype, "BF16", "F8_E5M2"):
        for normal in ("true", "false"):
            top = f'out_dtype = "{safetensors_io.FORMATS[out][1]}"'
            recipe = test.recipe("fp8", "linear", models, None, "weight = 1", f"normalize = {normal}", top)
            what = f"{dtype} to {out}, normalize = {normal}"
            _, report = merged(recipe, ranks=0 if normal == "true" else 3)
            got = safetensors_io.read_model(test.place("out"))["layers.0.weight"]
            exact = total / 2 if normal == "true" else total
            expected = safetensors_io.round_to(out, exact)
            largest, step = safetensors_io.PRECISION[out][2], safetensors_io.quantum(out, exact)
            over = (out in safetensors_io.SATURATES) & (np.abs(np.rint(exact / step) * step) > largest)
            expected = np.where(over, np.copysign(largest, exact), expected)  # infinity too
            test.expect(got.dtype == out, f"{what}: written as {got.dtype}")
            test.expect(np.array_equal(got.values, expected, equal_nan=True), f"{what}: other values")
            said, cut = report["saturated_elements"], int(over.sum())
            test.expect(said == cut, f"{what}: {said} cut, not {cut}")

# 256 models in 64 MiB, of half a gigabyte; a sanitizer needs memory of its own, so that only the bytes are compared
MODELS, ELEMENTS = (64, 100_000) if test.light else (256, 1_000_000)
made = test.run(
    "synthesize", test.place("many"), "--experts", MODELS, "--flat", ELEMENTS, "--quiet", timeout=300
)
test.expect(made.returncode == 0, "synthesize", made)
many = [f"many/expert-{number + 1}" for number in range(MODELS)]
recipes = {
    "linear": test.recipe("many-linear", "linear", many, None, "weight = 1"),
    "ties": test.recipe("many-ties", "ties", many, "many/base", "weight = 1, density = 0.3"),
    "dare_ties": test.recipe("many-dare", "dare_ties", many, "many/base", "weight = 1, density = 0.3"),
}
for method, recipe in recipes.items():
    want = None
    for ranks, memory, read in ((0, "4GiB", "mmap"), (0, "64MiB", "mmap"), (0, "64MiB", "direct"), (3, "64MiB", "mmap")):
        what = f"{MODELS} models, {method}, {ranks} ranks, {memory}, {read}"
        _, report = merged(recipe, "--memory", memory, "--read", read, "--threads", "2", ranks=ranks)
        hash = files_hash(test.place("out"))
        want = want or hash
        test.expect(hash == want, f"{what}: other bytes")
        peak = report["peak_memory"] / 2**20
        print(f"{what}: {peak:.0f} MiB")
        own = 40 if ranks == 0 else 60  # of the program, and of MPI
        test.expect(test.light or memory != "64MiB" or peak < 64 + own, f"{what}: {peak:.0f} MiB")
    if method == "linear":
        inputs = [safetensors_io.read_model(test.place(model)) for model in many]
        got = safetensors_io.read_model(test.place("out"))
        for name, tensor in got.items():
            places = np.arange(0, tensor.bits.size, max(1, tensor.bits.size // 500))
            mean = np.mean([each[name].values.reshape(-1)[places] for each in inputs], axis=0)
            away = np.abs(tensor.values.reshape(-1)[places] - mean)
            half = safetensors_io.quantum(tensor.dtype, mean) / 2
            test.expect(np.all(away <= half * 1.001 + 1e-7), f"an average of {MODELS} models: {name}")
        del inputs
test.done()
