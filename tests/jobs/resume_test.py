"""Nothing lost: a merge that is killed at any moment goes on, with any number of ranks, and ends with the same bytes.
Nothing is published before. What another recipe left is not touched without --force, a finished output is known, and
a second job is kept out.

resume_test.py PROGRAM MPIEXEC [light]
"""

import os
import signal
import subprocess
import sys

from merging import Merging, files_hash, read_report
from started import Started, signal_all

test = Merging(sys.argv)
ELEMENTS = 2_000_000 if test.light else 10_000_000
BLOCKS = ELEMENTS / 65536


def run_again(what, recipe, out, want, ranks, *arguments):
    """a start that must finish; bytes that it did not compute again"""
    report = test.place("report.json")
    result = test.merge(recipe, out, *SETTINGS, *arguments, "--report", report, ranks=ranks, timeout=300)
    test.expect(result.returncode == 0, what, result)
    if result.returncode:
        return 0
    test.expect(files_hash(test.place(out)) == want, f"{what}: other bytes")
    test.expect(not os.path.exists(test.place(out + ".partial")), f"{what}: the .partial folder is left")
    facts = read_report(report)
    bytes_of_data = facts["bytes_written"] + facts["bytes_resumed"]
    test.expect(bytes_of_data == 4 * ELEMENTS, f"{what}: {bytes_of_data} bytes written or resumed")
    return facts["bytes_resumed"]


def remove(out):
    subprocess.run(["rm", "-rf", test.place(out), test.place(out + ".partial")], check=True)


SETTINGS = ["--memory", "64MiB", "--threads", "1", "--quiet"]
made = test.run("synthesize", test.place("models"), "--experts", "9", "--flat", ELEMENTS, "--quiet", timeout=300)
test.expect(made.returncode == 0, "synthesize", made)
EXPERTS = [f"models/expert-{i + 1}" for i in range(9)]
TIES = test.recipe("ties", "ties", EXPERTS, "models/base", "weight = 1, density = 0.2", "", 'dtype = "float32"')
DARE = test.recipe("dare", "dare_ties", EXPERTS, "models/base", "weight = 1, density = 0.4", "", 'dtype = "float32"')
WANT = {}
for name in (TIES, DARE):
    result = test.merge(name, "want-" + name, *SETTINGS, timeout=300)
    test.expect(result.returncode == 0, name, result)
    WANT[name] = files_hash(test.place("want-" + name))
    remove("want-" + name)

# Killed at several moments
killed = resumed = 0
MOMENTS = [(-1, 0, 2), (0.05, 2, 0), (0.3, 0, 3), (0.5, 3, 2), (0.7, 0, 0), (0.85, 2, 4), (0.95, 4, 1)]
for share, before, after in MOMENTS[1::3] if test.light else MOMENTS:
    what = f"killed at {share}, {before} ranks, then {after}"
    started = Started(test, TIES, "out", *SETTINGS, ranks=before)
    members = started.wait_for(share * BLOCKS)
    code = started.end(members, signal.SIGKILL)
    if os.path.exists(test.place("out")):
        test.expect(files_hash(test.place("out")) == WANT[TIES], f"{what}: something else was published")
    else:
        test.expect(code != 0 and members, f"{what}: exit code {code}\n{started.text()}")
        killed += 1
        resumed += run_again(what, TIES, "out", WANT[TIES], after) > 0
    remove("out")
print(f"{killed} killed in time, {resumed} went on")
test.expect(killed > 0 and resumed > 0, f"{killed} killed in time, {resumed} went on")


def interrupted(recipe, share, ranks, number=signal.SIGKILL):
    """A merge that was ended with `share` of it done; tries again if the merge was faster. Its exit code."""
    for _ in range(20):
        remove("out")
        started = Started(test, recipe, "out", *SETTINGS, ranks=ranks)
        members = started.wait_for(share * BLOCKS)
        if number == signal.SIGTERM and members:
            code = started.end(members[:1], number, held=members[1:])
        else:
            code = started.end(members, number)
        if not os.path.exists(test.place("out")):
            return code
    test.expect(False, f"no merge was slow enough to be ended: {share}, {ranks} ranks, signal {number}")
    return None


# Ended by a signal to the launcher, or to the program alone: no success, and the next start goes on
for ranks in (0, 2):
    code = interrupted(TIES, 0.4, ranks, signal.SIGTERM)
    test.expect(code != 0, f"SIGTERM, {ranks} ranks: exit code {code}")
    run_again(f"after SIGTERM, {ranks} ranks", TIES, "out", WANT[TIES], 2 - ranks)

# Killed twice, on other ranks each time
interrupted(TIES, 0.3, 2)
started = Started(test, TIES, "out", *SETTINGS, ranks=0)
started.end(started.wait_for(0.2 * BLOCKS), signal.SIGKILL)
run_again("killed twice", TIES, "out", WANT[TIES], 3)

# What the disk lost or another program changed is found and computed again
interrupted(TIES, 0.8, 0)
partial = test.place("out.partial")
(weights,) = [name for name in os.listdir(partial) if name.endswith(".safetensors")]
with open(os.path.join(partial, weights), "r+b") as file:
    for block in range(0, ELEMENTS // 65536, 2):
        file.seek(4096 + block * 65536 * 4 + 1000)
        file.write(bytes(5000))
journals = sorted(name for name in os.listdir(partial) if name.startswith("journal-"))
os.truncate(os.path.join(partial, journals[0]), os.path.getsize(os.path.join(partial, journals[0])) - 5)
again = run_again("every other block damaged", TIES, "out", WANT[TIES], 2)
test.expect(again <= 2.1 * ELEMENTS, f"{again} bytes resumed though half of them were damaged")

# Another recipe on what the first left
interrupted(TIES, 0.4, 0)
for ranks in (0, 2):
    result = test.merge(DARE, "out", *SETTINGS, ranks=ranks)
    test.expect(result.returncode == 1 and "--force" in result.stderr, f"another recipe, {ranks} ranks", result)
    test.expect(result.stderr.count("error: ") == 1, "not one message", result)
run_again("the first recipe is not disturbed", TIES, "out", WANT[TIES], 0)
interrupted(TIES, 0.4, 0)
again = run_again("--force", DARE, "out", WANT[DARE], 2, "--force")
test.expect(again == 0, f"{again} bytes of another recipe went into the result")

# A finished output of the same recipe is known, on any ranks; of another, it is replaced only with --force
times = {name: os.stat(test.place("out", name)).st_mtime_ns for name in os.listdir(test.place("out"))}
for ranks, more in ((0, ["--block", "256"]), (2, []), (0, ["--force"])):
    result = test.merge(DARE, "out", "--memory", "32MiB", *more, ranks=ranks)
    test.expect(result.returncode == 0 and "already" in result.stdout + result.stderr, "finished", result)
    now = {name: os.stat(test.place("out", name)).st_mtime_ns for name in os.listdir(test.place("out"))}
    test.expect(now == times, "a finished output was written to")
for words in ([TIES], [DARE, "--set", "parameters.lambda=0.9"], [DARE, "--set", "seed=1"]):
    result = test.merge(words[0], "out", *words[1:], "--quiet")
    test.expect(result.returncode == 1 and "--force" in result.stderr, f"finished output of another: {words}", result)
    test.expect(files_hash(test.place("out")) == WANT[DARE], "a finished output was changed")
run_again("finished output of another, --force", TIES, "out", WANT[TIES], 0, "--force")
remove("out")
os.makedirs(test.place("out"))
test.write("out/precious.txt", "mine")
result = test.merge(TIES, "out", *SETTINGS)
test.expect(result.returncode == 1 and "--force" in result.stderr, "a folder of others", result)
test.expect(os.listdir(test.place("out")) == ["precious.txt"], "a folder of others was changed")
remove("out")
os.makedirs(test.place("out.partial"))
test.write("out.partial/precious.txt", "mine")
result = test.merge(TIES, "out", *SETTINGS, "--force")
test.expect(result.returncode == 1 and "out.partial" in result.stderr, "a .partial folder of others", result)
test.expect(os.listdir(test.place("out.partial")) == ["precious.txt"], "a .partial folder of others was changed")
remove("out")

# Two jobs at once: the second is kept out while the first lives, even if it sleeps
for ranks in (0, 2):
    for _ in range(20):
        remove("out")
        started = Started(test, TIES, "out", *SETTINGS, ranks=ranks)
        members = started.wait_for(0)
        signal_all(members, signal.SIGSTOP)
        if members and not os.path.exists(test.place("out")):
            break
    for more in ([], ["--force"]):
        result = test.merge(TIES, "out", *SETTINGS, *more)
        test.expect(result.returncode == 1, "a second job", result)
        test.expect(any(f"process {m} on " in result.stderr for m in members), "the message names no holder", result)
    signal_all(members, signal.SIGCONT)
    code = started.process.wait(timeout=300)
    test.expect(code == 0, f"the first job: exit code {code}\n{started.text()}")
    test.expect(files_hash(test.place("out")) == WANT[TIES], "the first job: other bytes")
test.done()
