"""Every merge method on one tensor, in float64, from the formulas: what amalgam's output is compared with.

Inputs are the exact values of the stored elements. Decisions that hang on a magnitude (trims, ranks, thresholds) use
the number amalgam promises to decide by: the delta computed in float32, or in float64 if an input of the tensor is
float64, ordered by its bits without the sign, descending, then by flat index. Everything else is float64.

Where a decision is so close that float32 and float64 may honestly differ (a weighted vote that cancels, a variance or
an importance at its threshold), `Merged.other` holds the value of the other decision.
"""

from dataclasses import dataclass, field

import numpy as np

from philox import random_mask

NEAR = 1e-6  # relative distance within which a decision counts as too close


class MergeError(Exception):
    """The merge must be refused."""


@dataclass
class Input:
    values: np.ndarray  # float64, exact, with the tensor's shape
    position: int = 0  # in the recipe's list of models
    fields: dict = field(default_factory=dict)
    band: tuple = None  # compat "paper": magnitudes (lowest kept, lowest outlier); None: nothing is kept


@dataclass
class Merged:
    values: np.ndarray  # float64, not yet rounded to the output's dtype
    scale: np.ndarray = None  # size of the terms that were added up: what rounding errors are relative to
    other: np.ndarray = None  # where a decision was too close to call


@dataclass
class Context:
    """All that is not an input tensor."""

    name: str
    options: dict
    wide: bool = False  # an input is stored as float64
    paper: bool = False
    seed: int = 0


def delta(x, base, wide):
    """Task vector in the precision amalgam computes it in, as float64."""
    return (x - base) if wide else (x.astype("f4") - base.astype("f4")).astype("f8")


def descending(values, wide):
    """Flat indices by magnitude: bits without the sign as an integer, largest first, equal ones by index."""
    magnitude = np.abs(values.reshape(-1).astype("f8" if wide else "f4"))
    return np.argsort(~magnitude.view("u8" if wide else "u4"), kind="stable")


# ---- sparsifiers: which elements of a task vector stay ----


def keep_largest(d, density, wide):
    keep = np.zeros(d.size, bool)
    keep[descending(d, wide)[: int(density * d.size)]] = True
    return keep.reshape(d.shape)


def keep_band(d, density, gamma, wide):
    """Without the int(gamma n) largest, the next int(density n)."""
    n = d.size
    kept, top = int(density * n), int(gamma * n)
    top += min(0, n - kept - top)
    keep = np.zeros(n, bool)
    keep[descending(d, wide)[top : top + kept]] = True
    return keep.reshape(d.shape)


def row_probabilities(d, density, epsilon, wide):
    """DELLA: keep probability by rank within the row; of equal magnitudes the lower flat index ranks higher."""
    rows = d.reshape(1, -1) if d.ndim < 2 else d.reshape(-1, d.shape[-1])
    columns = rows.shape[1]
    if columns == 1:
        return np.full(d.shape, density)
    probability = np.empty(rows.shape)
    for row, out in zip(rows, probability):
        rank = np.empty(columns)
        rank[descending(row, wide)] = np.arange(columns, 0, -1)
        out[:] = (density - epsilon) + 2 * epsilon * (rank - 1) / (columns - 1)
    return probability.reshape(d.shape)


def whole_model_band(deltas, density, gamma=0.0):
    """compat "paper": (lowest kept, lowest of the outliers) over all task vectors of a model; None: nothing."""
    magnitude = np.sort(np.abs(np.concatenate([d.reshape(-1) for d in deltas])))[::-1]
    n = magnitude.size
    kept, top = int(density * n), int(gamma * n)
    top += min(0, n - kept - top)
    # an outlier is what equals the last of the largest, too
    return (magnitude[top + kept - 1], magnitude[top - 1] if top else np.nan) if kept else None


def sparsify(kind, d, model, context):
    density = model.fields.get("density", 1.0)
    if kind is None or density >= 1:
        return d
    probability = density
    if kind == "random":
        keep = random_mask(density, d.size, context.seed, model.position, context.name).reshape(d.shape)
    elif kind == "rows":
        probability = row_probabilities(d, density, model.fields["epsilon"], context.wide)
        keep = random_mask(probability.reshape(-1), d.size, context.seed, model.position, context.name).reshape(d.shape)
    elif context.paper:
        keep = np.zeros(d.shape, bool)
        if model.band:
            keep = (np.abs(d) >= model.band[0]) & ~(np.abs(d) >= model.band[1])
    elif kind == "largest":
        keep = keep_largest(d, density, context.wide)
    else:
        keep = keep_band(d, density, model.fields["gamma"], context.wide)
    masked = np.where(keep, d, 0)
    if not context.options["rescale"]:
        return masked
    if context.paper and kind in ("random", "rows"):
        return np.where(keep, d / np.where(keep, probability, 1), 0)
    before, after = np.abs(d[np.isfinite(d)]).sum(), np.abs(masked[np.isfinite(masked)]).sum()
    return masked if before < 1e-7 or after < 1e-7 else masked * (before / after)


# ---- task arithmetic and its family ----

FAMILY = {  # method -> (sparsifier, signs are elected)
    "task_arithmetic": (None, False),
    "ties": ("largest", True),
    "dare_linear": ("random", False),
    "dare_ties": ("random", True),
    "breadcrumbs": ("band", False),
    "breadcrumbs_ties": ("band", True),
    "della_linear": ("rows", False),
    "della": ("rows", True),
}


def elect(terms, with_sign, in_float32):
    """Votes by sum of the terms (zero counts as positive) -> per model who agrees, who would if the vote were reversed,
    and where the vote was too close. Two terms that are opposite with weights in float64 and in float32 (`in_float32`)
    cancel in any precision: that is not close."""
    total, mass = terms.sum(axis=0), np.abs(terms).sum(axis=0)
    sign = np.where(total >= 0, 1, -1)
    voters = (with_sign != 0).sum(axis=0)
    cancels = (total == 0) & (in_float32.sum(axis=0) == 0) & (voters <= 2)
    close = (np.abs(total) <= NEAR * mass) & (mass > 0) & ~cancels
    return with_sign == sign, with_sign == -sign, close


def family(method, base, models, context):
    kind, elects = FAMILY[method]
    shape = (-1,) + (1,) * base.ndim
    weights = np.array([m.fields["weight"] for m in models]).reshape(shape)
    vectors = np.stack([sparsify(kind, delta(m.values, base, context.wide), m, context) for m in models])
    terms = vectors * weights
    factor, normalise = context.options["lambda"], context.options["normalize"]

    def finish(agree):
        if agree is None:
            mix, divisor = terms.sum(axis=0), weights.sum()
            divisor = 1.0 if abs(divisor) < 1e-8 else divisor
        else:
            mix, divisor = np.where(agree, terms, 0).sum(axis=0), (weights * agree).sum(axis=0)
            divisor = np.where(divisor == 0, 1, divisor)
        factors = factor / divisor if normalise else factor
        merged = np.where(np.isnan(terms).any(axis=0), np.nan, base + mix * factors)
        return merged, np.abs(base) + np.abs(terms).sum(axis=0) * np.abs(factors)

    if not elects:
        return Merged(*finish(None))
    agree, reversed_agree, close = elect(terms, np.sign(terms), vectors * weights.astype("f4").astype("f8"))
    values, scale = finish(agree)
    return Merged(values, scale, np.where(close, finish(reversed_agree)[0], values))


def sce(base, models, context):
    vectors = np.stack([delta(m.values, base, context.wide) for m in models])
    topk = context.options["select_topk"]
    close = np.zeros(base.shape, bool)
    if topk < 1:
        # The variance is computed in float64 and rounded to float32 for the order and for the count of non-zeros
        # (float64 if an input is float64).
        variance = np.mean((vectors - vectors.mean(axis=0)) ** 2, axis=0)
        variance = variance if context.wide else variance.astype("f4").astype("f8")
        kept = int(np.count_nonzero(variance) * topk)
        keep = np.zeros(base.size, bool)
        order = descending(variance, context.wide)
        keep[order[:kept]] = True
        if 0 < kept < base.size:
            inside, outside = variance.reshape(-1)[order[kept - 1]], variance.reshape(-1)[order[kept]]
            if inside != outside and inside - outside <= NEAR * inside:
                close = np.abs(variance - inside) <= NEAR * inside
        all_vectors, vectors = vectors, np.where(keep.reshape(base.shape), vectors, 0)
    else:
        all_vectors = vectors
    weights = np.array([np.mean(v[np.isfinite(v)] ** 2) if v.size else 0.0 for v in vectors])
    weights = np.full(len(models), 1 / len(models)) if abs(weights.sum()) < 1e-6 else weights / weights.sum()
    weights = weights.reshape((-1,) + (1,) * base.ndim)

    def finish(v, agree):
        share = weights * agree
        return base + (np.where(agree, v, 0) * share).sum(axis=0) / np.maximum(share.sum(axis=0), 1e-6)

    agree, reversed_agree, close_vote = elect(vectors, np.sign(vectors), vectors)
    values = finish(vectors, agree)
    other = np.where(close_vote, finish(vectors, reversed_agree), values)
    if close.any():
        flipped = np.where(keep.reshape(base.shape), 0, all_vectors)
        other = np.where(close, finish(flipped, elect(flipped, np.sign(flipped), flipped)[0]), other)
    return Merged(values, np.abs(base) + np.abs(all_vectors).sum(axis=0), other)


def ram(method, base, models, context):
    vectors = np.stack([delta(m.values, base, context.wide) for m in models])
    with np.errstate(invalid="ignore"):
        # a NaN is beyond no distance, so it must be let in by hand to be carried through
        active = ~(np.abs(vectors) <= context.options["epsilon"])
    count = active.sum(axis=0)
    gain = np.ones(len(models))
    if method == "ramplus_tl":
        shared = (active & (count > 1)).reshape(len(models), -1).sum(axis=1)
        unique = (active & (count == 1)).reshape(len(models), -1).sum(axis=1)
        rho = shared / np.maximum(unique, max(context.options["epsilon"], np.finfo("f8").tiny))
        gain = 1 + context.options["r"] * np.clip(rho, 0, context.options["alpha"])
    gain = gain.reshape((-1,) + (1,) * base.ndim)
    terms = np.where(active, vectors, 0) * np.where(count == 1, gain, 1 / np.maximum(count, 1))
    return Merged(base + terms.sum(axis=0), np.abs(base) + np.abs(terms).sum(axis=0))


def nearswap(base, other, context):
    with np.errstate(divide="ignore"):
        share = np.clip(context.options["t"] / np.maximum(np.abs(base - other), 1e-6), 0, 1)
    return Merged(share * other + (1 - share) * base, np.abs(base) + np.abs(other))


def arcee_fusion(base, other, context):
    def softmax(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    rows = lambda x: x.reshape(1, -1) if x.ndim < 2 else x.reshape(-1, x.shape[-1])
    a, b = rows(base), rows(other)
    p, q = softmax(b) + 1e-8, softmax(a) + 1e-8
    divergence = np.sum(p * np.log(p / q), axis=-1, keepdims=True)
    importance = np.abs(delta(b, a, context.wide)) * divergence
    ordered = np.sort(importance.reshape(-1))
    quantile = lambda share: ordered[int(share * (ordered.size - 1))]
    threshold = quantile(0.5) + 1.5 * (quantile(0.75) - quantile(0.25))
    taken = importance >= threshold
    # float32 divergences of rows that hardly differ have few good digits
    close = np.abs(importance - threshold) <= 1e-5 * np.abs(threshold)
    values, swapped = np.where(taken, b, a), np.where(taken, a, b)
    return Merged(
        values.reshape(base.shape), np.abs(base) + np.abs(other), np.where(close, swapped, values).reshape(base.shape)
    )


# ---- averages and blends ----


def linear(models, context):
    weights = [m.fields["weight"] for m in models]
    total = sum(weights) if context.options["normalize"] else 1.0
    if total == 0:
        raise MergeError(f"weights of {context.name} sum to 0")
    terms = [m.values * w / total for m, w in zip(models, weights)]
    return Merged(sum(terms), sum(np.abs(t) for t in terms))


def norm(x):
    return np.sqrt(np.sum(np.square(x, dtype="f8")))


def slerp(base, other, context):
    t = context.options["t"]
    lengths = [n if n > 1e-8 else 1.0 for n in (norm(base), norm(other))]
    cosine = np.clip(np.sum((base / lengths[0]) * (other / lengths[1])), -1, 1)
    if abs(cosine) > 0.9995:
        c0, c1 = 1 - t, t
    else:
        angle = np.arccos(cosine)
        c0, c1 = np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle)
    return Merged(c0 * base + c1 * other, np.abs(c0 * base) + np.abs(c1 * other))


def arc(t, x, y):
    """nuslerp of vectors along the last axis -> result and size of its terms"""
    unit = lambda v: v / np.maximum(np.sqrt(np.sum(v * v, axis=-1, keepdims=True)), 1e-7)
    cosine = np.clip(np.sum(unit(x) * unit(y), axis=-1, keepdims=True), -1, 1)
    # 1 - c^2 of a computed cosine is off by a few 1e-16: exactly opposite vectors must count as collinear
    straight = 1 - cosine**2 <= 1e-15
    angle = np.arccos(np.where(straight, 0, cosine))
    sine = np.where(straight, 1, np.sin(angle))
    c0 = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    c1 = np.where(straight, t, np.sin(t * angle) / sine)
    return c0 * x + c1 * y, np.abs(c0 * x) + np.abs(c1 * y)


def nuslerp(base, models, context):
    w0, w1 = (m.fields["weight"] for m in models)
    t = 0.5 if abs(w0 + w1) < 1e-6 else w1 / (w0 + w1)
    origin = np.zeros(models[0].values.shape) if base is None else base
    x, y = (m.values - origin for m in models)
    if context.options["nuslerp_flatten"] or x.ndim == 0:
        merged, scale = (v.reshape(x.shape) for v in arc(t, x.reshape(-1), y.reshape(-1)))
    elif context.options["nuslerp_row_wise"]:
        merged, scale = (np.swapaxes(v, 0, -1) for v in arc(t, np.swapaxes(x, 0, -1), np.swapaxes(y, 0, -1)))
    else:
        merged, scale = arc(t, x, y)
    return Merged(origin + merged, np.abs(origin) + scale)


def multislerp(base, models, context):
    if len(models) == 1:
        return Merged(models[0].values)
    origin = np.zeros(models[0].values.shape) if base is None else base
    eps = context.options["eps"]
    x = np.stack([m.values - origin for m in models])
    shape = (-1,) + (1,) * origin.ndim
    weights = np.array([m.fields["weight"] for m in models])
    if context.options["normalize_weights"]:
        if weights.sum() == 0:
            raise MergeError(f"weights of {context.name} sum to 0")
        weights = weights / weights.sum()
    lengths = np.array([norm(v) for v in x])
    w, units = weights.reshape(shape), x / (lengths + eps).reshape(shape)
    mean = np.sum(w * units, axis=0)
    length = norm(mean)
    if length < max(eps, 1e-12):
        if len(models) > 2:
            raise MergeError(f"directions of {context.name} cancel")
        terms = w * x
        return Merged(origin + terms.sum(axis=0), np.abs(origin) + np.abs(terms).sum(axis=0))
    mean = mean / length
    dots = np.array([np.sum(u * mean) for u in units]).reshape(shape)
    tangent = np.sum(w * (units - dots * mean), axis=0)
    angle = norm(tangent) + eps
    direction = mean * np.cos(angle) + tangent * (np.sin(angle) / angle)
    scale = np.abs(origin) + np.abs(w * x).sum(axis=0) + np.abs(direction) * np.abs(weights * lengths).sum()
    return Merged(origin + direction * np.sum(weights * lengths), scale)


def karcher(models, context):
    x = [m.values for m in models]
    if len(x) == 1:
        return Merged(x[0])
    tolerance = context.options["tol"]
    lengths = [norm(v) for v in x]
    units = [v / n for v, n in zip(x, lengths) if n > tolerance]
    if not units:
        return Merged(np.zeros(x[0].shape))
    mean = sum(units) / len(units)
    length = norm(mean)
    mean = units[0] if length < tolerance else mean / length
    for _ in range(int(context.options["max_iter"])):
        tangent = np.zeros(mean.shape)
        for unit in units:
            cosine = np.clip(np.sum(mean * unit), -1, 1)
            angle = np.arccos(cosine)
            if angle >= tolerance:
                tangent = tangent + angle / np.sin(angle) * (unit - cosine * mean) / len(units)
        step = norm(tangent)
        if step < tolerance:
            break
        mean = np.cos(step) * mean + np.sin(step) * tangent / step
        length = norm(mean)
        mean = mean / length if length > tolerance else mean
    return Merged(np.mean(lengths) * mean)


def model_stock(base, models, context):
    x = [m.values for m in models]
    if context.options["filter_wise"]:
        rows = lambda v: v.reshape(1, -1) if v.ndim < 2 else v.reshape(-1, v.shape[-1])
    else:
        rows = lambda v: v.reshape(1, -1)
    origin, x = rows(base), [rows(v) for v in x]
    count, cosines = len(x), []
    for i in range(count):
        for j in range(i + 1, count):
            a, b = x[i] - origin, x[j] - origin
            lengths = np.sqrt(np.sum(a * a, axis=1)) * np.sqrt(np.sum(b * b, axis=1))
            cosines.append(np.clip(np.sum(a * b, axis=1) / np.maximum(lengths, 1e-6), -1, 1))
    cosine = np.mean(cosines, axis=0).reshape(-1, 1)
    divisor = 1 + (count - 1) * cosine
    singular = np.abs(divisor) < 1e-6
    t = np.where(singular, 0, count * cosine / np.where(singular, 1, divisor))
    mean = sum(x) / count
    merged, scale = t * mean + (1 - t) * origin, np.abs(t * mean) + np.abs((1 - t) * origin)
    return Merged(merged.reshape(base.shape), scale.reshape(base.shape))


def passthrough(models):
    scale = models[0].fields.get("scale")
    return Merged(models[0].values if scale is None else models[0].values * scale)


def merge(method, base, models, context):
    """`base`: float64 array or None. `models`: Inputs without the base (slerp and its like: the other model)."""
    with np.errstate(invalid="ignore", over="ignore"):
        if models[0].values.size == 0:
            return Merged(models[0].values, models[0].values)
        if method in FAMILY:
            result = family(method, base, models, context)
        elif method in ("ram", "ramplus_tl"):
            result = ram(method, base, models, context)
        elif method in ("sce", "nuslerp", "multislerp", "model_stock"):
            result = globals()[method](base, models, context)
        elif method in ("slerp", "nearswap", "arcee_fusion"):
            result = globals()[method](base, models[0].values, context)
        elif method in ("linear", "karcher"):
            result = globals()[method](models, context)
        else:
            result = passthrough(models)
    as_array = lambda x: None if x is None else np.asarray(x)  # numpy makes numbers of arrays of rank 0
    scale = np.abs(result.values) if result.scale is None else result.scale
    return Merged(as_array(result.values), as_array(scale), as_array(result.other))
