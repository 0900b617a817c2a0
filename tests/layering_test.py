"""Includes follow the layers: arrows go down only, and heavy libraries stay behind the files that own them.

layering_test.py SOURCE_FOLDER
"""
import collections
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])

# From the bottom up: a folder includes itself and what stands before it.
LAYERS = ["kernels", "src/base", "src/device", "src/comm", "src/checkpoint", "src/plan", "src/recipe",
          "src/evaluate", "src/search", "src/run", "jobs"]
# Exceptions from that order: a plan is pure data.
NEVER = {"src/plan": {"src/comm", "src/device"}}
# Library: pattern of its headers, and the folder whose .cc files (at most two) may include them; "" is any file there.
OWNED = {
    "MPI": (r"mpi\.h", "src/comm"),
    "NCCL": (r"nccl\.h", "src/comm"),
    "CUDA": (r"cuda.*", "src/device"),
    "cuBLAS": (r"cublas.*", "src/device"),
    "HDF5": (r"(hdf5|H5.*)\.h", "src/search"),
    "Eigen": (r"(unsupported/)?Eigen/.*", "src/search"),
    "oneDNN": (r"(oneapi/)?dnnl.*", "src/evaluate"),
    "toml++": (r"toml(\+\+|plusplus)?/.*|toml\.hpp?", "src/recipe"),
    "yaml-cpp": (r"yaml-cpp/.*", "src/recipe"),
}
MOST_OWNERS = 2

problems = []
owners = collections.defaultdict(set)


def layer(path):
    return next((name for name in LAYERS if path.startswith(name + "/")), None)


def check_own(path, line, own, included):
    place = f"{path}:{line}: includes {included}"
    if not (root / included).is_file():
        problems.append(f"{place}, which is not in the tree: includes are relative to the root")
        return
    target = layer(included)
    if target is None:
        problems.append(f"{place}, which is in no layer")
    elif LAYERS.index(target) > LAYERS.index(own) or target in NEVER.get(own, ()):
        problems.append(f"{place}: {own} may not use {target}")
    elif target == "jobs" and own != "jobs":
        problems.append(f"{place}: nothing includes the program")


def check_library(path, line, own, included):
    place = f"{path}:{line}: includes <{included}>"
    if included.startswith("boost/") and own != "jobs" and not included.startswith("boost/math/"):
        problems.append(f"{place}: Boost is for jobs/ only, but for Boost.Math")
    for library, (pattern, folder) in OWNED.items():
        if not re.fullmatch(pattern, included) or path.startswith("kernels/cuda/"):
            continue
        owners[library].add(path)
        if own != folder or not path.endswith(".cc"):
            problems.append(f"{place}: {library} belongs to .cc files of {folder}/")


files = sorted(path for folder in ("kernels", "src", "jobs") for path in (root / folder).rglob("*")
               if path.suffix in (".h", ".cc", ".cu", ".cuh"))
for file in files:
    path = file.relative_to(root).as_posix()
    own = layer(path)
    if own is None:
        problems.append(f"{path}: in no layer; new folders get their place in {sys.argv[0]}")
        continue
    text = file.read_text()
    if file.suffix in (".h", ".cuh") and "#pragma once" not in text:
        problems.append(f"{path}: without #pragma once")
    if text.count("\n") > 500:
        problems.append(f"{path}: longer than 500 lines: split it")
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if not found:
            continue
        (check_own if found[1] == '"' else check_library)(path, number, own, found[2])

for library, paths in owners.items():
    if len(paths) > MOST_OWNERS:
        problems.append(f"{library} is included by {len(paths)} files, at most {MOST_OWNERS} may: {', '.join(sorted(paths))}")
if not files:
    problems.append(f"no sources in {root}")

print("\n".join(problems) or f"{len(files)} files")
sys.exit(1 if problems else 0)
