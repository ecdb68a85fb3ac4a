#include <algorithm>

#include "ir/ops/activation.h"
#include "ir/ops/elements.h"
#include "ir/ops/fma.h"
#include "ir/ops/linear.h"

namespace aoq {

namespace {

Status reference(const EvalContext& c) {
  ops::FloatInput x(c.inputs[0]);
  ops::FloatInput weight(c.inputs[1]);
  ops::FloatInput bias(c.has(2) ? c.inputs[2] : TensorView{});
  ops::FloatInput residual(c.has(3) ? c.inputs[3] : TensorView{});
  ops::FloatOutput y(c.outputs[0]);
  AOQ_ASSIGN(ops::Activation activation, ops::read_activation(c.attributes));
  std::int64_t columns = c.inputs[1].shape[0];
  std::int64_t depth = c.inputs[1].shape[1];
  std::int64_t rows = ops::count(c.inputs[0].shape, 0, c.inputs[0].shape.size() - 1);
  std::vector<float> transposed(static_cast<std::size_t>(columns * depth));
  for (std::int64_t j = 0; j < columns; ++j) {
    for (std::int64_t k = 0; k < depth; ++k)
      transposed[static_cast<std::size_t>(k * columns + j)] = weight[j * depth + k];
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    float* out = y.data() + r * columns;
    std::fill(out, out + columns, 0.0f);
    for (std::int64_t k = 0; k < depth; ++k) {
      ops::fma_accumulate(x[r * depth + k], transposed.data() + k * columns, out, columns);
    }
    for (std::int64_t j = 0; j < columns; ++j) {
      if (c.has(2)) out[j] = out[j] + bias[j];
      if (c.has(3)) out[j] = out[j] + residual[r * columns + j];
      out[j] = activation(out[j]);
    }
  }
  return {};
}

}  // namespace

const OpDef kOpDef_linear = {
    .op = Op::linear,
    .name = "linear",
    .doc =
        "activation(x * weight^T + bias + residual) over the last dimension of x. Each sum is one chain of fused "
        "multiply-adds from 0 along K.",
    .inputs = {{{"x"}, {"weight"}, {"bias", Arity::optional}, {"residual", Arity::optional}}},
    .attributes = {{ops::kActivation, ops::kActivationMin, ops::kActivationMax}},
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_float(c.input(0)));
      AOQ_TRY(ops::require_one_dtype(c));
      AOQ_TRY(ops::read_activation(c.attributes).status());
      AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_linear_shape(c));
      if (c.has(3)) AOQ_TRY(ops::require_shape("residual", c.input(3), shape));
      return ops::one_result(c.input(0).dtype, std::move(shape));
    },
    .reference = reference,
};

}  // namespace aoq
