"""The files of slurm/ without a cluster: lines that are to be the same are, shellcheck has nothing to say, and each knob of
environment.sh sets what it should.

files_test.py
"""

import os
import shutil
import subprocess
import sys

from local_slurm import SCRIPTS, knobs

BATCH = ["merge.sbatch", "evolve.sbatch", "sweep.sbatch"]
failures = 0


def expect(condition, what):
    global failures
    if not condition:
        failures += 1
        print(f"FAILED: {what}")


def same_lines(script):
    with open(os.path.join(SCRIPTS, script)) as file:
        text = file.read()
    first, last = text.find("# ---- Below here nothing"), text.find("# ---- The end of the lines that are the same. ----")
    expect(0 < first < last, f"{script}: the lines that are the same are not marked")
    return text[first:last]


for script in BATCH[1:]:
    expect(same_lines(script) == same_lines(BATCH[0]), f"{script} and {BATCH[0]} differ in the lines that are said to be the same")
for script in BATCH:
    with open(os.path.join(SCRIPTS, script)) as file:
        above = file.read().split("# ---- Below here nothing")[0].splitlines()
    for name in knobs(script):
        line = next((line for line in above if line.startswith(f"{name}=")), "")
        expect("#" in line, f"{script}: {name} is not explained, or stands where nothing needs editing")

if shutil.which("shellcheck"):
    checked = subprocess.run(["shellcheck", *(os.path.join(SCRIPTS, name) for name in sorted(os.listdir(SCRIPTS)))],
                             capture_output=True, text=True)  # fmt: skip
    expect(checked.returncode == 0, f"shellcheck:\n{checked.stdout}")
else:
    print("no shellcheck here")

# Each knob of environment.sh
changed = set()


def sourced(before="", **variables):
    """exit code, and what is exported besides the knobs themselves"""
    changed.update(name for name, value in variables.items() if name in knobs("environment.sh"))
    words = ["bash", "-c", f'{before}\n. "$0" || exit\nenv -0', os.path.join(SCRIPTS, "environment.sh")]
    result = subprocess.run(words, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **variables})
    found = dict(entry.split("=", 1) for entry in result.stdout.split("\0") if "=" in entry)
    own = {"PATH", "PWD", "SHLVL", "_"} | set(knobs("environment.sh")) | {name for name in found if name.startswith("BASH_FUNC")}
    return result.returncode, {name: value for name, value in found.items() if name not in own}, result.stderr


def expect_exports(want, **variables):
    code, found, errors = sourced(**variables)
    want = {"NCCL_DEBUG": "WARN"} | want
    expect(code == 0 and found == want, f"environment.sh, {variables}: {found} {errors} instead of {want}")


UCX = {"OMPI_MCA_pml": "ucx", "UCX_TLS": "rc,sm,self", "OMPI_MCA_btl": "^openib"}
LIBFABRIC = {"OMPI_MCA_pml": "cm", "OMPI_MCA_mtl": "ofi"}
CARDS = {"UCX_NET_DEVICES": "mlx5_0:1", "NCCL_IB_HCA": "mlx5_0:1"}
LO = {"NCCL_SOCKET_IFNAME": "lo", "OMPI_MCA_oob_tcp_if_include": "lo", "OMPI_MCA_btl_tcp_if_include": "lo"}
expect_exports({})
expect_exports({}, FABRIC="auto")
expect_exports(UCX, FABRIC="infiniband")
expect_exports(UCX | CARDS, FABRIC="infiniband", DEVICES="mlx5_0:1")
expect_exports(UCX | {"UCX_IB_GID_INDEX": "3", "NCCL_IB_GID_INDEX": "3"}, FABRIC="roce")
expect_exports(UCX | CARDS | {"UCX_IB_GID_INDEX": "5", "NCCL_IB_GID_INDEX": "5"}, FABRIC="roce", GID_INDEX="5", DEVICES="mlx5_0:1")
expect_exports(LIBFABRIC | {"FI_PROVIDER": "cxi", "NCCL_NET": "AWS Libfabric", "NCCL_CROSS_NIC": "1", "FI_CXI_ATS": "0"},
               FABRIC="slingshot")  # fmt: skip
expect_exports({"OMPI_MCA_pml": "cm", "OMPI_MCA_mtl": "psm2"}, FABRIC="omnipath")
expect_exports(LIBFABRIC | {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1"}, FABRIC="efa")
expect_exports({"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self,vader,tcp", "NCCL_IB_DISABLE": "1"}, FABRIC="tcp")
expect_exports(LO, INTERFACE="lo")
expect_exports({"NCCL_DEBUG": "INFO"}, NCCL_LOG="INFO")
# What is set already stays
expect_exports(UCX | {"UCX_TLS": "dc"}, FABRIC="infiniband", UCX_TLS="dc")
code, _, errors = sourced(FABRIC="ethernet")
expect(code != 0 and "FABRIC=ethernet" in errors and "roce" in errors, f"FABRIC=ethernet: {code} {errors}")
LOADS = 'module() { [ "$1" = load ] && shift && [ "$1" != none ] && export LOADED="$*"; }'
code, found, errors = sourced(LOADS, MODULES="gcc/12 openmpi/4.1")
expect(code == 0 and found.get("LOADED") == "gcc/12 openmpi/4.1", f"MODULES: {code} {found} {errors}")
code, _, errors = sourced(LOADS, MODULES="none")
expect(code != 0 and "module load none failed" in errors, f"a module that is not there: {code} {errors}")
left = set(knobs("environment.sh")) - changed
expect(len(changed) > 4 and not left, f"environment.sh: this test changed no {', '.join(sorted(left))}")
print(f"{failures} failures")
sys.exit(1 if failures else 0)
