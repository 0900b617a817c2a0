"""Safetensors files and the number formats in them, from the standard library and numpy only.

Independent of amalgam on purpose: this is what its output is read and judged with. A tensor is kept as the integers of
its bits, so that a file that is read and written again has the same data; `values` decodes to float64 exactly, `encode`
rounds a float64 once, to nearest, ties to even.
"""

import json
import os
import struct
from dataclasses import dataclass

import numpy as np

# name in the header -> (numpy type of the bits, name in config.json and recipes)
FORMATS = {
    "BOOL": ("u1", None),
    "U8": ("u1", None),
    "I8": ("i1", None),
    "I16": ("<i2", None),
    "U16": ("<u2", None),
    "I32": ("<i4", None),
    "U32": ("<u4", None),
    "I64": ("<i8", None),
    "U64": ("<u8", None),
    "F8_E4M3": ("u1", "float8_e4m3fn"),
    "F8_E5M2": ("u1", "float8_e5m2"),
    "F16": ("<u2", "float16"),
    "BF16": ("<u2", "bfloat16"),
    "F32": ("<u4", "float32"),
    "F64": ("<u8", "float64"),
}
COMPUTED = ("F8_E4M3", "F8_E5M2", "F16", "BF16", "F32", "F64")
FROM_CONFIG = {config: name for name, (_, config) in FORMATS.items() if config}

# significand bits with the hidden one, exponent of the smallest normal number, largest finite number
PRECISION = {
    "F8_E4M3": (4, -6, 448.0),
    "F8_E5M2": (3, -14, 57344.0),
    "F16": (11, -14, 65504.0),
    "BF16": (8, -126, (2 - 2.0**-7) * 2.0**127),
    "F32": (24, -126, float(np.finfo("f4").max)),
    "F64": (53, -1022, float(np.finfo("f8").max)),
}
SATURATES = ("F8_E4M3", "F8_E5M2")  # overflow gives the largest finite number, not infinity


def _table_of_eight_bits(exponent_bits, fraction_bits, infinities):
    """float64 value of each of the 256 codes"""
    bias = 2 ** (exponent_bits - 1) - 1
    table = np.zeros(256)
    for code in range(256):
        exponent = (code & 127) >> fraction_bits
        fraction = (code & (1 << fraction_bits) - 1) / (1 << fraction_bits)
        value = (1 + fraction) * 2.0 ** (exponent - bias) if exponent else fraction * 2.0 ** (1 - bias)
        if infinities and exponent == (1 << exponent_bits) - 1:
            value = np.nan if fraction else np.inf
        elif not infinities and code & 127 == 127:
            value = np.nan
        table[code] = -value if code & 128 else value
    return table


EIGHT_BITS = {"F8_E4M3": _table_of_eight_bits(4, 3, False), "F8_E5M2": _table_of_eight_bits(5, 2, True)}


@dataclass
class Tensor:
    dtype: str
    bits: np.ndarray  # of the type in FORMATS, with the tensor's shape

    @property
    def shape(self):
        return self.bits.shape

    @property
    def values(self):
        """float64, exact"""
        if self.dtype in EIGHT_BITS:
            return EIGHT_BITS[self.dtype][self.bits]
        if self.dtype not in COMPUTED:
            raise ValueError(f"{self.dtype} is not a floating-point type")
        flat = self.bits.reshape(-1)
        if self.dtype == "BF16":
            flat = flat.astype("<u4") << 16
        with np.errstate(invalid="ignore"):  # numpy warns of signalling NaNs
            return (
                flat.view({"u2": "<f2", "u4": "<f4", "u8": "<f8"}[flat.dtype.str[1:]]).astype("f8").reshape(self.shape)
            )


def quantum(dtype, values):
    """Distance of neighbouring numbers of `dtype` at each value (that of the numbers above, at a power of two)."""
    precision, smallest, largest = PRECISION[dtype]
    finite = np.where(np.isfinite(values), np.minimum(np.abs(values), largest), 0)
    exponent = np.maximum(np.frexp(finite)[1] - 1, smallest)
    return np.ldexp(1.0, exponent - precision + 1)


def round_to(dtype, values):
    """The number of `dtype` nearest to each float64, ties to even; overflow by the format's rule. Still float64."""
    values = np.asarray(values, "f8")
    if dtype == "F64":
        return values
    largest = PRECISION[dtype][2]
    step = quantum(dtype, values)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.where(np.isfinite(values), np.rint(values / step) * step, values)
        over = np.isfinite(values) & (np.abs(rounded) > largest)
        return np.where(over, np.copysign(largest if dtype in SATURATES else np.inf, values), rounded)


def encode(dtype, values):
    """float64 -> Tensor, rounded once"""
    rounded = round_to(dtype, values)
    if dtype in EIGHT_BITS:
        table = EIGHT_BITS[dtype][: 127 if dtype == "F8_E4M3" else 125]
        codes = np.searchsorted(table, np.where(np.isnan(rounded), 0, np.minimum(np.abs(rounded), table[-1])))
        codes = np.where(np.isnan(rounded), 127, codes) | (np.signbit(rounded) & ~np.isnan(rounded)) * 128
        return Tensor(dtype, np.asarray(codes).astype("u1"))
    with np.errstate(invalid="ignore", over="ignore"):
        if dtype == "BF16":
            bits = (rounded.reshape(-1).astype("<f4").view("<u4") >> 16).astype("<u2")
        else:
            width = {"F16": "2", "F32": "4", "F64": "8"}[dtype]
            bits = rounded.reshape(-1).astype("<f" + width).view("<u" + width)
    return Tensor(dtype, bits.reshape(np.shape(values)))


def integers(dtype, values):
    """Tensor of an integer type or BOOL"""
    return Tensor(dtype, np.asarray(values).astype(FORMATS[dtype][0]))


def write_file(path, tensors, metadata={"format": "pt"}):
    header, parts, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor.bits).tobytes()
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for data in parts:
            file.write(data)


def read_file(path):
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[8 + length + begin : 8 + length + end], FORMATS[entry["dtype"]][0])
        tensors[name] = Tensor(entry["dtype"], bits.reshape(entry["shape"]))
    return tensors


def write_model(folder, tensors, config, shards=1):
    """Hugging Face folder; with more than one shard, tensors are dealt out in turn and an index is written."""
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    if shards == 1:
        write_file(os.path.join(folder, "model.safetensors"), tensors)
        return
    index = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[shard::shards])
        write_file(os.path.join(folder, name), part)
        index.update({tensor: name for tensor in part})
    total = sum(tensor.bits.nbytes for tensor in tensors.values())
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": index}, file)


def read_model(folder):
    """All tensors of a folder; with an index, exactly those it lists."""
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_file(os.path.join(folder, "model.safetensors"))
    with open(index) as file:
        weight_map = json.load(file)["weight_map"]
    files = {name: read_file(os.path.join(folder, name)) for name in sorted(set(weight_map.values()))}
    tensors = {tensor: files[name][tensor] for tensor, name in weight_map.items()}
    extra = {tensor for part in files.values() for tensor in part} - set(tensors)
    if extra:
        raise ValueError(f"{folder}: tensors in no index: {sorted(extra)[:3]}")
    return tensors
