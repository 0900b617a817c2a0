"""A recipe (the dictionary a mergekit YAML reads as) and its models -> every tensor of the output, by the oracle.

Names, filters, gradients, precedence and missing tensors as the recipe reference describes them; written apart from
amalgam's own resolver.
"""

from dataclasses import dataclass

import numpy as np

import oracle
from oracle import Context, Input, MergeError, Merged
from safetensors_io import COMPUTED, FROM_CONFIG, Tensor

REQUIRED = object()


def _family(normalize, rescale, **more):
    return {
        "base": "required",
        "per_model": {"weight": REQUIRED, "density": 1.0, **more},
        "shared": {"lambda": 1.0, "normalize": normalize, "rescale": rescale},
    }


METHODS = {
    "linear": {"base": "none", "per_model": {"weight": REQUIRED}, "shared": {"normalize": True}},
    "slerp": {"base": "member", "per_model": {}, "shared": {"t": REQUIRED}},
    "nuslerp": {
        "base": "optional",
        "per_model": {"weight": REQUIRED},
        "shared": {"nuslerp_flatten": True, "nuslerp_row_wise": False},
    },
    "multislerp": {
        "base": "optional",
        "per_model": {"weight": REQUIRED},
        "shared": {"normalize_weights": True, "eps": 1e-8},
    },
    "karcher": {"base": "ordinary", "per_model": {}, "shared": {"max_iter": 10, "tol": 1e-5}},
    "model_stock": {"base": "required", "per_model": {}, "shared": {"filter_wise": False}},
    "task_arithmetic": _family(False, False),
    "ties": _family(True, False),
    "dare_linear": _family(False, True),
    "dare_ties": _family(False, True),
    "breadcrumbs": _family(False, False, gamma=0.01),
    "breadcrumbs_ties": _family(False, False, gamma=0.01),
    "della_linear": _family(False, True, epsilon=0.15),
    "della": _family(True, True, epsilon=0.15),
    "nearswap": {"base": "member", "per_model": {}, "shared": {"t": REQUIRED}},
    "sce": {"base": "required", "per_model": {}, "shared": {"select_topk": 1.0}},
    "ram": {"base": "required", "per_model": {}, "shared": {"epsilon": 1e-5}},
    "ramplus_tl": {"base": "required", "per_model": {}, "shared": {"epsilon": 1e-5, "r": 0.1, "alpha": 0.2}},
    "arcee_fusion": {"base": "member", "per_model": {}, "shared": {}},
    "passthrough": {"base": "none", "per_model": {"scale": None}, "shared": {}},
}
CUTS_TO_COMMON_ROWS = ("linear", "slerp", "nuslerp", "model_stock", "arcee_fusion")


# ---- parameters ----


def gradient(values, t):
    at = t * (len(values) - 1)
    i = int(at)
    j = min(i + 1, len(values) - 1)
    return (1 - (at - i)) * values[i] + (at - i) * values[j]


def evaluate(setting, tensor, t):
    """Value for one tensor, None if no filter fits."""
    if isinstance(setting, list) and any(isinstance(entry, dict) for entry in setting):
        for entry in setting:
            wanted = entry.get("filter")
            if wanted in (None, "*") or wanted in tensor:
                return evaluate(entry["value"], tensor, t)
        return None
    return float(gradient(setting, t)) if isinstance(setting, list) else float(setting)


def parameter(name, default, levels, tensor, t):
    for level in levels:
        if level and name in level:
            value = evaluate(level[name], tensor, t)
            if value is not None:
                return value
    if default is REQUIRED:
        raise MergeError(f"{name} is missing for {tensor}")
    return default


# ---- names ----


def layer_of(name):
    """(prefix, number, rest), number None for tensors of no layer"""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[:i]), int(part), ".".join(parts[i + 1 :])
    return "", None, name


def depth(models, tower):
    numbers = {layer_of(name)[1] for model in models for name in model if layer_of(name)[0] == tower}
    return max((n for n in numbers if n is not None), default=-1) + 1


def with_layer(name, number):
    tower, old, rest = layer_of(name)
    return name if old is None else ".".join(p for p in (tower, str(number), rest) if p)


def find(model, reference, name):
    """The tensor called `name`, or the embedding for the head of a tied model."""
    if name in model:
        return model[name]
    if name == "lm_head.weight" and "model.embed_tokens.weight" in model:
        return model["model.embed_tokens.weight"]
    raise MergeError(f"{reference} has no {name}")


@dataclass
class Source:
    reference: str
    position: int
    parameters: dict
    name: str  # of the tensor in that model


@dataclass
class Task:
    name: str
    t: float
    sources: list
    base: str  # reference or None
    levels: list  # of parameters, above the model's own


def tasks_of(recipe, models):
    """Which tensors the output has and what each is made of."""
    top = recipe.get("parameters")
    if recipe.get("models"):
        return _tasks_of_models(recipe, models, top)
    tasks, offset = [], 0
    slices = recipe["slices"]
    for entry in slices:
        sources = entry["sources"]
        first, last = sources[0]["layer_range"]
        base = entry.get("base_model") or recipe.get("base_model")
        names = [n for n in models[sources[0]["model"]] if layer_of(n)[1] is not None]
        for step in range(last - first):
            t = step / (last - first - 1) if last - first > 1 else 1.0
            for name in names:
                if layer_of(name)[1] != first + step:
                    continue
                parts = [
                    Source(s["model"], i, s.get("parameters"), with_layer(name, s["layer_range"][0] + step))
                    for i, s in enumerate(sources)
                ]
                tasks.append(Task(with_layer(name, offset + step), t, parts, base, [entry.get("parameters"), top]))
        offset += last - first
    for entry, is_mine in ((slices[0], lambda n: "embed" in n), (slices[-1], lambda n: "embed" not in n)):
        references = [s["model"] for s in entry["sources"]]
        names = dict.fromkeys(n for r in references for n in models[r] if layer_of(n)[1] is None and is_mine(n))
        for name in names:
            parts = [Source(s["model"], i, s.get("parameters"), name) for i, s in enumerate(entry["sources"])]
            tasks.append(
                Task(
                    name,
                    0.0,
                    parts,
                    entry.get("base_model") or recipe.get("base_model"),
                    [entry.get("parameters"), top],
                )
            )
    return tasks


def _tasks_of_models(recipe, models, top):
    base = recipe.get("base_model")
    entries = [(m["model"], i, m.get("parameters")) for i, m in enumerate(recipe["models"])]
    taking_part = [models[r] for r, _, _ in entries]
    if base is not None and METHODS[recipe["merge_method"]]["base"] != "none":
        taking_part.append(models[base])
        if METHODS[recipe["merge_method"]]["base"] in ("ordinary", "member") and base not in [r for r, _, _ in entries]:
            entries.append((base, len(entries), None))
    tasks = []
    for name in dict.fromkeys(n for model in taking_part for n in model):
        tower, number, _ = layer_of(name)
        layers = depth(taking_part, tower)
        t = 0.0 if number is None else number / (layers - 1) if layers > 1 else 1.0
        tasks.append(Task(name, t, [Source(r, i, p, name) for r, i, p in entries], base, [top]))
    return tasks


# ---- one output tensor ----


def gather(recipe, task, models, skip_on_mismatch=False):
    """-> base Tensor or None, [(Source, Tensor, fields)], shared options"""
    method = METHODS[recipe["merge_method"]]
    options = {k: parameter(k, d, task.levels, task.name, task.t) for k, d in method["shared"].items()}
    base, inputs = None, []
    if method["base"] in ("required", "optional", "member") and task.base is not None:
        in_base = [s.name for s in task.sources if s.reference == task.base]
        base = find(models[task.base], task.base, in_base[0] if in_base else task.name)
    if base is None and method["base"] in ("required", "member"):
        raise MergeError("no base model")
    for source in task.sources:
        if base is not None and source.reference == task.base:
            continue
        tensor = find(models[source.reference], source.reference, source.name)
        levels = [source.parameters] + task.levels
        fields = {k: parameter(k, d, levels, source.name, task.t) for k, d in method["per_model"].items()}
        inputs.append((source, tensor, fields))
    return fit_shapes(recipe["merge_method"], task.name, base, inputs, skip_on_mismatch) + (options,)


def fit_shapes(method, name, base, inputs, skip):
    shapes = {t.shape for _, t, _ in inputs} | ({base.shape} if base is not None else set())
    if len(shapes) == 1:
        return base, inputs
    first = next(iter(shapes))
    if all(len(s) == 2 and s[1:] == first[1:] for s in shapes) and ("embed" in name or "lm_head" in name):
        if method in CUTS_TO_COMMON_ROWS:
            rows = min(s[0] for s in shapes)
        elif method in oracle.FAMILY and base.shape[0] == min(s[0] for s in shapes):
            rows = base.shape[0]
        else:
            raise MergeError(f"{name}: rows differ")
        cut = lambda tensor: Tensor(tensor.dtype, tensor.bits[:rows])
        return base if base is None else cut(base), [(s, cut(t), f) for s, t, f in inputs]
    if skip and base is not None:
        return base, [part for part in inputs if part[1].shape == base.shape]
    raise MergeError(f"{name}: shapes differ")


@dataclass
class Expected:
    dtype: str
    merged: Merged = None  # None: exactly `copy`
    copy: Tensor = None
    wide: bool = False


def expected_output(recipe, models, paper=False, seed=0, skip_on_mismatch=False):
    """name -> Expected. `models`: reference -> {tensor name: Tensor}. Raises MergeError for what must be refused."""
    method = recipe["merge_method"]
    gathered, bases = {}, {}
    for task in tasks_of(recipe, models):
        bases[task.name] = task.base
        gathered[task.name] = gather(recipe, task, models, skip_on_mismatch)
    bands = whole_model_bands(method, gathered) if paper else {}
    wanted = recipe.get("out_dtype") or recipe.get("dtype")
    output = {}
    for name, (base, inputs, options) in gathered.items():
        listed = [t for s, t, _ in inputs if s.reference == bases[name]]
        donor = base if base is not None else (listed or [inputs[0][1]])[0]
        if donor.dtype not in COMPUTED:
            everyone = [t for _, t, _ in inputs]
            if any(t.dtype != donor.dtype or not np.array_equal(t.bits, donor.bits) for t in everyone):
                raise MergeError(f"{name}: integers disagree")
            output[name] = Expected(donor.dtype, copy=donor)
            continue
        dtype = FROM_CONFIG[wanted] if wanted else donor.dtype
        wide = any(t.dtype == "F64" for t in [t for _, t, _ in inputs] + ([] if base is None else [base]))
        if method == "passthrough" and inputs[0][2]["scale"] is None and dtype == inputs[0][1].dtype:
            output[name] = Expected(dtype, copy=inputs[0][1])
            continue
        parts = [Input(t.values, s.position, f, bands.get((s.reference, s.position))) for s, t, f in inputs]
        base_values = None if base is None else base.values
        if not parts:
            output[name] = Expected(dtype, Merged(base_values, np.abs(base_values)), wide=wide)
            continue
        context = Context(name, options, wide, paper, seed)
        output[name] = Expected(dtype, oracle.merge(method, base_values, parts, context), wide=wide)
    return output


def whole_model_bands(method, gathered):
    """compat "paper": the trim of each model over all its task vectors at once"""
    if oracle.FAMILY.get(method, (None,))[0] not in ("largest", "band"):
        return {}
    deltas, fields = {}, {}
    for base, inputs, _ in gathered.values():
        if base.dtype not in COMPUTED:
            continue
        wide = "F64" in [base.dtype] + [t.dtype for _, t, _ in inputs]
        for source, tensor, own in inputs:
            key = source.reference, source.position
            deltas.setdefault(key, []).append(oracle.delta(tensor.values, base.values, wide))
            fields[key] = own
    return {
        key: oracle.whole_model_band(parts, fields[key]["density"], fields[key].get("gamma", 0.0))
        for key, parts in deltas.items()
    }
