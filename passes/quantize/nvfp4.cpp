#include "passes/quantize/nvfp4.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ir/float_format.h"
#include "passes/quantize/arithmetic.h"
#include "passes/quantize/block_codes.h"

namespace aoq {
namespace {

constexpr float kHighestCode = 6.0f;
constexpr float kLeastScale = 0x1p-6f;
constexpr float kHighestScale = 448.0f;
constexpr float kLeastTensorScale = 0x1p-120f;  // its reciprocal over the least scale of a block is finite

Status check_tensor_scale(std::optional<float> scale) {
  if (!scale || (*scale > 0 && std::isfinite(*scale) && std::isfinite((1.0f / *scale) / kLeastScale))) return {};
  return error(Code::invalid_argument,
               "nvfp4: a tensor scale of {}, expected a positive number whose reciprocal over 2^-6 is finite", *scale);
}

}  // namespace

float nvfp4_block_scale(float amax, std::optional<float> tensor_scale) {
  float scale = amax / kHighestCode;
  if (tensor_scale) scale = scale / *tensor_scale;
  scale = std::clamp(scale, kLeastScale, kHighestScale);
  std::byte code;
  dtype_info(DType::f8_e4m3fn).from_float({&scale, 1}, &code, 0);
  dtype_info(DType::f8_e4m3fn).to_float(&code, 0, {&scale, 1});
  return scale;
}

Result<float> nvfp4_tensor_scale(TensorView x) {
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  if (values.empty()) return error(Code::invalid_data, "nvfp4: a tensor without elements has no scale");
  const float amax = largest_magnitude(values);
  if (!std::isfinite(amax)) return error(Code::invalid_data, "nvfp4: the largest magnitude is {}", amax);
  return amax == 0 ? 1.0f : std::max(amax / (kHighestScale * kHighestCode), kLeastTensorScale);
}

Result<Nvfp4Tensor> quantize_nvfp4(TensorView x, std::optional<float> tensor_scale) {
  AOQ_TRY(check_tensor_scale(tensor_scale));
  AOQ_ASSIGN(const LastDimensionBlocks blocks, last_dimension_blocks(x.shape, kNvfp4BlockSize));
  AOQ_ASSIGN(std::vector<float> values, to_floats(x));
  AOQ_ASSIGN(const FloatFormat format, float_format_of(DType::f4_e2m1));
  Nvfp4Tensor result;
  result.tensor_scale = tensor_scale;
  AOQ_ASSIGN(result.codes, Tensor::make(DType::f4_e2m1, {x.shape.begin(), x.shape.end()}));
  AOQ_ASSIGN(result.scales, Tensor::make(DType::f8_e4m3fn, blocks.scale_shape));
  std::vector<float> scales(static_cast<std::size_t>(blocks.count));
  std::byte* codes = result.codes.mutable_bytes().data();
  for (std::int64_t b = 0; b < blocks.count; ++b) {
    const std::span<const float> block = std::span(values).subspan(b * kNvfp4BlockSize, kNvfp4BlockSize);
    const float amax = largest_magnitude(block);
    if (std::isnan(amax)) return error(Code::invalid_data, "nvfp4: NaN in block {} of {}", b, kNvfp4BlockSize);
    scales[b] = nvfp4_block_scale(amax, tensor_scale);
    // The two-level form multiplies by a reciprocal, the one-level form divides.
    const float factor = tensor_scale ? (1.0f / *tensor_scale) / scales[b] : 1.0f;
    for (std::int64_t i = 0; i < kNvfp4BlockSize; ++i) {
      const float v = tensor_scale ? block[i] * factor : block[i] / scales[b];
      store_code(DType::f4_e2m1, codes, b * kNvfp4BlockSize + i, encode_float(format, v, FloatOverflow::saturate));
    }
  }
  dtype_info(DType::f8_e4m3fn).from_float(scales, result.scales.mutable_bytes().data(), 0);
  return result;
}

Result<Tensor> dequantize_nvfp4(const Nvfp4Tensor& x, DType result) {
  if (x.codes.dtype() != DType::f4_e2m1) {
    return error(Code::invalid_argument, "nvfp4: codes of type {}, expected f4_e2m1", dtype_name(x.codes.dtype()));
  }
  AOQ_ASSIGN(const std::int64_t block_size, block_size_of_scales(x.codes.shape(), x.scales.view(), DType::f8_e4m3fn));
  AOQ_ASSIGN(Tensor out, Tensor::make(result, x.codes.shape()));
  std::vector<float> values(static_cast<std::size_t>(x.codes.element_count()));
  std::vector<float> scales(static_cast<std::size_t>(x.scales.element_count()));
  dtype_info(DType::f4_e2m1).to_float(x.codes.bytes().data(), 0, values);
  dtype_info(DType::f8_e4m3fn).to_float(x.scales.bytes().data(), 0, scales);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] *= x.tensor_scale.value_or(1.0f) * scales[i / static_cast<std::size_t>(block_size)];
  }
  dtype_info(result).from_float(values, out.mutable_bytes().data(), 0);
  return out;
}

}  // namespace aoq
