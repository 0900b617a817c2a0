"""A private Slurm (cluster.sh) for a test, jobs on it, and what became of them. Ends with 77 where there is no Slurm."""

import atexit
import os
import re
import shutil
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


class LocalSlurm(Program):
    """A Program with a cluster and a folder that jobs are submitted from; both are gone after done()."""

    def __init__(self, words, nodes=4, cores=16):
        super().__init__(words[1])
        found = subprocess.run([CLUSTER, "check"], capture_output=True, text=True)
        if found.returncode == 77:
            print(found.stdout.strip())
            sys.exit(77)
        # Below /tmp, where only sticky folders are writable for others: munged insists.
        self.root = tempfile.mkdtemp(prefix="amalgam-slurm-", dir="/tmp")
        self.cluster = os.path.join(self.root, "cluster")
        atexit.register(self.stop)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        started = subprocess.run([CLUSTER, "start", self.cluster, str(nodes), str(cores)], capture_output=True, text=True)
        if started.returncode:
            print(f"FAILED: Slurm does not start\n{started.stdout}{started.stderr}")
            sys.exit(1)
        text = subprocess.run(["bash", "-c", f". {self.cluster}/environment; env -0"], capture_output=True, text=True)
        unwanted = ("OMPI_COMM", "PMI", "SLURM_JOB", "SLURM_STEP", "SLURM_PROCID")
        self.environment = {k: v for k, v in (line.split("=", 1) for line in text.stdout.split("\0") if line)
                            if not k.startswith(unwanted) or k == "PMIX_MCA_gds"}  # fmt: skip
        self.environment |= {"AMALGAM": self.path, "DOCTOR": "no", "SITE": os.path.join(SCRIPTS, "environment.sh")}
        os.makedirs(self.place())

    def stop(self):
        if os.path.exists(self.root):
            subprocess.run([CLUSTER, "stop", self.cluster], capture_output=True)
            if self.failures and os.environ.get("AMALGAM_KEEP"):
                print(f"kept: {self.root}")
                return
            shutil.rmtree(self.root, ignore_errors=True)

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

    def command(self, *words, **knobs):
        environment = self.environment | {name: str(value) for name, value in knobs.items()}
        return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=self.place(), env=environment,
                              timeout=120)  # fmt: skip

    def submit(self, script, *options, **knobs):
        """its number; upper case: variables of the script"""
        options = ["--ntasks-per-node=2", "--cpus-per-task=1", *options]
        result = self.command("sbatch", "--parsable", *options, os.path.join(SCRIPTS, script), **knobs)
        self.expect(result.returncode == 0, f"sbatch {script} {options}", result)
        return result.stdout.strip().split(";")[0]

    def facts(self, job):
        text = self.command("scontrol", "-o", "show", "job", job).stdout
        return dict(re.findall(r"(\w+)=(\S*)", text.split("\n")[0]))

    def states(self, job):
        return set(re.findall(r"JobState=(\w+)", self.command("scontrol", "-o", "show", "job", job).stdout))

    def wait(self, job, seconds=120):
        """Its state at the end. One that is to start again, which Slurm lets wait for two minutes, starts at once."""
        deadline, states, seen = time.monotonic() + seconds, set(), 0
        while time.monotonic() < deadline:
            states = self.states(job)
            if not states & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"}:
                seen += 1  # on its way to another start it has such a state for a moment
                if seen > 5:
                    return ",".join(sorted(states))
            else:
                seen = 0
            if "PENDING" in states and self.facts(job).get("Reason") == "BeginTime":
                time.sleep(2)  # what is left of the former start would make the next one fail
                self.command("scontrol", "update", f"jobid={job}", "StartTime=now")
            time.sleep(0.2)
        return f"too long in {states}"

    def wait_until(self, what, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.05)
        self.expect(False, f"{what}: not within {seconds} s")
        return False

    def log(self, job, name="merge"):
        return self.read(f"{name}-{job}.log")

    def ended(self, job, want="COMPLETED", name="merge", seconds=120, contains=()):
        state, text = self.wait(job, seconds), self.log(job, name)
        self.expect(state == want, f"job {job} is {state}, not {want}\n{text}")
        for words in contains:
            self.expect(words in text, f'"{words}" is not in the log of job {job}\n{text}')
        return text

    def asked_to_stop(self, job):
        """what Slurm does before the time is over, or before it takes the nodes"""
        self.command("scancel", "--batch", "--signal=USR1", job)

    def told(self, members):
        """Waits until SIGUSR1 has reached these processes, which are asleep"""

        def pending(process):
            with open(f"/proc/{process}/status") as file:
                return any(int(line.split()[1], 16) & 1 << signal.SIGUSR1 - 1 for line in file if line.startswith(("SigPnd", "ShdPnd")))

        self.wait_until("SIGUSR1 reaches the ranks", lambda: all(map(pending, members)))

    def processes(self, *words):
        """ids of processes of this test whose command has all these words"""
        found = []
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{process}/cmdline", "rb") as file:
                    command = file.read().decode(errors="replace").split("\0")
                if command[0] == self.path and self.root in " ".join(command) and all(w in command for w in words):
                    found.append(int(process))
            except OSError:
                pass
        return sorted(found)
