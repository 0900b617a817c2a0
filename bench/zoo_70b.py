"""A zoo of 70B models for `amalgam plan`, of headers only: the weights are holes in sparse files, all models but the base are links
to one. Recipes ties-64.toml, karcher-256.toml and so on lie beside them.

zoo_70b.py FOLDER
"""

import json
import os
import struct
import sys

os.makedirs(sys.argv[1], exist_ok=True)
os.chdir(sys.argv[1])
shapes = {"model.embed_tokens.weight": [32000, 8192], "lm_head.weight": [32000, 8192], "model.norm.weight": [8192]}
for layer in range(80):
    for name, shape in {
        "self_attn.q_proj": [8192, 8192],
        "self_attn.k_proj": [1024, 8192],
        "self_attn.v_proj": [1024, 8192],
        "self_attn.o_proj": [8192, 8192],
        "mlp.up_proj": [28672, 8192],
        "mlp.gate_proj": [28672, 8192],
        "mlp.down_proj": [8192, 28672],
        "input_layernorm": [8192],
        "post_attention_layernorm": [8192],
    }.items():
        shapes[f"model.layers.{layer}.{name}.weight"] = shape
header, offset = {}, 0
for name, shape in shapes.items():
    end = offset + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
    offset = end
text = json.dumps(header).encode()
for folder in ("base", "model"):
    os.mkdir(folder)
    with open(f"{folder}/config.json", "w") as file:
        json.dump({"num_hidden_layers": 80, "vocab_size": 32000}, file)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
for i in range(256):
    os.mkdir(f"m{i}")
    for name in ("config.json", "model.safetensors"):
        os.link(f"model/{name}", f"m{i}/{name}")
for models in (8, 64, 256):
    entries = "".join(f'{{model = "m{i}"}},\n' for i in range(models))
    with open(f"ties-{models}.toml", "w") as file:
        file.write(
            'merge_method = "ties"\nbase_model = "base"\n[parameters]\ndensity = 0.2\nweight = 1\n'.replace(
                "[parameters]", f"models = [\n{entries}]\n[parameters]"
            )
        )
    with open(f"karcher-{models}.toml", "w") as file:
        file.write(f'merge_method = "karcher"\nmodels = [\n{entries}]\n')
