#include <algorithm>
#include <cmath>

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

namespace {

struct Bounds {
  float least, most;
};

Bounds bounds_of(const Attributes& a) {
  return {static_cast<float>(a.real("amax_min")), static_cast<float>(a.real("amax_max"))};
}

Result<std::vector<Type>> infer(const InferContext& c) {
  const Type& x = c.input(0);
  AOQ_TRY(ops::require(x.dtype == DType::f32, x, "f32"));
  const DTypeInfo& info = dtype_info(c.attributes.dtype("dtype"));
  if (info.kind != DTypeKind::floating || info.bits > 8) {
    return error(Code::invalid_model, "dtype is {}, expected a float of at most 8 bits", info.name);
  }
  const std::string& granularity = c.attributes.string("granularity");
  if (granularity != "tensor" && granularity != "token" && granularity != "group") {
    return error(Code::invalid_model, "granularity is \"{}\", expected tensor, token or group", granularity);
  }
  if (granularity != "tensor") AOQ_TRY(ops::require_rank(x, 1, static_cast<std::int64_t>(kMaxRank)));
  if (granularity == "group") {
    const std::int64_t group = c.attributes.integer("group");
    const bool divides = group > 0 && x.shape.back().is_constant() && x.shape.back().constant() % group == 0;
    if (!divides) return error(Code::invalid_model, "groups of {} do not divide {}", group, to_string(x));
  }
  const Bounds b = bounds_of(c.attributes);
  if (!(b.least > 0.0f && b.least <= b.most && std::isfinite(b.most))) {
    return error(Code::invalid_model, "amax_min is {} and amax_max {}, expected above 0 and in order", b.least, b.most);
  }
  if (c.has(1)) {
    const Type& scale = c.input(1);
    const bool is_one = scale.dtype == DType::f32 && (scale.shape.empty() || scale.shape == std::vector<Dim>{1});
    if (!is_one) return error(Code::invalid_model, "scale is {}, expected f32[1]", to_string(scale));
  }
  return ops::one_result(DType::f32, x.shape);
}

// The scale of some numbers.
Result<float> choose(const float* x, std::int64_t n, const Bounds& bounds, float highest) {
  float amax = 0.0f;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i]))
      return error(Code::invalid_data, "input has the element {}, expected finite numbers", x[i]);
    amax = std::max(amax, std::fabs(x[i]));
  }
  return std::clamp(amax, bounds.least, bounds.most) / highest;
}

Status reference(const EvalContext& c) {
  const TensorView& x = c.inputs[0];
  const std::int64_t count = x.element_count();
  if (count == 0) return {};
  const DTypeInfo& info = dtype_info(c.attributes.dtype("dtype"));
  const auto highest = static_cast<float>(info.max);
  const std::string& granularity = c.attributes.string("granularity");
  const std::int64_t part = granularity == "tensor"  ? count
                            : granularity == "token" ? x.shape.back()
                                                     : c.attributes.integer("group");
  std::vector<float> row(static_cast<std::size_t>(part));
  std::vector<std::byte> codes(row.size());
  for (std::int64_t at = 0; at < count; at += part) {
    const float* in = reinterpret_cast<const float*>(x.data) + at;
    float scale = c.has(1) ? *reinterpret_cast<const float*>(c.inputs[1].data) : 0.0f;
    if (!c.has(1)) {
      AOQ_ASSIGN(scale, choose(in, part, bounds_of(c.attributes), highest));
    }
    if (!(std::isfinite(scale) && scale > 0.0f))
      return error(Code::invalid_data, "scale is {}, expected above 0", scale);
    for (std::int64_t i = 0; i < part; ++i)
      row[static_cast<std::size_t>(i)] = std::clamp(in[i] / scale, -highest, highest);
    info.from_float(row, codes.data(), 0);
    info.to_float(codes.data(), 0, row);
    auto* out = reinterpret_cast<float*>(c.outputs[0].data) + at;
    for (std::int64_t i = 0; i < part; ++i) out[i] = row[static_cast<std::size_t>(i)] * scale;
  }
  return {};
}

}  // namespace

const OpDef kOpDef_fake_quantize = {
    .op = Op::fake_quantize,
    .name = "fake_quantize",
    .doc =
        "x as the codes of a small float have it: x / scale, rounded to dtype, times scale. The scale is the operand, "
        "or "
        "the largest magnitude within [amax_min, amax_max] over the type's highest number, for the tensor, for each "
        "row "
        "of the last axis (token), or for stretches of it (group).",
    .inputs = {{{"x"}, {"scale", Arity::optional}}},
    .attributes = {{{"dtype", AttributeKind::dtype, ops::kRequired, "a float of at most 8 bits"},
                    {"granularity", AttributeKind::string, "tensor", "tensor, token or group"},
                    {"group", AttributeKind::integer, "0", "elements of a row that share a scale, for group"},
                    {"amax_min", AttributeKind::real, "1e-12", "the least magnitude that a scale is for"},
                    {"amax_max", AttributeKind::real, "3.4028234663852886e+38", "the largest one"}}},
    .rule = QuantRule::float_only,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
