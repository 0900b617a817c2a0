"""Recipes in few words, and the models that the awkward cases and the refusals are made of."""

import numpy as np

from cases import Zoo, llama_shapes, shapes_for, store


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


def sliced(method, slices, base=None, **more):
    return {"merge_method": method, **({"base_model": base} if base else {}), "slices": slices, **more}


def source(model, first, last, **parameters):
    return {"model": model, "layer_range": [first, last], **({"parameters": parameters} if parameters else {})}
