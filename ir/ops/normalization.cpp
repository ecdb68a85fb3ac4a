#include "ir/ops/normalization.h"

#include "ir/math.h"

namespace aoq::ops {

Status check_epsilon(const InferContext& c) {
  auto epsilon = static_cast<float>(c.attributes.real("epsilon"));
  if (std::isfinite(epsilon) && epsilon >= 0.0f) return {};
  return error(Code::invalid_model, "epsilon is {}, expected a finite number that is not negative", epsilon);
}

Status check_per_channel(const InferContext& c, std::size_t first, const Dim& channels) {
  AOQ_TRY(require_one_dtype(c));
  std::vector<Dim> shape{channels};
  for (std::size_t i = first; i < c.inputs.size(); ++i) {
    if (c.has(i)) AOQ_TRY(require_shape("a per-channel input", c.input(i), shape));
  }
  return {};
}

void normalize_groups(const EvalContext& c, std::int64_t groups) {
  std::span<const std::int64_t> shape = c.inputs[0].shape;
  FloatInput x(c.inputs[0]);
  FloatInput scale(c.has(1) ? c.inputs[1] : TensorView{});
  FloatInput bias(c.has(2) ? c.inputs[2] : TensorView{});
  FloatOutput y(c.outputs[0]);
  auto epsilon = static_cast<float>(c.attributes.real("epsilon"));
  std::int64_t channels = shape[1] / groups;
  std::int64_t pixels = count(shape, 2, shape.size());
  std::int64_t n = channels * pixels;
  if (n == 0) return;
  for (std::int64_t g = 0; g < shape[0] * groups; ++g) {
    const float* in = x.data() + g * n;
    float mean = math::reduce_sum(in, n) / static_cast<float>(n);
    float variance = math::reduce_squared_distance(in, mean, n) / static_cast<float>(n);
    float inverse = 1.0f / std::sqrt(variance + epsilon);
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t channel = g % groups * channels + i / pixels;
      float v = (in[i] - mean) * inverse;
      if (c.has(1)) v = v * scale[channel];
      if (c.has(2)) v = v + bias[channel];
      y[g * n + i] = v;
    }
  }
}

InferResult infer_row_norm(const InferContext& c) {
  const Type& x = c.input(0);
  AOQ_TRY(require_float(x));
  AOQ_TRY(check_epsilon(c));
  AOQ_TRY(require_one_dtype(c));
  AOQ_ASSIGN(std::int64_t axis, normalize_axis(c.attributes.integer("axis"), x.rank()));
  std::span<const Dim> row = std::span(x.shape).subspan(static_cast<std::size_t>(axis));
  for (std::size_t i = 1; i < c.inputs.size(); ++i) {
    if (c.has(i)) AOQ_TRY(require_shape(i == 1 ? "weight" : "bias", c.input(i), row));
  }
  return std::vector<Type>{plain(x)};
}

Rows rows_from_axis(const EvalContext& c) {
  std::span<const std::int64_t> shape = c.inputs[0].shape;
  std::size_t axis = checked_axis(c, shape.size());
  return {count(shape, 0, axis), count(shape, axis, shape.size())};
}

}  // namespace aoq::ops
