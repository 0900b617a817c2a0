"""What befalls a merge from outside: disks that are full or read-only, inputs that shrink while they are read, a second
job, what another recipe left. One message, exit code 1, nothing published; and the same command goes on afterwards.

disturbed_test.py PROGRAM MPIEXEC [light]
"""

import os
import shutil
import signal
import subprocess
import sys

from merging import Merging, files_hash
from started import Started

# Mounts of this script are nobody else's and end with it.
OWN_MOUNTS = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
if "AMALGAM_OWN_MOUNTS" not in os.environ:
    attempt = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    works = bool(shutil.which("unshare")) and subprocess.run(attempt, capture_output=True).returncode == 0
    os.environ["AMALGAM_OWN_MOUNTS"] = "yes" if works else ""
    if works:
        os.execvp("unshare", [*OWN_MOUNTS, sys.executable, *sys.argv])

test = Merging(sys.argv)
ELEMENTS = 1_000_000 if test.light else 6_000_000
BLOCKS = ELEMENTS / 65536
SETTINGS = ["--memory", "64MiB", "--threads", "1", "--quiet"]


def synthesize(name, elements, dtype):
    words = ["--experts", "4", "--flat", elements, "--dtype", dtype, "--quiet"]
    made = test.run("synthesize", test.place(name), *words, timeout=300)
    test.expect(made.returncode == 0, "synthesize", made)
    test.inputs += [f"{name}/{model}" for model in ("base", "expert-1", "expert-2", "expert-3", "expert-4")]
    return [f"{name}/expert-{number + 1}" for number in range(4)], f"{name}/base"


def finished(recipe, *arguments, **keywords):
    """hash of an output that must come about, and is removed"""
    out = keywords.pop("out", "out")
    result = test.merge(recipe, out, *SETTINGS, *arguments, **keywords)
    test.expect(result.returncode == 0, f"{recipe} {arguments} {keywords}", result)
    hash = files_hash(test.place(out)) if result.returncode == 0 else None
    remove(out)
    return hash


def remove(out):
    for path in (test.place(out), test.place(out + ".partial")):
        shutil.rmtree(path, ignore_errors=True)


EACH = "weight = 1, density = 0.2"
SMALL = test.recipe("small", "ties", *synthesize("small", 100_000, "bfloat16"), EACH)
LARGE = test.recipe("large", "ties", *synthesize("large", ELEMENTS, "float32"), EACH)
OTHER = test.recipe("other", "linear", ["small/expert-1", "small/expert-2"], None, "weight = 1")
want = {recipe: finished(recipe) for recipe in (SMALL, LARGE)}


def mount(where, *options):
    subprocess.run(["mount", *options, where], check=True)


def full_disk(ranks, sizes):
    """Sizes in KiB: the weights do not fit, or the journals and what lies beside the weights do not"""
    early = late = 0
    for size in sizes:
        what = f"a disk of {size} KiB, {ranks} ranks"
        mount(test.place("disk"), "-o", f"remount,size={size}k")
        result = test.merge(SMALL, "disk/out", *SETTINGS, ranks=ranks)
        if result.returncode:
            test.expect(result.returncode == 1, f"{what}: exit code {result.returncode}", result)
            test.expect_message(what, result.stderr, ["disk/out.partial", "No space left", "make room"])
            test.expect(not os.path.exists(test.place("disk/out")), f"{what}: something is published")
            early, late = early + ("does not fit" in result.stderr), late + ("does not fit" not in result.stderr)
            mount(test.place("disk"), "-o", "remount,size=8m")
            test.expect(finished(SMALL, out="disk/out") == want[SMALL], f"{what}: other bytes after room was made")
        remove("disk/out")
    test.expect(early and late, f"{ranks} ranks: {early} early failures, {late} late ones")


def disks():
    os.makedirs(test.place("disk"))
    mount(test.place("disk"), "-t", "tmpfs", "-o", "size=8m", "tmpfs")
    full_disk(0, [64, 196, *range(200, 224, 4)])
    full_disk(3, [64, 204, 208, 212])
    for ranks in (0, 3):
        test.refused("a mount point", SMALL, out="disk", contains=["disk/merged"], ranks=ranks)
    mount(test.place("disk"), "-o", "remount,ro")
    for ranks in (0, 3):
        test.refused("a read-only disk", SMALL, out="disk/out", contains=["disk/out", "Read-only"], ranks=ranks)
    subprocess.run(["umount", test.place("disk")], check=True)


if os.environ["AMALGAM_OWN_MOUNTS"]:
    disks()
else:
    print("skipped: full and read-only disks (no mount namespaces here)")
# A folder that nobody may write to: the superuser may, without these capabilities not
os.makedirs(test.place("closed"))
os.chmod(test.place("closed"), 0o555)
weaker = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
test.refused("a closed folder", SMALL, out="closed/out", contains=["closed/out", "Permission denied"], before=weaker)
test.refused("a system's folder", SMALL, out="/proc/out", contains=["/proc/out"])



def shrinking(read, ranks, keep):
    """An input loses its end in the middle of a merge; `keep`: a share of it, or so many bytes less (negative)"""
    what = f"an input that shrinks to {keep}, read by {read}, {ranks} ranks"
    victim = test.place("large/expert-2/model.safetensors")
    with open(victim, "rb") as file:
        content = file.read()
    for _ in range(20):
        started = Started(test, LARGE, "out", *SETTINGS, "--read", read, ranks=ranks)
        members = started.wait_for(0.05 * BLOCKS)
        if members:
            second_job(members)
            os.truncate(victim, len(content) + keep if keep < 0 else int(len(content) * keep))
        code = started.end(members, signal.SIGCONT)
        with open(victim, "wb") as file:
            file.write(content)
        if not os.path.exists(test.place("out")):
            break
        remove("out")  # it had read all
    test.expect(code == 1, f"{what}: exit code {code}")
    test.expect_message(what, started.text(), ["large/expert-2/model.safetensors"])
    test.expect(not os.path.exists(test.place("out")), f"{what}: something is published")
    test.expect(os.path.exists(test.place("out.partial")), f"{what}: there is nothing to go on with")
    test.expect(finished(LARGE) == want[LARGE], f"{what}: other bytes after the file was made whole")


def second_job(members):
    for recipe, more in ((LARGE, []), (LARGE, ["--force"]), (OTHER, ["--force"])):
        result = test.merge(recipe, "out", *SETTINGS, *more)
        test.expect(result.returncode == 1, "a second job", result)
        test.expect_message("a second job", result.stderr, ["out.partial"])
        test.expect(any(f"process {m} on " in result.stderr for m in members), "the message names no holder", result)


before = test.inputs_hash()
for number, (read, ranks) in enumerate((r, n) for r in ("mmap", "direct") for n in (0, 3)):
    for keep in (0.5, -100)[number % 2 :][:1] if test.light else (0.5, -100):
        shrinking(read, ranks, keep)
test.expect(test.inputs_hash() == before, "an input was changed")
test.done()
