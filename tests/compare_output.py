"""compare_output.py PROGRAM FILE: runs PROGRAM and compares what it prints with FILE; with AOQ_UPDATE=1 writes FILE."""
import difflib
import os
import subprocess
import sys

program, path = sys.argv[1], sys.argv[2]
run = subprocess.run([program], capture_output=True, text=True)
if run.returncode != 0:
    sys.exit(f"{program}: exit {run.returncode}\n{run.stderr}")
if os.environ.get("AOQ_UPDATE") == "1":
    with open(path, "w") as f:
        f.write(run.stdout)
    sys.exit(0)
with open(path) as f:
    expected = f.read()
if expected != run.stdout:
    diff = difflib.unified_diff(expected.splitlines(), run.stdout.splitlines(), "expected", "found", lineterm="")
    sys.exit("\n".join(diff))
