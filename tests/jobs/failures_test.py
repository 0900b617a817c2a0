"""What cannot be merged: one clear message, exit code 1, no hang, nothing published, no input touched.

failures_test.py PROGRAM MPIEXEC [light]
"""

import json
import os
import shutil
import struct
import sys

import numpy as np

from merging import Merging, config, expert_values, safetensors_io, tensor_hashes, write_model
from program import ZOO


test = Merging(sys.argv)
SHAPES = {
    "model.embed_tokens.weight": (40, 33),
    "model.layers.0.mlp.up_proj.weight": (50, 33),
    "model.layers.1.mlp.up_proj.weight": (50, 33),
    "model.norm.weight": (33,),
    "odd.long.weight": (3 * 65536 + 17,),
}
SOME = ["model.norm.weight", "odd.long.weight"]
CONFIG = {**config(), "vocab_size": 40}
WEIGHT = "weight = 0.5"


def values_of(model, names=SHAPES):
    return expert_values({name: SHAPES[name] for name in names}, 7, model)


def altered(name, change=lambda tensors: None, text=None, file=None):
    """Model e1 with something done to its tensors, its config's text or its file"""
    tensors = {k: safetensors_io.encode("BF16", v) for k, v in values_of(1).items()}
    change(tensors)
    folder = test.place(name)
    safetensors_io.write_model(folder, tensors, CONFIG)
    if text:
        test.write(name + "/config.json", text)
    if file:
        path = os.path.join(folder, "model.safetensors")
        with open(path, "rb") as before:
            content = before.read()
        with open(path, "wb") as after:
            after.write(file(content))
    return name


def linear(name, *models, top="", method="linear", base=None, each=WEIGHT, shared=""):
    return test.recipe(name, method, models, base, each, shared, top)


for number in range(3):
    write_model(test.place(f"e{number}" if number else "base"), values_of(number), "BF16", 1 + number % 2)
test.inputs += ["base", "e1", "e2"]


def input_of(name, *arguments, **keywords):
    test.inputs.append(altered(name, *arguments, **keywords))
    return name


GOOD = linear("good", "base", "e1", "e2")


def with_model(name, **keywords):
    return linear("with-" + name, "e2", name, **keywords)


# Files that are not what they say
def header_of(content):
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def other_header(change):
    def rewrite(content):
        header, data = header_of(content)
        text = json.dumps(change(header) or header).encode()
        return struct.pack("<Q", len(text)) + text + data

    return rewrite


def overlap(header):
    header["model.norm.weight"]["data_offsets"] = [0, 66]


def many_elements(header):
    header["model.norm.weight"]["shape"] = [2**62, 4]


input_of("no-json", file=lambda content: content[:8] + b"!" + content[9:])
test.refused("a header that is no JSON", with_model("no-json"), contains=["no-json/model.safetensors", "JSON"])
test.refused("a header that is no JSON", with_model("no-json"), contains=["no-json/model.safetensors"], ranks=3)
input_of("long-header", file=lambda content: struct.pack("<Q", 2**60) + content[8:])
test.refused("a header of 2^60 bytes", with_model("long-header"), contains=["long-header/model.safetensors"])
input_of("overlap", file=other_header(overlap))
test.refused("tensors that overlap", with_model("overlap"), contains=["overlap/model.safetensors", "overlap is not"])
input_of("overflow", file=other_header(many_elements))
test.refused("a shape of 2^64 elements", with_model("overflow"), contains=["overflow/model.safetensors"])
input_of("truncated", file=lambda content: content[:-1])
for ranks in (0, 3):
    test.refused("a truncated file", with_model("truncated"), contains=["truncated/model.safetensors"], ranks=ranks)
input_of("empty-file", file=lambda content: b"")
test.refused("an empty file", with_model("empty-file"), contains=["empty-file/model.safetensors"])
input_of("no-config-json", text="{]")
test.refused("a config.json that is no JSON", with_model("no-config-json"), contains=["no-config-json/config.json"])
shutil.copytree(test.place("e1"), test.place("lacks-shard"))
os.remove(test.place("lacks-shard", "model-00002-of-00002.safetensors"))
test.inputs.append("lacks-shard")
test.refused("a shard is missing", with_model("lacks-shard"), contains=["lacks-shard", "model-00002-of-00002.safetensors"])

# Models that are not there, cannot be read, are no models
missing = linear("missing", "e1", "no/such/model")
test.refused("a missing model", missing, contains=["missing.toml:6: ", "no/such/model"], ranks=3)
test.refused("a model of the hub", linear("hub", "e1", "org/name"), contains=["org/name", "download"])
commit = "0123456789abcdef0123456789abcdef01234567"
hub = test.place("hub")
snapshot = os.path.join(hub, "models--org--name/snapshots", commit)
os.makedirs(snapshot)
os.makedirs(os.path.join(hub, "models--org--name/refs"))
test.write("hub/models--org--name/refs/main", commit)
test.environment["HF_HUB_CACHE"] = hub
again = ["hub.toml:6: ", f"hf download org/name --revision {commit}"]
shutil.copy(test.place("e2", "config.json"), snapshot)
test.refused("a snapshot with a config only", linear("hub", "e1", "org/name"), contains=again)
os.symlink("../../blobs/gone", os.path.join(snapshot, "model.safetensors"))
test.refused("a link to no weights", linear("hub", "e1", "org/name"), contains=["model.safetensors", "link", *again])
os.remove(os.path.join(snapshot, "config.json"))
os.remove(os.path.join(snapshot, "model.safetensors"))
shutil.copy(test.place("e2", "model.safetensors"), snapshot)
os.symlink("../../blobs/gone", os.path.join(snapshot, "config.json"))
test.refused("a link to no config", linear("hub", "e1", "org/name"), contains=["config.json", "link", *again])
os.makedirs(test.place("nothing"))
test.refused("an empty folder", with_model("nothing"), contains=["nothing", "safetensors"])
shutil.copytree(test.place("e1"), test.place("locked"))
# The superuser may read everything, except without these capabilities.
weaker = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
for what in ("locked", "locked/config.json", "locked/model-00002-of-00002.safetensors"):
    mode = os.stat(test.place(what)).st_mode
    os.chmod(test.place(what), 0)
    if weaker and not shutil.which("setpriv"):
        print("skipped: files that cannot be read (no setpriv)")
    else:
        test.refused(f"{what} cannot be read", with_model("locked"), contains=[what, "ermission"], before=weaker)
    os.chmod(test.place(what), mode)
config_of_lora = os.path.join(ZOO, "math-en-lora")
test.refused("a PEFT adapter", linear("lora", "e1", config_of_lora), contains=["math-en-lora", "adapter"], ranks=3)
quantised = {"quantization_config": {"quant_method": "gptq", "bits": 4}, **CONFIG}
input_of("gptq", text=json.dumps(quantised))
test.refused("a quantised config", with_model("gptq"), contains=["gptq", "quantised", "dequantise"])


def fp8_with_scales(tensors):
    tensors["odd.long.weight"] = safetensors_io.encode("F8_E4M3", values_of(1)["odd.long.weight"])
    tensors["odd.long.weight_scale_inv"] = safetensors_io.encode("F32", [1.0])


input_of("fp8", fp8_with_scales)
test.refused("FP8 with scales", with_model("fp8"), contains=["fp8", "odd.long.weight_scale_inv", "dequantise"])

# Models that do not fit
input_of("lacks-norm", lambda tensors: tensors.pop("model.norm.weight"))
for ranks in (0, 3):
    names = ["lacks-norm", "model.norm.weight"]
    test.refused("a tensor is missing", with_model("lacks-norm"), contains=names, ranks=ranks)


def narrower(tensors):
    tensors["model.layers.1.mlp.up_proj.weight"] = safetensors_io.encode("BF16", np.zeros((50, 32)))


input_of("narrow", narrower)
test.refused("a shape", with_model("narrow"), contains=["model.layers.1.mlp.up_proj.weight", "50, 33", "50, 32", "narrow"])


def with_integers(number):
    """whole numbers in all blocks of ranks, `number` among the last of them"""

    def change(tensors):
        ids = np.arange(5 * 65536 + 3)
        ids[-2] += number
        tensors["position_ids"] = safetensors_io.integers("I64", ids)

    return change


for number in range(2):
    input_of(f"ids-{number}", with_integers(number))
ids = linear("ids", "ids-0", "ids-1")
for ranks in (0, 3):
    more = ["ids-1", "position_ids", "--integers base"]
    test.refused("integers differ", ids, contains=more, ranks=ranks)
test.refused("integers differ between groups", ids, "--model-groups", 2, contains=more, ranks=2)
result = test.merge(ids, "out", "--integers", "base", "--quiet", ranks=3)
test.expect(result.returncode == 0, "--integers base", result)
taken = tensor_hashes(test.place("out"))["position_ids"]
test.expect(taken == tensor_hashes(test.place("ids-0"))["position_ids"], "--integers base: not the base's")
shutil.rmtree(test.place("out"))


def not_finite(tensors):
    tensors["odd.long.weight"].bits[70000] = 0x7FC0


input_of("not-finite", not_finite)
for ranks in (0, 3):
    strict = ("--fail-on-nonfinite",)
    test.refused("NaN", with_model("not-finite"), *strict, contains=["--fail-on-nonfinite"], ranks=ranks, left=True)

# Recipes
lines = {
    "a key": ('merge_method = "linear"\nmodles = []\n', [":2:", '"modles"', '"models"']),
    "a method": ('merge_method = "teis"\n[[models]]\nmodel = "e1"\n', [":1:", '"teis"', '"ties"']),
    "TOML": ('merge_method = "ties\n', [":1:"]),
}
for what, (text, contains) in lines.items():
    name = test.write(f"wrong-{what[-3:]}.toml", text)
    test.refused(f"a recipe with a wrong {what}", name, contains=[name + contains[0], *contains[1:]])
yaml = "merge_method: ties\nbase_model: base\nmodels:\n  - model: e1\n    parameters:\n      density: {}\n      weight: {}\n"
name = test.write("wrong.yml", yaml.format(1.5, 1))
for ranks in (0, 3):
    test.refused("density 1.5", name, contains=["wrong.yml:6", "density", "1.5"], ranks=ranks)
name = test.write("wrong.yml", yaml.format(0.5, ".nan"))
test.refused("a weight of NaN", name, contains=["wrong.yml:7", "weight"])
name = test.write("wrong.yml", yaml.format("0.5\n      wieght: 1", 1))
test.refused("a misspelt parameter", name, contains=["wrong.yml:7:", '"wieght"', '"weight"'])
test.refused("no weight", linear("no-weight", "e1", "e2", each=""), contains=["no-weight.toml:", "weight"])
test.refused("no base", linear("no-base", "e1", method="ties", each="weight = 1, density = 1"), contains=["base_model"])
zero = linear("zero", "e1", "e2", each="weight = [0.0, 0.0]")
test.refused("weights that sum to 0", zero, contains=["weight", "0"])
test.refused("--set of nothing", GOOD, "--set", "parameters.wieght=1", contains=['"wieght"', '"weight"'])
test.refused("a folder as recipe", "e1", contains=["e1"])
test.refused("a memory too small", GOOD, "--memory", "4096", contains=["--memory"], left=True)
test.refused("a report that cannot be written", GOOD, "--report", "no/such/report", contains=["no/such/report"])

# Places that cannot become an output
for ranks in (0, 3):
    test.refused("inside of an input", GOOD, out="e1/out", contains=["e1/out", "inside", "e1"], ranks=ranks)
test.refused("an input", GOOD, out="e1", contains=["e1"])
test.refused("an input with --force", GOOD, "--force", out="e1", contains=["is the input"])
test.refused("what holds an input", GOOD, "--force", out=test.root, contains=[], cwd="/")
test.refused(".", GOOD, "--force", out=".", contains=["name of a folder"], cwd=test.root)
test.refused("no such parent", GOOD, out="no/such/out", contains=["no/such"])
test.refused("below a file", GOOD, out=GOOD + "/out", contains=[GOOD])
os.makedirs(test.place("others"))
test.write("others/precious.txt", "mine")
test.inputs.append("others")
for ranks in (0, 3):
    test.refused("a folder of others", GOOD, out="others", contains=["others", "--force"], ranks=ranks)


test.done()
