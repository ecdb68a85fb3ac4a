// Section "primitives": choosing parameters, quantizing, dequantizing, fake-quantizing.
#include "passes/quantize/primitives.h"

#include "passes/quantize/qparams.h"
#include "tests/golden/sections.h"

namespace aoq::golden {
namespace {

Result<QRange> range_of(const Case& c) {
  AOQ_ASSIGN(const std::int64_t min, json_integer(c.args(), "quant_min"));
  AOQ_ASSIGN(const std::int64_t max, json_integer(c.args(), "quant_max"));
  return QRange{min, max};
}

Result<DType> dtype_argument(const Case& c) {
  AOQ_ASSIGN(const std::string name, json_string(c.args(), "dtype"));
  return dtype_of(name);
}

QRange whole_range(DType dtype) {
  return {static_cast<std::int64_t>(dtype_info(dtype).min), static_cast<std::int64_t>(dtype_info(dtype).max)};
}

Result<AffineFormula> formula_of(const Case& c, const Tensor& x) {
  AffineFormula f;
  const std::string mapping = json_string(c.args(), "mapping").ok() ? *json_string(c.args(), "mapping") : "ASYMMETRIC";
  if (mapping == "SYMMETRIC") f.mapping = MappingType::symmetric;
  if (mapping == "SYMMETRIC_NO_CLIPPING_ERR") f.mapping = MappingType::symmetric_no_clipping_error;
  f.dtype = DType::i32;
  if (c.args().contains("dtype")) {
    AOQ_ASSIGN(f.dtype, dtype_argument(c));
  }
  f.range = whole_range(f.dtype);
  if (c.args().contains("quant_min")) {
    AOQ_ASSIGN(f.range, range_of(c));
  }
  const Json* eps = json_find(c.args(), "eps");
  f.eps = eps != nullptr && eps->is_number() ? static_cast<float>(eps->get<double>()) : machine_epsilon(x.dtype());
  return f;
}

Status equal_parameter_shape(Case& c, const Tensor& x, std::span<const std::int64_t> block, KeepDimensions keep) {
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(x.shape(), block));
  c.equal_shape("scale", blocks.parameter_shape(keep));
  return {};
}

Status affine(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const AffineFormula f, formula_of(c, x));
  AOQ_ASSIGN(const std::vector<std::int64_t> block, integers_of(c.args(), "block_size"));
  AOQ_ASSIGN(const QParams q, choose_qparams_affine(f, x.view(), block));
  c.equal("scale", q.scale);
  c.equal("zero_point", q.zero_point);
  const bool is_kept = c.args().contains("keepdim") && c.args()["keepdim"] == true;
  AOQ_TRY(equal_parameter_shape(c, x, block, is_kept ? KeepDimensions::yes : KeepDimensions::no));
  if (!c.has_output("q")) return {};
  AOQ_ASSIGN(const Tensor codes, quantize_affine(x.view(), block, q));
  c.equal("q", codes);
  AOQ_ASSIGN(const Tensor values, dequantize_affine(codes.view(), block, q, x.dtype()));
  c.equal("dequantized", values);
  return {};
}

Status dont_preserve_zero(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(AffineFormula f, formula_of(c, x));
  f.preserve_zero = false;
  AOQ_ASSIGN(const std::vector<std::int64_t> block, integers_of(c.args(), "block_size"));
  AOQ_ASSIGN(const QParams q, choose_qparams_affine(f, x.view(), block));
  c.equal("scale", q.scale);
  c.equal("zero_point", q.zero_point);
  return {};
}

Status tinygemm(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const AffineFormula f, formula_of(c, x));
  AOQ_ASSIGN(const std::vector<std::int64_t> block, integers_of(c.args(), "block_size"));
  AOQ_ASSIGN(const QParams q, choose_qparams_tinygemm(f, x.view(), block));
  c.equal("scale", q.scale);
  c.equal("zero_point", q.float_zero_point);
  AOQ_ASSIGN(const Tensor codes, quantize_tinygemm(x.view(), block, q));
  c.equal("q", codes);
  AOQ_ASSIGN(const Tensor values, dequantize_tinygemm(codes.view(), block, q, x.dtype()));
  c.equal("dequantized", values);
  return {};
}

// Scale and zero point from the arguments, of the whole tensor, or from the inputs, one per channel.
Result<QParams> given_qparams(const Case& c) {
  QParams q;
  if (c.args().contains("dtype")) {
    AOQ_ASSIGN(q.dtype, dtype_argument(c));
  }
  q.range = whole_range(q.dtype);
  if (c.args().contains("quant_min")) {
    AOQ_ASSIGN(q.range, range_of(c));
  }
  if (!c.args().contains("axis")) {
    AOQ_ASSIGN(const double scale, json_number(c.args(), "scale"));
    AOQ_ASSIGN(const std::int64_t zero_point, json_integer(c.args(), "zero_point"));
    q.scale = {static_cast<float>(scale)};
    q.zero_point = {zero_point};
    return q;
  }
  AOQ_ASSIGN(const std::int64_t axis, json_integer(c.args(), "axis"));
  AOQ_ASSIGN(const Tensor scales, c.input("scales"));
  AOQ_ASSIGN(const Tensor zero_points, c.input("zero_points"));
  q.axis = static_cast<int>(axis);
  for (double s : to_doubles(scales)) q.scale.push_back(static_cast<float>(s));
  for (double z : to_doubles(zero_points)) {
    if (is_float(zero_points.dtype())) {
      q.float_zero_point.push_back(static_cast<float>(z));
    } else {
      q.zero_point.push_back(static_cast<std::int64_t>(z));
    }
  }
  return q;
}

// The case's own tolerance: codes exact, values within one step (a fused multiply-add in vector code).
Status quantize(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const QParams q, given_qparams(c));
  AOQ_ASSIGN(const Tensor codes, quantize_tensor(x.view(), q));
  c.equal("q", codes);
  AOQ_ASSIGN(const Tensor values, dequantize_tensor(codes.view(), q));
  c.equal("dequantized", values, 1);
  return {};
}

Status fake_quantize(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const QParams q, given_qparams(c));
  AOQ_ASSIGN(const Tensor y, fake_quantize_tensor(x.view(), q));
  c.equal("y", y);
  return {};
}

Result<TensorQParams> dynamic_qparams(const Case& c, const Tensor& x, QRange range) {
  AOQ_ASSIGN(const Blocks whole, Blocks::make(x.shape(), x.shape()));
  AOQ_ASSIGN(const BlockRanges r, block_ranges(x.view(), whole));
  AOQ_ASSIGN(const bool is_reduced, json_bool(c.args(), "reduce_range"));
  ChooseQuantizationOptions options;
  options.range = range;
  options.reduce = is_reduced ? ReduceRange::yes : ReduceRange::no;
  return choose_quantization_params(r.min[0], r.max[0], options);
}

// The golden arguments show the range after it was reduced; the function reduces it by itself.
Status choose_per_tensor(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const TensorQParams q, dynamic_qparams(c, x, whole_range(DType::u8)));
  c.equal("scale", std::vector<double>{q.scale});
  c.equal("zero_point", std::vector<std::int64_t>{q.zero_point});
  return {};
}

Status quantize_dynamic(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const DType dtype, dtype_argument(c));
  AOQ_ASSIGN(const TensorQParams chosen, dynamic_qparams(c, x, whole_range(dtype)));
  AOQ_ASSIGN(const double scale, json_number(c.output_json("q"), "scale"));
  AOQ_ASSIGN(const std::int64_t zero_point, json_integer(c.output_json("q"), "zero_point"));
  c.equal_number("scale", scale, chosen.scale);
  c.equal_number("zero_point", static_cast<double>(zero_point), static_cast<double>(chosen.zero_point));
  QParams q;
  q.dtype = dtype;
  q.range = whole_range(dtype);
  q.scale = {static_cast<float>(chosen.scale)};
  q.zero_point = {chosen.zero_point};
  AOQ_ASSIGN(const Tensor codes, quantize_tensor(x.view(), q));
  c.equal("q", codes);
  return {};
}

Status decomposed(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const DType dtype, dtype_argument(c));
  AOQ_ASSIGN(const QRange range, range_of(c));
  AOQ_ASSIGN(const double eps, json_number(c.args(), "eps"));
  const bool is_symmetric = c.op().find("symmetric") != std::string::npos;
  AOQ_ASSIGN(const TensorQParams chosen, is_symmetric ? decomposed_choose_qparams_symmetric(x.view(), dtype, range, eps)
                                                      : decomposed_choose_qparams(x.view(), range, eps));
  c.equal("scale", std::vector<double>{chosen.scale});
  c.equal("zero_point", std::vector<std::int64_t>{chosen.zero_point});
  if (!c.has_output("q")) return {};
  QParams q;
  q.dtype = dtype;
  q.range = range;
  q.scale = {static_cast<float>(chosen.scale)};
  q.zero_point = {chosen.zero_point};
  AOQ_ASSIGN(const Tensor codes, quantize_tensor(x.view(), q));
  c.equal("q", codes);
  AOQ_ASSIGN(const Tensor values, dequantize_tensor(codes.view(), q));
  c.equal("dequantized", values);
  return {};
}

Status per_token(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  const bool is_asymmetric = c.op().ends_with("asymmetric");
  TokenQuantization q;
  q.arithmetic = is_asymmetric ? TokenArithmetic::f64 : TokenArithmetic::f32;
  AOQ_ASSIGN(q.qparams, is_asymmetric ? decomposed_choose_qparams_per_token_asymmetric(x.view())
                                      : decomposed_choose_qparams_per_token(x.view()));
  c.equal("scale", q.qparams.scale);
  c.equal("zero_point", q.qparams.zero_point);
  AOQ_ASSIGN(const Tensor codes, decomposed_quantize_per_token(x.view(), q));
  c.equal("q", codes);
  if (!c.has_output("dequantized")) return {};
  AOQ_ASSIGN(const Tensor values, decomposed_dequantize_per_token(codes.view(), q));
  c.equal("dequantized", values);
  return {};
}

Status per_channel_group(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const Tensor scales, c.input("scales"));
  AOQ_ASSIGN(const Tensor zero_points, c.input("zero_points"));
  AOQ_ASSIGN(const std::int64_t group_size, json_integer(c.args(), "group_size"));
  QParams q;
  q.dtype = DType::i8;
  AOQ_ASSIGN(q.range, range_of(c));
  for (double s : to_doubles(scales)) q.scale.push_back(static_cast<float>(s));
  for (double z : to_doubles(zero_points)) q.zero_point.push_back(static_cast<std::int64_t>(z));
  AOQ_ASSIGN(const Tensor codes, decomposed_quantize_per_channel_group(x.view(), group_size, q));
  c.equal("q", codes);
  AOQ_ASSIGN(const Tensor values, decomposed_dequantize_per_channel_group(codes.view(), group_size, q));
  c.equal("dequantized", values);
  return {};
}

constexpr OpRunner kOpRunners[] = {
    {"torchao.affine", &affine, ""},
    {"torchao.choose_qparams_affine", &affine, ""},
    {"torchao.choose_qparams_affine_dont_preserve_zero", &dont_preserve_zero, ""},
    {"torchao.tinygemm", &tinygemm, ""},
    {"torch.quantize_per_tensor", &quantize, ""},
    {"torch.quantize_per_channel", &quantize, ""},
    {"torch.fake_quantize_per_tensor_affine", &fake_quantize, ""},
    {"torch.fake_quantize_per_channel_affine", &fake_quantize, ""},
    {"torch._choose_qparams_per_tensor", &choose_per_tensor, ""},
    {"torch.quantize_per_tensor_dynamic", &quantize_dynamic, ""},
    {"quantized_decomposed.choose_qparams.tensor", &decomposed, ""},
    {"quantized_decomposed.choose_qparams_symmetric.tensor", &decomposed, ""},
    {"quantized_decomposed.choose_qparams_per_token", &per_token, ""},
    {"quantized_decomposed.choose_qparams_per_token_asymmetric", &per_token, ""},
    {"quantized_decomposed.quantize_per_channel_group", &per_channel_group, ""},
};

}  // namespace

const Section kPrimitives{"primitives", kOpRunners, "no such primitive is built yet"};

}  // namespace aoq::golden
