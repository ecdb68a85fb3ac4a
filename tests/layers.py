#!/usr/bin/env python3
"""Checks that includes go one way only (docs/design.md, Layers) and that each third-party library has one owner."""

import os
import re
import sys

# Longest prefix wins. A directory may include itself and what is listed.
LEAF = ["formats/zip", "formats/json", "formats/npy", "formats/safetensors", "formats/io"]
ALLOWED = {
    "ir": [],
    "formats/zip": ["ir"], "formats/json": ["ir"], "formats/npy": ["ir", "formats/zip"],
    "formats/safetensors": ["ir", "formats/json"], "formats/io": ["ir"],
    "formats/onnx": ["ir"] + LEAF, "formats/aoq": ["ir"] + LEAF,
    "passes": ["ir"] + LEAF,
    "runtime": ["ir", "formats/aoq", "formats/io"],
    "backends/cpu": ["ir", "runtime"],
    "tools": ["ir", "formats", "passes", "runtime", "backends"],
    "tests": ["ir", "formats", "passes", "runtime", "backends", "tools"],
}
OWNERS = {
    "nlohmann/": ["formats/json"], "flatbuffers/": ["formats/aoq"], "protozero/": ["formats/onnx/wire", "tests"],
    "zlib.h": ["formats/zip", "tests"], "dnnl": ["backends/cpu/onednn"], "oneapi/dnnl": ["backends/cpu/onednn"],
    "CLI/": ["tools"], "doctest/": ["tests"],
}


def layer_of(path):
    matches = [d for d in ALLOWED if path == d or path.startswith(d + "/")]
    return max(matches, key=len) if matches else None


def check(root):
    problems, files = [], 0
    for top in ("ir", "formats", "passes", "runtime", "backends", "tools", "tests"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                if not name.endswith((".h", ".cpp", ".def")):
                    continue
                path = os.path.relpath(os.path.join(folder, name), root)
                files += 1
                with open(os.path.join(root, path), encoding="utf-8") as f:
                    for number, line in enumerate(f, 1):
                        problems += check_line(path, number, line)
    return problems, files


def check_line(path, number, line):
    found = re.match(r'\s*#include ([<"])([^>"]+)[>"]', line)
    if not found:
        return []
    target, here = found.group(2), layer_of(path)
    if found.group(1) == '"':
        there = layer_of(target)
        if there is None or there == here or any(there == a or there.startswith(a + "/") for a in ALLOWED[here]):
            return []
        return ["%s:%d: %s may not include %s" % (path, number, here, target)]
    for prefix, owners in OWNERS.items():
        if target.startswith(prefix) and not any(path.startswith(o) for o in owners):
            return ["%s:%d: only %s may include <%s>" % (path, number, " and ".join(owners), target)]
    return []


def main():
    problems, files = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    print("\n".join(problems + ["%d files, %d wrong includes" % (files, len(problems))]))
    sys.exit(1 if problems or files == 0 else 0)


if __name__ == "__main__":
    main()
