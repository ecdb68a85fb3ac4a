// Entry points of the AVX2 translation units. Call them only when the plan's Isa is avx2.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aoq::cpu {

struct ConvS8Plan;
struct ConvS8Args;
void run_conv_s8_avx2(const ConvS8Plan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                      std::byte* scratch);

struct ConvF32Plan;
struct ConvF32Args;
void run_conv_f32_avx2(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                       std::byte* scratch);

struct DepthwiseS8Plan;
struct DepthwiseS8Args;
void run_depthwise_s8_avx2(const DepthwiseS8Plan& plan, const DepthwiseS8Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch);

struct DepthwiseF32Plan;
struct DepthwiseF32Args;
void run_depthwise_f32_avx2(const DepthwiseF32Plan& plan, const DepthwiseF32Args& args, std::int64_t unit_begin,
                            std::int64_t unit_end, std::byte* scratch);

}  // namespace aoq::cpu
