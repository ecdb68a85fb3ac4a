"""Install step: copies the public headers to PREFIX/include/aoq, with their paths, which are how they are included.

Public is what a program that embeds or extends aoq includes: all of ir, passes, formats and runtime, and of the CPU backend what
makes one and registers kernels.
"""

import os
import pathlib
import shutil

DIRECTORIES = ("ir", "passes", "formats", "runtime")
FILES = ("backends/cpu/backend.h", "backends/cpu/cpu_features.h", "backends/cpu/kernel_table.h")
INTERNAL = ("pch", "ir/ops/", "formats/onnx/context.h", "formats/onnx/known_ops.h", "formats/onnx/move.h", "formats/onnx/window.h",
            "formats/zip/records.h", "passes/quantize/lowering.h", "passes/rewrite/layout.h")

root = pathlib.Path(os.environ["MESON_SOURCE_ROOT"])
target = pathlib.Path(os.environ["MESON_INSTALL_DESTDIR_PREFIX"]) / "include/aoq"
headers = list(FILES)
for directory in DIRECTORIES:
    for path in sorted((root / directory).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix in (".h", ".def") and not any(part in name for part in INTERNAL):
            headers.append(name)
for name in headers:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / name, target / name)
print(f"{len(headers)} headers to {target}")
