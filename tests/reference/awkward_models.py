"""Cases worth freezing, part two: layers, slices, vocabularies, types, values that are no numbers."""

import numpy as np

from builder import entry, recipe, sliced, source
from cases import (
    HIDDEN,
    ODD_SHAPES,
    VOCABULARY,
    Case,
    Model,
    Zoo,
    config,
    layer_shapes,
    llama_shapes,
    store,
    with_integers,
)
from oracle import FAMILY
from safetensors_io import encode


def layers_and_filters(b):
    gradient = [0.0, 0.5, 1.0]
    yield Case(
        "gradient-per-tower",
        recipe("linear", [entry("a", weight=gradient), entry("b", weight=[1.0, 0.25])], None),
        b.models(),
    )
    yield Case(
        "filters-fall-through",
        recipe(
            "ties",
            [
                entry(
                    "a",
                    weight=[{"filter": "q_proj", "value": 0.25}, {"filter": "layers.1", "value": [0.1, 0.9]}],
                    density=0.5,
                ),
                entry("b", density=[{"filter": "norm", "value": 1.0}]),
            ],
            parameters={
                "weight": [{"filter": "down_proj", "value": [2, 1]}, {"value": 0.75}],
                "density": 0.4,
                "lambda": [{"filter": "embed", "value": 0.5}],
            },
        ),
        b.models(),
    )
    many = Zoo(b.rng, llama_shapes(12))
    values = [many.base] + many.experts(2)
    models = {n: store(v, "F32", 12) for n, v in zip(("base", "a", "b"), values)}
    yield Case(
        "twelve-layers",
        recipe("dare_ties", [entry("a", weight=[0, 1], density=[0.1, 0.9]), entry("b", weight=0.5)]),
        models,
    )
    yield Case(
        "filter-layers-1-fits-layers-10",
        recipe(
            "linear",
            [entry("a", weight=[{"filter": "layers.1", "value": 0.9}, {"value": 0.2}]), entry("b", weight=0.5)],
            None,
        ),
        models,
    )
    single = Zoo(b.rng, llama_shapes(1))
    one = {n: store(v, "F32", 1) for n, v in zip(("base", "a"), [single.base] + single.experts(1))}
    yield Case(
        "single-layer-gradient", recipe("slerp", [entry("base"), entry("a")], parameters={"t": [0.1, 0.2, 0.8]}), one
    )
    yield from slices(b)


def slices(b):
    deep_zoo = Zoo(b.rng, llama_shapes(5))
    deep = store(deep_zoo.base, "F32", 5)
    stack = [{"sources": [source("deep", 0, 3)]}, {"sources": [source("deep", 1, 5)]}, {"sources": [source("a", 2, 3)]}]
    yield Case("stacking-with-repeats", sliced("passthrough", stack), {"deep": deep, **b.small_models("a")})
    yield Case(
        "stacking-to-bfloat16", sliced("passthrough", stack, dtype="bfloat16"), {"deep": deep, **b.small_models("a")}
    )
    scaled = {"scale": [{"filter": "o_proj", "value": 0}, {"filter": "down_proj", "value": 0.5}, {"value": 1.0}]}
    yield Case("stacking-scaled", sliced("passthrough", stack[:2], parameters=scaled), {"deep": deep})
    yield Case(
        "slices-with-bases",
        sliced(
            "ties",
            [
                {
                    "sources": [
                        source("base", 0, 2),
                        source("a", 0, 2, weight=1, density=0.5),
                        source("b", 1, 3, weight=0.5),
                    ]
                },
                {
                    "base_model": "c",
                    "sources": [source("c", 0, 1), source("a", 2, 3, weight=[0.1, 0.7])],
                    "parameters": {"density": 0.3},
                },
            ],
            "base",
        ),
        b.small_models("base a b c"),
    )
    yield Case(
        "single-layer-slices",
        sliced(
            "slerp",
            [{"sources": [source("base", i, i + 1), source("a", 2 - i, 3 - i)]} for i in range(3)],
            "base",
            parameters={"t": [0.2, 0.9]},
        ),
        b.small_models("base a"),
    )
    yield Case(
        "slices-of-random-masks",
        sliced(
            "dare_linear",
            [{"sources": [source("a", i, i + 1, weight=1, density=0.5), source("base", i, i + 1)]} for i in (2, 2, 0)],
            "base",
        ),
        b.small_models("base a"),
        seed=99,
    )
    yield Case(
        "slices-level-parameters",
        sliced(
            "linear",
            [
                {
                    "sources": [source("a", 0, 2, weight=[0.25, 0.5]), source("b", 0, 2)],
                    "parameters": {"weight": [1, 0.5]},
                },
                {"sources": [source("b", 0, 3), source("c", 0, 3)], "parameters": {"normalize": False}},
            ],
            parameters={"weight": 0.75},
        ),
        b.small_models("a b c"),
    )


def heads_and_vocabularies(b):
    rng = b.rng
    tied = lambda name: {k: v for k, v in b.small_values[name].items() if k != "lm_head.weight"}
    tied_model = lambda name: store(tied(name), "F32", 3, tied=True)
    yield Case(
        "one-tied-linear",
        recipe("linear", [entry("a", weight=1), entry("b", weight=0.5)], None),
        {**b.small_models("a"), "b": tied_model("b")},
    )
    yield Case(
        "tied-base-ties",
        recipe("ties", [entry("a", weight=1, density=0.5), entry("b", weight=0.5)]),
        {"base": tied_model("base"), "a": tied_model("a"), **b.small_models("b")},
    )
    yield Case(
        "one-tied-model-stock",
        recipe("model_stock", [entry("a"), entry("b")]),
        {**b.small_models("base a"), "b": tied_model("b")},
    )
    yield Case(
        "all-tied",
        recipe("ties", [entry("a", weight=1, density=0.5)]),
        {"base": tied_model("base"), "a": tied_model("a")},
    )

    def rows(name, count):
        extra = lambda v: np.concatenate([v, rng.standard_normal((max(0, count - len(v)), HIDDEN)) * 0.05])[:count]
        values = {
            k: extra(v) if k in ("model.embed_tokens.weight", "lm_head.weight") else v
            for k, v in b.small_values[name].items()
        }
        return store(values, "F32", 3, vocabulary=count)

    longer = {**b.small_models("base b"), "a": rows("a", VOCABULARY + 9)}
    yield Case(
        "longer-vocabulary-ties",
        recipe("ties", [entry("a", weight=1, density=0.3), entry("b", weight=1, density=0.6)]),
        longer,
        warns="embed_tokens",
    )
    yield Case(
        "longer-vocabulary-dare",
        recipe("dare_linear", [entry("a", weight=1, density=0.3)]),
        longer,
        warns="embed_tokens",
    )
    yield Case(
        "vocabularies-linear",
        recipe("linear", [entry("a", weight=1), entry("b", weight=1)], None),
        {"a": rows("a", VOCABULARY + 9), "b": rows("b", VOCABULARY - 2)},
        warns="embed_tokens",
    )
    yield Case(
        "vocabularies-slerp",
        recipe("slerp", [entry("base"), entry("a")], parameters={"t": 0.4}),
        {**b.small_models("base"), "a": rows("a", VOCABULARY - 3)},
        warns="embed_tokens",
    )
    yield Case(
        "vocabularies-model-stock",
        recipe("model_stock", [entry("a"), entry("b")]),
        {**b.small_models("base b"), "a": rows("a", VOCABULARY + 1)},
        warns="embed_tokens",
    )


def values_and_types(b):
    rng = b.rng
    with_extra = lambda models: {
        n: Model(with_integers(m.tensors, np.random.default_rng(5)), m.config) for n, m in models.items()
    }
    yield Case(
        "integers-ties", recipe("ties", [entry("a", weight=1, density=0.5)]), with_extra(b.small_models("base a"))
    )
    yield Case(
        "integers-linear",
        recipe("linear", [entry("a", weight=1), entry("b", weight=1)], None, dtype="bfloat16"),
        with_extra(b.small_models("a b")),
    )
    yield Case(
        "integers-passthrough", recipe("passthrough", [entry("a", scale=2)], None), with_extra(b.small_models("a"))
    )

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
            yield Case(
                f"infinity-{method}",
                recipe(method, entries, base, **more),
                b.small_models("base b", bad=inf_a),
                warns=q,
            )
        if base and method != "nearswap":
            yield Case(
                f"nan-in-base-{method}",
                recipe(method, [entry("a", **own), entry("b", **own)], base, **more),
                b.small_models("a b", base=nan_base),
                warns=q,
            )
    for dtype, factor in (("float8_e4m3fn", 3e4), ("float8_e5m2", 4e6), ("float16", 3e6), ("bfloat16", 1e39)):
        large = {k: v * factor for k, v in b.small_values["a"].items()}
        yield Case(
            f"overflow-{dtype}",
            recipe("linear", [entry("large", weight=1), entry("b", weight=1)], None, out_dtype=dtype),
            b.small_models("b", "F64", large=large),
        )
    tiny = {k: v * 1e-6 for k, v in b.small_values["a"].items()}
    for dtype in ("float8_e4m3fn", "float8_e5m2", "float16"):
        yield Case(
            f"underflow-{dtype}",
            recipe("linear", [entry("tiny", weight=1), entry("large", weight=1)], None, out_dtype=dtype),
            b.small_models("", tiny=tiny, large={k: v * 1e-2 for k, v in b.small_values["a"].items()}),
        )
    yield Case(
        "base-of-linear-not-listed",
        recipe("linear", [entry("a", weight=1), entry("b", weight=0.5)]),
        b.small_models(),
        warns="base",
    )
    odd = Zoo(rng, {**ODD_SHAPES, **layer_shapes(0)})
    models = {
        n: Model({k: encode("F32", v) for k, v in values.items()}, config(1, "F32"))
        for n, values in zip(("base", "a", "b"), [odd.base] + odd.experts(2))
    }
    for method in ("linear", "ties", "della", "model_stock", "sce", "karcher"):
        own = (
            {"weight": 1, "density": 0.5}
            if method in ("ties", "della")
            else {"weight": 1} if method == "linear" else {}
        )
        yield Case(
            f"odd-shapes-{method}",
            recipe(method, [entry("a", **own), entry("b", **own)], None if method in ("linear", "karcher") else "base"),
            models,
        )
    yield Case(
        "mismatch-skipped",
        recipe("ties", [entry("a", weight=1, density=0.5), entry("wide", weight=1)]),
        {
            **b.small_models("base a"),
            "wide": store({**b.small_values["b"], q: rng.standard_normal((HIDDEN, HIDDEN + 1))}, "F32", 3),
        },
        arguments=["--on-mismatch", "skip"],
        skip_on_mismatch=True,
        warns=q,
    )
    shards = b.small_models("base a")
    shards["a"].shards, shards["base"].shards = 4, 2
    yield Case(
        "sharded", recipe("ties", [entry("a", weight=1, density=0.5)]), shards, arguments=["--shard-size", "4kB"]
    )
