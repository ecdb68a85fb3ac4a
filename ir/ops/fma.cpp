#include "ir/ops/fma.h"

#include <cmath>

namespace aoq::ops {

namespace {

void portable(float a, const float* b, float* acc, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) acc[i] = std::fma(a, b[i], acc[i]);
}

#if defined(__x86_64__)
// The same loop with the instruction in place of a library call; the numbers are the same.
__attribute__((target("fma"))) void with_instruction(float a, const float* b, float* acc, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) acc[i] = __builtin_fmaf(a, b[i], acc[i]);
}
#endif

using Step = void (*)(float, const float*, float*, std::int64_t);

Step choose() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("fma")) return with_instruction;
#endif
  return portable;
}

}  // namespace

void fma_accumulate(float a, const float* b, float* acc, std::int64_t n) {
  static const Step step = choose();
  step(a, b, acc, n);
}

}  // namespace aoq::ops
