"""Measures that the tests of ir/checked.h take every branch of it, both ways.

usage: checked_coverage.py SOURCE_ROOT
"""

import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    compiler, gcov = shutil.which("g++"), shutil.which("gcov")
    if not compiler or not gcov:
        print("[SKIP] no g++ or gcov")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        sources = [root / "tests/ir/checked_test.cpp", root / "tests/doctest_main.cpp"]
        # Each file by itself, so that the notes lie in the folder.
        for source in sources:
            subprocess.run([compiler, "-std=c++20", "-O0", "--coverage", f"-I{root}", "-c", source, "-o", f"{source.stem}.o"],
                           cwd=folder, check=True)
        subprocess.run([compiler, "--coverage", *[f"{s.stem}.o" for s in sources], "-lfmt", "-o", "test"], cwd=folder, check=True)
        subprocess.run(["./test"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([gcov, "-b", "--json-format", "checked_test.gcda"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        [report] = pathlib.Path(folder).glob("checked_test*.gcov.json.gz")
        files = json.loads(gzip.decompress(report.read_bytes()))["files"]
    [lines] = [f["lines"] for f in files if f["file"].endswith("ir/checked.h")]
    branches = missed = 0
    for line in lines:
        counts = [b["count"] for b in line["branches"] if not b["throw"]]
        branches += len(counts)
        if line["count"] == 0 or 0 in counts:
            missed += 1
            print(f"ir/checked.h:{line['line_number']}: run {line['count']} times, branches taken {counts} times")
    print(f"ir/checked.h: {branches} branches, {missed} lines with one that is never taken")
    return 1 if missed or branches < 20 else 0


sys.exit(main())
