#!/usr/bin/env python3
"""Compares the instructions of one inference of small models with those of instructions.json.

usage: instructions.py COUNTS.json RUN_MODEL COMPILER VERSION SANITIZERS OPTIMIZATION RESNET8.onnx SCRATCH

The class is AVX2, which is what valgrind knows. More than the margin above a count is a failure; as much below it, or a model
that is not in the file, asks for new counts. AOQ_UPDATE=1 writes them. Counts belong to one compiler and version.
"""

import collections
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import callgrind

BIGGEST = 5
# Nothing else of the caller's surroundings, whose size would move the stack.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "AOQ_CPU_CLASS": "avx2"}


def prepare(run_model, resnet8, scratch):
    """The names of the models that were written."""
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    done = subprocess.run([run_model, "prepare", scratch, resnet8], env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit("run_model prepare: exit code %d\n%s" % (done.returncode, done.stderr))
    return done.stdout.split()


def short(function):
    """Without what every name has."""
    return re.sub(r"^void |aoq::(cpu::)?|\(anonymous namespace\)::", "", function)[:110]


def count_all(run_model, names, scratch):
    """{name: {function: instructions}}"""
    def one(name):
        path = os.path.join(scratch, name)
        counts = callgrind.count([run_model, "run", path + ".aoq"], "aoq_counted_run", path + ".callgrind",
                                 ENVIRONMENT)
        shortened = collections.Counter()
        for function, n in counts.items():
            shortened[short(function)] += n
        return shortened
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(one, names)))


def biggest(functions, known):
    """The functions that most of the instructions are in, each with what it had when the counts were written."""
    rows = sorted(functions.items(), key=lambda f: -f[1])[:BIGGEST]
    return ["    %12d  (was %s)  %s" % (n, known.get(f, "not among the biggest"), f) for f, n in rows]


def compare(name, functions, known, margin):
    """("" or "more" or "fewer" or "new", lines that say so)."""
    total = sum(functions.values())
    if known is None:
        return "new", ["%-16s %12d  not in the file" % (name, total)]
    ratio = total / known["instructions"]
    line = "%-16s %12d  %+.2f %% of %d" % (name, total, 100 * (ratio - 1), known["instructions"])
    if ratio > 1 + margin:
        return "more", [line + ": more than the margin"] + biggest(functions, known["biggest"])
    return "fewer" if ratio < 1 - margin else "", [line]


def report(counts, known):
    """Prints the comparison; whether all is well."""
    verdicts = set()
    for name, functions in counts.items():
        verdict, lines = compare(name, functions, known["models"].get(name), known["margin"])
        verdicts.add(verdict)
        print("\n".join(lines))
    gone = sorted(set(known["models"]) - set(counts))
    if gone:
        print("in the file, but there is no such model: " + ", ".join(gone))
    if verdicts & {"fewer", "new"} or gone:
        print("instructions.json should be updated: run this test with AOQ_UPDATE=1")
    return not (verdicts & {"more", "new"} or gone)


def write(path, counts, compiler, margin):
    models = {name: {"instructions": sum(functions.values()), "biggest": dict(
        sorted(functions.items(), key=lambda f: -f[1])[:BIGGEST])} for name, functions in counts.items()}
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"compiler": compiler, "margin": margin, "models": models}, f, indent=1)
        f.write("\n")
    print("wrote %s: %s" % (path, ", ".join("%s %d" % (n, m["instructions"]) for n, m in models.items())))


def reason_to_skip(compiler, sanitizers, optimization, known, updates):
    if shutil.which("valgrind") is None:
        return "there is no valgrind"
    if sanitizers != "none":
        return "sanitizers add instructions of their own"
    if optimization != "3":
        return "optimization is %s, not 3" % optimization
    if compiler != known["compiler"] and not updates:
        return "the counts are of %s, and this was built by %s" % (known["compiler"], compiler)
    return None


def main():
    path, run_model, compiler, version, sanitizers, optimization, resnet8, scratch = sys.argv[1:]
    compiler, updates = compiler + " " + version, os.environ.get("AOQ_UPDATE") == "1"
    with open(path, encoding="utf-8") as f:
        known = json.load(f)
    if reason := reason_to_skip(compiler, sanitizers or "none", optimization, known, updates):
        print("[SKIP] " + reason)
        sys.exit(77)
    counts = count_all(run_model, prepare(run_model, resnet8, scratch), scratch)
    if updates:
        return write(path, counts, compiler, known["margin"])
    sys.exit(0 if report(counts, known) else 1)


if __name__ == "__main__":
    main()
