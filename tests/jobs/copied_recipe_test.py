"""The recipe beside the weights makes them again, whatever made them: overrides, models in the recipe's folder.

copied_recipe_test.py AMALGAM MPIEXEC [light]
"""

import os
import sys

from merging import Merging, expert_values, files_hash, read_report, write_model

test = Merging(sys.argv)
SHAPES = {"model.layers.0.mlp.up_proj.weight": (300, 300), "model.norm.weight": (300,)}
for number, name in enumerate(("base", "elsewhere/a", "elsewhere/b")):
    write_model(test.place(name), expert_values(SHAPES, 3, number), "BF16")
YAML = """# one remark
merge_method: ties
base_model: base
models:
  - model: elsewhere/a  # another
    parameters: {weight: 0.5, density: 0.4}
  - model: elsewhere/b
    parameters: {weight: [0, 1], density: 0.3}
"""
test.write("plain.yaml", YAML)
test.write("elsewhere/beside.yaml", YAML.replace("elsewhere/", "").replace("base_model: base", "base_model: ../base"))
test.recipe("plain", "linear", ["elsewhere/a", "elsewhere/b"], each="weight = 1")


def copy_of(folder):
    (name,) = [name for name in os.listdir(test.place(folder)) if name.startswith("amalgam_recipe.")]
    with open(test.place(folder, name)) as file:
        return folder + "/" + name, file.read()


def check(recipe, *overrides, ranks=0, ending="yaml"):
    """Returns the hash of what is made, and what the copy says."""
    words = [word for override in overrides for word in ("--set", override)]
    report = test.place("report.json")
    result = test.merge(recipe, "out", *words, "--quiet", "--force", "--report", report, ranks=ranks)
    test.expect(result.returncode == 0, f"{recipe} {overrides}", result)
    made, (copy, text) = files_hash(test.place("out")), copy_of("out")
    test.expect(copy.endswith(ending), f"{recipe} {overrides}: {copy}")
    with open(test.place("out", "README.md")) as file:
        card = file.read()
    test.expect(text in card and f"amalgam merge {os.path.basename(copy)} out\n" in card, f"{recipe}: the card\n{card}")
    with open(test.place(recipe)) as file:
        given = file.read()
    facts = read_report(report)
    test.expect(facts["recipe"] == text and facts["overrides"] == list(overrides), f"{recipe}: the report", result)
    test.expect(facts.get("recipe_as_given", text) == given, f"{recipe}: what was given, in the report")
    result = test.merge(copy, "again", "--quiet", "--force")
    test.expect(result.returncode == 0, f"{recipe} {overrides}: the copy", result)
    test.expect(files_hash(test.place("again")) == made, f"{recipe} {overrides}: the copy makes something else\n{text}")
    test.expect(copy_of("again")[1] == text, f"{recipe} {overrides}: the copy's copy")
    return made, text


plain, text = check("plain.yaml")
test.expect(text == YAML, "the user's own text is kept")
other, text = check("plain.yaml", "models.0.parameters.weight=2", "parameters.lambda=0.7", ranks=2)
test.expect(other != plain and "lambda: 0.7" in text, "overrides count")
check("plain.yaml", "compat=paper", "models.1.parameters.weight=1", ending="toml")
check("plain.toml", "models.1.parameters.weight=[0,0.25,1]", "out_dtype=float32", ending="toml")
moved, text = check("elsewhere/beside.yaml")
test.expect(moved == plain and "elsewhere/a" in text, "models in the recipe's folder")
moved, text = check("elsewhere/beside.yaml", "models.0.parameters.weight=2", "parameters.lambda=0.7")
test.expect(moved == other, "overrides of a recipe beside its models")

# A conversion finds them from any working directory.
os.makedirs(test.place("deep/er"))
result = test.run("convert-recipe", "elsewhere/beside.yaml", "deep/er/r.toml", cwd=test.root)
test.expect(result.returncode == 0, "conversion into another folder", result)
result = test.merge(test.place("deep/er/r.toml"), test.place("converted"), "--quiet", cwd="/")
test.expect(result.returncode == 0 and files_hash(test.place("converted")) == plain, "a converted recipe", result)
result = test.run("convert-recipe", "elsewhere/beside.yaml", "elsewhere/r.toml", cwd=test.root)
with open(test.place("elsewhere/r.toml")) as file:
    test.expect('model = "a"' in file.read(), "nothing is renamed in the same folder", result)
test.done()
