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

struct ConvF32Plan;
struct ConvF32Args;
void run_conv_f32_avx512(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin,
                         std::int64_t unit_end, std::byte* scratch);

struct DepthwiseF32Plan;
struct DepthwiseF32Args;
void run_depthwise_f32_avx512(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                              std::int64_t unit_end, std::byte* scratch);

struct MatmulF32Plan;
struct MatmulF32Args;
void run_matmul_f32_avx512(const MatmulF32Plan& plan, const MatmulF32Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch);

struct UnaryF32;
// False, and nothing done, where the AVX2 form is as good.
bool unary_f32_avx512(const UnaryF32& params, const float* x, float* out, std::int64_t n);

struct NarrowLinearPlan;
struct LinearWeightOnlyArgs;
struct LinearDynamicArgs;
void run_linear_weight_only_avx512(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                                   std::int64_t end);
void run_linear_dynamic_avx512(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                               std::int64_t end);

}  // namespace aoq::cpu
