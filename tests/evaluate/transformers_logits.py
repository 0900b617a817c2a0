#!/usr/bin/env python3
"""Random small decoders of every family that is built in, saved by Hugging Face transformers: logits of amalgam's forward
pass against transformers' own.

    transformers_logits.py LOGITS_PROBE

Needs torch and transformers, 4 or 5; CI runs it in a virtual environment of its own. Families that the installed
transformers does not know are named and left out.
"""

import json
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

NEW = int(transformers.__version__.split(".")[0]) >= 5
TOLERANCE = 1e-4
SMALL = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "attn_implementation": "eager",
}
LENGTHS = [1, 2, 33, 70, 128]


def rope(theta, **scaling):
    """the same request in the words of transformers 4 or 5"""
    if NEW:
        return {"rope_parameters": {"rope_theta": theta, "rope_type": "default", **scaling}}
    return {"rope_theta": theta, "rope_scaling": scaling or None}


LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
CASES = {
    "llama": ("Llama", {}),
    "llama, tied, own head_dim, one kv head": (
        "Llama", {"tie_word_embeddings": True, "head_dim": 10, "num_key_value_heads": 1, **rope(5e5)}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, as many kv heads as heads": ("Llama", {"num_key_value_heads": 6}),
    "llama, linear": ("Llama", rope(1e4, rope_type="linear", factor=2.5)),
    "llama, llama3": ("Llama", rope(1e4, **LLAMA3)),
    "llama, yarn": ("Llama", rope(1e4, **YARN)),
    "llama, yarn, attention factor": ("Llama", rope(1e4, **YARN, attention_factor=0.8, beta_fast=16.0, beta_slow=2.0)),
    "mistral, window": ("Mistral", {"sliding_window": 9, **rope(1e4)}),
    "mistral, no window": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2, window in one layer": (
        "Qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2, **rope(1e6)}),
    "qwen3": ("Qwen3", {"head_dim": 16, **rope(1e6)}),
    "qwen3, yarn, biases": ("Qwen3", {"head_dim": 16, "attention_bias": True, **rope(1e6, **YARN)}),
    "gemma2": ("Gemma2", {"head_dim": 12, "sliding_window": 11, "query_pre_attn_scalar": 20,
                          "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0}),
}
if not NEW:
    # transformers 4.46 has no windows in Qwen2's plain attention, and counts YaRN's range from max_position_embeddings, not from the original length.
    del CASES["qwen2, window in one layer"]
    for case in CASES.values():
        scaling = case[1].get("rope_scaling") or {}
        if scaling.get("rope_type") == "yarn":
            scaling.pop("original_max_position_embeddings")


def randomised(model):
    """initial weights give logits near 0 and norms of 1, which would hide mistakes"""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            one = 1.0 if "norm" in name and "Gemma" not in type(model).__name__ else 0.0
            parameter.copy_(one + torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.4))
    return model.eval()


def expected(model, sequences):
    with torch.no_grad():
        return [model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy() for ids in sequences]


def logits(probe, folder, sequences, compute="float32"):
    run = subprocess.run([probe, folder, compute], input=json.dumps(sequences), capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)
    return [np.array(line.split(), "f4").reshape(len(ids), -1) for line, ids in zip(run.stdout.splitlines(), sequences)]


def difference(probe, family, changes, folder):
    torch.manual_seed(len(family) + len(changes))
    config = getattr(transformers, family + "Config")(**{**SMALL, **changes})
    config._attn_implementation = "eager"
    model = randomised(getattr(transformers, family + "ForCausalLM")(config).float())
    model.save_pretrained(folder)
    sequences = [torch.randint(0, SMALL["vocab_size"], (length,)).tolist() for length in LENGTHS]
    want = expected(model, sequences)
    got = logits(probe, folder, sequences)
    worst = max(np.abs(a - b).max() for a, b in zip(got, want))
    return worst, max(np.abs(b).max() for b in want)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wrong = 0
    for name, (family, changes) in CASES.items():
        if not hasattr(transformers, family + "ForCausalLM"):
            print(f"left out  {name}: transformers {transformers.__version__} does not know it")
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                worst, size = difference(sys.argv[1], family, changes, folder)
            except RuntimeError as error:
                worst, size = float("inf"), 0
                print(f"  {error}")
        good = worst <= TOLERANCE * max(1.0, size) and size > 0.5
        wrong += not good
        print(f"{'ok    ' if good else 'FAILED'}  {name}: {worst:.1e} apart, logits up to {size:.1f}", flush=True)
    print(f"transformers {transformers.__version__}: {wrong} of {len(CASES)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
