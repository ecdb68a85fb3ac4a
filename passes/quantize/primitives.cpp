#include "passes/quantize/primitives.h"

#include <algorithm>
#include <cmath>

#include "passes/quantize/arithmetic.h"

namespace aoq {
namespace {

Status check_parameters(const QParams& q, std::int64_t count) {
  const std::size_t zero_points = q.float_zero_point.empty() ? q.zero_point.size() : q.float_zero_point.size();
  if (static_cast<std::int64_t>(q.scale.size()) == count && zero_points == q.scale.size()) return {};
  return error(Code::invalid_argument, "{} scales and {} zero points, {} of each needed", q.scale.size(), zero_points,
               count);
}

// The blocks of a per-tensor or per-channel parameter set.
Result<Blocks> blocks_of(std::span<const std::int64_t> shape, const QParams& q) {
  const Granularity granularity{q.axis < 0 ? Granularity::Kind::tensor : Granularity::Kind::axis, q.axis};
  AOQ_ASSIGN(const std::vector<std::int64_t> block, block_size_of(granularity, shape));
  AOQ_ASSIGN(Blocks blocks, Blocks::make(shape, block));
  AOQ_TRY(check_parameters(q, blocks.count()));
  return blocks;
}

Result<Blocks> blocks_of(std::span<const std::int64_t> shape, std::span<const std::int64_t> block, const QParams& q) {
  AOQ_ASSIGN(Blocks blocks, Blocks::make(shape, block));
  AOQ_TRY(check_parameters(q, blocks.count()));
  return blocks;
}

std::vector<std::int64_t> shape_of(const TensorView& x) {
  return {x.shape.begin(), x.shape.end()};
}

// result[i] = element(value i of x, block of i), stored in the result's type.
template <class Element>
Result<Tensor> map_floats(TensorView x, const Blocks& blocks, DType result, const Element& element) {
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  AOQ_ASSIGN(Tensor out, Tensor::make(result, shape_of(x)));
  std::byte* data = out.mutable_bytes().data();
  blocks.for_each_run([&](std::int64_t block, std::int64_t begin, std::int64_t size) {
    for (std::int64_t i = begin; i < begin + size; ++i) {
      if (is_integer(result)) {
        store_integer(result, data, i, static_cast<std::int64_t>(element(values[i], block)));
      } else {
        store_from_double(result, data, i, element(values[i], block));
      }
    }
  });
  return out;
}

template <class Element>
Result<Tensor> map_codes(TensorView codes, const Blocks& blocks, DType result, const Element& element) {
  if (!is_integer(codes.dtype)) return error(Code::invalid_argument, "codes of type {}", dtype_name(codes.dtype));
  AOQ_ASSIGN(Tensor out, Tensor::make(result, shape_of(codes)));
  std::byte* data = out.mutable_bytes().data();
  blocks.for_each_run([&](std::int64_t block, std::int64_t begin, std::int64_t size) {
    for (std::int64_t i = begin; i < begin + size; ++i) {
      store_from_double(result, data, i, element(load_integer(codes.dtype, codes.data, i), block));
    }
  });
  return out;
}

// Rounded half to even, as an integer that leaves room for a zero point; NaN is the lowest.
std::int64_t round_to_integer(float v) {
  constexpr float kLimit = 2147483520.0f;
  if (!(v > -2147483648.0f)) return -2147483648;
  return static_cast<std::int64_t>(std::nearbyintf(std::min(v, kLimit)));
}

std::int64_t code_of(float x, const QParams& q, std::size_t b) {
  const float scaled = x * (1.0f / q.scale[b]);
  if (!q.float_zero_point.empty()) {
    return std::clamp(round_to_integer(scaled + q.float_zero_point[b]), q.range.min, q.range.max);
  }
  return std::clamp(round_to_integer(scaled) + q.zero_point[b], q.range.min, q.range.max);
}

float value_of(std::int64_t code, const QParams& q, std::size_t b) {
  if (!q.float_zero_point.empty()) return (static_cast<float>(code) - q.float_zero_point[b]) * q.scale[b];
  return static_cast<float>(code - q.zero_point[b]) * q.scale[b];
}

float clamp_code(float v, QRange range) {
  // A comparison that NaN fails sends it to the lowest code.
  if (!(v > static_cast<float>(range.min))) return static_cast<float>(range.min);
  return std::min(v, static_cast<float>(range.max));
}

float middle_of(QRange range) {
  return static_cast<float>(static_cast<double>(range.max + range.min + 1) / 2);
}

std::vector<std::int64_t> row_block(std::span<const std::int64_t> shape, std::int64_t size) {
  std::vector<std::int64_t> block(shape.size(), 1);
  if (!block.empty()) block.back() = size;
  return block;
}

}  // namespace

Result<Tensor> quantize_tensor(TensorView x, const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(x.shape, q));
  return map_floats(x, blocks, q.dtype,
                    [&](float v, std::int64_t b) { return code_of(v, q, static_cast<std::size_t>(b)); });
}

Result<Tensor> dequantize_tensor(TensorView codes, const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(codes.shape, q));
  return map_codes(codes, blocks, DType::f32,
                   [&](std::int64_t code, std::int64_t b) { return value_of(code, q, static_cast<std::size_t>(b)); });
}

Result<Tensor> fake_quantize_tensor(TensorView x, const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(x.shape, q));
  return map_floats(x, blocks, DType::f32, [&](float v, std::int64_t b) {
    return value_of(code_of(v, q, static_cast<std::size_t>(b)), q, static_cast<std::size_t>(b));
  });
}

Result<Tensor> quantize_affine(TensorView x, std::span<const std::int64_t> block_size, const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(x.shape, block_size, q));
  const Rounding round(x.dtype);
  return map_floats(x, blocks, q.dtype, [&](float v, std::int64_t b) {
    // The inverse of a scale can be beyond f16, and 0 times infinity is no number.
    const float scaled = v == 0 ? 0.0f : std::nearbyintf(round(v * round(1.0f / q.scale[b])));
    return clamp_code(round(scaled + static_cast<float>(q.zero_point[b])), q.range);
  });
}

Result<Tensor> dequantize_affine(TensorView codes, std::span<const std::int64_t> block_size, const QParams& q,
                                 DType result) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(codes.shape, block_size, q));
  const Rounding round(result);
  return map_codes(codes, blocks, result, [&](std::int64_t code, std::int64_t b) {
    return round(static_cast<float>(code - q.zero_point[b])) * q.scale[b];
  });
}

Result<Tensor> fake_quantize_affine(TensorView x, std::span<const std::int64_t> block_size, const QParams& q) {
  AOQ_ASSIGN(const Tensor codes, quantize_affine(x, block_size, q));
  return dequantize_affine(codes.view(), block_size, q, x.dtype);
}

Result<MaskedFakeQuantized> fake_quantize_affine_with_mask(TensorView x, std::span<const std::int64_t> block_size,
                                                           const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(x.shape, block_size, q));
  const Rounding round(x.dtype);
  MaskedFakeQuantized out;
  AOQ_ASSIGN(out.values, fake_quantize_affine(x, block_size, q));
  AOQ_ASSIGN(out.mask, map_floats(x, blocks, DType::boolean, [&](float v, std::int64_t b) {
               const float scaled = std::nearbyintf(round(v * round(1.0f / q.scale[b])));
               const float code = round(scaled + static_cast<float>(q.zero_point[b]));
               return code >= static_cast<float>(q.range.min) && code <= static_cast<float>(q.range.max) ? 1.0f : 0.0f;
             }));
  return out;
}

Result<Tensor> quantize_tinygemm(TensorView x, std::span<const std::int64_t> block_size, const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(x.shape, block_size, q));
  const Rounding round(x.dtype);
  return map_floats(x, blocks, q.dtype, [&](float v, std::int64_t b) {
    const float lowest = round(q.float_zero_point[b] - round(q.scale[b] * middle_of(q.range)));
    return clamp_code(std::nearbyintf(round(round(v - lowest) / q.scale[b])), q.range);
  });
}

Result<Tensor> dequantize_tinygemm(TensorView codes, std::span<const std::int64_t> block_size, const QParams& q,
                                   DType result) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(codes.shape, block_size, q));
  const Rounding round(result);
  return map_codes(codes, blocks, result, [&](std::int64_t code, std::int64_t b) {
    const float scaled = round(round(static_cast<float>(code) - middle_of(q.range)) * q.scale[b]);
    return scaled + q.float_zero_point[b];
  });
}

Result<Tensor> decomposed_quantize_per_token(TensorView x, const TokenQuantization& q) {
  if (x.shape.empty()) return error(Code::invalid_argument, "quantize_per_token of a scalar");
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(x.shape, row_block(x.shape, x.shape.back())));
  const bool has_all = static_cast<std::int64_t>(q.qparams.scale.size()) == blocks.count() &&
                       q.qparams.zero_point.size() == q.qparams.scale.size();
  if (!has_all) return error(Code::invalid_argument, "{} scales for {} tokens", q.qparams.scale.size(), blocks.count());
  return map_floats(x, blocks, q.dtype, [&](float v, std::int64_t b) {
    const double scale = q.qparams.scale[b], zero_point = static_cast<double>(q.qparams.zero_point[b]);
    double shifted = v * (1.0 / scale) + zero_point;
    if (q.arithmetic == TokenArithmetic::f32) {
      shifted = v * (1.0f / static_cast<float>(scale)) + static_cast<float>(zero_point);
    }
    const double code = std::nearbyint(shifted);
    if (!(code > static_cast<double>(q.range.min))) return static_cast<double>(q.range.min);
    return std::min(code, static_cast<double>(q.range.max));
  });
}

Result<Tensor> decomposed_dequantize_per_token(TensorView codes, const TokenQuantization& q) {
  if (codes.shape.empty()) return error(Code::invalid_argument, "dequantize_per_token of a scalar");
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(codes.shape, row_block(codes.shape, codes.shape.back())));
  const bool has_all = static_cast<std::int64_t>(q.qparams.scale.size()) == blocks.count() &&
                       q.qparams.zero_point.size() == q.qparams.scale.size();
  if (!has_all) return error(Code::invalid_argument, "{} scales for {} tokens", q.qparams.scale.size(), blocks.count());
  return map_codes(codes, blocks, DType::f32, [&](std::int64_t code, std::int64_t b) {
    return static_cast<double>(code - q.qparams.zero_point[b]) * q.qparams.scale[b];
  });
}

Result<Tensor> decomposed_quantize_per_channel_group(TensorView x, std::int64_t group_size, const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(x.shape, row_block(x.shape, group_size), q));
  return map_floats(x, blocks, q.dtype, [&](float v, std::int64_t b) {
    const float shifted = v * (1.0f / q.scale[b]) + static_cast<float>(q.zero_point[b]);
    return clamp_code(std::nearbyintf(shifted), q.range);
  });
}

Result<Tensor> decomposed_dequantize_per_channel_group(TensorView codes, std::int64_t group_size, const QParams& q) {
  AOQ_ASSIGN(const Blocks blocks, blocks_of(codes.shape, row_block(codes.shape, group_size), q));
  return map_codes(codes, blocks, DType::f32,
                   [&](std::int64_t code, std::int64_t b) { return value_of(code, q, static_cast<std::size_t>(b)); });
}

}  // namespace aoq
