#!/usr/bin/env bash
# Runs clang-tidy 19 with the checks of .clang-tidy. usage: tools/scripts/tidy.sh [FILE...]
# Without files: the .cpp files that differ from the last commit; --all: every one, which takes long.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v clang-tidy-19 >/dev/null; then
  echo "[SKIP] no clang-tidy-19: install the package clang-tidy-19" >&2
  exit 77
fi
# A build directory of its own: precompiled headers are of no use to clang-tidy.
CXX=clang++-19 tools/scripts/configure.sh build-tidy -Db_pch=false
ninja -C build-tidy -t targets all | sed -n 's/^\([^:]*\(_generated\|version\)\.h\): CUSTOM.*/\1/p' | xargs -r ninja -C build-tidy >/dev/null
if [ "${1:-}" = --all ]; then
  mapfile -t files < <(find ir passes runtime backends formats tools tests -name '*.cpp')
elif [ $# = 0 ]; then
  mapfile -t files < <(git diff --name-only --diff-filter=d HEAD -- '*.cpp'; git ls-files --others --exclude-standard -- '*.cpp')
else
  files=()
  for f in "$@"; do case $f in *.cpp) files+=("$f") ;; esac; done
fi
[ ${#files[@]} -gt 0 ] || exit 0
printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -n 4 clang-tidy-19 -p build-tidy --quiet
