"""What a merge says of its result, in warnings and in --report: the same for any ranks, and after a resume.

merge_report_test.py AMALGAM MPIEXEC [light]
"""

import os
import shutil
import sys

import numpy as np

from merging import Merging, read_report, write_model

test = Merging(sys.argv)
RANKS = (0, 3) if test.light else (0, 1, 2, 3)
REPORT = test.place("report.json")


def merged(recipe, *arguments, **keywords):
    """standard error and the report of a merge that must come about"""
    shutil.rmtree(test.place("out"), ignore_errors=True)
    result = test.merge(recipe, "out", "--quiet", "--report", REPORT, *arguments, **keywords)
    test.expect(result.returncode == 0, f"{recipe} {arguments} {keywords}", result)
    return result.stderr, read_report(REPORT)


# Finite weights, of which some are beyond float16 or FP8: in the first and the last block, and in a small tensor
SHAPES = {"layers.0.long.weight": (5, 65536), "layers.1.fine.weight": (300,), "layers.1.few.weight": (7,)}
values = {name: np.full(shape, 0.25) for name, shape in SHAPES.items()}
for place, number in (((0, 3), 1e6), ((4, 65535), -2e6)):
    values["layers.0.long.weight"][place] = number
values["layers.1.few.weight"][2:5] = 7e5
write_model(test.place("large"), values, "F32")
write_model(test.place("small"), {name: value * 1e-6 for name, value in values.items()}, "F32")
TENSORS = [{"tensor": "layers.0.long.weight", "elements": 2}, {"tensor": "layers.1.few.weight", "elements": 3}]
for dtype, key, other in (("float16", "outputs", "saturated"), ("float8_e4m3fn", "saturated", "outputs")):
    top = f'dtype = "{dtype}"'
    recipe = test.recipe("sum", "linear", ["large", "small"], None, "weight = 1", "normalize = false", top)
    alone = test.recipe("alone", "passthrough", ["large"], top=top)
    for ranks in RANKS:
        for name in (recipe, alone):
            what = f"{name}, {dtype}, {ranks} ranks"
            said, report = merged(name, ranks=ranks)
            found = {"saturated": report["saturated"], "outputs": report["nonfinite"]["outputs"]}
            test.expect(found == {key: TENSORS, other: []}, f"{what}: {found}")
            sums = [report["saturated_elements"], report["nonfinite"]["output_elements"]]
            test.expect(sums == ([5, 0] if key == "saturated" else [0, 5]), f"{what}: {sums}")
            test.expect(report["nonfinite"]["inputs"] == [], f"{what}: the inputs are finite")
            part = "5 elements in 2 tensors (layers.0.long.weight 2, layers.1.few.weight 3)"
            test.expect(said.count(part) == 1 == said.count("warning: "), f"{what}: the warning\n{said}")
said, report = merged(test.recipe("fine", "linear", ["large", "small"], None, "weight = 1"))
test.expect("warning" not in said and report["nonfinite"]["outputs"] == [], f"all is well\n{said}")

# What cannot be published stays, and the next start knows of its counts too
recipe = test.recipe("half", "task_arithmetic", ["large", "large"], "small", "weight = 0.6", top='dtype = "float16"')
for ranks in (0, 2):
    shutil.rmtree(test.place("out"))
    result = test.merge(recipe, "out", "--quiet", "--fail-on-nonfinite", ranks=ranks)
    test.expect_message("--fail-on-nonfinite", result.stderr, ["layers.0.long.weight 2", "layers.1.few.weight 3"])
    said, report = merged(recipe, ranks=2 - ranks)
    part = report["sparsity"]
    test.expect(part["elements"] < part["of_elements"] == sum(int(np.prod(shape)) for shape in SHAPES.values()),
                f"what is counted, after a resume: {part}")
    test.expect(report["bytes_resumed"] > 0 and report["nonfinite"]["outputs"] == TENSORS, f"after a resume: {report}")

# Speed: what was moved, by whom, and what that is of the machine's limit
made = test.run("synthesize", test.place("models"), "--experts", 2, "--flat", 5_000_000, "--quiet", timeout=300)
test.expect(made.returncode == 0, "synthesize", made)
experts = ["models/expert-1", "models/expert-2"]
ties = test.recipe("ties", "ties", experts, "models/base", "weight = 1, density = 0.2")
for ranks in RANKS:
    for read in ("mmap", "direct"):
        what = f"{ranks} ranks, {read}"
        _, report = merged(ties, "--memory", "1GiB", "--read", read, ranks=ranks)
        moved, seconds, limit = report["moved"], report["thread_seconds"], report["memory_limit"]
        # Past the page cache the fold finds what statistics read
        folded = moved["fold"]["bytes_read"]
        test.expect(moved["statistics"]["bytes_read"] > 0 and (read == "direct" or folded > 0), f"{what}: {moved}")
        whole = moved["statistics"]["bytes_read"] + moved["fold"]["bytes_read"]
        test.expect(whole == report["bytes_read"], f"{what}: stages read {whole}, all of them {report['bytes_read']}")
        test.expect(moved["fold"]["bytes_written"] == report["bytes_written"] == 10_000_000, f"{what}: {moved}")
        test.expect(seconds["compute"] > 0 and seconds["write"] > 0, f"{what}: {seconds}")
        test.expect((seconds["read"] > 0) == (read == "direct"), f"{what}: {seconds}")
        expected = limit["moved_gigabytes_per_second"] / limit["gigabytes_per_second"]
        test.expect(0 < limit["share"] < 2 and abs(limit["share"] - expected) < 1e-6, f"{what}: {limit}")
        test.expect(report["sparsity"]["elements"] == report["sparsity"]["of_elements"] == 5_000_000, f"{what}: sparsity")
        test.expect(report["amalgam"] and report["compiler"] and report["mpi"], f"{what}: versions {report['mpi']}")
        if test.light:
            break
# Past the page cache nothing is read more often than the plan says: once, if a quarter of the budget holds it
for ranks in RANKS:
    for memory in ("8MiB", "150MiB"):
        _, report = merged(ties, "--memory", memory, "--read", "direct", ranks=ranks)
        plan = test.json("plan", ties, "--memory", memory, "--ranks", max(ranks, 1), cwd=test.root)["total"]
        most, again = plan["bytes_read"] + plan["bytes_read_again"], plan["bytes_read_again"]
        what = f"{ranks} ranks, {memory}: {report['bytes_read']} bytes read, planned {most}"
        test.expect(plan["bytes_read"] <= report["bytes_read"] <= most, what)
        test.expect(again < 0.2 * plan["bytes_read"] if memory == "150MiB" else again > plan["bytes_read"], what)
_, report = merged(recipe, "--memory", "8MiB")
test.expect(report["memory_limit"] is None, "too little memory to measure its speed")

# A finished output leaves nothing to report, and what was reported stays
for there in (True, False):
    with open(REPORT) as file:
        before = file.read()
    if not there:
        os.remove(REPORT)
    result = test.merge(recipe, "out", "--report", REPORT)
    test.expect(result.returncode == 0 and "no report" in result.stderr, "nothing to do", result)
    test.expect(os.path.exists(REPORT) == there, "a report of nothing")
    if there:
        with open(REPORT) as file:
            test.expect(file.read() == before, "another report")
result = test.merge(recipe, "out", "--report", test.place("none", "report.json"))
test.expect(result.returncode == 1 and "--report" in result.stderr, "no place for a report", result)

test.done()
