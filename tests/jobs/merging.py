"""What the tests of `amalgam merge` share: models of odd sizes, recipes, launchers, and what an output holds.

    TEST PROGRAM MPIEXEC [light] [tiny]

light: under a sanitizer, where a program starts and runs many times slower; tests then leave out repetitions, never kinds.
tiny: small tensors, for devices that are emulated.
"""

import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile

import numpy as np

from program import ROOT, Program

sys.path.insert(0, os.path.join(ROOT, "tests", "reference"))
import safetensors_io  # noqa: E402

# Rows that straddle blocks of 65,536 elements and ranks, vectors of several blocks, and the smallest of all kinds.
SHAPES = {
    "model.embed_tokens.weight": (501, 333),
    "model.layers.0.self_attn.q_proj.weight": (333, 333),
    "model.layers.0.self_attn.k_proj.weight": (37, 333),
    "model.layers.0.mlp.up_proj.weight": (401, 333),
    "model.layers.0.mlp.down_proj.weight": (333, 401),
    "model.layers.0.input_layernorm.weight": (333,),
    "model.layers.1.self_attn.q_proj.weight": (333, 333),
    "model.layers.1.mlp.up_proj.weight": (401, 333),
    "model.layers.1.input_layernorm.weight": (333,),
    "model.norm.weight": (333,),
    "odd.column.weight": (70001, 1),
    "odd.cube.weight": (7, 3, 1, 5),
    "odd.empty.weight": (0, 16),
    "odd.long.weight": (3 * 65536 + 17,),
    "odd.long_rows.weight": (2, 100003),
    "odd.one": (1,),
    "odd.scalar": (),
}


TINY_SHAPES = SHAPES | {
    "model.embed_tokens.weight": (61, 33),
    "model.layers.0.self_attn.q_proj.weight": (33, 33),
    "model.layers.0.self_attn.k_proj.weight": (7, 33),
    "model.layers.0.mlp.up_proj.weight": (41, 333),
    "model.layers.0.mlp.down_proj.weight": (33, 41),
    "model.layers.1.self_attn.q_proj.weight": (33, 33),
    "model.layers.1.mlp.up_proj.weight": (41, 33),
    "odd.column.weight": (701, 1),
    "odd.long.weight": (3 * 65536 + 17,),
    "odd.long_rows.weight": (2, 1003),
}


class Merging(Program):
    """A Program with a folder for everything, which done() removes."""

    def __init__(self, words):
        super().__init__(words[1])
        self.mpiexec = words[2]
        self.light = "light" in words[3:]
        self.shapes = TINY_SHAPES if "tiny" in words[3:] else SHAPES
        self.root = tempfile.mkdtemp(prefix="amalgam-test-")
        self.inputs = []  # folders in it that no merge may change
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_COMM", "PMI", "SLURM"))}
        for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_mpi_yield_when_idle"):
            self.environment.setdefault(name, "1")

    def need_gpu(self, words):
        """Where these ask for a GPU and there is none, the test is skipped, or fails if AMALGAM_REQUIRE_GPU is 1."""
        if "cuda" not in words or self.json("doctor")["ranks"][0]["gpus"]:
            return
        shutil.rmtree(self.root, ignore_errors=True)
        required = os.environ.get("AMALGAM_REQUIRE_GPU") == "1"
        print("AMALGAM_REQUIRE_GPU is 1, and the driver lists no GPU" if required else "no GPU is visible")
        sys.exit(1 if required else 77)

    def launcher(self, ranks):
        """0: alone, without mpirun"""
        return [self.mpiexec, "-n", str(ranks), "--oversubscribe"] if ranks else []

    def merge(self, recipe, out, *arguments, ranks=0, **keywords):
        keywords.setdefault("cwd", self.root)
        keywords.setdefault("env", self.environment)
        keywords.setdefault("timeout", 300 if self.light else 60)
        launcher = [*keywords.pop("before", []), *self.launcher(ranks)]
        return self.run("merge", recipe, out, *arguments, launcher=launcher, **keywords)

    def refused(self, what, recipe, *arguments, contains=(), ranks=0, out="out", left=False, **keywords):
        """One message with these texts, exit code 1, no output, inputs as before. `left`: a folder to go on from may be
        there, and is removed. The messages of mpirun itself do not count."""
        what = f"{what}, {ranks} ranks" if ranks else what
        before = self.inputs_hash(), os.path.lexists(self.place(out))
        result = self.merge(recipe, out, *arguments, "--quiet", ranks=ranks, **keywords)
        self.expect(result.returncode == 1, f"{what}: exit code {result.returncode}", result)
        self.expect_message(what, result.stderr, contains)
        self.expect(result.stdout == "", f"{what}: output of a command that fails", result)
        partial = self.place(out + ".partial")
        self.expect(left or not os.path.exists(partial), f"{what}: {partial} is left")
        shutil.rmtree(partial, ignore_errors=True)
        after = self.inputs_hash(), os.path.lexists(self.place(out))
        self.expect(after == before, f"{what}: an input was changed, or something is published")

    def expect_message(self, what, text, contains):
        lines = [line for line in text.splitlines() if "error: " in line]
        self.expect("Sanitizer" not in text, f"{what}: a sanitizer's report\n{text}")
        # Ranks that meet an error together may be too slow under a sanitizer to end each other before they speak.
        self.expect(len(lines) == 1 or (self.light and lines), f"{what}: not one message\n{text}")
        for words in contains:
            self.expect(all(words in line for line in lines), f'{what}: "{words}" is not in the message\n{text}')

    def inputs_hash(self):
        return {name: folder_hash(self.place(name)) for name in self.inputs}

    def place(self, *parts):
        return os.path.join(self.root, *parts)

    def write(self, name, text):
        with open(self.place(name), "w") as file:
            file.write(text)
        return name

    def recipe(self, name, method, models, base=None, each="", shared="", top=""):
        """TOML; `each`: parameters of every model, `shared`: of the whole, both as "weight = 1, t = 2"; `top`: more lines"""
        lines = [f'merge_method = "{method}"'] + ([f'base_model = "{base}"'] if base else []) + [top]
        lines += [f"parameters = {{ {shared} }}"] if shared else []
        for model in models:
            lines += ["[[models]]", f'model = "{model}"'] + ([f"parameters = {{ {each} }}"] if each else [])
        return self.write(name + ".toml", "\n".join(lines) + "\n")

    def done(self):
        shutil.rmtree(self.root, ignore_errors=True)
        super().done()


def expert_values(shapes, seed, model):
    """Model 0 is the base. A third of an expert's elements are the base's, others differ by few distinct amounts or by
    many, so that thresholds fall among equal magnitudes too. Exact in bfloat16."""
    values = {}
    for index, (name, shape) in enumerate(shapes.items()):
        grid = np.random.Generator(np.random.SFC64([seed, index])).integers(-64, 65, shape) / 128.0
        if model:
            rng = np.random.Generator(np.random.SFC64([seed, index, model]))
            fine = index % 3 == 0
            step = rng.integers(-20, 21, shape) / 512.0 if fine else rng.integers(-3, 4, shape) / 128.0
            grid = np.where(rng.random(shape) < 0.67, grid + step, grid)
        values[name] = np.asarray(grid, "f8")
    return values


def config(layers=2):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 333,
        "num_hidden_layers": layers,
        "vocab_size": 501,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": True,
    }


def write_model(folder, values, dtype, shards=1):
    """`dtype`: one for all, or a function of the name"""
    pick = dtype if callable(dtype) else lambda name: dtype
    tensors = {name: safetensors_io.encode(pick(name), v) for name, v in values.items()}
    safetensors_io.write_model(folder, tensors, config(), shards)
    return folder


def files_hash(folder):
    """of all that a merge decides: weights, index, config"""
    whole = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        if name.endswith((".safetensors", ".index.json")) or name == "config.json":
            with open(os.path.join(folder, name), "rb") as file:
                whole.update(name.encode() + file.read())
    return whole.hexdigest()[:16]


def tensor_hashes(folder):
    """name -> dtype, shape, hash of its bytes, whatever the files; reads the format itself, to the last byte"""
    result = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        length = struct.unpack("<Q", data[:8])[0]
        for tensor, entry in json.loads(data[8 : 8 + length]).items():
            if tensor == "__metadata__":
                continue
            if tensor in result:
                raise ValueError(f"{folder}: {tensor} is there twice")
            begin, end = entry["data_offsets"]
            content = data[8 + length + begin : 8 + length + end]
            if len(content) != end - begin:
                raise ValueError(f"{folder}: {tensor} is cut off")
            result[tensor] = (entry["dtype"], tuple(entry["shape"]), hashlib.sha256(content).hexdigest()[:16])
    return result


def folder_hash(folder):
    """of every file in it, for inputs that must not change"""
    whole = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(place, name)
            whole.update(os.path.relpath(path, folder).encode())
            with open(path, "rb") as file:
                whole.update(file.read())
    return whole.hexdigest()[:16]


def read_report(path):
    with open(path) as file:
        return json.load(file)
