"""What `amalgam inspect` says of checkpoints, recipes, malformed files, and models side by side.

inspect_test.py AMALGAM
"""

import json
import os
import re
import struct
import subprocess
import sys
import tempfile

from program import PARITY, Program, ROOT, ZOO, write_model, write_safetensors

program = Program(sys.argv[1])
zeros = bytes


def file_header(path):
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length))


def check_checkpoint():
    folder = os.path.join(ZOO, "base")
    header = file_header(os.path.join(folder, "model.safetensors"))
    metadata = header.pop("__metadata__", {})
    sizes = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items()}
    facts = program.json("inspect", folder, "--tensors")
    program.expect(
        facts["tensors"] == len(header) and facts["bytes"] == sum(sizes.values()), "amounts of the zoo's base"
    )
    program.expect(
        facts["parameters"] == sum(sizes.values()) // 2 and facts["metadata"] == metadata, "parameters and metadata"
    )
    program.expect(
        {t["name"]: (t["dtype"], t["shape"], t["end"] - t["begin"]) for t in facts["tensor_list"]}
        == {name: (entry["dtype"], entry["shape"], sizes[name]) for name, entry in header.items()},
        "the list of tensors",
    )
    for layer in facts["layers"]:
        mine = [size for name, size in sizes.items() if name.startswith(f"model.layers.{layer['layer']}.")]
        program.expect((layer["tensors"], layer["bytes"]) == (len(mine), sum(mine)), f"layer {layer['layer']}")
    program.expect(len(facts["layers"]) == 6 and facts["outside_of_layers"]["tensors"] == 3, "layers")
    program.expect(facts["config"]["heads"] == "4" and facts["config"]["key/value heads"] == "2", "configuration")

    text = program.run("inspect", folder).stdout
    program.expect(re.search(r"model\.layers 0 to 5 +9 tensors .* each", text), "like layers in one line\n" + text)
    program.expect("model.layers.3.mlp.up_proj.weight" not in text, "no list without --tensors")
    text = program.run("inspect", folder + "/model.safetensors", "--tensors").stdout
    program.expect(
        re.search(r"^  model\.layers\.3\.mlp\.up_proj\.weight +BF16 +\[256, 96\] +49\.1 kB$", text, re.M),
        "a tensor's line\n" + text,
    )


def check_names_of_others(folder):
    """Names are text from a stranger: they must not move the cursor; layers sort as numbers."""
    path = os.path.join(folder, "names.safetensors")
    tensors = {f"h.{i}.w": ("F32", [1], zeros(4)) for i in (0, 2, 10, 1)}
    tensors["red \x1b[31m\nname"] = ("I64", [2, 0], b"")
    write_safetensors(path, tensors, {"key\t": "value\x07"})
    result = program.run("inspect", path, "--tensors")
    program.expect(
        result.returncode == 0 and "\x1b" not in result.stdout and "\x07" not in result.stdout,
        "control characters",
        result,
    )
    places = [result.stdout.find(f"\n  h.{i}.w ") for i in (0, 1, 2, 10)]
    program.expect(-1 not in places and places == sorted(places), "layers sort as numbers", result)
    program.expect("h 0 to 2" in result.stdout and "h 10" in result.stdout, "runs of layers", result)


def check_malformed(folder):
    corpus = os.path.join(folder, "corpus")
    subprocess.run(
        [sys.executable, os.path.join(ROOT, "tests/checkpoint/make_malformed.py"), corpus],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with open(os.path.join(corpus, "verdicts.tsv")) as file:
        cases = [line.rstrip("\n").split("\t") for line in file if line.strip()]
    seen = 0
    for name, verdict, *message in cases:
        path = os.path.join(corpus, name)
        if not os.path.isfile(path):
            continue
        seen += 1
        if verdict == "reject":
            program.expect_error(1, "inspect", path, contains=[name])
        else:
            result = program.run("inspect", path, "--tensors")
            program.expect(result.returncode == 0, f"{name} is refused", result)
    program.expect(seen > 50, f"{seen} malformed files")


def check_quantised(folder):
    path = write_model(
        os.path.join(folder, "quantised"),
        {
            "layer.qweight": ("I32", [2], zeros(8)),
            "layer.qzeros": ("I32", [2], zeros(8)),
            "layer.scales": ("F16", [2], zeros(4)),
        },
    )
    result = program.run("inspect", path)
    program.expect(
        result.returncode == 0 and "would refuse" in result.stderr,
        "a quantised checkpoint is shown with a warning",
        result,
    )


def check_recipes():
    recipe = os.path.join(PARITY, "recipes/linear-gradient.yaml")
    plain = program.json("inspect", recipe, cwd=PARITY)
    whole = program.json("inspect", recipe, "--tensors", cwd=PARITY)
    program.expect(
        "tensor_list" not in plain and whole["tensors"] == len(whole["tensor_list"]) == 30, "tensors of a recipe"
    )
    weights = {
        task["name"]: [entry["parameters"]["weight"] for entry in task["inputs"]] for task in whole["tensor_list"]
    }
    with open(recipe) as file:
        program.expect("[" in file.read(), "the recipe has a gradient")
    program.expect(
        weights["model.layers.0.mlp.up_proj.weight"] != weights["model.layers.2.mlp.up_proj.weight"],
        f"a gradient: {weights}",
    )

    ties = os.path.join(PARITY, "recipes/ties.yaml")
    result = program.run("inspect", ties, "--tensors", "--set", "parameters.lambda=0.25", cwd=PARITY)
    program.expect(
        "lambda 0.25, normalize true" in result.stdout and "weight 0.5, density 0.6" in result.stdout,
        "numbers of TIES",
        result,
    )
    program.expect("models/base  the base" in result.stdout, "the base", result)
    program.expect_error(1, "inspect", ties, "--set", "parameters.lamda=0.25", cwd=PARITY, contains=["lamda", "lambda"])
    result = program.run("inspect", ties, "--set", "parameters.lamda=0.25", "--allow-unknown", cwd=PARITY)
    program.expect(result.returncode == 0 and "warning: " in result.stderr, "--allow-unknown", result)
    stack = program.json("inspect", os.path.join(PARITY, "recipes/passthrough-stack.yaml"), "--tensors", cwd=PARITY)
    program.expect(all(task["kind"] == "copy" for task in stack["tensor_list"]), "a stack copies")
    program.expect(any(task["inputs"][0]["tensor"] != task["name"] for task in stack["tensor_list"]), "a stack renames")


def check_fit(folder):
    models = [os.path.join(ZOO, name) for name in ("base", "math-en", "lang-ja")]
    result = program.run("inspect", *models)
    program.expect(
        result.returncode == 0 and "Verdict: the models fit together" in result.stdout, "the zoo fits", result
    )
    parity = [os.path.join(PARITY, "models", name) for name in ("base", "a-bf16", "deep", "tied")]
    result = program.run("inspect", *parity)
    program.expect(
        result.returncode == 1
        and "num_hidden_layers: 3 and 5" in result.stdout
        and "1 of 3 models do not fit" in result.stdout,
        "five layers do not fit three",
        result,
    )
    fits = json.loads(program.run("inspect", *parity, "--json").stdout)
    program.expect(
        [model["fit"] for model in fits["models"]] == [True, False, True] and not fits["fit"], "verdicts as JSON"
    )
    dtypes = [d for d in fits["models"][0]["differences"] if d["what"] == "dtype"]
    program.expect(len(dtypes) == 30 and {(d["first"], d["other"]) for d in dtypes} == {("F32", "BF16")}, "types")
    program.expect(
        [(d["weight"], d["name"]) for d in fits["models"][2]["differences"] if d["what"] == "tensor"]
        == [("note", "lm_head.weight")],
        "a tied head is no problem",
    )

    def model(name, rows=8, heads=2, theta=10000.0, width=4):
        return write_model(
            os.path.join(folder, name),
            {
                "model.embed_tokens.weight": ("F32", [rows, 4], zeros(16 * rows)),
                "model.layers.0.up.weight": ("F32", [width, 4], zeros(16 * width)),
            },
            {"hidden_size": 4, "num_attention_heads": heads, "rope_theta": theta, "vocab_size": rows},
        )

    first = model("first")

    def verdict(other):
        result = program.run("inspect", first, other, "--json")
        fit = json.loads(result.stdout)
        return result.returncode, {(d["weight"], d["what"], d["name"]) for d in fit["models"][0]["differences"]}

    program.expect(
        verdict(model("rows", rows=9))
        == (0, {("warning", "shape", "model.embed_tokens.weight"), ("warning", "config", "vocab_size")}),
        "another vocabulary",
    )
    program.expect(
        verdict(model("heads", heads=4)) == (1, {("problem", "config", "num_attention_heads")}),
        "other heads in the same shapes",
    )
    program.expect(verdict(model("theta", theta=1e6)) == (0, {("warning", "config", "rope_theta")}), "another rope")
    program.expect(
        verdict(model("width", width=5)) == (1, {("problem", "shape", "model.layers.0.up.weight")}), "another width"
    )


def check_stale_config(folder):
    """What config.json says otherwise than the tensors."""
    tensors = {f"model.layers.{i}.up.weight": ("F32", [4, 4], zeros(64)) for i in range(2)}
    tensors |= {name: ("F32", [8, 4], zeros(128)) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    for layers, rows in ((2, 8), (3, 9)):
        config = {"num_hidden_layers": layers, "vocab_size": rows, "tie_word_embeddings": False}
        model = write_model(os.path.join(folder, f"stale-{layers}"), tensors, config)
        warnings = program.json("inspect", model)["warnings"]
        texts = [f"says num_hidden_layers {layers}, but the tensors have 2 layers", "says vocab_size 9, but the emb"]
        said = [text for text in texts if any(text in warning for warning in warnings)]
        program.expect(said == (texts if layers == 3 else []) and len(warnings) == len(said), f"warnings: {warnings}")
    with open(os.path.join(folder, "stale.yaml"), "w") as file:
        file.write(f"merge_method: linear\nmodels: [{{model: {model}}}]\nparameters: {{weight: 1}}\n")
    out = os.path.join(folder, "corrected")
    result = program.run("merge", file.name, out, "--quiet")
    program.expect(result.returncode == 0 and result.stderr.count("a merge corrects it") == 2, "a merge", result)
    with open(os.path.join(out, "config.json")) as file:
        config = json.load(file)
    program.expect((config["num_hidden_layers"], config["vocab_size"]) == (2, 8), f"config of the merge: {config}")


with tempfile.TemporaryDirectory() as temporary:
    check_checkpoint()
    check_names_of_others(temporary)
    check_malformed(temporary)
    check_quantised(temporary)
    check_recipes()
    check_fit(temporary)
    check_stale_config(temporary)
program.done()
