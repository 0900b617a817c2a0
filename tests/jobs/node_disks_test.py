"""Models on the disks of different nodes: ranks in different working directories, where the same relative paths lead to
different models. The bytes are those of one disk.

node_disks_test.py AMALGAM MPIEXEC [light]
"""

import os
import shutil
import subprocess
import sys

from merging import Merging

program = Merging(sys.argv)
shared = os.path.join(program.root, "shared")
everything = os.path.join(program.root, "everything")
disks = [os.path.join(program.root, f"disk{i}") for i in range(3)]
PLACES = {"expert-1": 1, "expert-2": 0, "expert-3": 2, "expert-4": 1, "expert-5": 2}


def prepare():
    words = ("--experts", "5", "--hidden", "64", "--heads", "4", "--mlp", "176", "--layers", "2", "--vocabulary", "1100")
    program.expect(program.run("synthesize", everything, *words, "--quiet").returncode == 0, "synthesize")
    with open(os.path.join(everything, "base", "tokenizer.json"), "w") as file:
        file.write("{}")
    os.mkdir(shared)
    for number, disk in enumerate(disks):
        os.mkdir(disk)
        for name in ("base", *(model for model, place in PLACES.items() if place == number)):
            shutil.copytree(os.path.join(everything, name), os.path.join(disk, name))


def write_recipe(name, head, places):
    path = os.path.join(shared, name + ".toml")
    models = "".join(f'{{model = "{model}", group = {group}}},\n' for model, group in places.items())
    with open(path, "w") as file:
        file.write(f'{head}base_model = "base"\nmodels = [\n{models}]\n')
    return path


def on_disks(recipe, out, rows):
    """`rows` ranks on each disk."""
    words = [program.mpiexec, "--oversubscribe"]
    for disk in disks:
        words += [":"] if disk != disks[0] else []
        words += ["-n", str(rows), "--wdir", disk, os.path.abspath(sys.argv[1]), "merge", recipe, out, "--quiet"]
    return subprocess.run(words, capture_output=True, text=True, env=program.environment, timeout=120)


def content(folder):
    result = {}
    for name in sorted(os.listdir(folder)):
        if name not in ("README.md", ".amalgam.key"):  # the command, and a hash of it
            with open(os.path.join(folder, name), "rb") as file:
                result[name] = file.read()
    return result


def check_same(name, head):
    recipe = write_recipe(name, head, PLACES)
    one = os.path.join(shared, name + "-one")
    result = program.merge(recipe, one, "--model-groups", "1", "--quiet", cwd=everything)
    program.expect(result.returncode == 0, f"{name}: one disk", result)
    for rows in (1, 2):
        out = os.path.join(shared, f"{name}-{rows}")
        result = on_disks(recipe, out, rows)
        program.expect(result.returncode == 0, f"{name}: {rows} ranks a disk", result)
        differing = [key for key in content(one) if content(one)[key] != content(out).get(key)]
        same = not differing and len(content(out)) == len(content(one))
        program.expect(same, f"{name}: {rows} ranks a disk: {differing}")
        again = on_disks(recipe, out, rows)
        program.expect(again.returncode == 0, f"{name}: a second start finds it finished", again)
        again = program.merge(recipe, out, "--model-groups", "1", "--quiet", cwd=everything)
        program.expect(again.returncode == 0, f"{name}: fingerprints of other disks are those of one", again)


def check_refused(what, recipe, contains):
    out = os.path.join(shared, "refused")
    result = on_disks(recipe, out, 2)
    program.expect(result.returncode == 1, f"{what}: exit code", result)
    program.expect(all(text in result.stderr for text in contains), f"{what}: message", result)
    program.expect(result.stderr.count("error:") == 1, f"{what}: one message", result)
    program.expect(not os.path.exists(out) and not os.path.exists(out + ".partial"), f"{what}: output")


def check_errors():
    head = 'merge_method = "task_arithmetic"\nparameters.weight = 0.5\n'
    wrong = dict(PLACES, **{"expert-5": 0})
    check_refused(
        "a wrong group",
        write_recipe("wrong", head, wrong),
        ["expert-5/", "is not on the disk of this rank, though group 0 of the ranks reads it"],
    )
    check_refused("no such model", write_recipe("none", head, {"expert-9": 0}), ["expert-9"])
    tokenizer = os.path.join(disks[2], "expert-3", "tokenizer.json")
    shutil.copy(os.path.join(disks[2], "base", "tokenizer.json"), tokenizer)
    check_refused(
        "a tokenizer elsewhere",
        write_recipe("tokenizer", head + 'tokenizer_source = "expert-3"\n', PLACES),
        ["expert-3: tokenizer and generation files are to come from this model"],
    )
    os.remove(tokenizer)
    damaged = os.path.join(disks[2], "expert-3", "model.safetensors")
    os.rename(damaged, damaged + ".whole")
    with open(damaged, "wb") as file:
        file.write(b"\0" * 100)
    check_refused("a damaged header", write_recipe("damaged", head, PLACES), ["expert-3/model.safetensors"])
    os.rename(damaged + ".whole", damaged)
    shutil.move(os.path.join(disks[1], "base"), os.path.join(program.root, "moved"))
    check_refused("no base on a disk", write_recipe("base", head, PLACES), ["base/", "every group of ranks reads it"])
    shutil.move(os.path.join(program.root, "moved"), os.path.join(disks[1], "base"))


prepare()
check_same("ties", 'merge_method = "ties"\nparameters = {density = 0.3, weight = 0.7}\n')
check_same("blend", 'merge_method = "karcher"\ntokenizer_source = "base"\n')
if not program.light:
    check_same("select", 'merge_method = "sce"\nparameters.select_topk = 0.4\n')
check_errors()
program.done()
