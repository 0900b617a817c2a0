"""How programs on several ranks end: exit codes, messages, no rank that waits for ever.

session_ranks_test.py MPIEXEC SESSION_PROBE FAILING_RANK
"""
import subprocess
import sys

mpiexec, probe, failing = sys.argv[1:]
failures = 0


def run(ranks, *command):
    launch = [mpiexec, "-n", str(ranks), "--oversubscribe"] if ranks else []
    return subprocess.run([*launch, *command], capture_output=True, text=True, timeout=50)


def expect(what, condition, result):
    global failures
    if not condition:
        failures += 1
        print(f"{what}: exit code {result.returncode}\n{result.stdout}{result.stderr}")


for ranks in (0, 1, 2, 3):
    result = run(ranks, probe, "where")
    n = max(ranks, 1)
    expect("clean end", result.returncode == 0 and result.stdout == f"{n} ranks, {n} on this machine\n", result)

result = run(2, probe, "abort")
expect("abort while another rank waits", result.returncode == 7, result)
result = run(2, probe, "exception")
expect("exception past the session", result.returncode == 1 and "rank 1: error: leaving" in result.stderr, result)
result = run(3, probe, "agree")
expect("agreed error", result.returncode == 3 and result.stderr.count("rank 1: no such thing") == 1, result)

result = run(3, failing)
expect("a test that fails on one rank", result.returncode == 1 and "rank 2: " in result.stdout
       and "as it should" in result.stdout and "rank 1: " not in result.stdout, result)
result = run(2, failing, "--gtest_filter=Nothing.*")
expect("a program in which no test runs", result.returncode == 1 and "no test ran" in result.stderr, result)

sys.exit(1 if failures else 0)
