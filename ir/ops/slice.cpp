#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

namespace {

struct Part {
  std::int64_t axis, step;
  Dim start, end;
};

Result<std::vector<Part>> parts(const Attributes& attributes, std::int64_t rank) {
  const std::vector<std::int64_t>& axes = attributes.integers("axes");
  const std::vector<Dim>& starts = attributes.dims("starts");
  const std::vector<Dim>& ends = attributes.dims("ends");
  const std::vector<std::int64_t>& steps = attributes.integers("steps");
  if (starts.size() != axes.size() || ends.size() != axes.size() || (!steps.empty() && steps.size() != axes.size())) {
    return error(Code::invalid_model, "has {} axes, {} starts, {} ends and {} steps", axes.size(), starts.size(),
                 ends.size(), steps.size());
  }
  std::vector<Part> out;
  if (axes.empty()) return out;
  AOQ_TRY(ops::normalize_axes(axes, rank).status());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(axes[i], rank));
    std::int64_t step = steps.empty() ? 1 : steps[i];
    if (step == 0) return error(Code::invalid_model, "step {} is 0", i);
    AOQ_TRY(ops::require_range("step", step, -(std::int64_t{1} << 48), std::int64_t{1} << 48));
    out.push_back({axis, step, starts[i], ends[i]});
  }
  return out;
}

Status check_bounds(const Part& part, const Dim& dim) {
  if (!dim.is_constant()) return {};
  std::int64_t n = dim.constant();
  bool forward = part.step > 0;
  auto outside = [](const Dim& d, std::int64_t lo, std::int64_t hi) {
    return d.is_constant() && (d.constant() < lo || d.constant() > hi);
  };
  // A dimension of 0 has no element that a backward slice could start at.
  bool bad = forward ? outside(part.start, 0, n) || outside(part.end, 0, n)
                     : outside(part.start, n == 0 ? -1 : 0, n - 1) || outside(part.end, -1, n - 1);
  if (!bad) return {};
  return error(Code::invalid_model, "slice {}:{}:{} is outside a dimension of {}", part.start.to_string(),
               part.end.to_string(), part.step, n);
}

Dim length_of(const Part& part, const Dim& dim) {
  Dim span = part.step > 0 ? part.end - part.start : part.start - part.end;
  Dim length = ceil_div(span, Dim(part.step > 0 ? part.step : -part.step));
  if (length.is_constant()) return length.constant() < 0 ? Dim(0) : length;
  // 0 <= start and end <= dim hold, so these cannot be negative.
  bool reaches_edge = part.step > 0 && (part.start == Dim(0) || part.end == dim);
  return reaches_edge ? length : max(length, 0);
}

}  // namespace

const OpDef kOpDef_slice = {
    .op = Op::slice,
    .name = "slice",
    .doc =
        "The elements start, start + step, ... before end of each given axis. Starts and ends lie in [0, dim]; with a "
        "negative step start lies in [0, dim - 1] and end in [-1, dim - 1].",
    .inputs = {{{"x"}}},
    .attributes = {{{"axes", AttributeKind::integers, ops::kRequired, ""},
                    {"starts", AttributeKind::dims, ops::kRequired, "one per axis"},
                    {"ends", AttributeKind::dims, ops::kRequired, "one per axis"},
                    {"steps", AttributeKind::integers, "[]", "one per axis; none: all 1"}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_ASSIGN(std::vector<Part> all, parts(c.attributes, c.input(0).rank()));
      std::vector<Dim> shape = c.input(0).shape;
      for (const Part& part : all) {
        Dim& dim = shape[static_cast<std::size_t>(part.axis)];
        AOQ_TRY(check_bounds(part, dim));
        dim = length_of(part, dim);
      }
      return std::vector<Type>{ops::moved(c.input(0), std::move(shape))};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const MutableTensorView& y = c.outputs[0];
      AOQ_ASSIGN(std::vector<Part> all, parts(c.attributes, static_cast<std::int64_t>(x.shape.size())));
      ops::StridedCopy copy{
          {y.shape.begin(), y.shape.end()}, ops::row_major_strides(x.shape), ops::row_major_strides(y.shape)};
      if (y.element_count() == 0) return {};
      for (const Part& part : all) {
        std::int64_t& stride = copy.from_strides[static_cast<std::size_t>(part.axis)];
        copy.from += part.start.constant() * stride;
        // With one element the step is never taken and may be huge.
        stride = y.shape[static_cast<std::size_t>(part.axis)] == 1 ? 0 : stride * part.step;
      }
      ops::copy_strided(x.dtype, x.data, y.data, copy);
      return {};
    },
};

}  // namespace aoq
