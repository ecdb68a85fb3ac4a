#include "ir/epilogue.h"
#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

namespace {

constexpr std::int64_t kOutside = -1;

// The element of a dimension of n elements that position `i` (which may lie outside) shows.
std::int64_t source(std::int64_t i, std::int64_t n, std::string_view mode) {
  if (i >= 0 && i < n) return i;
  if (mode == "constant") return kOutside;
  if (mode == "edge") return i < 0 ? 0 : n - 1;
  auto modulo = [](std::int64_t a, std::int64_t b) { return (a % b + b) % b; };
  if (mode == "wrap") return modulo(i, n);
  if (n == 1) return 0;
  std::int64_t j = modulo(i, 2 * (n - 1));
  return j < n ? j : 2 * (n - 1) - j;
}

void store_fill(const EvalContext& c, std::int64_t i) {
  const MutableTensorView& y = c.outputs[0];
  double value = c.attributes.real("value");
  const Quantization* q = c.quantization(0);
  if (q == nullptr || !is_integer(y.dtype)) return store_from_double(y.dtype, y.data, i, value);
  auto qmin = static_cast<std::int32_t>(dtype_info(y.dtype).min);
  auto qmax = static_cast<std::int32_t>(dtype_info(y.dtype).max);
  store_integer(y.dtype, y.data, i,
                quantize_value(static_cast<float>(value), 1.0f / q->scale, q->zero_point, qmin, qmax));
}

// For each dimension, what every position of the result shows.
Result<std::vector<ops::Sizes>> sources(const EvalContext& c) {
  const TensorView& x = c.inputs[0];
  const std::string& mode = c.attributes.string("mode");
  std::vector<ops::Sizes> out;
  for (std::size_t d = 0; d < x.shape.size(); ++d) {
    std::int64_t begin = c.attributes.integers("pads")[d];
    std::int64_t n = x.shape[d];
    std::int64_t length = c.outputs[0].shape[d];
    if (n == 0 && length > 0 && mode != "constant") {
      return error(Code::invalid_data, "dimension {} is empty, mode {} has nothing to repeat", d, mode);
    }
    ops::Sizes line;
    for (std::int64_t i = 0; i < length; ++i) line.push_back(source(i - begin, n, mode));
    out.push_back(std::move(line));
  }
  return out;
}

Status reference(const EvalContext& c) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  std::int64_t n = y.element_count();
  if (n == 0) return {};
  AOQ_ASSIGN(std::vector<ops::Sizes> lines, sources(c));
  ops::Sizes strides = ops::row_major_strides(x.shape);
  ops::Sizes index(y.shape.size());
  for (std::int64_t i = 0; i < n; ++i, ops::next_index(index, y.shape)) {
    std::int64_t from = 0;
    for (std::size_t d = 0; d < index.size() && from != kOutside; ++d) {
      std::int64_t s = lines[d][static_cast<std::size_t>(index[d])];
      from = s == kOutside ? kOutside : from + s * strides[d];
    }
    if (from == kOutside) {
      store_fill(c, i);
    } else {
      ops::copy_elements(y.dtype, x.data, from, y.data, i, 1);
    }
  }
  return {};
}

}  // namespace

const OpDef kOpDef_pad = {
    .op = Op::pad,
    .name = "pad",
    .doc =
        "x with elements put before and after each dimension: a constant, or x reflected without its edge, its edge, "
        "or "
        "x repeated. Negative pads remove elements.",
    .inputs = {{{"x"}}},
    .attributes = {{{"pads", AttributeKind::integers, ops::kRequired, "begins of all dimensions, then ends"},
                    {"mode", AttributeKind::string, "constant", "constant, reflect, edge or wrap"},
                    {"value", AttributeKind::real, "0", "for constant; a real number also where x is quantized"}}},
    .traits = kDataMovement,
    .rule = QuantRule::zero_point,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::vector<std::int64_t>& pads = c.attributes.integers("pads");
      const std::string& mode = c.attributes.string("mode");
      std::vector<Dim> shape = c.input(0).shape;
      if (pads.size() != 2 * shape.size()) {
        return error(Code::invalid_model, "has {} pads, expected {}", pads.size(), 2 * shape.size());
      }
      if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap") {
        return error(Code::invalid_model, "mode is \"{}\", expected constant, reflect, edge or wrap", mode);
      }
      if (c.input(0).quantization) {
        AOQ_TRY(ops::shared_quantization(c).status());
        AOQ_TRY(ops::require(dtype_info(c.input(0).dtype).bits <= 16, c.input(0), "codes of at most 16 bits"));
      }
      for (std::size_t d = 0; d < shape.size(); ++d) {
        for (std::int64_t p : {pads[d], pads[d + shape.size()]}) {
          AOQ_TRY(ops::require_range("pad", p, -(std::int64_t{1} << 48), std::int64_t{1} << 48));
        }
        shape[d] = shape[d] + Dim(pads[d] + pads[d + shape.size()]);
        if (shape[d].is_constant() && shape[d].constant() < 0) {
          return error(Code::invalid_model, "pads remove more than dimension {} of {} has", d, to_string(c.input(0)));
        }
      }
      return std::vector<Type>{ops::moved(c.input(0), std::move(shape))};
    },
    .reference = reference,
};

}  // namespace aoq
