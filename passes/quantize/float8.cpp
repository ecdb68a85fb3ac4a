#include "passes/quantize/float8.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "passes/quantize/arithmetic.h"
#include "passes/quantize/granularity.h"
#include "passes/quantize/qparams.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

Status check_float8(DType dtype) {
  if (is_float(dtype) && dtype_info(dtype).bits == 8) return {};
  return error(Code::invalid_argument, "float8: {} is no float of 8 bits", dtype_name(dtype));
}

Status check_bounds(const Float8Scaling& s) {
  const float lo = s.amax_min.value_or(0.0f), hi = s.amax_max.value_or(std::numeric_limits<float>::max());
  if (lo >= 0 && lo <= hi) return {};
  return error(Code::invalid_argument, "float8: magnitudes are to be bounded by [{}, {}]", lo, hi);
}

float bounded(float amax, const Float8Scaling& s, const Rounding& round) {
  if (s.amax_min) amax = torch_math::max(amax, round(*s.amax_min));
  if (s.amax_max) amax = torch_math::min(amax, round(*s.amax_max));
  return amax;
}

float power_of_two(float scale, const Rounding& round) {
  const float exponent = std::nearbyintf(round(static_cast<float>(std::log2(static_cast<double>(scale)))));
  return round(std::exp2(exponent));
}

// The blocks that a tensor of scales cuts a shape into.
Result<Blocks> blocks_of_scale(std::span<const std::int64_t> shape, const TensorView& scale) {
  if (scale.dtype != DType::f32) {
    return error(Code::invalid_argument, "float8: scales are {}, expected f32", dtype_name(scale.dtype));
  }
  std::vector<std::int64_t> block(shape.begin(), shape.end());
  if (scale.element_count() == 1) return Blocks::make(shape, block);
  bool fits = scale.shape.size() == shape.size();
  for (std::size_t d = 0; fits && d < shape.size(); ++d) {
    fits = scale.shape[d] > 0 && shape[d] > 0 && shape[d] % scale.shape[d] == 0;
    if (fits) block[d] = shape[d] / scale.shape[d];
  }
  if (fits) return Blocks::make(shape, block);
  return error(Code::invalid_argument, "float8: scales of shape {} for a tensor of shape {}",
               shape_to_string(scale.shape), shape_to_string(shape));
}

}  // namespace

Result<Tensor> choose_float8_scale(TensorView x, std::span<const std::int64_t> block_size,
                                   const Float8Scaling& scaling) {
  AOQ_TRY(check_float8(scaling.dtype));
  AOQ_TRY(check_bounds(scaling));
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(x.shape, block_size));
  AOQ_ASSIGN(const BlockRanges ranges, block_ranges(x, blocks));
  std::vector<std::int64_t> shape;
  for (std::size_t d = 0; d < x.shape.size(); ++d) shape.push_back(x.shape[d] / block_size[d]);
  AOQ_ASSIGN(Tensor scale, Tensor::make(DType::f32, std::move(shape)));
  const Rounding round(x.dtype);
  const float highest = static_cast<float>(dtype_info(scaling.dtype).max);
  const std::span<float> out = scale.mutable_as<float>();
  for (std::size_t b = 0; b < out.size(); ++b) {
    const float amax = torch_math::max(std::fabs(ranges.min[b]), std::fabs(ranges.max[b]));
    out[b] = round(bounded(amax, scaling, round) / highest);
    // Below f16 the scale, which is f32 itself, need not be 0.
    if (out[b] == 0) out[b] = bounded(amax, scaling, Rounding(DType::f32)) / highest;
    if (!std::isfinite(out[b])) {
      return error(Code::invalid_data, "float8: block {} has a largest magnitude of {}", b, amax);
    }
    if (scaling.form == Float8ScaleForm::power_of_two) out[b] = power_of_two(out[b], round);
  }
  return scale;
}

Result<Tensor> quantize_float8(TensorView x, TensorView scale, DType dtype) {
  AOQ_TRY(check_float8(dtype));
  AOQ_ASSIGN(const Blocks blocks, blocks_of_scale(x.shape, scale));
  AOQ_ASSIGN(std::vector<float> values, to_floats(x));
  AOQ_ASSIGN(Tensor codes, Tensor::make(dtype, {x.shape.begin(), x.shape.end()}));
  const float* scales = reinterpret_cast<const float*>(scale.data);
  const float highest = static_cast<float>(dtype_info(dtype).max);
  blocks.for_each_run([&](std::int64_t block, std::int64_t begin, std::int64_t size) {
    for (std::int64_t i = begin; i < begin + size; ++i) {
      const float scaled = values[i] / scales[block];
      values[i] = std::isnan(scaled) ? scaled : std::clamp(scaled, -highest, highest);
    }
  });
  dtype_info(dtype).from_float(values, codes.mutable_bytes().data(), 0);
  return codes;
}

Result<Tensor> dequantize_float8(TensorView codes, TensorView scale, DType result) {
  AOQ_TRY(check_float8(codes.dtype));
  AOQ_ASSIGN(const Blocks blocks, blocks_of_scale(codes.shape, scale));
  AOQ_ASSIGN(Tensor out, Tensor::make(result, {codes.shape.begin(), codes.shape.end()}));
  std::vector<float> values(static_cast<std::size_t>(codes.element_count()));
  dtype_info(codes.dtype).to_float(codes.data, 0, values);
  const float* scales = reinterpret_cast<const float*>(scale.data);
  blocks.for_each_run([&](std::int64_t block, std::int64_t begin, std::int64_t size) {
    for (std::int64_t i = begin; i < begin + size; ++i) values[i] *= scales[block];
  });
  dtype_info(result).from_float(values, out.mutable_bytes().data(), 0);
  return out;
}

}  // namespace aoq
