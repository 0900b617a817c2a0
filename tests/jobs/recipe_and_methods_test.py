"""`amalgam convert-recipe` there and back, `amalgam methods` with the page of docs/ that it makes, and docs/recipes.md.

recipe_and_methods_test.py AMALGAM
"""

import glob
import json
import os
import re
import sys
import tempfile

from program import PARITY, Program, ROOT

program = Program(sys.argv[1])


def resolved(recipe):
    result = program.run("inspect", recipe, "--tensors", "--json", cwd=PARITY)
    program.expect(result.returncode == 0, f"{recipe} is refused", result)
    facts = json.loads(result.stdout)
    facts.pop("recipe")
    return facts


def check_conversions(folder):
    recipes = sorted(glob.glob(os.path.join(PARITY, "recipes/*.yaml")))
    program.expect(len(recipes) > 30, f"{len(recipes)} recipes")
    for recipe in recipes:
        name = os.path.basename(recipe)[:-5]
        toml, yaml = f"{folder}/{name}.toml", f"{folder}/{name}.yml"
        for source, target in ((recipe, toml), (toml, yaml)):
            result = program.run("convert-recipe", source, target)
            program.expect(result.returncode == 0 and result.stdout == "", f"{name}: conversion", result)
        wanted = resolved(recipe)
        program.expect(resolved(toml) == wanted, f"{name}: TOML says something else")
        program.expect(resolved(yaml) == wanted, f"{name}: YAML says something else")

    ties = os.path.join(PARITY, "recipes/ties.yaml")
    result = program.run("convert-recipe", ties, "-")
    with open(folder + "/ties.toml") as file:
        program.expect(result.stdout == file.read(), "- writes the other form", result)
    result = program.run("convert-recipe", ties, "-", "--set", "models.0.parameters.weight=0.125")
    program.expect("0.125" in result.stdout, "--set", result)
    program.expect_error(1, "convert-recipe", ties, folder + "/ties.toml", contains=["--force"])
    program.expect(program.run("convert-recipe", ties, folder + "/ties.toml", "--force").returncode == 0, "--force")
    program.expect_error(2, "convert-recipe", ties, folder + "/ties.json", contains=[".toml, .yaml or .yml"])
    program.expect_error(1, "convert-recipe", folder + "/none.yaml", folder + "/x.toml", contains=["none.yaml"])
    program.expect_error(1, "convert-recipe", ties, folder + "/none/x.toml", contains=["none/x.toml", "No such file"])
    # Only TOML can say these.
    program.expect_error(
        1, "convert-recipe", ties, folder + "/paper.yaml", "--set", "compat=paper", contains=["compat"]
    )
    program.expect(not os.path.exists(folder + "/paper.yaml"), "nothing is written when the conversion fails")


def check_page(folder):
    """docs/recipes.md: its recipes are accepted, and mean what it says of them; what it says is refused is."""
    made = program.run("synthesize", "models", "--experts", 2, "--layers", 8, "--hidden", 16, "--mlp", 24, "--heads", 2,
                       "--kv-heads", 1, "--vocabulary", 8, "--quiet", cwd=folder)  # fmt: skip
    program.expect(made.returncode == 0, "synthesize", made)
    with open(os.path.join(ROOT, "docs/recipes.md")) as file:
        page = file.read()
    examples = []
    for number, (form, text) in enumerate(re.findall(r"```(toml|yaml)\n(.*?)```", page, re.S)):
        with open(f"{folder}/example-{number}.{form}", "w") as file:
            file.write(text)
        tensors = program.json("inspect", f"example-{number}.{form}", "--tensors", cwd=folder)["tensor_list"]
        examples.append({tensor["name"]: tensor for tensor in tensors})
    program.expect(len(examples) == 4, f"{len(examples)} examples")
    values, stack, halves, bases = examples

    def weights(example, tensor, parameter="weight"):
        return [one["parameters"].get(parameter) for one in example[tensor]["inputs"]]

    layer = "model.layers.{}.{}.weight"
    said = [float(number) for number in re.search(r"layers 0 to 7 have ([^a-z]*?)\. In", page)[1].split(",")]
    found = [weights(values, layer.format(number, "self_attn.q_proj"))[0] for number in range(8)]
    program.expect([round(number, 3) for number in found] == said, f"a gradient: {found}")
    program.expect(weights(values, layer.format(7, "mlp.up_proj"))[0] == 0.9, "the first filter that fits")
    program.expect(weights(values, layer.format(6, "mlp.up_proj"))[0] == 0.3, "the next filter")
    program.expect(weights(values, "model.norm.weight") == [0.5, 0.5], "no filter fits: the recipe's value")
    source = stack[layer.format(12, "self_attn.o_proj")]["inputs"][0]["tensor"]
    program.expect(source == layer.format(6, "self_attn.o_proj"), "layers are numbered anew")
    sources = [stack[name]["inputs"][0]["model"] for name in ("model.embed_tokens.weight", "lm_head.weight")]
    program.expect(sources == ["models/expert-1", "models/expert-2"], f"outside of layers: {sources}")
    program.expect(weights(stack, layer.format(12, "self_attn.o_proj"), "scale") == [0.75], "scaled")
    steps = [halves[layer.format(number, "mlp.up_proj")]["parameters"]["t"] for number in (0, 3, 4, 7)]
    program.expect(steps == [0, 0.5, 0.5, 0.5], f"a gradient over a slice: {steps}")
    program.expect(halves["model.embed_tokens.weight"]["parameters"]["t"] == 0, "outside of layers: the first number")
    last = bases[layer.format(5, "mlp.up_proj")]
    program.expect([one["tensor"] for one in (last["base"], *last["inputs"])]
                   == [layer.format(number, "mlp.up_proj") for number in (5, 5, 7)], "the base's layers")
    program.expect(weights(bases, layer.format(0, "mlp.up_proj")) == [1, 0.5], "source before recipe")

    plain = "merge_method: linear\nparameters: {weight: [0.25, 1]}\n"
    both = ", ".join(f"{{model: models/{name}, layer_range: [3, 4]}}" for name in ("base", "expert-1"))
    with open(folder + "/one.yaml", "w") as file:
        file.write(plain + f"slices: [{{sources: [{both}]}}]\n")
    tensors = program.json("inspect", "one.yaml", "--tensors", cwd=folder)["tensor_list"]
    only = {tensor["name"]: tensor for tensor in tensors}
    program.expect(weights(only, layer.format(0, "mlp.up_proj")) == [1, 1], "the only layer has the last number")

    models = "models: [{model: models/base}, {model: models/expert-1}]\n"
    for key, code in (("tokenizer_source: union", 1), ("tokenizer: {}", 1), ("chat_template: chatml", 1),
                      ("tokenizer: {source: models/base, tokens: {x: {source: models/base}}}", 1),
                      ("tokenizer: {source: models/base, pad_to_multiple_of: 8}", 1), ("modules: {text: {}}", 1),
                      ("dtypes: bfloat16", 1), ("chat_template: auto", 0), ("int8_mask: true", 0),
                      ("tokenizer: {source: models/base}", 0)):  # fmt: skip
        with open(folder + "/key.yaml", "w") as file:
            file.write(plain + models + key + "\n")
        result = program.run("inspect", "key.yaml", cwd=folder)
        told = "key.yaml:4: " in result.stderr or key.startswith("tokenizer: {source: models/base}")
        program.expect(result.returncode == code and told, key, result)
    for model in ("models/base+lora", "{model: models/base, lora: x}"):
        with open(folder + "/key.yaml", "w") as file:
            file.write(plain + f"models: [{{model: {model}}}, {{model: models/base}}]\n")
        program.expect_error(1, "inspect", "key.yaml", contains=["adapter"], cwd=folder)


def check_methods():
    with open(os.path.join(ROOT, "docs/methods.md")) as file:
        program.expect(
            program.run("methods", "--markdown").stdout == file.read(),
            "docs/methods.md is not what the tables say: amalgam methods --markdown > docs/methods.md",
        )
    methods = json.loads(program.run("methods", "--json").stdout)
    names = [method["name"] for method in methods]
    program.expect(len(names) == 20 and {"linear", "ties", "sce", "passthrough"} <= set(names), f"methods {names}")
    listed = program.run("methods").stdout
    for method in methods:
        name = method["name"]
        program.expect(f"\n  {name} " in listed, f"{name} is not listed")
        text = program.run("methods", name).stdout
        program.expect(
            text.startswith(f"{name}: ") and all(f"\n{field['name']} " in text for field in method["fields"]),
            f"methods {name}\n{text}",
        )
        program.expect(json.loads(program.run("methods", name, "--json").stdout) == [method], f"methods {name} --json")


with tempfile.TemporaryDirectory() as temporary:
    check_conversions(temporary)
with tempfile.TemporaryDirectory() as temporary:
    check_page(temporary)
check_methods()
program.done()
