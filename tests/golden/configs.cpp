// Section "algorithms", torchao.quantize_: one linear layer by a configuration.
#include "tests/golden/configs.h"
#include "passes/torchao/config.h"

namespace aoq::golden {
namespace {

// "int4, PerGroup(16)" -> {"int4", "PerGroup(16)"}
std::vector<std::string> arguments_of(const std::string& text) {
  std::vector<std::string> parts;
  const std::size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return parts;
  std::string_view rest = std::string_view(text).substr(open + 1, close - open - 1);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(", ");
    parts.emplace_back(rest.substr(0, comma));
    rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 2);
  }
  return parts;
}

Status set_argument(torchao::Config& config, const std::string& argument) {
  const bool is_dynamic = config.type == "Int8DynamicActivationIntxWeightConfig";
  const char* granularity = is_dynamic ? "weight_granularity" : "granularity";
  if (argument.starts_with("int")) {
    AOQ_ASSIGN(const DType dtype, dtype_of(argument));
    config.fields.set("weight_dtype", dtype);
  } else if (argument == "act ASYMMETRIC") {
    config.fields.set("act_mapping_type", std::string("ASYMMETRIC"));
  } else if (argument == "NO_CLIPPING") {
    config.fields.set("mapping_type", std::string("SYMMETRIC_NO_CLIPPING_ERR"));
  } else {
    config.fields.set(granularity, argument);
  }
  return {};
}

Tensor codes_as_bytes(const Tensor& codes) {
  Result<Tensor> bytes = Tensor::make(DType::i8, codes.shape());
  AOQ_CHECK(bytes.ok());
  for (std::int64_t i = 0; i < codes.element_count(); ++i) {
    store_integer(DType::i8, bytes->mutable_bytes().data(), i, load_integer(codes.dtype(), codes.bytes().data(), i));
  }
  return std::move(*bytes);
}

}  // namespace

Result<torchao::Config> config_of(const std::string& text) {
  torchao::Config config;
  config.type = text.substr(0, text.find('('));
  for (const std::string& argument : arguments_of(text)) AOQ_TRY(set_argument(config, argument));
  return torchao::complete(std::move(config));
}

void compare_weight(Case& c, const torchao::QuantizedWeight& weight) {
  c.equal("qdata", codes_as_bytes(weight.codes));
  c.equal("scale", weight.qparams.scale);
  c.equal_shape("scale", weight.parameter_shape());
  if (c.has_output("zero_point")) c.equal("zero_point", weight.qparams.zero_point);
}

void compare_result(Case& c, const Tensor& y) {
  const double tolerance = y.dtype() == DType::f32 ? 1e-5 : 0x1p-7;
  c.equal_relative(c.output_json("y"), y, tolerance, static_cast<std::size_t>(y.element_count()));
}

Status quantize_by_config(Case& c) {
  AOQ_ASSIGN(const std::string text, json_string(c.args(), "config"));
  AOQ_ASSIGN(const torchao::Config config, config_of(text));
  AOQ_ASSIGN(const Tensor w, c.input("w"));
  AOQ_ASSIGN(const Tensor bias, c.input("bias"));
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const torchao::Quantized quantized, torchao::quantize_weight(config, {"0", w.view(), &bias}, nullptr));
  if (!quantized.weight) return error(Code::invalid_data, "kept in float: {}", quantized.kept_because);
  compare_weight(c, *quantized.weight);
  AOQ_ASSIGN(const Tensor y, torchao::linear(*quantized.weight, x.view(), &bias));
  compare_result(c, y);
  return {};
}

}  // namespace aoq::golden
