// Entry points of the AVX2 translation units. Call them only when the plan's Isa is avx2.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aoq::math {
struct LayerNormParams;
}

namespace aoq::cpu {

struct ConvS8Plan;
struct ConvS8Args;
void run_conv_s8_avx2(const ConvS8Plan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                      std::byte* scratch);

struct ConvPanelsPlan;
void run_conv_maddubs_avx2(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch);

// Only where the processor has AVX-VNNI.
void run_conv_vnni256_avxvnni(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                              std::int64_t unit_end, std::byte* scratch);

struct ConvWinogradPlan;
void run_conv_winograd_avx2(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                            std::int64_t unit_end, std::byte* scratch);

struct ConvF32Plan;
struct ConvF32Args;
void run_conv_f32_avx2(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                       std::byte* scratch);

struct DepthwiseS8Plan;
struct DepthwiseS8Args;
void run_depthwise_s8_avx2(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch);

struct DepthwiseMaddubsPlan;
void run_depthwise_maddubs_avx2(const DepthwiseMaddubsPlan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                                std::int64_t unit_end, std::byte* scratch);

struct DepthwiseF32Plan;
struct DepthwiseF32Args;
void run_depthwise_f32_avx2(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                            std::int64_t unit_end, std::byte* scratch);

struct PoolPlan;
struct PoolArgs;
void run_pool_avx2(const PoolPlan& plan, const PoolArgs& args, std::int64_t unit_begin, std::int64_t unit_end,
                   std::byte* scratch);

struct MatmulF32Plan;
struct MatmulF32Args;
void run_matmul_f32_avx2(const MatmulF32Plan& plan, const MatmulF32Args& args, std::int64_t unit_begin,
                         std::int64_t unit_end, std::byte* scratch);

struct NarrowLinearPlan;
struct LinearWeightOnlyArgs;
struct LinearFixedPointArgs;
struct LinearDynamicArgs;
struct FixedPointRow;
void run_linear_weight_only_avx2(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                                 std::int64_t end);
void run_linear_fixed_point_avx2(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                                 std::int64_t end);
void fix_row_avx2(const NarrowLinearPlan& plan, const FixedPointRow& row);
void run_linear_dynamic_avx2(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                             std::int64_t end);
void run_linear_dynamic_decoded_avx2(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                                     std::int64_t end, std::byte* scratch);

// out[row * pitch + column] = x[column * column_stride + row], of 4-byte elements.
void transpose_words_avx2(const void* x, std::int64_t column_stride, std::int64_t rows, std::int64_t columns, void* out,
                          std::int64_t pitch);
// out[3 * i + c] = x[c * plane + i] for i < pixels.
void interleave_three_avx2(const std::uint8_t* x, std::int64_t plane, std::int64_t pixels, std::uint8_t* out);

struct QuantizeParams;
struct DequantizeParams;
struct RequantizeParams;
struct Range;
void quantize_f32_avx2(const QuantizeParams& params, const float* x, void* out, std::int64_t n);
void dequantize_bytes_avx2(const DequantizeParams& params, const void* x, float* out, std::int64_t n);
void requantize_bytes_avx2(const RequantizeParams& params, const void* x, void* out, std::int64_t n);
void look_up_bytes_avx2(const std::uint8_t* table, const void* x, void* out, std::int64_t n);
Range range_of_avx2(const float* x, std::int64_t n);

struct BinaryS8Params;
struct BroadcastShape;
void add_bytes_avx2(const BinaryS8Params& params, const BroadcastShape& shape, const void* a, const void* b, void* out);
void multiply_bytes_avx2(const BinaryS8Params& params, const BroadcastShape& shape, const void* a, const void* b,
                         void* out);

struct UnaryF32;
enum class BinaryOp : std::uint8_t;
void unary_f32_avx2(const UnaryF32& params, const float* x, float* out, std::int64_t n);
void binary_f32_avx2(BinaryOp op, const BroadcastShape& shape, const float* a, const float* b, float* out);

struct RowsF32;
struct MiddleF32;
enum class ReduceOp : std::uint8_t;
struct ScoresF32;
void softmax_scores_f32_avx2(const ScoresF32& scores, const RowsF32& rows);
void layer_norm_f32_avx2(const math::LayerNormParams& params, const RowsF32& rows);
void reduce_last_f32_avx2(ReduceOp op, const RowsF32& rows);
void reduce_middle_f32_avx2(ReduceOp op, const MiddleF32& shape);

}  // namespace aoq::cpu
