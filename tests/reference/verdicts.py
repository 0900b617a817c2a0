"""Merges that must be refused, and the words the message must have."""

import os
from dataclasses import dataclass, field

import numpy as np

from builder import Builder, entry, recipe, sliced, source
from cases import HIDDEN, Model, store
from safetensors_io import Tensor, integers


@dataclass
class Verdict:
    name: str
    recipe: dict
    models: dict
    says: tuple  # all of them in the message; None: must be accepted
    arguments: list = field(default_factory=list)
    spoil: callable = lambda folder: None  # what is done to the files before the merge
    recipe_file: str = "recipe.yaml"
    out: str = "merged"


Q = "model.layers.1.self_attn.q_proj.weight"


def refused_recipes(b):
    models = b.small_models("base a b")
    ab = lambda **p: [entry("a", **p), entry("b", **p)]
    line = "recipe.yaml"
    yield Verdict("unknown-method", recipe("tise", ab(weight=1)), models, (line, "tise", "ties"))
    yield Verdict(
        "unknown-key",
        recipe("linear", ab(weight=1), None, out_dtpye="float32"),
        models,
        (line, "out_dtpye", "out_dtype"),
    )
    yield Verdict("unknown-parameter", recipe("linear", ab(weigth=1), None), models, (line, "weigth", "weight"))
    yield Verdict("weight-missing", recipe("ties", [entry("a", weight=1), entry("b")]), models, (line, "weight", "b"))
    yield Verdict(
        "weight-missing-by-filter",
        recipe("linear", [entry("a", weight=1), entry("b", weight=[{"filter": "mlp", "value": 1}])], None),
        models,
        ("weight", "b"),
    )
    yield Verdict("t-missing", recipe("slerp", [entry("base"), entry("a")]), models, (line, "slerp", "t"))
    yield Verdict("density-too-large", recipe("ties", ab(weight=1, density=1.5)), models, (line, "density", "1.5"))
    yield Verdict("density-negative", recipe("ties", ab(weight=1, density=-0.5)), models, (line, "density"))
    yield Verdict("gradient-out-of-range", recipe("ties", ab(weight=1, density=[0.5, 2])), models, (line, "density"))
    yield Verdict("weight-not-finite", recipe("ties", ab(weight=".nan")), models, (line, "weight"))
    yield Verdict("weight-no-number", recipe("ties", ab(weight="much")), models, (line, "weight"))
    yield Verdict(
        "weights-sum-to-zero",
        recipe("linear", [entry("a", weight=1), entry("b", weight=-1)], None),
        models,
        ("weight", "0"),
    )
    yield Verdict(
        "weights-sum-to-zero-in-one-tensor",
        recipe(
            "linear",
            [entry("a", weight=1), entry("b", weight=[{"filter": "layers.1.self_attn", "value": -1}, {"value": 1}])],
            None,
        ),
        models,
        ("weights", "model.layers.1.self_attn"),
    )
    yield Verdict("no-base", recipe("ties", ab(weight=1), None), models, (line, "base_model"))
    yield Verdict(
        "three-models-slerp", recipe("slerp", [entry("base"), *ab()], parameters={"t": 0.5}), models, (line, "slerp")
    )
    yield Verdict("one-model-nuslerp", recipe("nuslerp", [entry("a", weight=1)], None), models, (line, "nuslerp"))
    yield Verdict("one-model-model-stock", recipe("model_stock", [entry("a")]), models, (line, "model_stock"))
    yield Verdict("two-models-passthrough", recipe("passthrough", ab(), None), models, (line, "passthrough"))
    yield Verdict(
        "models-and-slices",
        {**recipe("linear", ab(weight=1), None), "slices": [{"sources": [source("a", 0, 1)]}]},
        models,
        (line, "models", "slices"),
    )
    yield Verdict(
        "unequal-ranges",
        sliced("linear", [{"sources": [source("a", 0, 2, weight=1), source("b", 0, 1, weight=1)]}]),
        models,
        (line, "layer_range"),
    )
    yield Verdict(
        "range-beyond-model", sliced("passthrough", [{"sources": [source("a", 1, 4)]}]), models, ("a", "3", "4")
    )
    yield Verdict("della-epsilon-too-large", recipe("della", ab(weight=1, density=0.9)), models, ("density", "epsilon"))
    yield Verdict(
        "missing-model",
        recipe("linear", [entry("a", weight=1), entry("nowhere", weight=1)], None),
        models,
        ("nowhere",),
    )
    yield Verdict(
        "missing-recipe", recipe("linear", ab(weight=1), None), models, ("absent.yaml",), recipe_file="absent.yaml"
    )
    yield Verdict("bad-dtype", recipe("linear", ab(weight=1), None, dtype="float31"), models, (line, "float31"))
    yield Verdict(
        "unknown-allowed", recipe("linear", ab(weight=1), None, out_dtpye="float32"), models, None, ["--allow-unknown"]
    )


def refused_models(b):
    linear = recipe("linear", [entry("a", weight=1), entry("b", weight=1)], None)
    ties = recipe("ties", [entry("a", weight=1), entry("b", weight=1)])
    values = b.small_values
    without = {k: v for k, v in values["b"].items() if k != Q}
    for name, made in (("linear", linear), ("ties", ties)):
        yield Verdict(
            f"missing-tensor-{name}", made, {**b.small_models("base a"), "b": store(without, "F32", 3)}, (Q, "b")
        )
        wide = {**values["b"], Q: b.rng.standard_normal((HIDDEN, HIDDEN + 1))}
        yield Verdict(
            f"shapes-differ-{name}",
            made,
            {**b.small_models("base a"), "b": store(wide, "F32", 3)},
            (Q, "b", "[16, 17]"),
        )
        flat = {**values["b"], Q: values["b"][Q].reshape(-1)}
        yield Verdict(
            f"ranks-differ-{name}", made, {**b.small_models("base a"), "b": store(flat, "F32", 3)}, (Q, "b", "[256]")
        )

    def adding(**tensors):
        return {
            n: Model({**m.tensors, **{k: t[i] for k, t in tensors.items()}}, m.config)
            for i, (n, m) in enumerate(b.small_models("base a b").items())
        }

    ids = [integers("I64", np.arange(8) + (i == 2)) for i in range(3)]
    yield Verdict("integers-disagree", ties, adding(**{"model.position_ids": ids}), ("model.position_ids",))
    yield Verdict("integers-from-base", ties, adding(**{"model.position_ids": ids}), None, ["--integers", "base"])
    mixed = [ids[0], ids[0], Tensor("F32", np.zeros(8, "<u4"))]
    yield Verdict("integers-and-floats", ties, adding(**{"model.position_ids": mixed}), ("model.position_ids",))
    nan = {**values["a"], Q: np.where(np.eye(HIDDEN) > 0, np.nan, values["a"][Q])}
    yield Verdict("nan-refused", linear, b.small_models("base b", a=nan), (Q,), ["--fail-on-nonfinite"])
    scales = [Tensor("F32", np.ones((1, 1), "f4").view("<u4"))] * 3
    quantised = adding(**{Q.replace("weight", "weight_scale_inv"): scales})
    for model in quantised.values():
        model.tensors[Q] = Tensor("F8_E4M3", np.full((HIDDEN, HIDDEN), 0x38, "u1"))
    yield Verdict("quantised-fp8", linear, quantised, ("weight_scale_inv",))
    configured = b.small_models("base a b")
    configured["a"].config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    yield Verdict("quantised-gptq", linear, configured, ("gptq", "a"))
    deep = Builder(3)
    yield Verdict(
        "more-layers",
        ties,
        {
            **b.small_models("base a"),
            "b": store({**deep.small_values["b"], "model.layers.3.input_layernorm.weight": np.ones(HIDDEN)}, "F32", 4),
        },
        ("model.layers", "b", "4"),
    )


def refused_files(b):
    linear = recipe("linear", [entry("a", weight=1), entry("b", weight=1)], None)
    models = b.small_models("a b")

    def truncate(folder):
        path = os.path.join(folder, "b", "model.safetensors")
        os.truncate(path, os.path.getsize(path) - 3)

    def occupy(folder):
        os.makedirs(os.path.join(folder, "full"))
        with open(os.path.join(folder, "full", "precious.txt"), "w") as file:
            file.write("mine")

    def write(path, text):
        def spoil(folder):
            with open(os.path.join(folder, path), "w") as file:
                file.write(text)

        return spoil

    def remove(path):
        return lambda folder: os.remove(os.path.join(folder, path))

    yield Verdict("truncated", linear, models, ("b/model.safetensors",), spoil=truncate)
    yield Verdict("no-weights", linear, models, ("b",), spoil=remove("b/model.safetensors"))
    yield Verdict(
        "garbage",
        linear,
        models,
        ("b/model.safetensors",),
        spoil=write("b/model.safetensors", "not a checkpoint at all"),
    )
    yield Verdict("bad-config", linear, models, ("a/config.json",), spoil=write("a/config.json", "{"))
    yield Verdict("bad-yaml", linear, models, ("recipe.yaml",), spoil=write("recipe.yaml", "merge_method: [linear\n"))
    yield Verdict("output-not-empty", linear, models, ("full", "--force"), spoil=occupy, out="full")
    yield Verdict("output-is-input", linear, models, ("a",), ["--force"], out="a")


def verdict_cases(seed):
    for group in (refused_recipes, refused_models, refused_files):
        yield from group(Builder(seed))
