"""Help, version, exit codes and messages for misuse.

command_line_test.py AMALGAM MPIEXEC
"""

import os
import re
import subprocess
import sys
import tempfile

from program import PARITY, Program, ZOO

program = Program(sys.argv[1])
mpiexec = [sys.argv[2], "-n", "3", "--oversubscribe"]
COMMANDS = ["merge", "evaluate", "inspect", "plan", "methods", "convert-recipe", "synthesize"]
TIES = os.path.join(PARITY, "recipes/ties.yaml")

# Help
whole = program.run("--help")
program.expect(whole.returncode == 0 and whole.stderr == "", "--help", whole)
program.expect(program.run("help").stdout == whole.stdout, "amalgam help is amalgam --help")
for command in COMMANDS:
    program.expect(re.search(rf"^  {command}  +\w", whole.stdout, re.M), f"{command} is not in the help", whole)
    help_text = program.run(command, "--help")
    program.expect(help_text.returncode == 0 and help_text.stderr == "", f"{command} --help", help_text)
    program.expect(f"Usage: amalgam {command} " in help_text.stdout, f"no usage line of {command}", help_text)
    program.expect("\nExamples:\n  amalgam " in help_text.stdout, f"no examples of {command}", help_text)
    program.expect(program.run("help", command).stdout == help_text.stdout, f"amalgam help {command}")
    program.expect(program.run(command, "-h").stdout == help_text.stdout, f"amalgam {command} -h")
    options = re.findall(r"^  (--[a-z-]+(?: [A-Z=]+)?)( +)(\w.*)$", help_text.stdout, re.M)
    program.expect(
        options and len({len(name + blanks) for name, blanks, _ in options}) == 1,
        f"{command}: options are not aligned",
        help_text,
    )
    program.expect(max(map(len, help_text.stdout.splitlines())) <= 120, f"{command}: lines are too long", help_text)
merge_help = program.run("help", "merge").stdout
for option in (
    "memory threads read shard-size block set report force allow-unknown on-mismatch integers"
    " fail-on-nonfinite quiet device"
).split():
    program.expect(f"  --{option} " in merge_help, f"merge --help does not tell of --{option}")

version = program.run("--version")
program.expect(version.returncode == 0 and re.match(r"amalgam \d+\.\d+\.\d+", version.stdout), "--version", version)

# Misuse: exit code 2, and where help is
program.expect_error(2, contains=["which command", "amalgam --help"])
program.expect_error(2, "merg", contains=['did you mean "merge"?', "see: amalgam --help"])
program.expect_error(2, "--memory", "8GiB", contains=["amalgam COMMAND --memory"])
program.expect_error(2, "help", "inspekt", contains=['did you mean "inspect"?'])
program.expect_error(2, "merge", contains=["RECIPE is missing", "amalgam merge --help"])
program.expect_error(2, "merge", TIES, contains=["OUT is missing"])
program.expect_error(2, "merge", "a", "b", "c", contains=['one word too many: "c"'])
program.expect_error(
    2, "merge", "a", "b", "--memroy", "8GiB", contains=['no option --memroy (did you mean "--memory"?)']
)
program.expect_error(2, "merge", "a", "b", "--mem", "8GiB", contains=["no option --mem"])
program.expect_error(2, "merge", "a", "b", "--memroy=8GiB", contains=['no option --memroy (did you mean "--memory"?)'])
program.expect_error(2, "merge", "a", "b", "-m", contains=["no option -m"])
program.expect_error(2, "merge", "a", "b", "--memory", contains=["--memory", "missing"])
program.expect_error(2, "merge", "a", "b", "--memory", "8G", contains=["--memory", "8G", "GiB"])
program.expect_error(2, "merge", "a", "b", "--memory", "0", contains=["--memory 0"])
program.expect_error(2, "merge", "a", "b", "--threads", "two", contains=["--threads two"])
program.expect_error(2, "merge", "a", "b", "--threads", "-1", contains=["--threads -1"])
program.expect_error(2, "merge", "a", "b", "--block", "99999999999999999999", contains=["--block"])
program.expect_error(2, "merge", "a", "b", "--read", "fast", contains=["auto, mmap, direct"])
program.expect_error(2, "merge", "a", "b", "--on-mismatch", "ignore", contains=["error, skip"])
program.expect_error(2, "merge", "a", "b", "--integers", "average", contains=["error, base"])
program.expect_error(2, "merge", "a", "b", "--device", "tpu", contains=["auto, cpu, cuda"])
program.expect_error(2, "merge", "a", "b", "--force=yes", contains=["--force"])
program.expect_error(2, "merge", "a", "b", "--quiet", "--quiet", contains=["--quiet is given twice"])
program.expect_error(2, "inspect", contains=["PATH is missing"])
program.expect_error(2, "inspect", TIES, TIES, contains=["alone"])
program.expect_error(2, "inspect", ZOO + "/base", "--set", "a=1", contains=["--set"])
program.expect_error(2, "plan", TIES, "--ranks", "0", contains=["--ranks 0"])
program.expect_error(2, "methods", "ties", "dare", contains=["one word too many"])
program.expect_error(2, "synthesize", "out", "--dtype", "bfloat17", contains=['did you mean "bfloat16"?'])
program.expect_error(2, "synthesize", "out", "--untouched", "1.5", contains=["from 0 to 1"])
program.expect_error(2, "synthesize", "out", "--seed", "-3", contains=["--seed -3"])

# What is wrong with data: exit code 1
program.expect_error(1, "merge", "a", "b", "--device", "cuda", contains=["--device cuda: this program was built without CUDA"])
program.expect_error(1, "merge", "/no/such/recipe.yaml", "/tmp/never", contains=["/no/such/recipe.yaml"])
program.expect_error(1, "inspect", "/no/such/model", contains=["/no/such/model"])
program.expect_error(1, "methods", "tise", contains=['did you mean "ties"?'])

# Among several ranks one speaks, and none waits
environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_COMM", "PMI", "SLURM"))}
environment.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
environment.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")


def spoken(result):
    return [line for line in result.stderr.splitlines() if "error: " in line]


result = program.run("merge", "--memroy", launcher=mpiexec, env=environment)
program.expect(result.returncode == 2 and len(spoken(result)) == 1, "misuse on three ranks", result)
result = program.run("merge", "/no/such/recipe.yaml", "/tmp/never", launcher=mpiexec, env=environment)
program.expect(result.returncode == 1 and len(spoken(result)) == 1, "a missing recipe on three ranks", result)
result = program.run("inspect", ZOO + "/base", launcher=mpiexec, env=environment)
program.expect(
    result.returncode == 0 and result.stdout == program.run("inspect", ZOO + "/base").stdout,
    "inspect on three ranks",
    result,
)

# A reader that goes away, and a full disk
reading, writing = os.pipe()
os.close(reading)
result = subprocess.run(
    [program.path, "methods", "--markdown"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=50
)
os.close(writing)
program.expect(result.returncode == 0 and result.stderr == "", "a closed pipe", None)
if os.path.exists("/dev/full"):
    with open("/dev/full", "w") as full:
        result = subprocess.run([program.path, "methods"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=50)
    program.expect(result.returncode == 1 and "standard output" in result.stderr, "a full disk")

# Synthesised models go through the other commands
with tempfile.TemporaryDirectory() as folder:
    small = [
        "synthesize",
        folder + "/small",
        "--experts",
        "2",
        "--hidden",
        "32",
        "--mlp",
        "48",
        "--layers",
        "2",
        "--vocabulary",
        "64",
    ]
    result = program.run(*small)
    program.expect(result.returncode == 0 and "3 models" in result.stdout, "synthesize", result)
    again = program.expect_error(1, *small, contains=["small/base"])
    facts = program.json("inspect", folder + "/small/expert-2")
    program.expect(facts["config"]["hidden size"] == "32" and len(facts["layers"]) == 2, "a synthesised model")

program.done()
