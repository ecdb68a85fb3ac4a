// The elementwise functions that compute more than they read, sixteen floats at a time.
#include "backends/cpu/kernels/elementwise_f32.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/simd_avx512.h"
#include "ir/math_functions.h"

namespace aoq::cpu {
namespace {

template <typename Compute>
void map(const float* x, float* out, std::int64_t n, Compute compute) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(out + i, compute(F32x16(_mm512_loadu_ps(x + i))).v);
  if (i < n) store_first_16(out + i, compute(load_first_16(x + i, n - i)), n - i);
}

}  // namespace

bool unary_f32_avx512(const UnaryF32& p, const float* x, float* out, std::int64_t n) {
  switch (p.op) {
    case UnaryOp::sigmoid:
      map(x, out, n, [](F32x16 v) { return math::sigmoid_fn(v); });
      return true;
    case UnaryOp::tanh:
      map(x, out, n, [](F32x16 v) { return math::tanh_fn(v); });
      return true;
    case UnaryOp::silu:
      map(x, out, n, [](F32x16 v) { return math::silu_fn(v); });
      return true;
    case UnaryOp::gelu_erf:
      map(x, out, n, [](F32x16 v) { return math::gelu_erf_fn(v); });
      return true;
    case UnaryOp::gelu_tanh:
      map(x, out, n, [](F32x16 v) { return math::gelu_tanh_fn(v); });
      return true;
    case UnaryOp::erf:
      map(x, out, n, [](F32x16 v) { return math::erf_fn(v); });
      return true;
    case UnaryOp::exp:
      map(x, out, n, [](F32x16 v) { return math::exp_fn(v); });
      return true;
    case UnaryOp::log:
      map(x, out, n, [](F32x16 v) { return math::log_fn(v); });
      return true;
    case UnaryOp::softplus:
      map(x, out, n, [](F32x16 v) { return math::softplus_fn(v); });
      return true;
    default:
      return false;
  }
}

}  // namespace aoq::cpu
