"""amalgam doctor on a machine with one misconfigured thing after the other: each is named, and nothing else.

doctor_test.py PROGRAM MPIRUN [light]
"""

import json
import os
import subprocess
import sys
import tempfile

from program import Program

test = Program(sys.argv[1])
MPIRUN = [sys.argv[2], "--oversubscribe"]
os.environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
for name in [name for name in os.environ if name.startswith(("SLURM_", "PMI"))]:
    del os.environ[name]
folder = tempfile.TemporaryDirectory(prefix="amalgam-doctor-", dir="/tmp")


def doctor(want, *words, launcher=(), **variables):
    """Names of the problems, which are to be those in `want`. Speeds are measured once only."""
    result = test.run("doctor", "--json", "--probe", "0", *words, launcher=launcher, env=os.environ | variables)
    try:
        report = json.loads(result.stdout)
    except ValueError:
        test.expect(False, f"{want}: no JSON", result)
        return {}
    names = [problem["name"] for problem in report["problems"]]
    test.expect(names == want, f"{names} instead of {want}", result)
    test.expect((result.returncode == 0) == (not want), f"exit code of {want}", result)
    test.expect(all(p["what"] and p["why"] and p["what_to_do"] for p in report["problems"]), "a text is missing", result)
    return report


def skip(what, why):
    print(f"skipped: {what}: {why}")


# Nothing is wrong that is not wrong with this machine
own = [problem["name"] for problem in json.loads(test.run("doctor", "--json", "--probe", "0", env=os.environ).stdout)["problems"]]
if own:
    skip("all of it", f"this machine has problems of its own: {', '.join(own)}")
    sys.exit(77)
report = doctor([])
test.expect(len(report["ranks"]) == 1 and report["ranks"][0]["memory"] > 0, f"one rank: {report}")
test.expect(report["ranks"][0]["cores"] == sorted(os.sched_getaffinity(0)), f"cores: {report}")
cores = os.cpu_count()
ranks = min(2, cores)
report = doctor([], launcher=[*MPIRUN, "--bind-to", "none", "-n", str(ranks)])
test.expect(len(report["ranks"]) == ranks, f"{ranks} ranks: {report}")
test.expect(report["ranks"][0]["launcher"] == "mpirun", f"launcher: {report}")
text = test.run("doctor", "--disk", folder.name, "--probe", "4MiB")
test.expect(text.returncode == 0 and "no problems" in text.stdout and folder.name in text.stdout, "as text", text)
measured = test.json("doctor", "--disk", folder.name, "--probe", "4MiB")["ranks"][0]["disks"][0]
test.expect(measured["write_rate"] > 0 and measured["read_rate"] > 0 and measured["free"] > 0, f"speed: {measured}")
test.expect(os.listdir(folder.name) == [], f"left on the disk: {os.listdir(folder.name)}")

# Disks
doctor([f"disk {folder.name}/nowhere"], "--disk", folder.name + "/nowhere")
doctor([f"room {folder.name}"], "--disk", folder.name, "--room", "1000PB")
report = doctor(["temporary-folder"], TMPDIR=folder.name + "/nowhere")
text = test.run("doctor", "--probe", "0", env=os.environ | {"TMPDIR": folder.name + "/nowhere"})
test.expect("problem: " in text.stdout and "why it matters: " in text.stdout and "what to do: " in text.stdout, "texts", text)
# A file may have no bytes: an error of the disk, not the end of the program. A sanitizer ends there before the program begins.
if "light" not in sys.argv[3:]:
    doctor(["temporary-folder"], launcher=["prlimit", "--fsize=0"])

# A full /tmp: on a file system of its own, which is gone with the process
apart = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
full = f"mount -t tmpfs -o size=64k full {folder.name} && {{ cat /dev/zero >{folder.name}/x 2>/dev/null; "
if subprocess.run([*apart, f"mount -t tmpfs full {folder.name}"], capture_output=True).returncode:
    skip("a full disk", "no file system can be mounted here")
else:
    within = [*apart, full + 'exec "$@"; }', "sh"]
    report = doctor(["temporary-folder"], launcher=within, TMPDIR=folder.name)
    test.expect("No space left" in report["problems"][0]["what"], f"{report['problems']}")
    # MPI would die of it: it is said before.
    doctor(["temporary-folder"], launcher=[*within, *MPIRUN, "-n", "2"], TMPDIR=folder.name)
    doctor([f"disk {folder.name}"], "--disk", folder.name, launcher=within)

# Memory
doctor(["memory-budget"], "--memory", "1000PB")
group = None
with open("/proc/self/cgroup") as file:
    lines = [line.strip().split(":", 2) for line in file]
for _, controllers, path in lines:
    if "memory" in controllers.split(","):
        group, limit = f"/sys/fs/cgroup/memory/amalgam-doctor-{os.getpid()}", "memory.limit_in_bytes"
    elif not controllers and os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        group, limit = f"/sys/fs/cgroup/amalgam-doctor-{os.getpid()}", "memory.max"
try:
    os.mkdir(group)
    with open(f"{group}/{limit}", "w") as file:
        file.write("400M")
except (OSError, TypeError) as error:
    skip("a small control group", error)
    if group and os.path.isdir(group):
        os.rmdir(group)
else:
    inside = ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]
    try:
        report = doctor(["little-memory"], launcher=inside)
        test.expect("limit 419 MB" in report["problems"][0]["what"], f"{report['problems']}")
        test.expect(report["ranks"][0]["memory_limit"] == 400 << 20, f"limit: {report['ranks']}")
        doctor(["memory-budget"], "--memory", "1GiB", launcher=inside)
    finally:
        os.rmdir(group)

# What Slurm says, without one
doctor(["not-launched"], SLURM_JOB_ID="1", SLURM_NTASKS="4")
step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}
doctor(["no-pmi"], **step)
doctor(["mpi"], **step, PMI_RANK="0")
doctor(["more-than-asked-for"], SLURM_JOB_ID="1", SLURM_MEM_PER_NODE="100")
other = test.run("doctor", "--json", env=os.environ | step | {"SLURM_PROCID": "1"})
test.expect(other.stdout == "" and other.returncode == 0, "only one of the tasks speaks", other)

# Cores
if cores < 2:
    skip("cores", "there is one only")
else:
    one = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
    report = doctor(["bound-to-few-cores"], launcher=[*one, *MPIRUN, "--bind-to", "none", "-n", "2"])
    test.expect("1 core" in report["problems"][0]["what"], f"{report['problems']}")
    doctor(["more-ranks-than-cores"], launcher=[*MPIRUN, "--bind-to", "none", "-n", str(cores + 1)])
folder.cleanup()
test.done()
