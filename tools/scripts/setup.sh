#!/usr/bin/env bash
# Installs what building needs and is missing: Debian packages, and oneDNN 3 from its wheel (Debian 12 has no oneDNN 3).
# usage: tools/scripts/setup.sh [--check]     with --check also what the test suite needs
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(g++ meson ninja-build pkg-config ccache python3 python3-venv unzip
  libfmt-dev nlohmann-json3-dev doctest-dev libflatbuffers-dev flatbuffers-compiler libprotozero-dev libcli11-dev zlib1g-dev)
if [ "${1:-}" = --check ]; then
  packages+=(clang-19 clang-format-19 libclang-rt-19-dev dataset-fashion-mnist valgrind)
fi

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}" >&2
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Without oneDNN everything still builds and runs, so a machine that cannot fetch it goes on.
if [ ! -e .cache/onednn/lib/libdnnl.so.3 ]; then
  echo "fetching oneDNN 3.2" >&2
  mkdir -p .cache
  rm -rf .cache/onednn
  python3 -m venv .cache/onednn
  .cache/onednn/bin/pip install -q --no-deps onednn-cpu-gomp==2023.2.0 onednn-devel-cpu-gomp==2023.2.0 ||
    echo "oneDNN could not be fetched: building without it" >&2
fi
