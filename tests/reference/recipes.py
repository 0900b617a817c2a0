"""Random recipes for every method: parameters as numbers, gradients and filter lists at every level, all dtypes."""

import numpy as np

from cases import Case, Zoo, llama_shapes, shapes_for, store
from resolve import METHODS
from oracle import FAMILY

OUTPUTS = (None, "float32", "bfloat16", "float16", "float64", "float8_e4m3fn", "float8_e5m2")
INPUTS = ("F32", "BF16", "F16", "mixed", "F64", "one F64", "F8_E4M3", "F8_E5M2", "base F32")
FILTERS = ("self_attn", "mlp", "norm", "odd", "embed", "layers.1.", "vision_tower")


def number(rng, low, high):
    return round(float(rng.uniform(low, high)), 3)


def dyadic(rng, low, high):
    """so that sums of weights of both signs are exact in every precision: 0 is 0"""
    return float(rng.integers(int(low * 64), int(high * 64) + 1)) / 64


def setting(rng, draw, complete=True):
    """a number, a gradient, or a filter list; not `complete`: it may leave tensors out"""
    kind = rng.random()
    if kind < 0.5:
        return draw()
    if kind < 0.7:
        return [draw() for _ in range(int(rng.integers(2, 6)))]
    entries = [
        {"filter": str(f), "value": draw() if rng.random() < 0.6 else [draw(), draw(), draw()]}
        for f in rng.choice(FILTERS, 2, replace=False)
    ]
    if complete or rng.random() < 0.5:
        entries.append({"value": draw()} if rng.random() < 0.7 else {"filter": "*", "value": draw()})
    return entries


def flag(rng):
    return bool(rng.random() < 0.5)


def shared_parameters(rng, method):
    values = {}
    add = lambda name, draw, chance=0.5, **more: (
        values.update({name: setting(rng, draw, **more)}) if rng.random() < chance else None
    )
    if method in FAMILY:
        add("lambda", lambda: number(rng, 0.3, 1.8), complete=False)
        for name in ("normalize", "rescale"):
            if name in METHODS[method]["shared"] and not (name == "rescale" and method == "task_arithmetic"):
                if rng.random() < 0.5:
                    values[name] = flag(rng)
    elif method == "linear" and rng.random() < 0.4:
        values["normalize"] = flag(rng)
    elif method == "slerp":
        add("t", lambda: number(rng, 0, 1), 1.0)
    elif method == "nearswap":
        add("t", lambda: number(rng, 0.001, 0.03), 1.0)
    elif method == "nuslerp":
        values = [
            {},
            {"nuslerp_flatten": True},
            {"nuslerp_flatten": False},
            {"nuslerp_flatten": False, "nuslerp_row_wise": True},
        ][rng.integers(4)]
    elif method == "multislerp":
        add("normalize_weights", lambda: flag(rng), 0.3)
        values = {k: bool(v) for k, v in values.items() if not isinstance(v, list)}
    elif method == "karcher":
        values = [{}, {"max_iter": 30}, {"max_iter": 3, "tol": 1e-7}][rng.integers(3)]
    elif method == "model_stock":
        values = [{}, {"filter_wise": True}][rng.integers(2)]
    elif method == "sce":
        add("select_topk", lambda: number(rng, 0.05, 0.95), 0.7)
    elif method in ("ram", "ramplus_tl"):
        if rng.random() < 0.5:
            values["epsilon"] = 0.0031
        if method == "ramplus_tl" and rng.random() < 0.5:
            values.update(r=number(rng, 0, 1), alpha=number(rng, 0, 3))
    return values


def own_parameters(rng, method, first):
    """of one model; the weights of averages stay clear of sums near 0"""
    fields = METHODS[method]["per_model"]
    values = {}
    if "weight" in fields:
        if method in FAMILY:
            draw = lambda: dyadic(rng, -1, 1.5)
        elif method == "linear":
            draw = (lambda: dyadic(rng, 1, 2)) if first else lambda: dyadic(rng, -0.125, 1)
        else:
            draw = lambda: number(rng, 0.1, 1.2)
        values["weight"] = setting(rng, draw)
    if method.startswith("della"):
        values["density"] = setting(rng, lambda: number(rng, 0.3, 0.7))
        if rng.random() < 0.6:
            values["epsilon"] = setting(rng, lambda: number(rng, 0.01, 0.25))
    elif "density" in fields and method != "task_arithmetic" and rng.random() < 0.9:
        values["density"] = setting(rng, lambda: float(rng.choice([0.02, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0])))
    if "gamma" in fields and rng.random() < 0.7:
        values["gamma"] = setting(rng, lambda: float(rng.choice([0.0, 0.01, 0.05, 0.2])))
    if "scale" in fields and rng.random() < 0.8:
        values["scale"] = setting(rng, lambda: number(rng, -1, 2), complete=False)
    return values


def model_count(rng, method):
    if method == "passthrough":
        return 1
    if METHODS[method]["base"] == "member":
        return 1
    return {"nuslerp": 2, "model_stock": int(rng.integers(2, 5))}.get(method, int(rng.integers(1, 5)))


def dtype_picker(rng, kind, which):
    """`which`: 0 is the base"""
    if kind == "mixed":
        return lambda name: str(rng.choice(["F32", "BF16", "F16"]))
    if kind == "one F64":
        return "F64" if which == 1 else "F32"
    if kind == "base F32":
        return "F32" if which == 0 else "BF16"
    return kind


def random_case(method, seed, index, inputs=None, output=None, llama=False):
    """`inputs` and `output`: dtypes, else all in turn; `llama`: only the tensors of a Llama model."""
    rng = np.random.default_rng([seed, index, *method.encode()])
    inputs = inputs or INPUTS[(index + seed) % len(INPUTS)]
    output = output or OUTPUTS[(index * 3 + seed) % len(OUTPUTS)]
    layers = int(rng.integers(1, 5))
    zoo = Zoo(rng, llama_shapes(layers) if llama else shapes_for(rng, layers, big=rng.random() < 0.6))
    count = model_count(rng, method)
    values = [zoo.base] + zoo.experts(count)
    if method in ("slerp", "karcher", "multislerp", "arcee_fusion") and rng.random() < 0.5:
        values[-1] = zoo.far()
    stored = [store(v, dtype_picker(rng, inputs, i), layers, int(rng.integers(1, 4))) for i, v in enumerate(values)]
    models = {f"models/{'base' if i == 0 else 'expert' + str(i)}": m for i, m in enumerate(stored)}
    references = list(models)
    base_use = METHODS[method]["base"]
    recipe = {"merge_method": method}
    with_base = base_use in ("required", "member") or base_use in ("optional", "ordinary") and rng.random() < 0.5
    if with_base:
        recipe["base_model"] = references[0]
    entries = [{"model": r, "parameters": own_parameters(rng, method, i == 0)} for i, r in enumerate(references[1:])]
    if base_use == "member" or with_base and rng.random() < 0.4:
        place = int(rng.integers(len(entries) + 1))
        entries.insert(place, {"model": references[0], "parameters": {}})
    recipe["models"] = [e if e["parameters"] else {"model": e["model"]} for e in entries]
    shared = shared_parameters(rng, method)
    # defaults for all models, which models without their own value and tensors that no filter names fall through to
    for name, default in METHODS[method]["per_model"].items():
        if rng.random() < 0.3 and name in ("weight", "gamma", "scale"):
            shared[name] = setting(rng, lambda: dyadic(rng, 0.25, 1) if name == "weight" else 0.125)
    if shared:
        recipe["parameters"] = shared
    if output and rng.random() < 0.5:
        recipe["dtype"] = output
    elif output:
        recipe["dtype"] = "float32"
        recipe["out_dtype"] = output
    case = Case(f"{method}-{seed}-{index}", recipe, models, seed=int(rng.integers(0, 1 << 62)) if flag(rng) else 0)
    case.toml = bool(rng.random() < 0.3)
    sparsifier = FAMILY.get(method, (None,))[0]
    if sparsifier in ("random", "rows") and rng.random() < 0.3:
        case.paper = True
    return case
