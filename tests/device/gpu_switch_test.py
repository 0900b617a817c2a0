"""Without a GPU the tests that need one are skipped, in words by which ctest knows it; with AMALGAM_REQUIRE_GPU=1 they fail,
in words by which it does not.

gpu_switch_test.py PATTERN MPIEXEC LANE_TEST NCCL_TEST JOBS PROGRAM
"""
import os
import re
import subprocess
import sys

pattern, mpiexec, lane, nccl, jobs, program = sys.argv[1:]
merges = [sys.executable, os.path.join(jobs, "same_bytes_test.py"), program, mpiexec, "even", "--device", "cuda"]
no_gpu = {"AMALGAM_EMULATION_DEVICES": "0", "CUDA_VISIBLE_DEVICES": ""}
failures = 0
for name, command, skipped in (
    ("kernels", [lane, "--gtest_filter=*Ties*:*Gram*"], 0),
    ("NCCL", [mpiexec, "-n", "2", "--oversubscribe", nccl, "--gtest_filter=*SendAndReceive"], 0),
    ("merges", merges, 77),
):
    for required in ("", "1"):
        environment = {**os.environ, **no_gpu, "AMALGAM_REQUIRE_GPU": required}
        result = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment)
        text = result.stdout + result.stderr
        as_wanted = result.returncode not in (0, 77) if required else result.returncode == skipped
        if not as_wanted or bool(re.search(pattern, text)) == bool(required):
            failures += 1
            print(f"{name}, AMALGAM_REQUIRE_GPU={required}: exit code {result.returncode}\n{text[-2000:]}")
sys.exit(1 if failures else 0)
