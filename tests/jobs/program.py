"""Runs the program and collects what is not as it should be. Standard library only."""

import json
import os
import struct
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ZOO = os.path.join(ROOT, "tests/data/zoo/models")
PARITY = os.path.join(ROOT, "tests/data/parity")


class Program:
    """Program("path/to/amalgam"); expectations that fail are printed, and done() ends with their number."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.failures = 0

    def run(self, *words, launcher=(), **keywords):
        keywords.setdefault("timeout", 50)
        return subprocess.run([*launcher, self.path, *map(str, words)], capture_output=True, text=True, **keywords)

    def json(self, *words, **keywords):
        result = self.run(*words, "--json", **keywords)
        self.expect(result.returncode == 0, f"{words}: exit code {result.returncode}", result)
        return json.loads(result.stdout)

    def expect(self, condition, what, result=None):
        if condition:
            return
        self.failures += 1
        print(f"FAILED: {what}")
        if result is not None:
            print(
                f"  {' '.join(map(str, result.args[-8:]))}: {result.returncode}\n"
                f"{result.stdout[-3000:]}{result.stderr[-2000:]}"
            )

    def expect_error(self, code, *words, contains=(), **keywords):
        """One error message on stderr, nothing on stdout, this exit code."""
        result = self.run(*words, **keywords)
        self.expect(result.returncode == code, f"exit code {result.returncode} instead of {code}", result)
        self.expect(result.stdout == "", "output of a command that fails", result)
        self.expect(result.stderr.count("error: ") == 1, "not one error message", result)
        for text in contains:
            self.expect(text in result.stderr, f'"{text}" is not in the message', result)
        return result

    def done(self):
        print(f"{self.failures} failures")
        sys.exit(1 if self.failures else 0)


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes)"""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def write_model(folder, tensors, config=None):
    os.makedirs(folder)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    if config is not None:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file)
    return folder
