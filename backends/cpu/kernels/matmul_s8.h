// Products of two matrices of codes, batched: exact int32 sums of (a - a_zero_point) * (b - b_zero_point), then the
// epilogue of qmatmul (ir/epilogue.h): float(sum) * multiplier, rounded and clamped to codes, or as it is; or the sums.
//
// How: a unit widens a panel of 32 columns of b to s16 less its zero point in its scratch, in pairs of K, then four
// rows of a at a time, so nothing can saturate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/cpu/cpu_features.h"
#include "ir/dtype.h"
#include "ir/epilogue.h"

namespace aoq::cpu {

// Where the matrices of one product begin, in elements.
struct MatmulS8Batch {
  std::int64_t a, b, out;
};

struct MatmulS8Plan {
  std::vector<MatmulS8Batch> batches;
  std::int64_t m = 0, n = 0, k = 0;
  DType a_type = DType::i8, b_type = DType::i8, out_type = DType::f32;  // u8 or i8; f32 and i32 too for the result
  std::int32_t a_zero_point = 0, b_zero_point = 0;
  float multiplier = 1.0f;  // a_scale * b_scale / out_scale; a float result is not divided
  RequantBounds bounds{};
  Isa isa = Isa::reference;

  std::int64_t panels() const { return (n + 31) / 32; }
  std::int64_t units() const { return static_cast<std::int64_t>(batches.size()) * panels(); }
  // Per worker, 64-byte aligned.
  std::int64_t scratch_bytes() const { return (k + 1) / 2 * 2 * (32 + 4) * 2 + 64; }
};

struct MatmulS8Args {
  const std::byte* a = nullptr;  // [m, k] each
  const std::byte* b = nullptr;  // [k, n] each
  std::byte* out = nullptr;      // [m, n] each
};

// Units [begin, end). The result does not depend on how units are split.
void run_matmul_s8(const MatmulS8Plan& plan, const MatmulS8Args& args, std::int64_t begin, std::int64_t end,
                   std::byte* scratch);

// sums[4][32] of `pairs` pairs: rows of a `pitch` values apart, b [pairs][32][2].
void multiply_s16(const std::int16_t* a, std::int64_t pitch, const std::int16_t* b, std::int64_t pairs,
                  std::int32_t* sums);
// Entry of the AVX2 translation unit: only where the processor has it.
void multiply_s16_avx2(const std::int16_t* a, std::int64_t pitch, const std::int16_t* b, std::int64_t pairs,
                       std::int32_t* sums);

}  // namespace aoq::cpu
