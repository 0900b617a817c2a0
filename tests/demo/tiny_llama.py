"""A Llama in numpy, for models of the size of the zoo's: greedy answers to a batch of prompts.

No cache of keys and values: prompts are 20 tokens and answers a few.
"""
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "reference"))
from safetensors_io import read_model  # noqa: E402

LONGEST_ANSWER = 12


class TinyLlama:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as file:
            self.config = json.load(file)
        self.tensors = {name: tensor.values.astype("f4") for name, tensor in read_model(folder).items()}

    def logits(self, ids, last):
        """at position last[i] of row i of `ids`; what stands behind it does not count"""
        c, w = self.config, self.tensors
        heads, groups = c["num_attention_heads"], c["num_key_value_heads"]
        width = c["hidden_size"] // heads
        batch, length = ids.shape
        frequencies = c["rope_theta"] ** (-np.arange(0, width, 2) / width)
        angles = np.concatenate([np.outer(np.arange(length), frequencies)] * 2, -1)
        cosine, sine = np.cos(angles).astype("f4"), np.sin(angles).astype("f4")
        future = np.triu(np.full((length, length), -np.inf, "f4"), 1)

        def norm(x, name):
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * w[name]

        def turned(x):
            half = width // 2
            return x * cosine + np.concatenate([-x[..., half:], x[..., :half]], -1) * sine

        def split(x, count):
            return x.reshape(batch, length, count, width).transpose(0, 2, 1, 3)

        x = w["model.embed_tokens.weight"][ids]
        for layer in range(c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            h = norm(x, p + "input_layernorm.weight")
            q = turned(split(h @ w[p + "self_attn.q_proj.weight"].T, heads))
            k = turned(split(h @ w[p + "self_attn.k_proj.weight"].T, groups))
            v = split(h @ w[p + "self_attn.v_proj.weight"].T, groups)
            k, v = (np.repeat(t, heads // groups, 1) for t in (k, v))
            scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(np.float32(width)) + future
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (scores / scores.sum(-1, keepdims=True)) @ v
            x = x + mixed.transpose(0, 2, 1, 3).reshape(batch, length, -1) @ w[p + "self_attn.o_proj.weight"].T
            h = norm(x, p + "post_attention_layernorm.weight")
            gate = h @ w[p + "mlp.gate_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
        head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
        return norm(x[np.arange(batch), last], "model.norm.weight") @ head.T

    def answers(self, prompts):
        """token ids before the end-of-sequence token, greedily, for each list of ids"""
        end = self.config["eos_token_id"]
        result = [list(prompt) for prompt in prompts]
        going = list(range(len(prompts)))
        for _ in range(LONGEST_ANSWER):
            last = np.array([len(result[row]) - 1 for row in going])
            ids = np.zeros((len(going), last.max() + 1), int)
            for place, row in enumerate(going):
                ids[place, :len(result[row])] = result[row]
            following = self.logits(ids, last).argmax(-1).tolist()
            for row, token in zip(going, following):
                if token != end:
                    result[row].append(token)
            going = [row for row, token in zip(going, following) if token != end]
            if not going:
                break
        return [row[len(prompt):] for row, prompt in zip(result, prompts)]


def score(model, task_file, items=None):
    """share of items whose answer is exactly right"""
    with open(task_file) as file:
        task = [json.loads(line) for line in file][:items]
    answers = model.answers([item["prompt_ids"] for item in task])
    return sum(answer == item["answer_ids"] for answer, item in zip(answers, task)) / len(task)
