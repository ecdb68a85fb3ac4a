// Batched f32 matrix product of two run-time tensors, with strides. Definition of one element: acc = +0, then
// acc = fma(a[k], b[k], acc) for ascending k.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/cpu_features.h"

namespace aoq::cpu {

// Strides are in elements. Two batch axes, so that heads of [batch, rows, heads, width] need no transpose; a broadcast
// axis has stride 0. Rows of a and of out are contiguous; b has b_k = 1 (transposed) or b_n = 1.
struct MatmulDims {
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t a_outer = 0, a_inner = 0, a_row = 0;
  std::int64_t b_outer = 0, b_inner = 0, b_k = 0, b_n = 0;
  std::int64_t out_outer = 0, out_inner = 0, out_row = 0;
};

// Rows that a packed panel serves before the next rows do.
inline constexpr std::int64_t kMatmulRows = 96;

struct MatmulF32Plan {
  MatmulDims dims;
  Isa isa = Isa::reference;
  std::int64_t units = 0;  // batches times blocks of columns
  std::int64_t scratch_bytes = 0;
};

MatmulF32Plan plan_matmul_f32(const MatmulDims& dims, Isa isa);

struct MatmulF32Args {
  const float* a = nullptr;
  const float* b = nullptr;
  float* out = nullptr;
};
void run_matmul_f32(const MatmulF32Plan& plan, const MatmulF32Args& args, std::int64_t unit_begin,
                    std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
