"""`amalgam plan`: amounts that can be counted by hand, many ranks quickly, without the weights.

plan_test.py AMALGAM
"""

import os
import shutil
import struct
import sys
import tempfile
import time

from program import PARITY, Program, ROOT, write_model

program = Program(sys.argv[1])
EXAMPLE = os.path.join(ROOT, "configs/machine-example.toml")
BLOCK = 65536


def sparse_model(folder, tensors):
    """Files with headers only: the weights are a hole."""
    write_model(folder, {})
    text = "{"
    offset = 0
    for name, shape in tensors.items():
        count = 2
        for dimension in shape:
            count *= dimension
        comma = "," if offset else ""
        text += f'{comma}"{name}":{{"dtype":"BF16","shape":{shape},"data_offsets":[{offset},{offset + count}]}}'
        offset += count
    header = (text + "}").encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + offset)
    return offset


def check_parity():
    recipe = os.path.join(PARITY, "recipes/linear.yaml")
    facts = program.json("inspect", recipe, cwd=PARITY)
    for ranks in (1, 2, 5, 64):
        plan = program.json("plan", recipe, "--ranks", ranks, cwd=PARITY)
        program.expect(len(plan["ranks"]) == ranks, f"{ranks} ranks")
        program.expect(
            plan["total"]["bytes_written"] == facts["bytes_written"], f"{ranks} ranks: written {plan['total']}"
        )
        program.expect(plan["total"]["bytes_read"] >= facts["bytes_read"], f"{ranks} ranks: read {plan['total']}")
        program.expect(
            plan["total"]["collectives"] == 0 and plan["total"]["bytes_read_again"] == 0,
            "an average needs no statistics",
        )
    program.expect(
        program.json("plan", recipe, cwd=PARITY)["total"]["bytes_read"] == facts["bytes_read"],
        "one rank reads everything once",
    )
    text = program.run("plan", recipe, "--ranks", 3, "--machine", EXAMPLE, cwd=PARITY).stdout
    program.expect(
        text.count("\n  0 ") == 1 and "\n  2 " in text and "\n  all " in text and "<- the bound" in text,
        "text for 3 ranks\n" + text,
    )
    text = program.run("plan", recipe, "--ranks", 200, cwd=PARITY).stdout
    program.expect(
        "(least)" in text and "(most)" in text and len(text.splitlines()) < 12, "text for 200 ranks\n" + text
    )


def check_budgets():
    """What merge refuses"""
    recipe = os.path.join(PARITY, "recipes/linear.yaml")
    program.expect_error(2, "plan", recipe, "--memory", "0", cwd=PARITY, contains=["--memory 0"])
    program.expect_error(1, "plan", recipe, "--memory", "1KiB", cwd=PARITY, contains=["--memory 1024", "1048576"])


def check_large(folder):
    """A base and two experts of 80 layers, 140 GB each, that nobody has."""
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
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    size = [sparse_model(os.path.join(folder, name), shapes) for name in ("base", "a", "b")][0]
    recipe = os.path.join(folder, "ties.yaml")
    with open(recipe, "w") as file:
        file.write(
            "merge_method: ties\nbase_model: base\nparameters: {density: 0.2, weight: 1}\n"
            "models:\n  - model: a\n  - model: b\n"
        )
    start = time.time()
    plan = program.json("plan", recipe, "--ranks", 4096, "--memory", "1GiB", "--machine", EXAMPLE)
    seconds = time.time() - start
    program.expect(seconds < 5, f"4,096 ranks took {seconds:.1f} s")
    total = plan["total"]
    program.expect(total["bytes_written"] == size, f"written {total['bytes_written']}, size {size}")
    # A rank computes at most a block more than it owns at each end.
    program.expect(
        3 * size <= total["bytes_read"] <= 3 * size + 4096 * 2 * 3 * 2 * BLOCK, f"read {total['bytes_read']}"
    )
    program.expect(plan["imbalance"] < 1.01, f"imbalance {plan['imbalance']}")
    program.expect(
        plan["statistics_first"] and total["shared_tensors"] > 4096 and total["collectives"] > total["shared_tensors"],
        "thresholds",
    )
    program.expect(max(rank["memory"] for rank in plan["ranks"]) <= 1 << 30, "memory")
    times = plan["times"]
    program.expect(
        times["nodes"] == 1024
        and abs(times["read"] - total["bytes_read"] / 320e9) < 0.05 * times["read"]
        and times["bound"] == "read",
        f"times {times}",
    )

    alone = program.json("plan", recipe, "--ranks", 1, "--memory", "1GiB")["total"]
    program.expect(alone["bytes_read"] == 3 * size and alone["collectives"] == 0, f"one rank {alone}")
    elements = {name: shape[0] * (shape[1] if len(shape) > 1 else 1) for name, shape in shapes.items()}
    # A quarter of 1 GiB holds the inputs, 2 bytes an element each, of the others: those are read once. A sample reads ahead
    # 128 KiB at 1024 places of each input; two counts; 16 blocks of 65,536 elements for each of two trims, to cut equals.
    large = [count for count in elements.values() if 6 * count > 1 << 28]
    again = sum(min(6 * count, 3 * 2**27) + 2 * 6 * count + 2 * 6 * 2**20 for count in large)
    program.expect(alone["bytes_read_again"] == again, f"read again {alone['bytes_read_again']}, by hand {again}")
    roomy = program.json("plan", recipe, "--ranks", 1, "--memory", "1000GB")["total"]
    program.expect(roomy["bytes_read_again"] == 0 and roomy["bytes_passed"] == 9 * size, f"with room {roomy}")
    paper = program.json("plan", recipe, "--ranks", 1, "--memory", "100GB", "--set", "compat=paper")["total"]
    program.expect(paper["bytes_read_again"] == 9 * size, f"a trim of the whole model keeps nothing of it: {paper}")

    check_groups(recipe, folder, size)

    models = "".join("  - model: a\n" for _ in range(64))
    with open(recipe, "w") as file:
        file.write(f"merge_method: karcher\nmodels:\n{models}")
    blend = program.json("plan", recipe, "--ranks", 1024, "--machine", EXAMPLE)
    program.expect(blend["total"]["products"] == size / 2 * 64 * 65, f"products {blend['total']['products']}")
    program.expect(blend["times"]["bound"] in ("arithmetic", "read"), f"bound {blend['times']}")


def check_groups(recipe, folder, size):
    """a in one group, b in the other, the base in both."""
    alone = program.json("plan", recipe, "--ranks", 4)
    groups = program.json("plan", recipe, "--ranks", 4, "--model-groups", 2)
    program.expect(alone["model_groups"] == 1 and alone["total"]["bytes_handed_on"] == 0, "one group hands nothing on")
    program.expect(
        groups["model_groups"] == 2 and groups["hands_on_planes"] and groups["bytes_held"] == 2 * size, f"held {groups}"
    )
    # Four float32 planes to the second group; half of the result back, but for blocks on a border between ranks.
    planes, half = size // 2 * 16, size // 2
    program.expect(
        planes + half - 8 * 2 * BLOCK <= groups["total"]["bytes_handed_on"] <= planes + half + 8 * 16 * BLOCK,
        f"handed on {groups['total']['bytes_handed_on']}, by hand {planes + half}",
    )
    machine = os.path.join(folder, "machine.toml")
    with open(machine, "w") as file:
        file.write("read = 25\nnetwork = 1\nlocal = true\n")
    text = program.run("plan", recipe, "--ranks", 4, "--model-groups", 2, "--machine", machine).stdout
    program.expect("2 model groups: " in text and "models to disks" in text and "group" in text.splitlines()[-1], text)
    text = program.run("plan", recipe, "--ranks", 4, "--model-groups", 2, "--machine", EXAMPLE).stdout
    program.expect("does not pay, 1 is best" in text, text)
    program.expect_error(
        1, "plan", recipe, "--ranks", 4, "--model-groups", 3, contains=["does not divide 4 ranks: possible are 1, 2, 4"]
    )


def check_machines(folder):
    recipe = os.path.join(PARITY, "recipes/linear.yaml")
    path = os.path.join(folder, "machine.toml")
    for text, message in (
        ("reed = 3\n", 'did you mean "read"?'),
        ("\nread = -1\n", "machine.toml:2: read: must be a number above 0"),
        ("read = 'fast'\n", "read"),
        ("ranks_per_node = 0\n", "ranks_per_node"),
        ("read = \n", "machine.toml:1"),
        ("name = 3\n", "name"),
        ("local = 1\n", "local: must be true or false"),
    ):
        with open(path, "w") as file:
            file.write(text)
        program.expect_error(1, "plan", recipe, "--machine", path, cwd=PARITY, contains=[message])
    program.expect_error(1, "plan", recipe, "--machine", folder + "/none.toml", cwd=PARITY, contains=["none.toml"])
    with open(path, "w") as file:
        file.write("read = 1e-3\nwrite = 2e-3\n")
    times = program.json("plan", recipe, "--machine", path, cwd=PARITY)["times"]
    facts = program.json("inspect", recipe, cwd=PARITY)
    program.expect(
        abs(times["read"] - facts["bytes_read"] / 1e6) < 1e-9
        and abs(times["write"] - facts["bytes_written"] / 2e6) < 1e-9
        and times["memory"] == 0
        and times["bound"] == "read",
        f"a slow disk: {times}",
    )


check_parity()
check_budgets()
with tempfile.TemporaryDirectory() as temporary:
    check_large(temporary)
    shutil.rmtree(os.path.join(temporary, "base"))
    check_machines(temporary)
program.done()
