// Section "floats": code tables and rounding of small float formats.
#include "ir/dtype.h"
#include "ir/float_format.h"
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

constexpr OpRunner kOpRunners[] = {
    {"decode", &decode, ""},
    {"cast_after_clamp", &cast_after_clamp, ""},
    {"cast_without_clamp", &cast_without_clamp, ""},
    {"floatx.decode", &floatx_decode, ""},
    {"floatx.encode", &floatx_encode, ""},
    {"torchao.float8", nullptr, "float8 scaling is not built yet"},
    {"torchao.choose_scale_float8", nullptr, "float8 scaling is not built yet"},
    {"mx.quantize", nullptr, "MX block formats are not built yet"},
    {"nvfp4.quantize", nullptr, "NVFP4 block formats are not built yet"},
};

}  // namespace

const Section kFloats{"floats", kOpRunners, "no such format is built yet"};

}  // namespace aoq::golden
