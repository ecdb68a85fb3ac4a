"""Applies the walk-throughs of CONTRIBUTING.md to a copy of the source tree, builds it and runs their commands.

usage: walkthroughs.py SOURCE_ROOT SCRATCH

Code blocks carry what to do in their info string: "```cpp path" and "```text path" are whole new files, "```diff" is a change
to a file that exists (its line numbers do not matter, its context must be there once), and "```sh" is run at the copy's root.
Blocks are carried out in order. SCRATCH keeps the copy and its build, so that another run builds only what changed.
"""

import os
import pathlib
import re
import subprocess
import sys
import time

IGNORED = re.compile(r"^(build.*|\.git|\.cache|\.venv|__pycache__|subprojects)$")


def blocks(text):
    """(line number, language, argument, content) of each fenced block."""
    out, start = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if start is None and (m := re.match(r"^```(\w+) ?(.*)$", line)):
            start = (number, m[1], m[2].strip(), [])
        elif start is not None and line == "```":
            out.append((*start[:3], "".join(row + "\n" for row in start[3])))
            start = None
        elif start is not None:
            start[3].append(line)
    return out


def write(path, text):
    """Leaves a file alone that has this text, so that nothing is built for it."""
    if path.exists() and path.read_bytes() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


def source_files(root):
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not IGNORED.match(f))
        for name in sorted(files):
            yield (pathlib.Path(folder) / name).relative_to(root)


def apply_diff(files, where, diff):
    name = re.search(r"^\+\+\+ b/(\S+)$", diff, re.M)
    if not name:
        sys.exit(f"CONTRIBUTING.md:{where}: a diff without a +++ line")
    name = name[1]
    if name not in files:
        sys.exit(f"CONTRIBUTING.md:{where}: there is no file {name}")
    text = files[name].decode()
    for hunk in re.split(r"^@@ .*@@.*\n", diff, flags=re.M)[1:]:
        lines = hunk.splitlines(keepends=True)
        old = "".join(row[1:] for row in lines if row[0] in " -")
        new = "".join(row[1:] for row in lines if row[0] in " +")
        if text.count("\n" + old) + text.startswith(old) != 1:
            sys.exit(f"CONTRIBUTING.md:{where}: {name} must have these lines once:\n{old}")
        text = text.replace(old, new, 1)
    files[name] = text.encode()


def run(script, tree):
    # Paths relative to the copy let ccache know files from another place.
    environment = dict(os.environ, CCACHE_BASEDIR=str(tree), CCACHE_NOHASHDIR="1", CCACHE_SLOPPINESS="pch_defines,time_macros")
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tree, env=environment).returncode


def main():
    source, tree = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    guide = blocks((source / "CONTRIBUTING.md").read_text())
    files = {str(name): (source / name).read_bytes() for name in source_files(source)}
    for name in list(source_files(tree)) if tree.exists() else []:
        if str(name) not in files:
            (tree / name).unlink()
    done = changed = 0
    pending = True  # the copy is written when a command needs it, with all that came before
    for where, language, argument, content in guide:
        if language == "diff":
            apply_diff(files, where, content)
        elif language in ("cpp", "text") and argument:
            if argument in files:
                sys.exit(f"CONTRIBUTING.md:{where}: {argument} exists already")
            files[argument] = content.encode()
        elif language == "sh":
            for name, text in files.items():
                write(tree / name, text)
            if pending:
                for script in (source / "tools/scripts/configure.sh", source / "check"):
                    os.chmod(tree / script.relative_to(source), script.stat().st_mode)
                if not (tree / "build/build.ninja").exists():
                    subprocess.run(["meson", "setup", "build", "-Dbuildtype=plain", "-Doptimization=0", "-Donednn=disabled"],
                                   cwd=tree, check=True, stdout=subprocess.DEVNULL)
            pending = False
            began = time.time()
            print(f"CONTRIBUTING.md:{where}:\n{content}", flush=True)
            if code := run(content, tree):
                sys.exit(f"CONTRIBUTING.md:{where}: exit {code}")
            print(f"({time.time() - began:.0f} s)", flush=True)
            # What the commands wrote (the generated pages) stays.
            for name in source_files(tree):
                if str(name).startswith("docs/"):
                    files[str(name)] = (tree / name).read_bytes()
            done += 1
            continue
        else:
            continue
        changed += 1
    print(f"{changed} changes applied, {done} sets of commands run")
    if changed < 15 or done < 4:
        sys.exit("CONTRIBUTING.md has fewer walk-throughs than it should")


main()
