#!/usr/bin/env python3
"""Makes labelled inputs for the file-type classifier magika from the files of this machine.

usage: make_inputs.py CONFIG.json OUT_DIR [--calibration N] [--evaluation N] [--seed S] [ROOT ...]

The label of a file is its extension, for extensions that name one content type. Writes calibration.npz, evaluation.npz
(int32 array `bytes`, [N, 2048]) and labels.npy (int64, [N]); the two sets have no file in common. Standard library only.
"""

import argparse
import ast
import json
import os
import random
import struct
import sys
import zipfile

# Extension -> content type of the model. Extensions that several types share, and those whose files are often something
# else (.a, .pl, .wav), are left out.
LABEL_OF = {
    "bmp": "bmp", "bz2": "bzip", "c": "c", "cc": "cpp", "cmake": "cmake", "cpp": "cpp", "css": "css", "csv": "csv",
    "diff": "diff", "f90": "fortran", "gif": "gif", "go": "go", "gz": "gzip", "html": "html", "ico": "ico",
    "ini": "ini", "ipynb": "ipynb", "java": "java", "jpg": "jpeg", "js": "javascript", "json": "json", "lua": "lua",
    "m4": "m4", "md": "markdown", "mjs": "javascript", "npy": "npy", "npz": "npz", "o": "elf", "otf": "otf",
    "pdf": "pdf", "php": "php", "png": "png", "pm": "perl", "po": "po", "ps": "postscript", "py": "python",
    "pyc": "pythonbytecode", "rb": "ruby", "rs": "rust", "rst": "rst", "scss": "scss", "sh": "shell", "so": "elf",
    "svg": "svg", "tar": "tar", "tcl": "tcl", "tex": "latex", "toml": "toml", "ts": "typescript", "ttf": "ttf",
    "txt": "txt", "woff": "woff", "woff2": "woff2", "xml": "xml", "xz": "xz", "yaml": "yaml", "yml": "yaml",
    "zip": "zip",
}
ROOTS = ["/usr/lib", "/usr/share", "/usr/include", "/usr/local", "/usr/src", "/var/lib", "/etc"]
BLOCK, HALF, PADDING = 4096, 1024, 256


def features(path):
    """The first and the last 1024 bytes, without white space at the ends, padded inwards with 256."""
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        head = f.read(BLOCK).lstrip()[:HALF]
        f.seek(max(0, size - BLOCK))
        tail = f.read(BLOCK).rstrip()[-HALF:]
    return list(head) + [PADDING] * (HALF - len(head)) + [PADDING] * (HALF - len(tail)) + list(tail)


def find_files(roots, labels):
    found = {}
    for root in roots:
        for folder, subfolders, names in os.walk(root):
            subfolders.sort()
            for name in sorted(names):
                extension = name.rsplit(".", 1)[-1].lower() if "." in name else ""
                if LABEL_OF.get(extension) not in labels:
                    continue
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) >= 16:
                    found.setdefault(extension, []).append(path)
    return found


def choose(found, wanted, rng):
    """As even over the extensions as they allow: the smallest cap per extension that gives enough files."""
    for paths in found.values():
        rng.shuffle(paths)
    cap = 1
    while cap < 4096 and sum(min(cap, len(p)) for p in found.values()) < wanted:
        cap += 1
    chosen = [(e, path) for e in sorted(found) for path in found[e][:cap]]
    rng.shuffle(chosen)
    return chosen[:wanted]


def npy_bytes(descr, shape, payload):
    header = repr({"descr": descr, "fortran_order": False, "shape": tuple(shape)})
    assert ast.literal_eval(header)
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin1") + payload


def write_npz(path, rows):
    payload = b"".join(struct.pack("<%di" % len(r), *r) for r in rows)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr(zipfile.ZipInfo("bytes.npy"), npy_bytes("<i4", (len(rows), 2 * HALF), payload))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("out")
    parser.add_argument("roots", nargs="*", default=None)
    parser.add_argument("--calibration", type=int, default=160)
    parser.add_argument("--evaluation", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with open(args.config) as f:
        labels = json.load(f)["target_labels_space"]
    found = find_files(args.roots or ROOTS, set(labels))
    wanted = args.calibration + args.evaluation
    chosen = choose(found, wanted + wanted // 20, random.Random(args.seed))
    rows, answers = [], []
    for extension, path in chosen:
        try:
            rows.append(features(path))
            answers.append(labels.index(LABEL_OF[extension]))
        except OSError:
            continue  # the file went away or may not be read
    if len(rows) <= args.calibration:
        sys.exit("only %d labelled files on this machine, more than %d are needed" % (len(rows), args.calibration))
    rows, answers = rows[:wanted], answers[:wanted]
    n = args.calibration
    os.makedirs(args.out, exist_ok=True)
    write_npz(os.path.join(args.out, "calibration.npz"), rows[:n])
    write_npz(os.path.join(args.out, "evaluation.npz"), rows[n:])
    with open(os.path.join(args.out, "labels.npy"), "wb") as f:
        f.write(npy_bytes("<i8", (len(answers) - n,), struct.pack("<%dq" % (len(answers) - n), *answers[n:])))
    print("%d files for calibration, %d for evaluation, %d extensions" % (n, len(rows) - n, len(found)), file=sys.stderr)


if __name__ == "__main__":
    main()
