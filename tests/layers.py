#!/usr/bin/env python3
"""Checks that includes go one way only (docs/design.md, Layers) and that each third-party library has one owner."""

import os
import re
import sys


def read_drawing(root):
    """The table of docs/architecture.md. Longest prefix wins; a directory may include itself and what is listed."""
    with open(os.path.join(root, "docs/architecture.md"), encoding="utf-8") as f:
        block = f.read().split("```layers\n")[1].split("```")[0]
    return {line.split("->")[0].strip(): line.split("->")[1].split() for line in block.splitlines()}


ALLOWED = {}  # filled from the drawing
OWNERS = {
    "nlohmann/": ["formats/json"], "flatbuffers/": ["formats/aoq", "tests/formats"], "protozero/": ["formats/onnx/wire", "tests"],
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


def check_drawing(root):
    """Every directory of the drawing exists, every directory with code is in it, and every arrow is one that code needs."""
    problems, used = [], set()
    for layer in ALLOWED:
        if not os.path.isdir(os.path.join(root, layer)):
            problems.append("docs/architecture.md: there is no directory %s" % layer)
    for top in ("ir", "formats", "passes", "runtime", "backends", "tools", "tests"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            path = os.path.relpath(folder, root)
            sources = [n for n in names if n.endswith((".h", ".cpp", ".def"))]
            if sources and layer_of(path) is None:
                problems.append("docs/architecture.md: %s is not in the drawing" % path)
            for name in sources:
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    for target in re.findall(r'#include "([^"]+)"', f.read()):
                        used.add((layer_of(path), layer_of(target)))
    for layer in ("runtime", "backends/cpu", "tools", "tests"):
        for arrow in ALLOWED.get(layer, []):
            if not any(a == layer and b is not None and (b == arrow or b.startswith(arrow + "/")) for a, b in used):
                problems.append("docs/architecture.md: nothing in %s includes %s" % (layer, arrow))
    return problems


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else "."
    ALLOWED.update(read_drawing(root))
    problems, files = check(root)
    problems += check_drawing(root)
    print("\n".join(problems + ["%d files, %d wrong includes" % (files, len(problems))]))
    sys.exit(1 if problems or files == 0 else 0)


if __name__ == "__main__":
    main()
