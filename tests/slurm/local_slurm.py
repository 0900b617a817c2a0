"""A private Slurm (cluster.sh) for a test, jobs on it, and what became of them. Ends with 77 where there is no Slurm."""

import atexit
import contextlib
import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLUSTER = os.path.join(ROOT, "tests/slurm/cluster.sh")
SCRIPTS = os.path.join(ROOT, "slurm")
sys.path.insert(0, os.path.join(ROOT, "tests/jobs"))
from program import Program  # noqa: E402
from started import signal_all  # noqa: E402

LIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"}
# Waits for the end of the test, however it comes, and removes what is left of it.
GUARD = """
read -r keep <&"$2" || keep=no
"$3" stop "$1/cluster" >/dev/null 2>&1
[ "$keep" = keep ] || rm -rf "$1"
"""
# Goes before the true program in PATH, and notes how it was called.
RECORDER = """#!/bin/bash
echo "$SLURM_JOB_ID $(basename "$0") $* | PATIENCE=${{AMALGAM_WATCHDOG_SECONDS-}} GPUS=${{CUDA_VISIBLE_DEVICES-}}" \\
    "SITE=${{SITE_WAS_HERE-}} PWD=$PWD" >>{notes}
{before}
exec {program} "$@"
"""


def knobs(script):
    """Variables of a script of slurm/, with their defaults"""
    with open(os.path.join(SCRIPTS, script)) as file:
        return dict(re.findall(r"^([A-Z_]+)=\$\{\1:-(.*?)\}(?=\s|$)", file.read(), re.M))


class LocalSlurm(Program):
    """A Program with a cluster and a folder that jobs are submitted from. They are removed when the test ends, also when it
    is killed; AMALGAM_KEEP in the environment keeps those of a test that failed."""

    def __init__(self, words, nodes=4, cores=16):
        sys.stdout.reconfigure(line_buffering=True)  # what a time limit ends has said what it found
        super().__init__(words[1])
        found = subprocess.run([CLUSTER, "check"], capture_output=True, text=True)
        if found.returncode == 77:
            print(found.stdout.strip())
            sys.exit(77)
        # Below /tmp, where only sticky folders are writable for others: munged insists.
        self.root = tempfile.mkdtemp(prefix="amalgam-slurm-", dir="/tmp")
        self.cluster = os.path.join(self.root, "cluster")
        self._guard()
        started = subprocess.run([CLUSTER, "start", self.cluster, str(nodes), str(cores)], capture_output=True, text=True)
        if started.returncode:
            print(f"FAILED: Slurm does not start\n{started.stdout}{started.stderr}")
            sys.exit(1)
        text = subprocess.run(["bash", "-c", f". {self.cluster}/environment; env -0"], capture_output=True, text=True)
        unwanted = ("OMPI_COMM", "PMI", "SLURM_JOB", "SLURM_STEP", "SLURM_PROCID")
        all_knobs = {name for path in glob.glob(os.path.join(SCRIPTS, "*")) for name in knobs(path)}
        self.environment = {k: v for k, v in (line.split("=", 1) for line in text.stdout.split("\0") if line)
                            if (not k.startswith(unwanted) or k == "PMIX_MCA_gds") and k not in all_knobs}  # fmt: skip
        self.environment |= {"AMALGAM": self.path, "DOCTOR": "no", "SITE": os.path.join(SCRIPTS, "environment.sh")}
        self.changed = {}  # script -> knobs that a job changed
        os.makedirs(self.place())

    def _guard(self):
        """Not our child, so that whoever kills a test with all its children leaves it alone"""
        end, self.alive = os.pipe()
        words = ["bash", "-c", 'setsid bash -c "$0" guard "$@" &', GUARD, self.root, str(end), CLUSTER]
        quiet = {stream: subprocess.DEVNULL for stream in ("stdin", "stdout", "stderr")}
        subprocess.run(words, pass_fds=[end], check=True, **quiet)
        os.close(end)
        atexit.register(self.stop)

    def stop(self):
        keep = self.failures and os.environ.get("AMALGAM_KEEP")
        if keep:
            print(f"kept: {self.root}")
            os.write(self.alive, b"keep\n")
        os.close(self.alive)
        deadline = time.monotonic() + 60
        while os.path.exists(os.path.join(self.cluster, "processes") if keep else self.root) and time.monotonic() < deadline:
            time.sleep(0.02)

    def place(self, *parts):
        return os.path.join(self.root, "work", *parts)

    def write(self, name, text):
        with open(self.place(name), "w") as file:
            file.write(text)
        return self.place(name)

    def read(self, name):
        try:
            with open(self.place(name)) as file:
                return file.read()
        except OSError:
            return ""

    def command(self, *words, **variables):
        environment = self.environment | {name: str(value) for name, value in variables.items()}
        return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=self.place(), env=environment,
                              timeout=120)  # fmt: skip

    # Jobs

    def submit(self, script, *options, **variables):
        """its number; `variables`: knobs of the script, and whatever else is to be in its environment"""
        options = ["--ntasks-per-node=2", "--cpus-per-task=1", *options]
        result = self.command("sbatch", "--parsable", *options, os.path.join(SCRIPTS, script), **variables)
        self.expect(result.returncode == 0, f"sbatch {script} {options}", result)
        self.changed.setdefault(script, set()).update(
            name for name, default in knobs(script).items() if str((self.environment | variables).get(name, default)) != default)  # fmt: skip
        return result.stdout.strip().split(";")[0]

    def expect_every_knob(self, script):
        left = sorted(set(knobs(script)) - self.changed.get(script, set()))
        self.expect(len(knobs(script)) > 5 and not left, f"{script}: no job of this test changed {', '.join(left)}")

    def expect_accepted(self, script):
        result = self.command("sbatch", "--test-only", os.path.join(SCRIPTS, script))
        self.expect(result.returncode == 0, f"sbatch --test-only {script}", result)

    def all_facts(self, job):
        """of a job, or of each task of an array"""
        text = self.command("scontrol", "-o", "show", "job", job).stdout
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if line.strip()]

    def facts(self, job):
        return (self.all_facts(job) or [{}])[0]

    def states(self, job):
        return {facts.get("JobState") for facts in self.all_facts(job)}

    def restarts(self, job):
        return int(self.facts(job).get("Restarts", -1))

    def remains(self, job):
        """what still runs of the job, or of its former start: sockets of Slurm's own processes"""
        return [name for pattern in (f"node*_{job}.*", f"stepd.slurm.pmix.{job}.*")
                for name in glob.glob(os.path.join(self.cluster, "spool", "*", pattern))]  # fmt: skip

    def wait(self, job, seconds=120):
        """Its state at the end. One that is to start again, which Slurm lets wait for two minutes, does so in the next second:
        in the same a node takes it for the one that was just ended."""
        deadline, all_facts, seen = time.monotonic() + seconds, [], 0
        while time.monotonic() < deadline:
            all_facts = self.all_facts(job)
            states = {facts["JobState"] for facts in all_facts}
            ended = states and not states & LIVE and not any(self.remains(facts["JobId"]) for facts in all_facts)
            seen = seen + 1 if ended else 0
            if seen > 2:
                return ",".join(sorted(states))
            for facts in all_facts:
                if (facts["JobState"], facts.get("Reason")) == ("PENDING", "BeginTime") and not self.remains(facts["JobId"]):
                    self.command("scontrol", "update", f"jobid={facts['JobId']}", "StartTime=now+1")
            time.sleep(0.05)
        return f"too long in {states}: {all_facts}"

    def wait_until(self, what, condition, seconds=60):
        soon, deadline = time.monotonic() + 0.1, time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.001 if time.monotonic() < soon else 0.02)
        self.expect(False, f"{what}: not within {seconds} s")
        return False

    def log(self, job):
        """of all its starts"""
        return "".join(self.read(os.path.basename(path)) for path in glob.glob(self.place(f"*-{job}.log")))

    def ended(self, job, want="COMPLETED", seconds=120, code=None, contains=()):
        """Waits for its end; its log"""
        state, text = self.wait(job, seconds), self.log(job)
        self.expect(state == want, f"job {job} is {state}, not {want}\n{text}")
        found = self.facts(job).get("ExitCode")
        self.expect(code is None or found == f"{code}:0", f"job {job}: exit code {found}, not {code}\n{text}")
        for words in contains:
            self.expect(words in text, f'"{words}" is not in the log of job {job}\n{text}')
        return text

    # What befalls them

    def ask_to_stop(self, job, members):
        """What Slurm does before the time is over, or before it takes the nodes. The ranks, asleep, go on once they are told."""
        self.command("scancel", "--batch", "--signal=USR1", job)
        self.let_stop(members)

    def let_stop(self, members, seconds=60):
        """The ranks, asleep, go on once SIGUSR1 has reached them"""

        def told(process):
            try:
                with open(f"/proc/{process}/status") as file:
                    pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
            except OSError:
                return False
            return any(signals & 1 << signal.SIGUSR1 - 1 for signals in pending)

        self.wait_until("SIGUSR1 reaches the ranks", lambda: all(map(told, members)), seconds)
        signal_all(members, signal.SIGCONT)

    def put_to_sleep(self, members):
        """Holds these processes; returns when none of them does anything any more"""
        signal_all(members, signal.SIGSTOP)

        def asleep(process):
            try:
                with open(f"/proc/{process}/stat") as file:
                    return file.read().rpartition(")")[2].split()[0] in "TZX"
            except OSError:
                return True

        self.wait_until("the ranks sleep", lambda: all(map(asleep, members)))

    def lose_node(self, node):
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def preempt(self, node):
        """Slurm gives this node to another job: the ranks of its own are sent SIGTERM (and wake up), its script nothing"""
        words = ["--parsable", "--partition=urgent", "--exclusive", "--nodes=1", "--time=1", f"--nodelist={node}", "--output=urgent-%j.log"]
        result = self.command("sbatch", *words, "--wrap=true")
        self.expect(result.returncode == 0, "sbatch of an urgent job", result)

    @contextlib.contextmanager
    def unable_to_start(self, job):
        """Releases a held job of which Slurm cannot start the ranks, of which srun's exit code says nothing"""
        sockets = [os.path.join(spool, f"stepd.slurm.pmix.{job}.0") for spool in glob.glob(os.path.join(self.cluster, "spool", "*"))]
        for socket in sockets:
            open(socket, "w").close()
        self.command("scontrol", "release", job)
        yield
        for socket in sockets:
            os.remove(socket)

    def nodes_are_back(self):
        """Slurm takes a node back by itself when its daemon answers, as it does here"""
        self.wait_until("all nodes are there", lambda: set(self.command("sinfo", "-h", "-o", "%T").stdout.split()) == {"idle"})

    def processes(self, *words):
        """ids of ranks of this test whose command has all these words"""
        found = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{process}/cmdline", "rb") as file:
                    command = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if command[0] == self.path and any(self.root in word for word in command) and all(w in command for w in words):
                found.append(int(process))
        return sorted(found)

    # How programs were called

    def recorded(self, *programs, before="", of="amalgam"):
        """Variables for submit() that note the calls of amalgam, and of these programs; `before` runs before `of`"""
        folder = tempfile.mkdtemp(prefix="recorders-", dir=self.place())
        os.chmod(folder, 0o755)
        for name in ("amalgam", *programs):
            program = self.path if name == "amalgam" else self.command("which", name).stdout.strip()
            text = RECORDER.format(notes=self.place("calls"), program=program, before=before if name == of else "")
            os.chmod(self.write(os.path.join(folder, name), text), 0o755)
        return {"PATH": folder + ":" + self.environment["PATH"], "AMALGAM": "amalgam"}

    def calls(self, job, program):
        """a line for each call: words and a few variables"""
        start = f"{job} {program} "
        return [line[len(start) :] for line in self.read("calls").splitlines() if line.startswith(start)]

    def expect_called(self, job, program, *words):
        lines = self.calls(job, program)
        self.expect(lines, f"job {job}: {program} was not called")
        for word in words:
            self.expect(any(f" {word} " in f" {line} " for line in lines), f"job {job}: {program} without {word}: {lines}")
