"""amalgam doctor in jobs of a real Slurm: nodes, PMI, and what Slurm did not give.

doctor_test.py PROGRAM
"""

import json
import sys

from local_slurm import LocalSlurm

slurm = LocalSlurm(sys.argv)


def doctor(want, *launcher, ranks, hosts):
    result = slurm.command(*launcher, slurm.path, "doctor", "--json", "--probe", "0", "--disk", slurm.place())
    try:
        report = json.loads(result.stdout)
    except ValueError:
        slurm.expect(False, f"{launcher}: no JSON, or more than one", result)
        return {}
    names = [problem["name"] for problem in report["problems"]]
    slurm.expect(names == want, f"{launcher}: {names} instead of {want}", result)
    slurm.expect((result.returncode == 0) == (not want), f"{launcher}: exit code", result)
    slurm.expect(len(report["ranks"]) == ranks, f"{launcher}: {len(report['ranks'])} ranks", result)
    slurm.expect(len({rank["host"] for rank in report["ranks"]}) == hosts, f"{launcher}: hosts", result)
    return report


report = doctor([], "srun", "--mpi=pmix", "-N4", "--ntasks-per-node=2", ranks=8, hosts=4)
facts = report["ranks"][0]["facts"]
slurm.expect(facts["PMI"].startswith("PMIx") and facts["SLURM_JOB_NUM_NODES"] == "4", f"{facts}")
disks = [disk for rank in report["ranks"] for disk in rank["disks"]]
slurm.expect(len(disks) == 4 and all(disk["shared"] for disk in disks), f"a disk that all nodes see: {disks}")
doctor([], "srun", "--mpi=pmix", "-N1", "-n1", ranks=1, hosts=1)
report = doctor(["no-pmi"], "srun", "-N2", "-n4", ranks=1, hosts=1)
slurm.expect("4 tasks" in report["problems"][0]["what"], f"{report['problems']}")
report = doctor(["bound-to-few-cores"], "srun", "--mpi=pmix", "-N2", "--ntasks-per-node=2", "taskset", "-c", "0", ranks=4, hosts=2)
slurm.expect(len(report["problems"][0]["hosts"]) == 2, f"{report['problems']}")
# An allocation, and nothing that starts ranks on it
for name, mpi in {"plain": "", "old": "srun --mpi=pmi2 "}.items():
    slurm.write(name + ".sh", f"#!/bin/bash\n{mpi}{slurm.path} doctor --probe 0\n")
job = slurm.command("sbatch", "--parsable", "-n4", "--output=plain-%j.log", slurm.place("plain.sh")).stdout.strip()
slurm.ended(job, "FAILED", contains=["the job has 4 tasks", "what to do: srun --mpi=pmix"])
# A PMI that this MPI may not know: what MPI says of it is of no use.
job = slurm.command("sbatch", "--parsable", "-n2", "--output=old-%j.log", slurm.place("old.sh")).stdout.strip()
slurm.wait(job)
slurm.expect("srun offers PMI, but not PMIx" in slurm.log(job), f"pmi2: {slurm.log(job)}")
slurm.done()
