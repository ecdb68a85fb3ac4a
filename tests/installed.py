"""Installs the library to a scratch directory, and builds and runs docs/examples/extension against what was installed. Also
compiles every installed header by itself, with nothing but the flags of the pkg-config file.

usage: installed.py SOURCE_ROOT BUILD_ROOT SCRATCH
"""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys


def main():
    source, build, scratch = (pathlib.Path(a).resolve() for a in sys.argv[1:4])
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", scratch / "root"], check=True)
    [config] = (scratch / "root").rglob("aoq.pc")
    environment = dict(os.environ, PKG_CONFIG_PATH=str(config.parent), CCACHE_SLOPPINESS="pch_defines,time_macros")

    flags = subprocess.run(["pkg-config", "--cflags", "aoq"], env=environment, check=True, capture_output=True, text=True).stdout.split()
    [include] = (scratch / "root").rglob("include/aoq")
    if str(include) not in [os.path.realpath(flag[2:]) for flag in flags if flag.startswith("-I")]:
        sys.exit(f"pkg-config says {flags}, which is not below the destination {scratch}")
    headers = sorted(p.relative_to(include).as_posix() for p in include.rglob("*.h"))
    if len(headers) < 50:
        sys.exit(f"only {len(headers)} headers were installed")
    compiler = os.environ.get("CXX", "c++").split()

    def compiles(header):
        return subprocess.run([*compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", *flags, "-include", header, "/dev/null"]).returncode == 0

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        broken = [header for header, fine in zip(headers, pool.map(compiles, headers)) if not fine]
    if broken:
        sys.exit(f"do not compile by themselves: {', '.join(broken)}")
    print(f"{len(headers)} headers compile by themselves")

    example = scratch / "extension"
    subprocess.run(["meson", "setup", example, source / "docs/examples/extension", "-Dbuildtype=plain"], env=environment, check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", example, "--quiet"], env=environment, check=True)
    output = subprocess.run([example / "extension"], check=True, capture_output=True, text=True).stdout
    print(output)
    if "y = 12 26, by example_scale_shift_f32" not in output:
        sys.exit("the example gave something else")
    [program] = (scratch / "root").rglob("bin/aoq")
    subprocess.run([program, "doctor"], check=True, stdout=subprocess.DEVNULL)


main()
