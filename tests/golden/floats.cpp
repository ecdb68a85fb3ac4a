// Section "floats": code tables and rounding of small float formats.
#include "ir/dtype.h"
#include "ir/float_format.h"
#include "passes/quantize/float8.h"
#include "passes/quantize/mx.h"
#include "passes/quantize/nvfp4.h"
#include "tests/golden/sections.h"

namespace aoq::golden {
namespace {

Result<DType> dtype_argument(const Case& c) {
  AOQ_ASSIGN(const std::string name, json_string(c.args(), "dtype"));
  return dtype_of(name);
}

Result<FloatFormat> format_argument(const Case& c) {
  AOQ_ASSIGN(const std::int64_t exponent, json_integer(c.args(), "exponent_bits"));
  AOQ_ASSIGN(const std::int64_t mantissa, json_integer(c.args(), "mantissa_bits"));
  return FloatFormat{static_cast<int>(exponent), static_cast<int>(mantissa), FloatSpecials::none};
}

Status decode(Case& c) {
  AOQ_ASSIGN(const DType dtype, dtype_argument(c));
  AOQ_ASSIGN(const Tensor codes, c.input("codes"));
  std::vector<float> values(static_cast<std::size_t>(codes.element_count()));
  dtype_info(dtype).to_float(codes.bytes().data(), 0, values);
  c.equal("values", values);
  return {};
}

// Codes are compared as numbers and by sign, through their bytes.
void equal_codes(Case& c, std::span<const std::uint8_t> found) {
  const Result<Tensor> expected = c.output("codes");
  if (!expected.ok()) return c.fail(expected.status().message());
  std::size_t differing = 0;
  for (std::size_t i = 0; i < found.size() && i < expected->bytes().size(); ++i) {
    const std::uint8_t code = std::to_integer<std::uint8_t>(expected->bytes()[i]);
    if (code != found[i] && differing++ == 0)
      c.fail(fmt::format("codes: first at {}: expected {:#x}, found {:#x}", i, code, found[i]));
  }
  if (differing > 0 || found.size() != expected->bytes().size()) {
    c.fail(fmt::format("codes: {} of {} elements differ", differing, found.size()));
  }
}

Status cast(Case& c, FloatOverflow overflow) {
  AOQ_ASSIGN(const DType dtype, dtype_argument(c));
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const FloatFormat format, float_format_of(dtype));
  std::vector<std::uint8_t> codes;
  for (float v : x.as<float>()) codes.push_back(static_cast<std::uint8_t>(encode_float(format, v, overflow)));
  equal_codes(c, codes);
  return {};
}

Status cast_after_clamp(Case& c) {
  return cast(c, FloatOverflow::saturate);
}
Status cast_without_clamp(Case& c) {
  return cast(c, FloatOverflow::non_finite);
}

Status floatx_decode(Case& c) {
  AOQ_ASSIGN(const FloatFormat format, format_argument(c));
  AOQ_ASSIGN(const Tensor codes, c.input("codes"));
  std::vector<double> values;
  for (std::uint8_t code : codes.as<std::uint8_t>()) values.push_back(decode_float(format, code));
  c.equal("values", values);
  return {};
}

Status floatx_encode(Case& c) {
  AOQ_ASSIGN(const FloatFormat format, format_argument(c));
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  std::vector<std::uint8_t> codes;
  for (float v : x.as<float>())
    codes.push_back(static_cast<std::uint8_t>(encode_float(format, v, FloatOverflow::saturate)));
  equal_codes(c, codes);
  return {};
}

Result<Float8Scaling> float8_scaling(const Case& c) {
  Float8Scaling scaling;
  AOQ_ASSIGN(scaling.dtype, dtype_argument(c));
  const Result<std::string> form = json_string(c.args(), "scale");
  if (form.ok() && *form == "e8m0") scaling.form = Float8ScaleForm::power_of_two;
  const Result<double> lo = json_number(c.args(), "hp_value_lb"), hi = json_number(c.args(), "hp_value_ub");
  if (lo.ok()) scaling.amax_min = static_cast<float>(*lo);
  if (hi.ok()) scaling.amax_max = static_cast<float>(*hi);
  return scaling;
}

Status float8(Case& c) {
  AOQ_ASSIGN(const Float8Scaling scaling, float8_scaling(c));
  AOQ_ASSIGN(const std::vector<std::int64_t> block, integers_of(c.args(), "block_size"));
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const Tensor scale, choose_float8_scale(x.view(), block, scaling));
  c.equal("scale", scale);
  if (!c.has_output("q")) return {};
  AOQ_ASSIGN(const Tensor codes, quantize_float8(x.view(), scale.view(), scaling.dtype));
  c.equal("q", codes);
  AOQ_ASSIGN(const Tensor values, dequantize_float8(codes.view(), scale.view(), DType::f32));
  c.equal("dequantized", values);
  return {};
}

std::vector<std::int64_t> codes_of(const Tensor& packed) {
  const int bits = dtype_info(packed.dtype()).bits;
  const DType container = bits == 6 ? DType::u6 : DType::u8;
  std::vector<std::int64_t> codes;
  for (std::int64_t i = 0; i < (bits == 6 ? packed.element_count() : packed.byte_size()); ++i) {
    codes.push_back(load_integer(container, packed.bytes().data(), i));
  }
  return codes;
}

// The result holds two codes of four bits a byte as torchao does, and codes of six bits one a byte.
Status mx(Case& c) {
  MxForm form;
  AOQ_ASSIGN(const std::string element, json_string(c.args(), "element"));
  if (element.starts_with("fp6_")) {
    form.element = element == "fp6_e2m3" ? DType::f6_e2m3 : DType::f6_e3m2;
  } else if (element == "float4_e2m1fn_x2") {
    form.element = DType::f4_e2m1;
  } else {
    AOQ_ASSIGN(form.element, dtype_of(element));
  }
  AOQ_ASSIGN(form.block_size, json_integer(c.args(), "block_size"));
  AOQ_ASSIGN(const std::string mode, json_string(c.args(), "scaling_mode"));
  if (mode == "EVEN") form.scaling = MxScaling::even;
  if (mode == "CEIL") form.scaling = MxScaling::ceil;
  if (mode == "RCEIL") form.scaling = MxScaling::rceil;
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const MxTensor q, quantize_mx(x.view(), form));
  c.equal("scale", codes_of(q.scales));
  c.equal_shape("scale", q.scales.shape());
  c.equal("data", codes_of(q.codes));
  if (!c.has_output("dequantized")) return {};
  AOQ_ASSIGN(const Tensor values, dequantize_mx(q.codes.view(), q.scales.view(), DType::f32));
  c.equal("dequantized", values);
  return {};
}

Status nvfp4(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  std::optional<float> tensor_scale;
  if (c.has_output("per_tensor_scale")) {
    AOQ_ASSIGN(const Tensor expected, c.output("per_tensor_scale"));
    tensor_scale = expected.as<float>()[0];
    // That of the float tensor, before it was rounded to the type of this case.
    if (x.dtype() == DType::f32) {
      AOQ_ASSIGN(const float found, nvfp4_tensor_scale(x.view()));
      c.equal_number("per_tensor_scale", static_cast<double>(*tensor_scale), static_cast<double>(found));
    }
  }
  AOQ_ASSIGN(const Nvfp4Tensor q, quantize_nvfp4(x.view(), tensor_scale));
  c.equal("scale", q.scales);
  c.equal("data", codes_of(q.codes));
  return {};
}

constexpr OpRunner kOpRunners[] = {
    {"decode", &decode, ""},
    {"cast_after_clamp", &cast_after_clamp, ""},
    {"cast_without_clamp", &cast_without_clamp, ""},
    {"floatx.decode", &floatx_decode, ""},
    {"floatx.encode", &floatx_encode, ""},
    {"torchao.float8", &float8, ""},
    {"torchao.choose_scale_float8", &float8, ""},
    {"mx.quantize", &mx, ""},
    {"nvfp4.quantize", &nvfp4, ""},
};

}  // namespace

const Section kFloats{"floats", kOpRunners, "no such format is built yet"};

}  // namespace aoq::golden
