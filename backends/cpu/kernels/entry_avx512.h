// Entry points of the AVX-512 translation units. Call them only when the plan's Isa is avx512_vnni.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aoq::cpu {

// Rows of s16 pairs, `pitch` values apart, and one panel of 16 columns in S8_K2_N16 (conv_s8.h).
struct TileS16 {
  const std::int16_t* a;
  std::int64_t pitch;
  const std::byte* weights;
  std::int64_t k_pairs;
};
// Exact sums of 1 to 6 rows, [rows][16].
void multiply_s16_avx512(const TileS16& tile, std::int64_t rows, std::int32_t* acc);

struct ConvVnniPlan;
struct ConvS8Args;
void run_conv_avx512_vnni(const ConvVnniPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                          std::int64_t unit_end, std::byte* scratch);

struct DepthwiseVnniPlan;
struct DepthwiseS8Args;
void run_depthwise_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                               std::int64_t unit_end, std::byte* scratch);

struct NarrowLinearPlan;
struct LinearWeightOnlyArgs;
struct LinearDynamicArgs;
void run_linear_weight_only_avx512(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                                   std::int64_t end);
void run_linear_dynamic_avx512(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                               std::int64_t end);

}  // namespace aoq::cpu
