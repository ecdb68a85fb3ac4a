"""Runs a program under callgrind, and reads what it counted."""

import collections
import re
import subprocess


def parse(text):
    """{function: its own instructions} of an out file without compressed strings and positions.

    ValueError where they do not add up to the file's total, or nothing was counted.
    """
    counts, function, is_call, total = collections.Counter(), None, False, None
    for line in text.splitlines():
        if line.startswith("fn="):
            function = line[3:]
        elif line.startswith("calls="):
            is_call = True
        elif line.startswith("totals:"):
            total = int(line.split()[1])
        elif m := re.match(r"(?:\d+|0x[0-9a-f]+) (\d+)$", line):
            if not is_call:  # the line after calls= is the callee's cost
                counts[function] += int(m[1])
            is_call = False
    if not counts or sum(counts.values()) != total:
        raise ValueError("the functions have %d instructions, the whole has %s" % (sum(counts.values()), total))
    return counts


def count(command, function, out, environment):
    """What `command` executes inside `function` and below, for each function."""
    valgrind = ["valgrind", "--tool=callgrind", "--toggle-collect=" + function, "--compress-strings=no",
                "--compress-pos=no", "--callgrind-out-file=" + out]
    done = subprocess.run(valgrind + command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError("%s: exit code %d\n%s%s" % (" ".join(command), done.returncode, done.stdout, done.stderr))
    with open(out, encoding="utf-8") as f:
        return parse(f.read())
