#!/usr/bin/env python3
"""Reports lines a directory and the files above the aims of docs/design.md (600 lines; 300 is the aim). Enforces nothing."""

import os
import sys

TOP = ("ir", "passes", "formats", "runtime", "backends", "tools", "tests")


def count(root):
    totals, long_files = {}, []
    for top in TOP:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                if not name.endswith((".h", ".cpp", ".cu", ".def", ".py", ".sh")):
                    continue
                path = os.path.relpath(os.path.join(folder, name), root)
                with open(os.path.join(root, path), encoding="utf-8") as f:
                    lines = sum(1 for _ in f)
                layer = "/".join(path.split("/")[:2]) if top in ("formats", "backends") else top
                totals.setdefault(layer, [0, 0])
                totals[layer][0] += 1
                totals[layer][1] += lines
                if lines > 600:
                    long_files.append((lines, path))
    return totals, long_files


def main():
    totals, long_files = count(sys.argv[1] if len(sys.argv) > 1 else ".")
    print("%-22s %6s %7s %5s" % ("directory", "files", "lines", "mean"))
    for layer, (files, lines) in sorted(totals.items()):
        print("%-22s %6d %7d %5d" % (layer, files, lines, lines // files))
    print("%-22s %6d %7d" % ("all", sum(f for f, _ in totals.values()), sum(n for _, n in totals.values())))
    for lines, path in sorted(long_files, reverse=True):
        print("above 600 lines: %s (%d)" % (path, lines))


if __name__ == "__main__":
    main()
