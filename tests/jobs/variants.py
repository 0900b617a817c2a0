"""Every method and variant on tensors of odd sizes, for tests that compare bytes."""

import numpy as np

from merging import expert_values, write_model

# name, method, base, models, parameters of each model, parameters of the whole, more lines of the recipe
PAPER = 'compat = "paper"'
TIES = "weight = 0.7, density = 0.23"
DARE = "weight = 0.4, density = 0.31"
BAND = "weight = 0.4, density = 0.7, gamma = 0.02"
DELLA = "weight = 0.4, density = 0.4, epsilon = 0.1"
VARIANTS = [
    ("linear", "linear", None, 4, "weight = 0.3", "", ""),
    ("linear-unnormalised", "linear", None, 4, "weight = [0.3, -0.2]", "normalize = false", ""),
    ("slerp", "slerp", "e1", 2, "", "t = 0.37", ""),
    ("nuslerp", "nuslerp", "base", 2, "weight = 0.5", "", ""),
    ("nuslerp-rows", "nuslerp", "base", 2, "weight = 0.5", "nuslerp_flatten = false", ""),
    ("nuslerp-columns", "nuslerp", None, 2, "weight = 0.5", "nuslerp_flatten = false, nuslerp_row_wise = true", ""),
    ("multislerp", "multislerp", "base", 4, "weight = 0.25", "", ""),
    ("karcher", "karcher", None, 4, "", "max_iter = 20", ""),
    ("model-stock", "model_stock", "base", 4, "", "", ""),
    ("model-stock-filter-wise", "model_stock", "base", 4, "", "filter_wise = true", ""),
    ("task-arithmetic", "task_arithmetic", "base", 4, "weight = [0.5, -0.3]", "lambda = 1.2", ""),
    ("ties", "ties", "base", 4, TIES, "", ""),
    ("ties-rescaled", "ties", "base", 4, TIES, "rescale = true", ""),
    ("ties-paper", "ties", "base", 4, TIES, "", PAPER),
    ("dare-linear", "dare_linear", "base", 4, "weight = 0.4, density = 0.11", "lambda = 1.2", ""),
    ("dare-linear-paper", "dare_linear", "base", 4, DARE, "", PAPER + "\nseed = 77"),
    ("dare-ties", "dare_ties", "base", 4, DARE, "", ""),
    ("dare-ties-paper", "dare_ties", "base", 4, DARE, "", PAPER + "\nseed = 9223372036854775807"),
    ("della", "della", "base", 4, DELLA, "", ""),
    ("della-paper", "della", "base", 4, DELLA, "", PAPER),
    ("della-linear", "della_linear", "base", 4, DELLA, "", ""),
    ("della-linear-paper", "della_linear", "base", 4, DELLA, "", PAPER),
    ("breadcrumbs", "breadcrumbs", "base", 4, BAND, "", ""),
    ("breadcrumbs-ties", "breadcrumbs_ties", "base", 4, BAND, "", ""),
    ("breadcrumbs-ties-rescaled", "breadcrumbs_ties", "base", 4, BAND, "rescale = true", ""),
    ("breadcrumbs-ties-paper", "breadcrumbs_ties", "base", 4, BAND, "", PAPER),
    ("nearswap", "nearswap", "e1", 2, "", "t = 0.01", ""),
    ("sce", "sce", "base", 4, "", "select_topk = 0.3", ""),
    ("ram", "ram", "base", 4, "", "", ""),
    ("ramplus-tl", "ramplus_tl", "base", 4, "", "", ""),
    ("arcee-fusion", "arcee_fusion", "e1", 2, "", "", ""),
    ("passthrough", "passthrough", None, 1, "", "", ""),
    ("passthrough-scaled", "passthrough", None, 1, "scale = 0.7", "", ""),
]


def make_models(test):
    """bf16: not all finite; f32: on a finer grid; mixed: a base of bfloat16 among wider experts"""
    for model in range(5):
        values = expert_values(test.shapes, 1, model)
        name = f"e{model}" if model else "base"
        if model == 2:
            flat = values["odd.long.weight"]
            flat[[70, 65536, 150001]] = np.nan, np.inf, -np.inf
        write_model(test.place("bf16", name), values, "BF16", shards=1 + model % 3)
        finite = {k: np.where(np.isfinite(v), v, 0.25) for k, v in values.items()}
        fine = {k: v * 1.0009765625 + v * v * 1e-4 for k, v in finite.items()}
        write_model(test.place("f32", name), fine, "F32")
        mixed = ["BF16", "F32", "F64", "F16", lambda tensor: "F64" if "mlp" in tensor else "BF16"][model]
        write_model(test.place("mixed", name), fine, mixed)


def facts_of(report):
    """what a report says about the result"""
    facts = {key: report[key] for key in ("method", "saturated_elements", "saturated", "emptied_task_vectors", "nonfinite")}
    facts["sparsity"] = report.get("sparsity")
    facts["tensors"] = [{k: t[k] for k in ("name", "dtype", "shape", "bytes", "hash")} for t in report["tensors"]]
    return facts
