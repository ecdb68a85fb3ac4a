#!/usr/bin/env bash
# Makes or reuses a build directory. usage: tools/scripts/configure.sh DIR [meson options]; CXX chooses the compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$1
shift
root=""
[ -e .cache/onednn/lib/libdnnl.so.3 ] && root=$PWD/.cache/onednn
if [ ! -e "$dir/build.ninja" ]; then
  meson setup "$dir" "-Donednn_root=$root" "$@" >"/tmp/aoq-setup.$$" 2>&1 || { cat "/tmp/aoq-setup.$$" >&2; exit 1; }
  rm -f "/tmp/aoq-setup.$$"
fi
# An older build directory keeps the options it was made with.
grep -qs 'pcfiledir' "$dir/meson-private/aoq.pc" || meson configure "$dir" -Dpkgconfig.relocatable=true
