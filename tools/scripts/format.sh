#!/usr/bin/env bash
# Formats C++ files. usage: tools/scripts/format.sh [--check] [FILE...]     without files: every file of the tree
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=(-i)
if [ "${1:-}" = --check ]; then
  mode=(--dry-run -Werror)
  shift
fi
# Another version breaks lines elsewhere.
if ! command -v clang-format-19 >/dev/null; then
  echo "[SKIP] no clang-format-19" >&2
  exit 77
fi
if [ $# = 0 ]; then
  mapfile -d '' -t files < <(find ir passes runtime backends formats tools tests docs \( -name '*.h' -o -name '*.cpp' \) -print0)
else
  files=("$@")
fi
printf '%s\0' "${files[@]}" | xargs -0 -P "$(nproc)" -n 40 clang-format-19 "${mode[@]}"
