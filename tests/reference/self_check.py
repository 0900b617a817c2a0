#!/usr/bin/env python3
"""Checks the references themselves: known answers of Philox and XXH64, every code of the small number formats, the
YAML subset, and, given a folder of golden outputs, the oracle against them.

    self_check.py [PARITY_FOLDER]     with models/, recipes/*.yaml, golden/*.safetensors
"""

import os
import sys

import numpy as np

import small_yaml
from philox import philox, random_mask, xxh64
from resolve import expected_output
from safetensors_io import COMPUTED, EIGHT_BITS, PRECISION, Tensor, encode, read_file, read_model, round_to


def check(condition, what):
    if not condition:
        sys.exit(f"self_check: {what}")


def philox_known_answers():
    ones = 0xFFFFFFFF
    for counter, key, answer in (
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ):
        check(tuple(int(w) for w in philox(counter, key)) == answer, f"philox of {counter}")
    check(xxh64(b"") == 0xEF46DB3751D8E999 and xxh64(b"abc") == 0x44BC2CF5AD770999, "xxh64 of short text")
    check(xxh64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1, "xxh64 of long text")
    # each of 2^16 values of the half-word is equally likely, and the refinement decides below that
    n = 1 << 18
    for density in (0.25, 1 / 3, 0.001):
        share = random_mask(density, n, 9, 3, "a.weight").mean()
        check(abs(share - density) < 5 * (density * (1 - density) / n) ** 0.5, f"random mask of density {density}")
    check(not random_mask(0.0, n, 9, 3, "a.weight").any(), "random mask of density 0")


def number_formats():
    for dtype, width in (("F8_E4M3", 256), ("F8_E5M2", 256), ("BF16", 65536), ("F16", 65536)):
        codes = np.arange(width, dtype="u1" if width == 256 else "<u2")
        values = Tensor(dtype, codes).values
        number = ~np.isnan(values)
        check(np.array_equal(encode(dtype, values).bits[number], codes[number]), f"{dtype} decodes and encodes")
        check(np.isnan(encode(dtype, values[~number]).values).all(), f"{dtype} keeps NaN")
        # half way between neighbours: the even code; a little more or less: the nearer one
        bits = PRECISION[dtype][0]
        ordered = np.sort(values[np.isfinite(values) & (values > 0)])
        low, high = ordered[:-1], ordered[1:]
        middle, even = (low + high) / 2, encode(dtype, low).bits % 2 == 0
        check(np.array_equal(round_to(dtype, middle), np.where(even, low, high)), f"{dtype} rounds halves to even")
        check(np.array_equal(round_to(dtype, middle * (1 + 1e-9)), high), f"{dtype} rounds up")
        check(np.array_equal(round_to(dtype, middle * (1 - 1e-9)), low) and bits, f"{dtype} rounds down")
    check(EIGHT_BITS["F8_E4M3"][0x7E] == 448 and EIGHT_BITS["F8_E5M2"][0x7B] == 57344, "largest 8-bit numbers")
    check(round_to("F8_E4M3", -1e9) == -448 and round_to("F16", 1e9) == np.inf, "overflow")
    random = np.random.default_rng(1).standard_normal(1000) * 10.0 ** np.random.default_rng(2).integers(-45, 38, 1000)
    with np.errstate(over="ignore"):
        check(np.array_equal(round_to("F32", random), random.astype("f4").astype("f8")), "float32 as numpy rounds")
        check(np.array_equal(round_to("F16", random), random.astype("f2").astype("f8")), "float16 as numpy rounds")


def yaml_subset():
    recipe = {
        "merge_method": "ties",
        "models": [{"model": "a/b", "parameters": {"weight": [0, 0.5, 1e-05]}}, {"model": "c"}],
        "parameters": {"t": [{"filter": "mlp", "value": [1, 2]}, {"value": 0.5}], "normalize": False, "lambda": 1.0},
    }
    check(small_yaml.load(small_yaml.dump(recipe)) == recipe, "YAML written and read again")


def goldens(root):
    tolerance = {"F32": 4e-6, "F16": 2.0**-10, "BF16": 2.0**-7}
    bad = 0
    models = {
        f"models/{name}": read_model(os.path.join(root, "models", name))
        for name in os.listdir(os.path.join(root, "models"))
    }
    names = sorted(file[:-12] for file in os.listdir(os.path.join(root, "golden")))
    for name in names:
        with open(os.path.join(root, "recipes", name + ".yaml")) as file:
            recipe = small_yaml.load(file.read())
        golden = read_file(os.path.join(root, "golden", name + ".safetensors"))
        expected = expected_output(recipe, models)
        why = "" if set(expected) == set(golden) else f"tensors differ: {sorted(set(expected) ^ set(golden))[:3]}"
        worst = 0.0
        for tensor in set(golden) & set(expected):
            want, got = golden[tensor], expected[tensor]
            check(got.dtype in COMPUTED, f"{tensor} is computed")
            values = got.copy.values if got.merged is None else got.merged.values
            if want.dtype != got.dtype or want.shape != values.shape:
                why = why or f"{tensor}: {got.dtype} {values.shape}, golden {want.dtype} {want.shape}"
                continue
            error = np.abs(round_to(got.dtype, values) - want.values) / (np.abs(want.values).max() or 1.0)
            worst = max(worst, error.max())
            if (error > tolerance[want.dtype]).sum() > error.size // 1000:
                why = why or f"{tensor}: error {error.max():.1e}"
        bad += bool(why)
        print(f"{name:28s} {worst:9.2e}  {why or 'ok'}")
    print(f"{len(names) - bad} of {len(names)} goldens agree with the oracle")
    return bad


if __name__ == "__main__":
    philox_known_answers()
    number_formats()
    yaml_subset()
    print("known answers, number formats, YAML: ok")
    sys.exit(1 if len(sys.argv) > 1 and goldens(sys.argv[1]) else 0)
