"""Cases worth freezing: what goes wrong at the edges of weights, densities, magnitudes and directions."""

import numpy as np

from awkward_models import heads_and_vocabularies, layers_and_filters, values_and_types
from builder import Builder, entry, recipe
from cases import Case, opposite
from oracle import FAMILY


def weights_and_densities(b):
    ties = lambda *e, **more: recipe("ties", list(e), **more)
    yield Case("zero-weight", ties(entry("a", weight=0, density=0.5), entry("b", weight=1, density=0.5)), b.models())
    yield Case("all-weights-zero", ties(entry("a", weight=0), entry("b", weight=0)), b.models())
    yield Case("zero-weight-linear", recipe("linear", [entry("a", weight=0), entry("b", weight=1)], None), b.models())
    for method in FAMILY:
        normalised = {"normalize": True}
        density = {} if method == "task_arithmetic" else {"density": 0.5}
        yield Case(
            f"weights-sum-to-zero-{method}",
            recipe(
                method, [entry("a", weight=0.5, **density), entry("b", weight=-0.5, **density)], parameters=normalised
            ),
            b.models(),
        )
        if method != "task_arithmetic" and not method.startswith("della"):
            yield Case(
                f"nothing-kept-{method}",
                recipe(method, [entry("a", weight=1, density=0.0005), entry("b", weight=1, density=0)]),
                b.models(),
            )
    yield Case(
        "analogy",
        recipe("task_arithmetic", [entry("a", weight=1), entry("b", weight=-1), entry("c", weight=1)]),
        b.models("base a b c"),
    )
    yield Case(
        "negative-weights-linear", recipe("linear", [entry("a", weight=1.5), entry("b", weight=-0.5)], None), b.models()
    )
    for method in ("breadcrumbs", "breadcrumbs_ties"):
        # few elements differ from the base, so that the outliers to drop and the band to keep both end among zeros
        yield Case(
            f"outliers-among-zeros-{method}",
            recipe(method, [entry("sparse", weight=1, density=0.5, gamma=0.2)]),
            b.models("base", sparse=b.zoo.expert(touched=0.1)),
        )
        yield Case(
            f"no-outliers-{method}", recipe(method, [entry("a", weight=1, density=0.3, gamma=0)]), b.models("base a")
        )
        yield Case(
            f"more-outliers-than-room-{method}",
            recipe(method, [entry("a", weight=1, density=0.9, gamma=0.3)]),
            b.models("base a"),
        )
        yield Case(
            f"full-density-{method}",
            recipe(method, [entry("a", weight=1, density=1, gamma=0.3)], parameters={"rescale": True}),
            b.models("base a"),
        )
    yield Case(
        "rescaled-trim",
        recipe(
            "ties",
            [entry("a", weight=1, density=0.2), entry("b", weight=0.5, density=0.4)],
            parameters={"rescale": True},
        ),
        b.models(),
    )
    yield Case("one-model-ties", recipe("ties", [entry("a", weight=0.5, density=0.4)]), b.models("base a"))
    yield Case("one-model-multislerp", recipe("multislerp", [entry("a", weight=0.5)], None), b.models("a"))
    yield Case("one-model-multislerp-and-base", recipe("multislerp", [entry("a", weight=0.5)]), b.models("base a"))
    yield Case("one-model-karcher", recipe("karcher", [entry("a")], None), b.models("a"))
    for n in (0, 1):
        yield Case(
            f"slerp-end-{n}", recipe("slerp", [entry("base"), entry("a")], parameters={"t": n}), b.models("base a")
        )


def cancelling(b):
    coarse = dict(zip(("base", "a", "b"), b.zoo.coarse(2)))
    coarse["anti"] = opposite(coarse["base"], coarse["a"])
    models = lambda: b.models("", **coarse)
    for method in FAMILY:
        density = {} if method == "task_arithmetic" else {"density": 0.5}
        if method.startswith("dare") or method.startswith("della"):
            density = {"density": 1}
        yield Case(
            f"cancelling-{method}",
            recipe(
                method,
                [
                    entry("a", weight=1, **density),
                    entry("anti", weight=1, **density),
                    entry("b", weight=0.25, **density),
                ],
            ),
            models(),
        )
    pair = [entry("a", weight=1), entry("anti", weight=1)]
    yield Case("cancelling-pair-ties", recipe("ties", pair), models())
    yield Case("cancelling-pair-multislerp", recipe("multislerp", pair), models())
    for flatten in (True, False):
        yield Case(
            f"opposite-nuslerp-{flatten}", recipe("nuslerp", pair, parameters={"nuslerp_flatten": flatten}), models()
        )
    yield Case("opposite-model-stock", recipe("model_stock", [entry("a"), entry("anti")]), models())
    yield Case(
        "opposite-slerp",
        recipe("slerp", [entry("base"), entry("minus")], parameters={"t": 0.25}),
        b.models("", base=coarse["a"], minus={k: -v for k, v in coarse["a"].items()}),
    )
    yield Case(
        "equal-models-nuslerp",
        recipe("nuslerp", [entry("a", weight=1), entry("twin", weight=3)], None),
        b.models("a", twin=b.values["a"]),
    )
    yield Case(
        "equal-models-sce",
        recipe("sce", [entry("a"), entry("twin")], parameters={"select_topk": 0.5}),
        b.models("base a", twin=b.values["a"]),
    )
    yield Case(
        "equal-models-arcee",
        recipe("arcee_fusion", [entry("base"), entry("twin")]),
        b.models("base", twin=b.values["base"]),
    )
    zeros = {k: np.zeros(v.shape) for k, v in b.values["a"].items()}
    for method, entries, more in (
        ("slerp", [entry("base"), entry("zero")], {"t": 0.5}),
        ("karcher", [entry("base"), entry("zero")], {}),
        ("nuslerp", [entry("a", weight=1), entry("zero", weight=1)], {}),
    ):
        yield Case(
            f"zero-model-{method}",
            recipe(method, entries, None if method == "nuslerp" else "base", parameters=more),
            b.models("base a", zero=zeros),
        )
    yield Case(
        "all-zero-karcher",
        recipe("karcher", [entry("zero"), entry("nought")], None),
        b.models("", zero=zeros, nought=zeros),
    )
    for method in ("ties", "dare_ties", "dare_linear", "sce", "ram", "breadcrumbs", "model_stock"):
        own = {"weight": 1, "density": 0.5} if method in FAMILY else {}
        yield Case(
            f"no-change-{method}",
            recipe(method, [entry("same", **own), entry("twin", **own)]),
            b.models("base", same=b.values["base"], twin=b.values["base"]),
        )


def equal_magnitudes(b):
    """deltas of few magnitudes: the flat index decides, also across rows, blocks and ranks"""
    coarse = dict(zip(("base", "a", "b"), b.zoo.coarse(2)))
    for method in ("ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "sce"):
        own = {"weight": 1, "density": 0.35} if method in FAMILY else {}
        for dtype in ("BF16", "F32"):
            yield Case(
                f"equal-magnitudes-{method}-{dtype}",
                recipe(
                    method,
                    [entry("a", **own), entry("b", **own)],
                    dtype="float32",
                    parameters=None if own else {"select_topk": 0.35},
                ),
                b.models("", dtype, **coarse),
            )
    constant = {k: v + 2.0**-8 for k, v in coarse["base"].items()}
    for density in (0.1, 0.5, 0.999):
        yield Case(
            f"one-magnitude-ties-{density}",
            recipe("ties", [entry("shifted", weight=1, density=density)]),
            b.models("", base=coarse["base"], shifted=constant),
        )
    twice = [entry("a", weight=0.5, density=0.3), entry("a", weight=1, density=0.6)]
    for method in ("ties", "dare_ties", "linear", "ram"):
        entries = twice if method in FAMILY else [entry("a", weight=1), entry("a", weight=2), entry("b", weight=1)]
        if method == "ram":
            entries = [entry("a"), entry("a"), entry("b")]
        yield Case(
            f"same-model-twice-{method}", recipe(method, entries, None if method == "linear" else "base"), b.models()
        )


def paper_rules(b):
    for method in ("ties", "breadcrumbs", "breadcrumbs_ties"):
        for density in (0.1, 0.5, 1):
            yield Case(
                f"paper-{method}-{density}",
                recipe(method, [entry("a", weight=1, density=density), entry("b", weight=-0.5, density=0.3)]),
                b.models(),
                paper=True,
            )
        yield Case(
            f"paper-nothing-kept-{method}",
            recipe(method, [entry("a", weight=1, density=0)]),
            b.models("base a"),
            paper=True,
        )
        coarse = dict(zip(("base", "a", "b"), b.zoo.coarse(2)))
        yield Case(
            f"paper-equal-magnitudes-{method}",
            recipe(method, [entry("a", weight=1, density=0.2), entry("b", weight=1, density=0.6)]),
            b.models("", "BF16", **coarse),
            paper=True,
        )
    for method in ("dare_linear", "dare_ties", "della", "della_linear"):
        yield Case(
            f"paper-float64-{method}",
            recipe(method, [entry("a", weight=1, density=0.3), entry("b", weight=0.5, density=0.6)]),
            b.models(dtype="F64"),
            paper=True,
        )
        yield Case(
            f"paper-{method}",
            recipe(method, [entry("a", weight=1, density=0.3), entry("b", weight=0.5, density=0.6)]),
            b.models(),
            paper=True,
            seed=2**63 - 5,
        )
        yield Case(
            f"not-rescaled-{method}",
            recipe(method, [entry("a", weight=1, density=0.3)], parameters={"rescale": False}),
            b.models("base a"),
            seed=12,
        )


def awkward_cases(seed):
    for group in (
        weights_and_densities,
        cancelling,
        equal_magnitudes,
        paper_rules,
        layers_and_filters,
        heads_and_vocabularies,
        values_and_types,
    ):
        yield from group(Builder(seed))
