"""The files of slurm/ without a cluster: lines that are to be the same are, shellcheck has nothing to say, each knob of
environment.sh sets what it should, and all jobs of a chain agree about what was edited in the first one's file.

files_test.py
"""

import os
import shutil
import subprocess
import sys
import tempfile

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

# A chain: what is edited in the first job's file holds for all jobs, unless it is set where the chain is started.
SBATCH = """#!/bin/bash
number=$(($(cat count) + 1)); echo $number >count
if [ -r "${!#}" ]; then # the first job, as far as its variables go
    sed '/^# ---- Below here/,$d' "${!#}" >head
    echo 'printf "%s\\n" "${OUT-}" "${RUN-}" "$AMALGAM" "$SITE" "${REPORT-}" >first' >>head
    SLURM_JOB_ID=$number bash head >&2
else
    cat >script.$number
fi
echo $number
"""
PROGRAM = '#!/bin/bash\necho "$0 $* SITE=${SITE_WAS_READ-}" >>calls\n[ "$1" != evaluate ] || : >"${!#}"\n'
NAMES = ("OUT", "RUN", "AMALGAM", "SITE", "REPORT")


def program(path):
    with open(path, "w") as file:
        file.write(SBATCH if path.endswith("sbatch") else PROGRAM)
    os.chmod(path, 0o755)


def chain(first, edits, **variables):
    """exit code, the first job's variables, how the later jobs call the program, messages"""
    with tempfile.TemporaryDirectory() as work, open(os.path.join(SCRIPTS, first)) as file:
        text = file.read()
        for old, new in edits.items():
            expect(text.count(old) == 1, f"{first} has no {old}, or several")
            text = text.replace(old, new)
        os.makedirs(os.path.join(work, "bin"))
        for name in ("bin/sbatch", "bin/amalgam", "bin/scancel", "mine", "other"):
            program(os.path.join(work, name))
        for name, content in {"my.sbatch": text, "count": "70", "task.jsonl": "", "site.sh": "export SITE_WAS_READ=yes"}.items():
            with open(os.path.join(work, name), "w") as file:
                file.write(content)
        environment = {"PATH": os.path.join(work, "bin") + ":" + os.environ["PATH"], "FIRST": "my.sbatch", "TASKS": "task.jsonl"}
        ran = subprocess.run([os.path.join(SCRIPTS, "evaluate-after.sh")], cwd=work, env=environment | variables,
                             capture_output=True, text=True)  # fmt: skip
        found = {}
        if os.path.exists(os.path.join(work, "first")):
            with open(os.path.join(work, "first")) as file:
                found = {name: value for name, value in zip(NAMES, file.read().split("\n")) if value}
        for number in (72, 73):
            script = os.path.join(work, f"script.{number}")
            if os.path.exists(script):
                later = {"PATH": environment["PATH"]}
                subprocess.run(["bash", script], cwd=work, env=later, capture_output=True)
        try:
            with open(os.path.join(work, "calls")) as file:
                calls = [line.replace(work + "/bin/", "") for line in file.read().splitlines()]
        except OSError:
            calls = []
        return ran.returncode, found, calls, ran.stderr


def expect_chain(first, edits, want, *calls, **variables):
    code, found, called, errors = chain(first, edits, **variables)
    what = f"evaluate-after.sh, {first}, {edits}, {variables}"
    expect(code == 0 and found == want, f"{what}: {code} {errors} the first job has {found} instead of {want}")
    expect(called == list(calls), f"{what}: called as {called} instead of {list(calls)}")


SCORED, PAGE = "--task task.jsonl --json report/scores-0.json SITE=", "--out report/search.html SITE="
PLAIN = {"AMALGAM": "amalgam", "SITE": "slurm/environment.sh"}
expect_chain("merge.sbatch", {}, PLAIN | {"OUT": "merged", "REPORT": "report/merge.json"}, f"amalgam evaluate merged {SCORED}")
expect_chain("evolve.sbatch", {}, PLAIN | {"RUN": "run"}, f"amalgam evaluate run/best {SCORED}", f"amalgam report run {PAGE}")
EDITED = {"AMALGAM:-amalgam}": "AMALGAM:-./mine}", "SITE:-slurm/environment.sh}": "SITE:-site.sh}"}
MERGE = EDITED | {"OUT:-merged}": "OUT:-/scratch/me/merged70b}", "REPORT:-}": "REPORT:-mine.json}"}
MINE = {"AMALGAM": "./mine", "SITE": "site.sh"}
expect_chain("merge.sbatch", MERGE, MINE | {"OUT": "/scratch/me/merged70b", "REPORT": "mine.json"},
             f"./mine evaluate /scratch/me/merged70b {SCORED}yes")  # fmt: skip
expect_chain("evolve.sbatch", EDITED | {"RUN:-run}": "RUN:-runs/third}"}, MINE | {"RUN": "runs/third"},
             f"./mine evaluate runs/third/best {SCORED}yes", f"./mine report runs/third {PAGE}yes")  # fmt: skip
expect_chain("merge.sbatch", MERGE, {"AMALGAM": "./other", "SITE": "slurm/environment.sh", "OUT": "o u t", "REPORT": "r.json"},
             f"./other evaluate o u t {SCORED}", AMALGAM="./other", SITE="slurm/environment.sh", OUT="o u t", REPORT="r.json")  # fmt: skip
# Values that are fixed, that use another one, or the number of the job
expect_chain("merge.sbatch", EDITED | {"OUT=${OUT:-merged}": "WHERE=/scratch/$SLURM_JOB_ID; echo hello\nOUT=$WHERE/merged"},
             MINE | {"OUT": "/scratch/71/merged", "REPORT": "report/merge.json"}, f"./mine evaluate /scratch/71/merged {SCORED}yes")  # fmt: skip
expect_chain("merge.sbatch", EDITED | {"OUT:-merged}": "OUT:-in/$RECIPE}"}, MINE | {"OUT": "other", "REPORT": "report/merge.json"},
             f"./mine evaluate other {SCORED}yes", OUT="other")  # fmt: skip
for words, first, edits in [
    ("FIRST=my.sbatch: it must be a copy", "sweep.sbatch", {}),
    ("FIRST=my.sbatch: it must be a copy", "merge.sbatch", {"# ---- Below here nothing needs editing.": ""}),
    ("FIRST=my.sbatch: it must be a copy", "environment.sh", {}),
    ("it sets no OUT", "merge.sbatch", {"OUT=${OUT:-merged}": "OUT="}),
    ("SITE=nowhere.sh: there is no such file", "merge.sbatch", {"SITE:-slurm/environment.sh}": "SITE:-nowhere.sh}"}),
]:
    code, found, _, errors = chain(first, edits)
    expect(code == 2 and words in errors and not found, f"{first}, {edits}: {code} {errors} {found}")
print(f"{failures} failures")
sys.exit(1 if failures else 0)
