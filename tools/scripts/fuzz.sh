#!/usr/bin/env bash
# Builds the fuzz targets and runs each for SECONDS, two at a time on two cores. usage: tools/scripts/fuzz.sh SECONDS [TARGET...]
# The corpus grows in .cache/fuzz/<target>; an input that fails is kept in .cache/fuzz/failures and named.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=$1
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(aoq onnx npz safetensors gguf text)
dir=build-fuzz
CXX=clang++-19 tools/scripts/configure.sh $dir --buildtype=debugoptimized -Doptimization=1 -Ddebug=false \
  -Db_sanitize=address,undefined -Db_lundef=false -Dfuzz=true
ninja -C $dir fuzz
work=.cache/fuzz
mkdir -p $work/failures
$dir/tests/fuzz/fuzz_seeds $dir/seeds
export ASAN_OPTIONS=detect_stack_use_after_return=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

run_target() {
  local t=$1
  mkdir -p "$work/$t"
  if $dir/tests/fuzz/"${t}"_fuzz "$work/$t" "$dir/seeds/$t" -dict="$dir/seeds/$t.dict" -max_total_time="$seconds" -timeout=5 \
    -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -artifact_prefix="$work/failures/$t-" >"$work/$t.log" 2>&1; then
    echo "$t: clean, $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$t.log") inputs"
  else
    echo "$t: FAILED, see $work/$t.log: $(sed -n 's/^Test unit written to //p;s/.*Test unit written to //p' "$work/$t.log" | head -1)"
    return 1
  fi
}

failed=0
pids=()
for t in "${targets[@]}"; do
  run_target "$t" &
  pids+=($!)
  if [ ${#pids[@]} -ge "${AOQ_FUZZ_JOBS:-$(nproc)}" ]; then
    wait "${pids[0]}" || failed=1
    pids=("${pids[@]:1}")
  fi
done
for p in "${pids[@]}"; do wait "$p" || failed=1; done
exit $failed
