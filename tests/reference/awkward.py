"""Cases worth freezing: what goes wrong at the edges of recipes, shapes and values."""
import numpy as np

from cases import Case, Zoo, config, layer_shapes, llama_shapes, opposite, shapes_for, store, with_integers
from cases import HIDDEN, ODD_SHAPES, VOCABULARY, Model
from oracle import FAMILY
from safetensors_io import encode

ELECTING = [m for m, (_, elects) in FAMILY.items() if elects]


def entry(reference, **parameters):
    parameters = {k.rstrip("_"): v for k, v in parameters.items()}
    return {"model": reference, "parameters": parameters} if parameters else {"model": reference}


def recipe(method, entries, base="base", **more):
    made = {"merge_method": method, **({"base_model": base} if base else {}), "models": entries}
    parameters = more.pop("parameters", None)
    made.update(more)
    if parameters:
        made["parameters"] = parameters
    return made


class Builder:
    """base, a, b, c: three layers, odd shapes, float32 unless said otherwise"""

    def __init__(self, seed):
        self.rng = np.random.default_rng([seed, 77])
        self.zoo = Zoo(self.rng, shapes_for(self.rng))
        self.values = dict(zip(("base", "a", "b", "c"), [self.zoo.base] + self.zoo.experts(3)))
        self.small = Zoo(self.rng, llama_shapes(3))
        self.small_values = dict(zip(("base", "a", "b", "c"), [self.small.base] + self.small.experts(3)))

    def models(self, names="base a b", dtype="F32", **changed):
        """stored models; `changed` replaces or adds values by name"""
        values = {**self.values, **changed}
        return {n: store(values[n], dtype, 3) for n in [*names.split(), *changed]}

    def small_models(self, names="base a b", dtype="F32", layers=3, **changed):
        values = {**self.small_values, **changed}
        return {n: store(values[n], dtype, layers) for n in [*names.split(), *changed]}


def weights_and_densities(b):
    ties = lambda *e, **more: recipe("ties", list(e), **more)
    yield Case("zero-weight", ties(entry("a", weight=0, density=0.5), entry("b", weight=1, density=0.5)), b.models())
    yield Case("all-weights-zero", ties(entry("a", weight=0), entry("b", weight=0)), b.models())
    yield Case("zero-weight-linear", recipe("linear", [entry("a", weight=0), entry("b", weight=1)], None), b.models())
    for method in FAMILY:
        normalised = {"normalize": True}
        density = {} if method == "task_arithmetic" else {"density": 0.5}
        yield Case(f"weights-sum-to-zero-{method}", recipe(method, [entry("a", weight=0.5, **density),
                   entry("b", weight=-0.5, **density)], parameters=normalised), b.models())
        if method != "task_arithmetic" and not method.startswith("della"):
            yield Case(f"nothing-kept-{method}", recipe(method, [entry("a", weight=1, density=0.0005),
                       entry("b", weight=1, density=0)]), b.models())
    yield Case("analogy", recipe("task_arithmetic", [entry("a", weight=1), entry("b", weight=-1), entry("c", weight=1)]),
               b.models("base a b c"))
    yield Case("negative-weights-linear", recipe("linear", [entry("a", weight=1.5), entry("b", weight=-0.5)], None), b.models())
    for method in ("breadcrumbs", "breadcrumbs_ties"):
        yield Case(f"no-outliers-{method}", recipe(method, [entry("a", weight=1, density=0.3, gamma=0)]), b.models("base a"))
        yield Case(f"more-outliers-than-room-{method}",
                   recipe(method, [entry("a", weight=1, density=0.9, gamma=0.3)]), b.models("base a"))
        yield Case(f"full-density-{method}", recipe(method, [entry("a", weight=1, density=1, gamma=0.3)],
                   parameters={"rescale": True}), b.models("base a"))
    yield Case("rescaled-trim", recipe("ties", [entry("a", weight=1, density=0.2), entry("b", weight=0.5, density=0.4)],
               parameters={"rescale": True}), b.models())
    yield Case("one-model-ties", recipe("ties", [entry("a", weight=0.5, density=0.4)]), b.models("base a"))
    yield Case("one-model-multislerp", recipe("multislerp", [entry("a", weight=0.5)], None), b.models("a"))
    yield Case("one-model-multislerp-and-base", recipe("multislerp", [entry("a", weight=0.5)]), b.models("base a"))
    yield Case("one-model-karcher", recipe("karcher", [entry("a")], None), b.models("a"))
    for n in (0, 1):
        yield Case(f"slerp-end-{n}", recipe("slerp", [entry("base"), entry("a")], parameters={"t": n}), b.models("base a"))


def cancelling(b):
    coarse = dict(zip(("base", "a", "b"), b.zoo.coarse(2)))
    coarse["anti"] = opposite(coarse["base"], coarse["a"])
    models = lambda: b.models("", **coarse)
    for method in FAMILY:
        density = {} if method == "task_arithmetic" else {"density": 0.5}
        if method.startswith("dare") or method.startswith("della"):
            density = {"density": 1}
        yield Case(f"cancelling-{method}", recipe(method, [entry("a", weight=1, **density), entry("anti", weight=1, **density),
                   entry("b", weight=0.25, **density)]), models())
    pair = [entry("a", weight=1), entry("anti", weight=1)]
    yield Case("cancelling-pair-ties", recipe("ties", pair), models())
    yield Case("cancelling-pair-multislerp", recipe("multislerp", pair), models())
    for flatten in (True, False):
        yield Case(f"opposite-nuslerp-{flatten}", recipe("nuslerp", pair, parameters={"nuslerp_flatten": flatten}), models())
    yield Case("opposite-model-stock", recipe("model_stock", [entry("a"), entry("anti")]), models())
    yield Case("opposite-slerp", recipe("slerp", [entry("base"), entry("minus")], parameters={"t": 0.25}),
               b.models("", base=coarse["a"], minus={k: -v for k, v in coarse["a"].items()}))
    yield Case("equal-models-nuslerp", recipe("nuslerp", [entry("a", weight=1), entry("twin", weight=3)], None),
               b.models("a", twin=b.values["a"]))
    yield Case("equal-models-sce", recipe("sce", [entry("a"), entry("twin")], parameters={"select_topk": 0.5}),
               b.models("base a", twin=b.values["a"]))
    yield Case("equal-models-arcee", recipe("arcee_fusion", [entry("base"), entry("twin")]), b.models("base", twin=b.values["base"]))
    zeros = {k: np.zeros(v.shape) for k, v in b.values["a"].items()}
    for method, entries, more in (("slerp", [entry("base"), entry("zero")], {"t": 0.5}), ("karcher", [entry("base"), entry("zero")], {}),
                                  ("nuslerp", [entry("a", weight=1), entry("zero", weight=1)], {})):
        yield Case(f"zero-model-{method}", recipe(method, entries, None if method == "nuslerp" else "base", parameters=more),
                   b.models("base a", zero=zeros))
    yield Case("all-zero-karcher", recipe("karcher", [entry("zero"), entry("nought")], None),
               b.models("", zero=zeros, nought=zeros))
    for method in ("ties", "dare_ties", "dare_linear", "sce", "ram", "breadcrumbs", "model_stock"):
        own = {"weight": 1, "density": 0.5} if method in FAMILY else {}
        yield Case(f"no-change-{method}", recipe(method, [entry("same", **own), entry("twin", **own)]),
                   b.models("base", same=b.values["base"], twin=b.values["base"]))


def equal_magnitudes(b):
    """deltas of few magnitudes: the flat index decides, also across rows, blocks and ranks"""
    coarse = dict(zip(("base", "a", "b"), b.zoo.coarse(2)))
    for method in ("ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "sce"):
        own = {"weight": 1, "density": 0.35} if method in FAMILY else {}
        for dtype in ("BF16", "F32"):
            yield Case(f"equal-magnitudes-{method}-{dtype}", recipe(method, [entry("a", **own), entry("b", **own)],
                       dtype="float32", parameters=None if own else {"select_topk": 0.35}), b.models("", dtype, **coarse))
    constant = {k: v + 2.0**-8 for k, v in coarse["base"].items()}
    for density in (0.1, 0.5, 0.999):
        yield Case(f"one-magnitude-ties-{density}", recipe("ties", [entry("shifted", weight=1, density=density)]),
                   b.models("", base=coarse["base"], shifted=constant))
    twice = [entry("a", weight=0.5, density=0.3), entry("a", weight=1, density=0.6)]
    for method in ("ties", "dare_ties", "linear", "ram"):
        entries = twice if method in FAMILY else [entry("a", weight=1), entry("a", weight=2), entry("b", weight=1)]
        if method == "ram":
            entries = [entry("a"), entry("a"), entry("b")]
        yield Case(f"same-model-twice-{method}", recipe(method, entries, None if method == "linear" else "base"), b.models())


def paper_rules(b):
    for method in ("ties", "breadcrumbs", "breadcrumbs_ties"):
        for density in (0.1, 0.5, 1):
            yield Case(f"paper-{method}-{density}", recipe(method, [entry("a", weight=1, density=density),
                       entry("b", weight=-0.5, density=0.3)]), b.models(), paper=True)
        yield Case(f"paper-nothing-kept-{method}", recipe(method, [entry("a", weight=1, density=0)]), b.models("base a"), paper=True)
        coarse = dict(zip(("base", "a", "b"), b.zoo.coarse(2)))
        yield Case(f"paper-equal-magnitudes-{method}", recipe(method, [entry("a", weight=1, density=0.2),
                   entry("b", weight=1, density=0.6)]), b.models("", "BF16", **coarse), paper=True)
    for method in ("dare_linear", "dare_ties", "della", "della_linear"):
        yield Case(f"paper-{method}", recipe(method, [entry("a", weight=1, density=0.3), entry("b", weight=0.5, density=0.6)]),
                   b.models(), paper=True, seed=2**63 - 5)
        yield Case(f"not-rescaled-{method}", recipe(method, [entry("a", weight=1, density=0.3)], parameters={"rescale": False}),
                   b.models("base a"), seed=12)


def layers_and_filters(b):
    gradient = [0.0, 0.5, 1.0]
    yield Case("gradient-per-tower", recipe("linear", [entry("a", weight=gradient), entry("b", weight=[1.0, 0.25])], None), b.models())
    yield Case("filters-fall-through", recipe("ties", [
        entry("a", weight=[{"filter": "q_proj", "value": 0.25}, {"filter": "layers.1", "value": [0.1, 0.9]}], density=0.5),
        entry("b", density=[{"filter": "norm", "value": 1.0}])],
        parameters={"weight": [{"filter": "down_proj", "value": [2, 1]}, {"value": 0.75}], "density": 0.4,
                    "lambda": [{"filter": "embed", "value": 0.5}]}), b.models())
    many = Zoo(b.rng, llama_shapes(12))
    values = [many.base] + many.experts(2)
    models = {n: store(v, "F32", 12) for n, v in zip(("base", "a", "b"), values)}
    yield Case("twelve-layers", recipe("dare_ties", [entry("a", weight=[0, 1], density=[0.1, 0.9]), entry("b", weight=0.5)]), models)
    yield Case("filter-layers-1-fits-layers-10", recipe("linear", [
        entry("a", weight=[{"filter": "layers.1", "value": 0.9}, {"value": 0.2}]), entry("b", weight=0.5)], None), models)
    single = Zoo(b.rng, llama_shapes(1))
    one = {n: store(v, "F32", 1) for n, v in zip(("base", "a"), [single.base] + single.experts(1))}
    yield Case("single-layer-gradient", recipe("slerp", [entry("base"), entry("a")], parameters={"t": [0.1, 0.2, 0.8]}), one)
    yield from slices(b)


def sliced(method, slices, base=None, **more):
    return {"merge_method": method, **({"base_model": base} if base else {}), "slices": slices, **more}


def source(model, first, last, **parameters):
    return {"model": model, "layer_range": [first, last], **({"parameters": parameters} if parameters else {})}


def slices(b):
    deep_zoo = Zoo(b.rng, llama_shapes(5))
    deep = store(deep_zoo.base, "F32", 5)
    stack = [{"sources": [source("deep", 0, 3)]}, {"sources": [source("deep", 1, 5)]}, {"sources": [source("a", 2, 3)]}]
    yield Case("stacking-with-repeats", sliced("passthrough", stack), {"deep": deep, **b.small_models("a")})
    yield Case("stacking-to-bfloat16", sliced("passthrough", stack, dtype="bfloat16"), {"deep": deep, **b.small_models("a")})
    scaled = {"scale": [{"filter": "o_proj", "value": 0}, {"filter": "down_proj", "value": 0.5}, {"value": 1.0}]}
    yield Case("stacking-scaled", sliced("passthrough", stack[:2], parameters=scaled), {"deep": deep})
    yield Case("slices-with-bases", sliced("ties", [
        {"sources": [source("base", 0, 2), source("a", 0, 2, weight=1, density=0.5), source("b", 1, 3, weight=0.5)]},
        {"base_model": "c", "sources": [source("c", 0, 1), source("a", 2, 3, weight=[0.1, 0.7])], "parameters": {"density": 0.3}}],
        "base"), b.small_models("base a b c"))
    yield Case("single-layer-slices", sliced("slerp", [
        {"sources": [source("base", i, i + 1), source("a", 2 - i, 3 - i)]} for i in range(3)], "base",
        parameters={"t": [0.2, 0.9]}), b.small_models("base a"))
    yield Case("slices-of-random-masks", sliced("dare_linear", [
        {"sources": [source("a", i, i + 1, weight=1, density=0.5), source("base", i, i + 1)]} for i in (2, 2, 0)], "base"),
        b.small_models("base a"), seed=99)
    yield Case("slices-level-parameters", sliced("linear", [
        {"sources": [source("a", 0, 2, weight=[0.25, 0.5]), source("b", 0, 2)], "parameters": {"weight": [1, 0.5]}},
        {"sources": [source("b", 0, 3), source("c", 0, 3)], "parameters": {"normalize": False}}],
        parameters={"weight": 0.75}), b.small_models("a b c"))


def heads_and_vocabularies(b):
    rng = b.rng
    tied = lambda name: {k: v for k, v in b.small_values[name].items() if k != "lm_head.weight"}
    tied_model = lambda name: store(tied(name), "F32", 3, tied=True)
    yield Case("one-tied-linear", recipe("linear", [entry("a", weight=1), entry("b", weight=0.5)], None),
               {**b.small_models("a"), "b": tied_model("b")})
    yield Case("tied-base-ties", recipe("ties", [entry("a", weight=1, density=0.5), entry("b", weight=0.5)]),
               {"base": tied_model("base"), "a": tied_model("a"), **b.small_models("b")})
    yield Case("one-tied-model-stock", recipe("model_stock", [entry("a"), entry("b")]),
               {**b.small_models("base a"), "b": tied_model("b")})
    yield Case("all-tied", recipe("ties", [entry("a", weight=1, density=0.5)]), {"base": tied_model("base"), "a": tied_model("a")})

    def rows(name, count):
        extra = lambda v: np.concatenate([v, rng.standard_normal((max(0, count - len(v)), HIDDEN)) * 0.05])[:count]
        values = {k: extra(v) if k in ("model.embed_tokens.weight", "lm_head.weight") else v for k, v in b.small_values[name].items()}
        return store(values, "F32", 3, vocabulary=count)

    longer = {**b.small_models("base b"), "a": rows("a", VOCABULARY + 9)}
    yield Case("longer-vocabulary-ties", recipe("ties", [entry("a", weight=1, density=0.3), entry("b", weight=1, density=0.6)]),
               longer, warns="embed_tokens")
    yield Case("longer-vocabulary-dare", recipe("dare_linear", [entry("a", weight=1, density=0.3)]), longer, warns="embed_tokens")
    yield Case("vocabularies-linear", recipe("linear", [entry("a", weight=1), entry("b", weight=1)], None),
               {"a": rows("a", VOCABULARY + 9), "b": rows("b", VOCABULARY - 2)}, warns="embed_tokens")
    yield Case("vocabularies-slerp", recipe("slerp", [entry("base"), entry("a")], parameters={"t": 0.4}),
               {**b.small_models("base"), "a": rows("a", VOCABULARY - 3)}, warns="embed_tokens")
    yield Case("vocabularies-model-stock", recipe("model_stock", [entry("a"), entry("b")]),
               {**b.small_models("base b"), "a": rows("a", VOCABULARY + 1)}, warns="embed_tokens")


def values_and_types(b):
    rng = b.rng
    with_extra = lambda models: {n: Model(with_integers(m.tensors, np.random.default_rng(5)), m.config) for n, m in models.items()}
    yield Case("integers-ties", recipe("ties", [entry("a", weight=1, density=0.5)]), with_extra(b.small_models("base a")))
    yield Case("integers-linear", recipe("linear", [entry("a", weight=1), entry("b", weight=1)], None, dtype="bfloat16"),
               with_extra(b.small_models("a b")))
    yield Case("integers-passthrough", recipe("passthrough", [entry("a", scale=2)], None), with_extra(b.small_models("a")))

    def spoilt(values, *marks):
        out = {k: v.copy() for k, v in values.items()}
        for name, index, value in marks:
            out[name].reshape(-1)[index] = value
        return out

    q, norm = "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"
    nan_a = spoilt(b.small_values["a"], (q, 7, np.nan), (norm, 3, np.nan))
    nan_base = spoilt(b.small_values["base"], (q, 100, np.nan))
    inf_a = spoilt(b.small_values["a"], (q, 9, np.inf), (q, 200, -np.inf), (norm, 0, np.inf))
    for method in ("linear", "task_arithmetic", "ties", "dare_linear", "breadcrumbs", "nearswap", "ram"):
        own = {"weight": 1} if method in FAMILY or method == "linear" else {}
        if method == "ties":
            own["density"] = 0.5
        if method == "dare_linear":
            own["density"] = 0.7
        entries = [entry("bad", **own), entry("b", **own)]
        more = {}
        if method == "nearswap":
            entries, more = [entry("base"), entry("bad")], {"parameters": {"t": 0.01}}
        base = None if method == "linear" else "base"
        yield Case(f"nan-{method}", recipe(method, entries, base, **more), b.small_models("base b", bad=nan_a), warns=q)
        if method in ("linear", "task_arithmetic"):
            yield Case(f"infinity-{method}", recipe(method, entries, base, **more), b.small_models("base b", bad=inf_a), warns=q)
        if base and method != "nearswap":
            yield Case(f"nan-in-base-{method}", recipe(method, [entry("a", **own), entry("b", **own)], base, **more),
                       b.small_models("a b", base=nan_base), warns=q)
    for dtype, factor in (("float8_e4m3fn", 3e4), ("float8_e5m2", 4e6), ("float16", 3e6), ("bfloat16", 1e39)):
        large = {k: v * factor for k, v in b.small_values["a"].items()}
        yield Case(f"overflow-{dtype}", recipe("linear", [entry("large", weight=1), entry("b", weight=1)], None, out_dtype=dtype),
                   b.small_models("b", "F64", large=large))
    tiny = {k: v * 1e-6 for k, v in b.small_values["a"].items()}
    for dtype in ("float8_e4m3fn", "float8_e5m2", "float16"):
        yield Case(f"underflow-{dtype}", recipe("linear", [entry("tiny", weight=1), entry("large", weight=1)], None, out_dtype=dtype),
                   b.small_models("", tiny=tiny, large={k: v * 1e-2 for k, v in b.small_values["a"].items()}))
    yield Case("base-of-linear-not-listed", recipe("linear", [entry("a", weight=1), entry("b", weight=0.5)]), b.small_models(), warns="base")
    odd = Zoo(rng, {**ODD_SHAPES, **layer_shapes(0)})
    models = {n: Model({k: encode("F32", v) for k, v in values.items()}, config(1, "F32"))
              for n, values in zip(("base", "a", "b"), [odd.base] + odd.experts(2))}
    for method in ("linear", "ties", "della", "model_stock", "sce", "karcher"):
        own = {"weight": 1, "density": 0.5} if method in ("ties", "della") else {"weight": 1} if method == "linear" else {}
        yield Case(f"odd-shapes-{method}", recipe(method, [entry("a", **own), entry("b", **own)],
                   None if method in ("linear", "karcher") else "base"), models)
    yield Case("mismatch-skipped", recipe("ties", [entry("a", weight=1, density=0.5), entry("wide", weight=1)]),
               {**b.small_models("base a"), "wide": store({**b.small_values["b"], q: rng.standard_normal((HIDDEN, HIDDEN + 1))}, "F32", 3)},
               arguments=["--on-mismatch", "skip"], skip_on_mismatch=True, warns=q)
    shards = b.small_models("base a")
    shards["a"].shards, shards["base"].shards = 4, 2
    yield Case("sharded", recipe("ties", [entry("a", weight=1, density=0.5)]), shards, arguments=["--shard-size", "4kB"])


def awkward_cases(seed):
    for group in (weights_and_densities, cancelling, equal_magnitudes, paper_rules, layers_and_filters, heads_and_vocabularies,
                  values_and_types):
        yield from group(Builder(seed))
