#!/usr/bin/env python3
"""Prints what the quick start measured. usage: table.py DIR MODEL.onnx FLOAT.aoq INT8.aoq"""

import json
import os
import sys
from collections import Counter


def main():
    folder, model, float_file, int8_file = sys.argv[1:]

    def load(name):
        with open(os.path.join(folder, name + ".json")) as f:
            return json.load(f)

    def megabytes(path):
        return "%.2f MB" % (os.path.getsize(path) / 1e6)

    bench, compare, inspect = load("bench"), load("compare"), load("inspect")
    output = compare["outputs"][0]
    rows = [
        ("top-1 accuracy, %d files" % load("eval-float")["samples"],
         "%.2f %%" % (100 * load("eval-float")["value"]), "%.2f %%" % (100 * load("eval-int8")["value"])),
        ("agreement with float", "", "%.2f %%" % (100 * output["agreement"])),
        ("signal to quantization noise", "", "%.1f dB" % output["sqnr_db"]),
        ("file", megabytes(float_file), megabytes(int8_file)),
        ("latency, 1 file, 1 thread, median", "%.2f ms" % bench["against"]["median_ms"], "%.2f ms" % bench["median_ms"]),
        ("int8 is faster by (median of ratios)", "", "%.2fx" % bench["ratio_median"]),
    ]
    print("\nmagika standard_v3_3 (%s as ONNX) on this machine, kernel class %s" % (megabytes(model), bench["isa"]))
    print("%-38s %14s %14s" % ("", "float32", "int8"))
    for name, a, b in rows:
        print("%-38s %14s %14s" % (name, a, b))

    runs = Counter(op["runs"] for op in inspect["ops"])
    print("\nops of the int8 model: " + ", ".join("%d run in %s" % (n, p) for p, n in sorted(runs.items())))
    for op in inspect["ops"]:
        if op["runs"] == "int8":
            print("  int8     %-12s %-44s %s" % (op["op"], op["name"][-44:], op["kernel"]))
    reasons = {}
    for op in inspect["ops"]:
        if op["runs"] != "int8":
            reasons.setdefault(op.get("reason") or "no reason recorded", Counter())[op["op"]] += 1
    for reason, ops in sorted(reasons.items()):
        print("  float    %s: %s" % (", ".join("%d %s" % (n, o) for o, n in sorted(ops.items())), reason))


if __name__ == "__main__":
    main()
