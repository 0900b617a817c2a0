"""Nothing lost: a merge that is killed at any moment goes on, with any number of ranks, and ends with the same bytes.
Nothing is published before. What another recipe left is not touched without --force, a finished output is known, and
a second job is kept out.

resume_test.py PROGRAM MPIEXEC [light]
"""

import os
import signal
import subprocess
import sys
import time

from merging import Merging, files_hash, read_report

test = Merging(sys.argv)
ELEMENTS = 2_000_000 if test.light else 10_000_000
BLOCK_RECORD = 24 + 2  # bytes of a journal for each block: eight share a header


def family_of(process):
    """its id, and those of its children and theirs; quick"""
    found = [process]
    for each in found:
        try:
            with open(f"/proc/{each}/task/{each}/children") as file:
                found += map(int, file.read().split())
        except OSError:
            pass
    return found


def session_of(process):
    """ids of all that run in its session, orphans too"""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid and fields[0] != "Z":
            found.append(int(name))
    return found


def signal_all(processes, number):
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass


def journal_bytes(partial):
    """what the journals of the last start hold; -1: none yet"""
    try:
        names = [name for name in os.listdir(partial) if name.startswith("journal-")]
        last = max(name.split("-")[1] for name in names)
        return sum(os.path.getsize(os.path.join(partial, n)) for n in names if n.split("-")[1] == last)
    except (OSError, ValueError):
        return -1


class Started:
    """A merge in a session of its own"""

    def __init__(self, recipe, out, *arguments, ranks=0):
        self.out = test.place(out)
        # so that it is this script that runs when both could
        words = ["nice", "-n", "19", *test.launcher(ranks), test.path, "merge", recipe, self.out, *arguments]
        self.log = open(test.place("log"), "w+")
        self.process = subprocess.Popen(
            words, cwd=test.root, env=test.environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def wait_for(self, share):
        """Until its journal holds this share of all blocks (-1: until there is one). Its processes, asleep then; none if
        it ended. It is let run for moments at a time, longer ones while nothing comes of it: on an idle machine a merge is
        over at once."""
        deadline = time.monotonic() + 240
        wanted = -1 if share < 0 else share * (ELEMENTS / 65536 * BLOCK_RECORD)
        members, moment, before = [], 0.001, -1
        while self.process.poll() is None and time.monotonic() < deadline:
            at = journal_bytes(self.out + ".partial")
            if at < 0 and members:
                break
            if at < 0:
                continue
            if not members:
                members = family_of(self.process.pid)
                signal_all(members, signal.SIGSTOP)
            elif at > wanted:
                return members
            else:
                moment = min(0.2, moment * 1.5) if at == before else 0.001
                before = at
                signal_all(members, signal.SIGCONT)
                time.sleep(moment)
                signal_all(members, signal.SIGSTOP)
        signal_all(members, signal.SIGCONT)
        return []

    def end(self, members, number):
        """its exit code"""
        signal_all(members, number)
        if number != signal.SIGKILL:
            signal_all(session_of(self.process), signal.SIGCONT)
        code = self.process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while session_of(self.process) and time.monotonic() < deadline:
            time.sleep(0.01)  # ranks that outlive mpirun for a moment
        left = session_of(self.process)
        test.expect(not left, f"{len(left)} processes go on after signal {number}")
        signal_all(left, signal.SIGKILL)
        return code

    def text(self):
        self.log.seek(0)
        return self.log.read()


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
    started = Started(TIES, "out", *SETTINGS, ranks=before)
    members = started.wait_for(share)
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
        started = Started(recipe, "out", *SETTINGS, ranks=ranks)
        members = started.wait_for(share)
        only_launcher = [started.process.pid] if number == signal.SIGTERM and members else members
        code = started.end(only_launcher, number)
        if not os.path.exists(test.place("out")):
            return code
    test.expect(False, "no merge was slow enough to be ended")
    return None


# Ended by a signal to the launcher, or to the program alone: no success, and the next start goes on
for ranks in (0, 2):
    code = interrupted(TIES, 0.4, ranks, signal.SIGTERM)
    test.expect(code != 0, f"SIGTERM, {ranks} ranks: exit code {code}")
    run_again(f"after SIGTERM, {ranks} ranks", TIES, "out", WANT[TIES], 2 - ranks)

# Killed twice, on other ranks each time
interrupted(TIES, 0.3, 2)
started = Started(TIES, "out", *SETTINGS, ranks=0)
started.end(started.wait_for(0.2), signal.SIGKILL)
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
        started = Started(TIES, "out", *SETTINGS, ranks=ranks)
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
