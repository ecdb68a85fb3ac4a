// The packed layouts of this backend's constants. A layout's name says everything that the bytes depend on besides the
// constant's shape: "s8_k2_n16" and "s8_k4_n16", with ".g4" for four groups; "s8_dw", "s8_dw_k4" and "s8_dw_split";
// "f32_n16";
// "f32_dw"; "n4_k8_n16"; "b8_k4_n16".
//
// A constant of shape [O, I / groups, k...] or [N, K]; kernels/*.h show the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cpu/kernel_table.h"
#include "backends/cpu/kernels/conv_dims.h"
#include "ir/tensor.h"

namespace aoq::cpu {

inline constexpr std::string_view kLayoutS8 = "s8_k2_n16";
inline constexpr std::string_view kLayoutS8Quads = "s8_k4_n16";
inline constexpr std::string_view kLayoutS8SafeQuads = "s8_k4_n16_safe";
inline constexpr std::string_view kLayoutS8Depthwise = "s8_dw";
inline constexpr std::string_view kLayoutS8DepthwiseQuads = "s8_dw_k4";
inline constexpr std::string_view kLayoutS8DepthwiseSplit = "s8_dw_split";
inline constexpr std::string_view kLayoutF32 = "f32_n16";
inline constexpr std::string_view kLayoutF32Depthwise = "f32_dw";
inline constexpr std::string_view kLayoutNibbles = "n4_k8_n16";
inline constexpr std::string_view kLayoutBytes = "b8_k4_n16";

std::string layout_name(std::string_view base, std::int64_t groups);

#define AOQ_LAYOUT(name, pack, unpack)                                     \
  Result<std::vector<std::byte>> pack(const Tensor&, std::int64_t groups); \
  Result<Tensor> unpack(const PackedConstant&);
#include "backends/cpu/layouts.def"
#undef AOQ_LAYOUT

// The part of the geometry that packing depends on; unsupported for other ranks or group counts that do not divide.
Result<ConvDims> dims_of_weight(std::span<const std::int64_t> shape, std::int64_t groups);

}  // namespace aoq::cpu
