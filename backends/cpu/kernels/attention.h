// Attention over heads: softmax(q k^T * scale / divisor + mask) v, as ir/ops/attention.cpp defines it.
//
// q is [batch, rows, heads, depth], k [batch, columns, heads, depth], v [batch, columns, heads, width] and the result
// [batch, rows, heads, width]. A unit is a block of rows of one head: its scores stay in the scratch between the two
// products and the softmax.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/matmul_f32.h"
#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/kernels/rows_f32.h"

namespace aoq::cpu {

struct AttentionDims {
  std::int64_t batch = 0, heads = 0, rows = 0, columns = 0, depth = 0, width = 0;
  // Floats from one to the next in the mask; 0 where it broadcasts. mask_column is 0 or 1.
  std::int64_t mask_batch = 0, mask_head = 0, mask_row = 0, mask_column = 0;
};

struct AttentionPlan {
  AttentionDims dims;
  ScoresF32 scores;  // without the mask
  bool gives_codes = false;
  QuantizeParams codes;  // of the result, where it is codes
  Isa isa = Isa::reference;

  std::int32_t levels = 0;  // of weights in int8
  std::int64_t block = 0;   // rows of a unit
  std::int64_t blocks = 0;
  MatmulF32Plan score_product, mix_product;  // of one unit
  std::int64_t scratch_bytes = 0;            // per worker, 64-byte aligned

  std::int64_t units() const { return dims.batch * dims.heads * blocks; }
};

struct AttentionArgs {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* mask = nullptr;
  void* out = nullptr;
};

// Fills in what follows from dims, scores, codes and isa; there shall be about `units` units or more.
void plan_attention_f32(AttentionPlan& plan, std::int64_t units);
// Units [begin, end). The result does not depend on how units are split.
void run_attention_f32(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t begin, std::int64_t end,
                       std::byte* scratch);

// The same in int8 arithmetic, with the codes' scales.
void plan_attention_s8(AttentionPlan& plan, std::int64_t units);
void run_attention_s8(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t begin, std::int64_t end,
                      std::byte* scratch);

// One unit and its place in the operands.
struct AttentionUnit {
  std::int64_t batch, head, row, rows;
  const float *q, *k, *v, *mask;  // of the unit's first row; mask null where there is none
  std::int64_t out;               // the unit's first element in the result
};
AttentionUnit attention_unit(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t unit);
// Rows of a unit: as many as keep a block's scores near, and few enough to give `units` units.
std::int64_t attention_block(const AttentionDims& dims, std::int64_t units);

}  // namespace aoq::cpu
