"""Random masks as amalgam addresses them: Philox4x32-10 by element, model and tensor; XXH64 of the tensor's name.

Written from Salmon et al. 2011 (Random123) and from the xxHash specification; `self_check.py` holds the known answers.
"""

import numpy as np

MASK64 = (1 << 64) - 1
P1, P2, P3, P4, P5 = (
    11400714785074694791,
    14029467366897019727,
    1609587929392839161,
    9650029242287828579,
    2870177450012600261,
)


def _rotate(x, r):
    return (x << r | x >> 64 - r) & MASK64


def _round(lane, word):
    return _rotate((lane + word * P2) & MASK64, 31) * P1 & MASK64


def xxh64(data, seed=0):
    word = lambda at, size: int.from_bytes(data[at : at + size], "little")
    at, n = 0, len(data)
    if n >= 32:
        lanes = [(seed + P1 + P2) & MASK64, (seed + P2) & MASK64, seed, (seed - P1) & MASK64]
        while at + 32 <= n:
            lanes = [_round(lane, word(at + 8 * i, 8)) for i, lane in enumerate(lanes)]
            at += 32
        h = sum(_rotate(lane, r) for lane, r in zip(lanes, (1, 7, 12, 18))) & MASK64
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * P1 + P4) & MASK64
    else:
        h = (seed + P5) & MASK64
    h = (h + n) & MASK64
    while at + 8 <= n:
        h = (_rotate(h ^ _round(0, word(at, 8)), 27) * P1 + P4) & MASK64
        at += 8
    if at + 4 <= n:
        h = (_rotate(h ^ word(at, 4) * P1 & MASK64, 23) * P2 + P3) & MASK64
        at += 4
    while at < n:
        h = _rotate(h ^ data[at] * P5 & MASK64, 11) * P1 & MASK64
        at += 1
    h = (h ^ h >> 33) * P2 & MASK64
    h = (h ^ h >> 29) * P3 & MASK64
    return h ^ h >> 32


def philox(counter, key):
    """Philox4x32-10. `counter`: four uint32 arrays or numbers, `key`: two numbers. Returns four uint32 arrays."""
    c0, c1, c2, c3 = np.broadcast_arrays(*[np.asarray(c, "u8") for c in counter])
    k0, k1 = int(key[0]), int(key[1])
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        first, second = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (second >> shift) ^ c1 ^ np.uint64(k0),
            second & low,
            (first >> shift) ^ c3 ^ np.uint64(k1),
            first & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c.astype("<u4") for c in (c0, c1, c2, c3)]


def half_words(n, seed, position, name, refinement):
    """The 16 random bits of elements 0 .. n-1: eight of each call, low half of a word first."""
    block = np.arange((n + 7) // 8, dtype="u8")
    address = block | np.uint64(position << 48) | np.uint64(int(refinement) << 63)
    tensor = xxh64(name.encode())
    words = philox(
        (address & np.uint64(0xFFFFFFFF), address >> np.uint64(32), tensor & 0xFFFFFFFF, tensor >> 32),
        (seed & 0xFFFFFFFF, seed >> 32),
    )
    return np.stack(words, axis=1).view("<u2").reshape(-1)[:n]


def random_mask(probability, n, seed, position, name):
    """Which of n elements are kept; `probability` is one number or one per element."""
    threshold = np.clip(np.floor(np.asarray(probability, "f8") * 2.0**32), 0, 2.0**32 - 1).astype("u8")
    high, low = threshold >> np.uint64(16), threshold & np.uint64(0xFFFF)
    draw = half_words(n, seed, position, name, False)
    refined = half_words(n, seed, position, name, True)
    return (draw < high) | (draw == high) & (refined < low)
