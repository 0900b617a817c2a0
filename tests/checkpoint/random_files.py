#!/usr/bin/env python3
"""Writes legal safetensors files in many spellings, and what an independent reader (struct and json) finds in them.

    random_files.py FOLDER COUNT SEED

FOLDER/expected.tsv, a line a tensor in order of the name's bytes: file, name in hex, dtype, shape, first byte, last byte + 1.
FOLDER/metadata.tsv, a line an entry: file, key in hex, value in hex.
"""
import json
import os
import random
import struct
import sys

folder, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
os.makedirs(folder, exist_ok=True)
bits = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
        "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
        "U64": 64}
letters = "ab.Z_0/\\\"\0\n\u00e9\u4e2d\U0001f600 '"


def name():
    if random.random() < 0.5:
        return "model.layers.%d.%s.weight" % (random.randrange(99), random.choice(["mlp", "attn"])) + str(random.randrange(10**6))
    return "".join(random.choice(letters) for _ in range(random.randrange(12)))


def tensor():
    dtype = random.choice(list(bits))
    shape = [random.choice([0, 1, 1, 2, 3, 4, 5, 8]) for _ in range(random.choice([0, 1, 2, 2, 3, 7]))]
    elements = 1
    for dimension in shape:
        elements *= dimension
    if elements * bits[dtype] % 8:
        shape.append(8)
        elements *= 8
    return dtype, shape, elements * bits[dtype] // 8


def write(path):
    names = list({name() for _ in range(random.choice([0, 1, 2, 5, 40]))} - {"__metadata__"})
    entries, end = [], 0
    for key in names:
        dtype, shape, size = tensor()
        fields = [("dtype", dtype), ("shape", shape), ("data_offsets", [end, end + size])]
        random.shuffle(fields)
        entries.append((key, dict(fields)))
        end += size
    random.shuffle(entries)
    if random.random() < 0.7:
        metadata = {name(): name() for _ in range(random.randrange(4))}
        entries.insert(random.randrange(len(entries) + 1), ("__metadata__", metadata))
    text = json.dumps(dict(entries), ensure_ascii=random.random() < 0.5, indent=random.choice([None, None, 1]),
                      separators=random.choice([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])).encode()
    text = b" " * random.choice([0, 0, 3]) + text + b" " * random.choice([0, 0, 5])
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + random.randbytes(end))


def read(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    return header, metadata, 8 + length


with open(os.path.join(folder, "expected.tsv"), "w") as expected, open(os.path.join(folder, "metadata.tsv"), "w") as meta:
    for i in range(count):
        file = "random_%d.safetensors" % i
        write(os.path.join(folder, file))
        header, metadata, start = read(os.path.join(folder, file))
        for key in sorted(header, key=lambda text: text.encode()):
            entry = header[key]
            begin, end = entry["data_offsets"]
            expected.write("\t".join([file, key.encode().hex(), entry["dtype"], str(entry["shape"]), str(start + begin), str(start + end)]) + "\n")
        for key in sorted(metadata, key=lambda text: text.encode()):
            meta.write("\t".join([file, key.encode().hex(), metadata[key].encode().hex()]) + "\n")
