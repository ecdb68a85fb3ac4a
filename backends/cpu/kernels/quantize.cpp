#include "backends/cpu/kernels/quantize.h"

#include <limits>

#include "backends/cpu/kernels/byte_codes.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/math.h"

namespace aoq::cpu {

void quantize_f32(Isa isa, const QuantizeParams& p, const float* x, void* out, std::int64_t n) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx512_vnni) return quantize_f32_avx512(p, x, out, n);
  if (isa >= Isa::avx2) return quantize_f32_avx2(p, x, out, n);
#endif
  for (std::int64_t i = 0; i < n; ++i) {
    store_code(out, p.type, i, quantize_value(x[i], p.inv_scale, p.zero_point, p.qmin, p.qmax));
  }
}

void dequantize_bytes(Isa isa, const DequantizeParams& p, const void* x, float* out, std::int64_t n) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx512_vnni) return dequantize_bytes_avx512(p, x, out, n);
  if (isa >= Isa::avx2) return dequantize_bytes_avx2(p, x, out, n);
#endif
  for (std::int64_t i = 0; i < n; ++i) out[i] = dequantize_value(load_code(x, p.type, i), p.scale, p.zero_point);
}

void requantize_bytes(Isa isa, const RequantizeParams& p, const void* x, void* out, std::int64_t n) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return requantize_bytes_avx2(p, x, out, n);
#endif
  for (std::int64_t i = 0; i < n; ++i) {
    float v = static_cast<float>(load_code(x, p.x_type, i) - p.x_zero_point) * p.x_scale;
    v = v * p.inv_out;
    store_code(out, p.out_type, i, round_and_clamp(v, p.bounds));
  }
}

void look_up_bytes(Isa isa, const std::uint8_t table[256], const void* x, void* out, std::int64_t n) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx512_vnni && cpu_features().avx512_vbmi) return look_up_bytes_avx512_vbmi(table, x, out, n);
  if (isa >= Isa::avx2) return look_up_bytes_avx2(table, x, out, n);
#endif
  const auto* in = static_cast<const std::uint8_t*>(x);
  auto* to = static_cast<std::uint8_t*>(out);
  for (std::int64_t i = 0; i < n; ++i) to[i] = table[in[i]];
}

Range range_of(Isa isa, const float* x, std::int64_t n) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return range_of_avx2(x, n);
#endif
  Range range = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
  for (std::int64_t i = 0; i < n; ++i) {
    // + 0 turns -0 into +0: which of the two a vector order would meet last does not matter then.
    range.min = math::minimum(range.min, x[i] + 0.0f);
    range.max = math::maximum(range.max, x[i] + 0.0f);
  }
  return range;
}

}  // namespace aoq::cpu
