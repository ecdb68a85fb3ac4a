#include "backends/cpu/kernels/dot_f32.h"

#include "ir/math.h"

namespace aoq::cpu {

float dot_f32(Isa isa, const float* a, const float* b, std::int64_t n) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return dot_f32_avx2(a, b, n);
#endif
  return math::dot(a, b, n);
}

}  // namespace aoq::cpu
