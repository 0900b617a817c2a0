"""`amalgam inspect --base`: the zoo's task vectors against its README, and awkward tensors against sums in Python.

inspect_vectors_test.py AMALGAM
"""

import array
import json
import math
import os
import random
import re
import struct
import sys
import tempfile

from program import Program, ROOT, ZOO, write_model

program = Program(sys.argv[1])


def check_zoo():
    """The table "Task vectors" of the zoo's README, made with PyTorch."""
    with open(os.path.join(ROOT, "tests/data/zoo/README.md")) as file:
        rows = re.findall(
            r"^\| (\S+) \| (0\.\d{3}) \| (-?\d\.\d\d) \| (-?\d\.\d\d) \| (-?\d\.\d\d) \| (-?\d\.\d\d) \|$",
            file.read(),
            re.M,
        )
    names = [row[0] for row in rows]
    program.expect(names == ["math-en", "math2-en", "lang-ja", "distract"], f"the README's table: {names}")
    words = ["inspect", "--base", os.path.join(ZOO, "base"), *(os.path.join(ZOO, name) for name in names)]
    whole = program.json(*words)["whole"]
    for i, row in enumerate(rows):
        program.expect(
            f"{whole['relative_norms'][i]:.3f}" == row[1],
            f"norm of {row[0]}: {whole['relative_norms'][i]}, README {row[1]}",
        )
        for j in range(4):
            cosine, wanted = whole["cosines"][i][j], float(row[2 + j])
            program.expect(
                abs(cosine - wanted) <= 0.00501, f"cosine of {row[0]} and {names[j]}: {cosine}, README {wanted}"
            )
    text = program.run(*words)
    for row in rows:
        shown = re.search(rf"^  {row[0]} +(0\.\d{{4}}) ", text.stdout, re.M)
        program.expect(shown and abs(float(shown[1]) - float(row[1])) <= 0.00056, f"{row[0]} in the table", text)
    program.expect(re.search(r"^  model\.layers\.5 ", text.stdout, re.M), "layers in the table", text)
    one = program.run(*words, "--threads", "1", "--json").stdout
    three = program.run(*words, "--threads", "3", "--json").stdout
    program.expect(one == three, "the same numbers for 1 and 3 threads")


def to_float(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def stored(dtype, values):
    """The bytes of values in a dtype, and what they then are."""
    if dtype == "BF16":
        words = [struct.unpack("<I", struct.pack("<f", value))[0] >> 16 for value in values]
        return struct.pack(f"<{len(words)}H", *words), [
            struct.unpack("<f", struct.pack("<I", word << 16))[0] for word in words
        ]
    kind = {"F16": "e", "F32": "f", "F64": "d"}[dtype]
    data = struct.pack(f"<{len(values)}{kind}", *values)
    return data, list(struct.unpack(f"<{len(values)}{kind}", data))


def oracle(base, models, wide):
    """Sums over one tensor; exact but for the last rounding."""
    rounded = (lambda value: value) if wide else to_float
    deltas = []
    nonfinite = []
    for model in models:
        delta = [rounded(x - b) if math.isfinite(x) and math.isfinite(b) else math.nan for x, b in zip(model, base)]
        nonfinite.append(sum(not math.isfinite(x) for x in delta))
        deltas.append([x if math.isfinite(x) else 0.0 for x in delta])
    signs = [[(x > 0) - (x < 0) for x in delta] for delta in deltas]
    n = range(len(models))
    return {
        "elements": len(base),
        "base_squares": math.fsum(b * b for b in base if math.isfinite(b)),
        "products": [[math.fsum(x * y for x, y in zip(deltas[i], deltas[j])) for j in n] for i in n],
        "changed": [sum(map(abs, sign)) for sign in signs],
        "nonfinite": nonfinite,
        "both": [[sum(a != 0 and b != 0 for a, b in zip(signs[i], signs[j])) for j in n] for i in n],
        "opposite": [[sum(a * b < 0 for a, b in zip(signs[i], signs[j])) for j in n] for i in n],
        "conflicts": sum(max(column) > 0 > min(column) for column in zip(*signs)),
    }


def added(parts):
    def add(a, b):
        return [add(x, y) for x, y in zip(a, b)] if isinstance(a, list) else a + b

    total = parts[0]
    for part in parts[1:]:
        total = {key: add(total[key], part[key]) for key in total}
    return total


def compare(what, found, wanted):
    def near(a, b):
        return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-300)

    n = range(len(wanted["changed"]))
    program.expect(
        found["elements"] == wanted["elements"] and found["conflicts"] == wanted["conflicts"],
        f"{what}: counts {found['elements'], found['conflicts']}, wanted {wanted['elements'], wanted['conflicts']}",
    )
    program.expect(
        found["changed"] == wanted["changed"] and found["nonfinite"] == wanted["nonfinite"],
        f"{what}: changed {found['changed']} {found['nonfinite']}, wanted {wanted['changed']} {wanted['nonfinite']}",
    )
    program.expect(near(found["base_norm"], math.sqrt(wanted["base_squares"])), f"{what}: norm of the base")
    for i in n:
        length = math.sqrt(wanted["products"][i][i])
        program.expect(near(found["norms"][i], length), f"{what}: norm {i}: {found['norms'][i]}, wanted {length}")
        for j in n:
            other = math.sqrt(wanted["products"][j][j])
            cosine = found["cosines"][i][j]
            program.expect(
                (
                    cosine is None
                    if length * other == 0
                    else abs(cosine - wanted["products"][i][j] / (length * other)) < 1e-12
                ),
                f"{what}: cosine {i} {j}: {cosine}",
            )
            if i != j:
                program.expect(
                    (found["both_changed"][i][j], found["opposite"][i][j])
                    == (wanted["both"][i][j], wanted["opposite"][i][j]),
                    f"{what}: signs {i} {j}",
                )
                share = wanted["opposite"][i][j] / wanted["both"][i][j] if wanted["both"][i][j] else None
                program.expect(found["opposite_signs"][i][j] == share, f"{what}: share of opposite signs {i} {j}")


def check_awkward(folder):
    draw = random.Random(5)
    shapes = {"m.0.long": [70001], "m.0.w": [3, 5], "m.1.w": [2, 64], "head": [], "embed_tokens.weight": [6, 4]}
    dtypes = {
        "base": ["F32", "BF16", "F64", "F16", "F32"],
        "a": ["BF16", "BF16", "F64", "F16", "F32"],
        "b": ["F32", "F16", "F32", "F16", "BF16"],
        "c": ["F32", "BF16", "F64", "F32", "F32"],
    }
    values = {}
    for m, model in enumerate(dtypes):
        tensors = {}
        for (name, shape), dtype in zip(shapes.items(), dtypes[model]):
            rows = shape[:]
            if model == "c" and name == "embed_tokens.weight":
                rows[0] = 5  # compared over the rows that all have
            count = math.prod(rows)
            numbers = (
                [draw.gauss(0, 1) for _ in range(count)]
                if m == 0
                else [
                    values["base"][name][i] + (draw.gauss(0, 0.1 * m) if draw.random() < 0.6 else 0)
                    for i in range(count)
                ]
            )
            if model == "b" and name == "m.0.w":
                numbers[3], numbers[7] = math.nan, math.inf
            data, exact = stored(dtype, numbers)
            values.setdefault(model, {})[name] = exact
            tensors[name] = (dtype, rows, data)
        if model == "b":
            tensors["only.in.b"] = ("F32", [1], bytes(4))
        if model == "c":  # another shape: left out
            tensors["m.1.odd"] = ("F32", [3], bytes(12))
        elif model != "b":
            tensors["m.1.odd"] = ("F32", [2], bytes(8))
        tensors["ids"] = ("I64", [1], bytes(8))
        write_model(os.path.join(folder, model), tensors)
    words = ["inspect", "--base", folder + "/base", folder + "/a", folder + "/b", folder + "/c"]
    result = program.run(*words, "--json")
    found = json.loads(result.stdout)
    wanted = {}
    for k, name in enumerate(shapes):
        count = min(len(values[model][name]) for model in dtypes)
        wide = any(dtypes[model][k] == "F64" for model in dtypes)
        wanted[name] = oracle(values["base"][name][:count], [values[model][name][:count] for model in "abc"], wide)
    compare("whole", found["whole"], added(list(wanted.values())))
    layers = {(layer["tower"], layer["layer"]): layer for layer in found["layers"]}
    program.expect(list(layers) == [("m", 0), ("m", 1), ("", None)], f"layers {list(layers)}")
    compare("layer 0", layers["m", 0], added([wanted["m.0.long"], wanted["m.0.w"]]))
    compare("layer 1", layers["m", 1], wanted["m.1.w"])
    compare("outside", layers["", None], added([wanted["embed_tokens.weight"], wanted["head"]]))
    program.expect(
        found["whole"]["nonfinite"] == [0, 2, 0] and "NaN or infinite" in result.stderr, "not finite", result
    )
    left = " ".join(found["left_out"])
    program.expect(
        len(found["left_out"]) == 3 and "m.1.odd: not in" in left and "only.in.b: in" in left and "ids: is I64" in left,
        f"left out: {found['left_out']}",
    )
    program.expect(found["tensors"] == 5, "tensors")


def check_same_and_nothing(folder):
    base = os.path.join(ZOO, "base")
    whole = program.json("inspect", "--base", base, base)["whole"]
    program.expect(
        whole["changed"] == [0] and whole["norms"] == [0] and whole["cosines"] == [[None]], "a model against itself"
    )
    data = array.array("f", [1, 2]).tobytes()
    a = write_model(folder + "/x", {"x": ("F32", [2], data)})
    b = write_model(folder + "/y", {"y": ("F32", [2], data)})
    program.expect_error(1, "inspect", "--base", a, b, contains=["nothing to compare"])


check_zoo()
with tempfile.TemporaryDirectory() as temporary:
    check_awkward(temporary)
    check_same_and_nothing(temporary)
program.done()
