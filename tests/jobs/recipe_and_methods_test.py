"""`amalgam convert-recipe` there and back, and `amalgam methods` with the page of docs/ that it makes.

recipe_and_methods_test.py AMALGAM
"""

import glob
import json
import os
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
check_methods()
program.done()
