"""A merge that runs on its own, is watched by what its journals hold, and is held, ended or disturbed at a moment."""

import os
import signal
import subprocess
import time

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

    def __init__(self, test, recipe, out, *arguments, ranks=0):
        self.test, self.out, self.ranks = test, test.place(out), ranks
        # so that it is this script that runs when both could
        words = ["nice", "-n", "19", *test.launcher(ranks), test.path, "merge", recipe, self.out, *arguments]
        environment = dict(test.environment)
        if test.light:  # a search for leaks holds all threads by itself, and hangs when it is held by others in the middle
            environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        self.log = open(test.place("log"), "w+")
        self.process = subprocess.Popen(
            words, cwd=test.root, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def wait_for(self, blocks):
        """Until its journals say that more than so many blocks are done (negative: until there is a journal). Its
        processes, asleep then; none if it ended. It is let run for moments at a time, longer ones while nothing comes of
        it: on an idle machine a merge is over at once."""
        deadline = time.monotonic() + 240
        wanted = -1 if blocks < 0 else blocks * BLOCK_RECORD
        members, moment, before = [], 0.001, -1
        while self.process.poll() is None and time.monotonic() < deadline:
            if len(members) <= self.ranks:
                members = family_of(self.process.pid)
                continue
            signal_all(members, signal.SIGSTOP)
            at = journal_bytes(self.out + ".partial")
            if at > wanted:
                return members
            if at < 0 and os.path.exists(self.out):
                break
            moment = min(0.01 if at < 0 else 0.1, moment * 1.5) if at == before else 0.001
            before = at
            signal_all(members, signal.SIGCONT)
            time.sleep(moment)
        signal_all(members, signal.SIGCONT)
        return []

    def end(self, members, number, held=()):
        """Its exit code after a signal to those members; SIGCONT lets it go on. `held` stay asleep until it ended:
        mpirun wakes its ranks a second before it ends them, and a merge is over in less."""
        signal_all(members, number)
        signal_all(members, signal.SIGCONT)
        deadline = time.monotonic() + 60
        while held and self.process.poll() is None and time.monotonic() < deadline:
            signal_all(held, signal.SIGSTOP)
            time.sleep(0.001)
        code = self.process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while session_of(self.process) and time.monotonic() < deadline:
            time.sleep(0.01)  # ranks that outlive mpirun for a moment
        left = session_of(self.process)
        self.test.expect(not left, f"{len(left)} processes go on after signal {number}")
        signal_all(left, signal.SIGKILL)
        return code

    def text(self):
        self.log.seek(0)
        return self.log.read()
