#include "backends/cpu/kernels/binary_s8.h"

#include "backends/cpu/kernels/byte_codes.h"
#include "backends/cpu/kernels/entry_avx2.h"

namespace aoq::cpu {
namespace {

template <typename Compute>
void for_each_pair(const BinaryS8Params& p, const BroadcastShape& s, const void* a, const void* b, void* out,
                   Compute compute) {
  for (std::int64_t row = 0; row < s.rows; ++row) {
    for (std::int64_t column = 0; column < s.columns; ++column) {
      std::int32_t x = load_code(a, p.a_type, row * s.a_row + column * s.a_column) - p.a_zero_point;
      std::int32_t y = load_code(b, p.b_type, row * s.b_row + column * s.b_column) - p.b_zero_point;
      store_code(out, p.out_type, row * s.columns + column, round_and_clamp(compute(x, y), p.bounds));
    }
  }
}

}  // namespace

void add_bytes(Isa isa, const BinaryS8Params& p, const BroadcastShape& shape, const void* a, const void* b, void* out) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return add_bytes_avx2(p, shape, a, b, out);
#endif
  for_each_pair(p, shape, a, b, out, [&](std::int32_t x, std::int32_t y) {
    float first = static_cast<float>(x) * p.a_scale;
    float second = static_cast<float>(y) * p.b_scale;
    return (first + second) * p.inv_out;
  });
}

void multiply_bytes(Isa isa, const BinaryS8Params& p, const BroadcastShape& shape, const void* a, const void* b,
                    void* out) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return multiply_bytes_avx2(p, shape, a, b, out);
#endif
  for_each_pair(p, shape, a, b, out,
                [&](std::int32_t x, std::int32_t y) { return static_cast<float>(x * y) * p.a_scale; });
}

}  // namespace aoq::cpu
