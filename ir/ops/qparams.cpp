#include "ir/ops/qparams.h"

#include <algorithm>

namespace aoq::ops {

namespace {

using Granularity = Quantization::Granularity;

Result<Quantization> read_granularity(const InferContext& c) {
  const Type& x = c.input(0);
  const std::string& name = c.attributes.string("granularity");
  Quantization q;
  if (name == "tensor") return q;
  if (name == "token") {
    q.granularity = Granularity::token;
    AOQ_TRY(require_rank(x, 1, static_cast<std::int64_t>(kMaxRank)));
    return q;
  }
  if (name != "axis" && name != "group") {
    return error(Code::invalid_model, "granularity is \"{}\", expected tensor, axis, group or token", name);
  }
  AOQ_ASSIGN(q.axis, normalize_axis(c.attributes.integer("axis"), x.rank()));
  q.granularity = name == "axis" ? Granularity::axis : Granularity::group;
  if (name == "group") {
    q.group = c.attributes.integer("group");
    AOQ_TRY(require_range("group", q.group, 1, std::int64_t{1} << 31));
  }
  return q;
}

// The shape of the scales.
std::vector<Dim> parts_shape(const Quantization& q, std::span<const Dim> x) {
  std::vector<Dim> shape(x.begin(), x.end());
  auto axis = static_cast<std::size_t>(q.axis);
  switch (q.granularity) {
    case Granularity::tensor:
      return {};
    case Granularity::axis:
      return {x[axis]};
    case Granularity::group:
      shape[axis] = ceil_div(x[axis], Dim(q.group));
      break;
    case Granularity::token:
      shape.back() = Dim(1);
      break;
  }
  return shape;
}

Status check_operand(const InferContext& c, std::size_t i, DType dtype, const Quantization& q) {
  const char* name = i == 1 ? "scale" : "zero_point";
  const Type& type = c.input(i);
  if (type.dtype != dtype) {
    return error(Code::invalid_model, "{} is {}, expected {}", name, to_string(type), dtype_name(dtype));
  }
  if (q.granularity == Granularity::tensor && type.shape == std::vector<Dim>{1}) return {};
  return require_shape(name, type, parts_shape(q, c.input(0).shape));
}

}  // namespace

Status check_scale(std::string_view name, double scale) {
  auto value = static_cast<float>(scale);
  // The reciprocal is what quantize multiplies by.
  if (std::isfinite(value) && value > 0.0f && std::isfinite(1.0f / value)) return {};
  return error(Code::invalid_model, "{} is {}, expected a finite number above 0 with a finite reciprocal", name, scale);
}

Status check_zero_point(std::string_view name, std::int64_t zero_point, DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  if (!is_integer(dtype)) return require_range(name, zero_point, 0, 0);
  return require_range(name, zero_point, static_cast<std::int64_t>(info.min), static_cast<std::int64_t>(info.max));
}

Result<Quantization> infer_qparams(const InferContext& c, DType dtype) {
  AOQ_ASSIGN(Quantization q, read_granularity(c));
  bool has_attribute = c.attributes.has("scale");
  if (has_attribute == c.has(1)) {
    return error(Code::invalid_model, "has {}, expected either an attribute scale or an operand",
                 has_attribute ? "both an attribute scale and an operand" : "no scale");
  }
  if (!has_attribute) {
    if (c.attributes.has("zero_point")) {
      return error(Code::invalid_model, "zero_point is an attribute and scale an operand, expected both the same way");
    }
    q.is_immediate = false;
    AOQ_TRY(check_operand(c, 1, DType::f32, q));
    if (c.has(2)) AOQ_TRY(check_operand(c, 2, DType::i32, q));
    return q;
  }
  if (c.has(2)) return error(Code::invalid_model, "scale is an attribute and zero_point an operand");
  if (q.granularity != Granularity::tensor) {
    return error(Code::invalid_model, "an attribute scale stands for the whole tensor, but granularity is {}",
                 c.attributes.string("granularity"));
  }
  AOQ_TRY(check_scale("scale", c.attributes.real("scale")));
  std::int64_t zero_point = c.attributes.has("zero_point") ? c.attributes.integer("zero_point") : 0;
  AOQ_TRY(check_zero_point("zero_point", zero_point, dtype));
  q.scale = static_cast<float>(c.attributes.real("scale"));
  q.zero_point = static_cast<std::int32_t>(zero_point);
  return q;
}

Result<Qparams> Qparams::read(const EvalContext& c, const Quantization& q, DType codes) {
  std::span<const std::int64_t> shape = c.inputs[0].shape;
  auto axis = static_cast<std::size_t>(q.axis);
  Qparams p;
  p.outer_ = std::max<std::int64_t>(1, c.inputs[0].element_count());
  p.inner_ = p.outer_;
  if (q.granularity == Granularity::axis || q.granularity == Granularity::group) {
    std::int64_t inner = std::max<std::int64_t>(1, count(shape, axis + 1, shape.size()));
    p.inner_ = inner;
    p.outer_ = inner * std::max<std::int64_t>(1, shape[axis]);
    if (q.granularity == Granularity::group) {
      p.group_ = q.group;
      p.kept_ = inner;
      p.parts_ = (shape[axis] + q.group - 1) / q.group * inner;
    }
  } else if (q.granularity == Granularity::token) {
    p.outer_ = p.inner_ = std::max<std::int64_t>(1, shape.back());
    p.parts_ = 1;
  }
  if (q.is_immediate) {
    p.scales_ = {q.scale};
    p.zero_points_ = {q.zero_point};
    return p;
  }
  const auto* scales = reinterpret_cast<const float*>(c.inputs[1].data);
  p.scales_.assign(scales, scales + c.inputs[1].element_count());
  p.zero_points_.assign(p.scales_.size(), 0);
  for (std::size_t i = 0; i < p.scales_.size(); ++i) {
    if (!(std::isfinite(p.scales_[i]) && p.scales_[i] > 0.0f)) {
      return error(Code::invalid_data, "scale element {} is {}, expected a finite number above 0", i, p.scales_[i]);
    }
    if (!c.has(2)) continue;
    std::int64_t z = load_integer(DType::i32, c.inputs[2].data, static_cast<std::int64_t>(i));
    if (!check_zero_point("zero_point", z, codes).ok()) {
      return error(Code::invalid_data, "zero_point element {} is {}, out of range for {}", i, z, dtype_name(codes));
    }
    p.zero_points_[i] = static_cast<std::int32_t>(z);
  }
  return p;
}

std::size_t Qparams::part(std::int64_t i) const {
  std::int64_t along = i % outer_ / inner_ / group_;
  std::int64_t kept = kept_ == 1 ? 0 : i % kept_;
  return static_cast<std::size_t>(i / outer_ * parts_ + along * kept_ + kept);
}

}  // namespace aoq::ops
