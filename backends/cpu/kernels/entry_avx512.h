// Entry points of the AVX-512 translation units. Call them only when the plan's Isa is avx512_vnni.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aoq::math {
struct LayerNormParams;
}

namespace aoq::cpu {

struct ConvPanelsPlan;
struct ConvS8Args;
void run_conv_vnni256_avx512(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                             std::int64_t unit_end, std::byte* scratch);

void run_conv_avx512_vnni(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                          std::int64_t unit_end, std::byte* scratch);

struct ConvWinogradPlan;
void run_conv_winograd_avx512_vnni(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch);

struct DepthwiseVnniPlan;
struct DepthwiseS8Args;
void run_depthwise_3x3_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch);
void run_depthwise_5x5_avx512_vnni(const DepthwiseVnniPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch);

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

struct AttentionPlan;
struct AttentionArgs;
void run_attention_avx512_vnni(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t begin,
                               std::int64_t end, std::byte* scratch);

struct RowsF32;
struct ScoresF32;
void softmax_scores_f32_avx512(const ScoresF32& scores, const RowsF32& rows);
void layer_norm_f32_avx512(const math::LayerNormParams& params, const RowsF32& rows);

struct UnaryF32;
// False, and nothing done, where the AVX2 form is as good.
bool unary_f32_avx512(const UnaryF32& params, const float* x, float* out, std::int64_t n);

struct QuantizeParams;
struct DequantizeParams;
void quantize_f32_avx512(const QuantizeParams& params, const float* x, void* out, std::int64_t n);
void dequantize_bytes_avx512(const DequantizeParams& params, const void* x, float* out, std::int64_t n);
// Needs AVX512-VBMI besides.
void look_up_bytes_avx512_vbmi(const std::uint8_t* table, const void* x, void* out, std::int64_t n);

struct NarrowLinearPlan;
struct LinearWeightOnlyArgs;
struct LinearFixedPointArgs;
struct LinearDynamicArgs;
void run_linear_weight_only_avx512(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                                   std::int64_t end);
void run_linear_fixed_point_avx512(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                                   std::int64_t end);
void run_linear_dynamic_avx512(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                               std::int64_t end);

}  // namespace aoq::cpu
