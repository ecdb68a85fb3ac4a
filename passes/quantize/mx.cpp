#include "passes/quantize/mx.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "ir/float_format.h"
#include "passes/quantize/arithmetic.h"
#include "passes/quantize/block_codes.h"

namespace aoq {
namespace {

constexpr int kNanScale = 255;
constexpr int kBias = 127;
constexpr int kMantissaBits = 23;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Element {
  DType dtype;
  int highest_power;  // of two, that the type has
};

constexpr Element kElements[] = {
    {DType::f8_e4m3fn, 8}, {DType::f8_e5m2, 15}, {DType::f6_e2m3, 2}, {DType::f6_e3m2, 4}, {DType::f4_e2m1, 2},
};

Result<Element> element_of(DType dtype) {
  for (const Element& e : kElements) {
    if (e.dtype == dtype) return e;
  }
  return error(Code::invalid_argument,
               "mx: elements of type {}, expected f8_e4m3fn, f8_e5m2, f6_e2m3, f6_e3m2 or "
               "f4_e2m1",
               dtype_name(dtype));
}

// The exponent of amax by the rule, before it is taken relative to the element's.
int exponent_of(float amax, MxScaling scaling, int mantissa_bits) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(amax);
  if (scaling == MxScaling::even) bits += 1u << (kMantissaBits - mantissa_bits - 1);
  const int exponent = static_cast<int>(bits >> kMantissaBits & 0xff) - kBias;
  const bool has_mantissa = (bits & ((1u << kMantissaBits) - 1)) != 0;
  return scaling == MxScaling::ceil && has_mantissa ? exponent + 1 : exponent;
}

int rceil_code(float amax, float highest) {
  const float quotient = amax / highest;
  const float exponent = std::ceil(static_cast<float>(std::log2(static_cast<double>(quotient))));
  return static_cast<int>(std::clamp(exponent, -127.0f, 127.0f)) + kBias;
}

int scale_code(float amax, const Element& element, MxScaling scaling) {
  if (std::isnan(amax)) return kNanScale;
  const DTypeInfo& info = dtype_info(element.dtype);
  if (scaling == MxScaling::rceil) return rceil_code(amax, static_cast<float>(info.max));
  const int exponent = exponent_of(amax, scaling, info.mantissa_bits) - element.highest_power;
  return std::clamp(exponent, -kBias, kBias + 1) + kBias;
}

// x in units of the scale. Both forms are exact but for results below the least normal float.
float in_units(float x, int code, MxScaling scaling) {
  if (scaling == MxScaling::rceil) return code == 0 ? x : x * std::ldexp(1.0f, kBias - code);
  if (code == kNanScale) return x / kInfinity;
  return x / std::ldexp(1.0f, std::max(code, 1) - kBias);
}

// The code that NaN becomes; the block's scale says NaN anyway. Types without NaN round its bits as those of a number
// with the exponent 128 and keep the low ones, as torchao does.
std::uint32_t nan_code(float v, const FloatFormat& format) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(v);
  const std::uint32_t sign = bits >> 31 != 0 ? format.sign_bit() : 0;
  if (format.specials != FloatSpecials::none) return sign | (format.sign_bit() - 1);
  const int dropped = kMantissaBits - format.mantissa_bits;
  const std::uint32_t rebased =
      (bits & 0x7fffffffu) - (static_cast<std::uint32_t>(kBias - format.bias()) << kMantissaBits);
  const std::uint32_t is_odd = bits >> dropped & 1u;
  return sign | ((rebased + (1u << (dropped - 1)) - 1 + is_odd) >> dropped & 0xffu);
}

std::uint32_t element_code(float v, const FloatFormat& format) {
  return std::isnan(v) ? nan_code(v, format) : encode_float(format, v, FloatOverflow::saturate);
}

// An infinity left over is the highest element, also in the type that has one itself.
float clamp_infinity(float v, float highest) {
  return std::isinf(v) ? std::copysign(highest, v) : v;
}

}  // namespace

Result<MxTensor> quantize_mx(TensorView x, const MxForm& form) {
  AOQ_ASSIGN(const Element element, element_of(form.element));
  AOQ_ASSIGN(const FloatFormat format, float_format_of(form.element));
  AOQ_ASSIGN(const LastDimensionBlocks blocks, last_dimension_blocks(x.shape, form.block_size));
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  MxTensor result;
  AOQ_ASSIGN(result.codes, Tensor::make(form.element, {x.shape.begin(), x.shape.end()}));
  AOQ_ASSIGN(result.scales, Tensor::make(DType::f8_e8m0, blocks.scale_shape));
  std::byte* codes = result.codes.mutable_bytes().data();
  const std::span<std::byte> scales = result.scales.mutable_bytes();
  const float highest = static_cast<float>(dtype_info(form.element).max);
  for (std::int64_t b = 0; b < blocks.count; ++b) {
    const std::int64_t begin = b * form.block_size;
    const std::span<const float> block = std::span(values).subspan(begin, form.block_size);
    const int code = scale_code(largest_magnitude(block), element, form.scaling);
    scales[b] = static_cast<std::byte>(code);
    for (std::int64_t i = 0; i < form.block_size; ++i) {
      const float v = clamp_infinity(in_units(block[i], code, form.scaling), highest);
      store_code(form.element, codes, begin + i, element_code(v, format));
    }
  }
  return result;
}

Result<Tensor> dequantize_mx(TensorView codes, TensorView scales, DType result) {
  AOQ_TRY(element_of(codes.dtype).status());
  AOQ_ASSIGN(const std::int64_t block_size, block_size_of_scales(codes.shape, scales, DType::f8_e8m0));
  AOQ_ASSIGN(Tensor out, Tensor::make(result, {codes.shape.begin(), codes.shape.end()}));
  std::vector<float> values(static_cast<std::size_t>(codes.element_count()));
  dtype_info(codes.dtype).to_float(codes.data, 0, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::int64_t block = static_cast<std::int64_t>(i) / block_size;
    values[i] *= static_cast<float>(load_as_double(DType::f8_e8m0, scales.data, block));
  }
  dtype_info(result).from_float(values, out.mutable_bytes().data(), 0);
  return out;
}

}  // namespace aoq
