#include "ir/ops/linear.h"
#include "ir/ops/lowered.h"

namespace aoq {

namespace {

Result<std::vector<Type>> infer(const InferContext& c) {
  std::array<const Type*, 3> shaped = ops::dot_shape_inputs(c);
  AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_linear_shape({c.op, shaped, c.attributes}));
  AOQ_TRY(ops::check_dot(c, c.input(1).shape[0], shape));
  return ops::one_result(ops::output_dtype(c), std::move(shape));
}

Status reference(const EvalContext& c) {
  AOQ_ASSIGN(ops::DotEpilogue epilogue, ops::DotEpilogue::read(c));
  std::int64_t columns = c.inputs[1].shape[0];
  std::int64_t depth = c.inputs[1].shape[1];
  std::int64_t rows = ops::count(c.inputs[0].shape, 0, c.inputs[0].shape.size() - 1);
  ops::Codes x{c.inputs[0].data, c.inputs[0].dtype == DType::i8, epilogue.x_zero_point()};
  std::vector<std::int16_t> weight;
  weight.reserve(static_cast<std::size_t>(columns * depth));
  for (std::int64_t j = 0; j < columns; ++j) {
    ops::Codes row{c.inputs[1].data + j * depth, true, epilogue.weight_zero_point(j)};
    for (std::int64_t k = 0; k < depth; ++k) weight.push_back(static_cast<std::int16_t>(row[k]));
  }
  std::vector<std::int16_t> line(static_cast<std::size_t>(depth));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < depth; ++k)
      line[static_cast<std::size_t>(k)] = static_cast<std::int16_t>(x[r * depth + k]);
    for (std::int64_t j = 0; j < columns; ++j) {
      epilogue.store(r * columns + j, j, ops::integer_dot(line.data(), weight.data() + j * depth, depth));
    }
  }
  return {};
}

}  // namespace

const OpDef kOpDef_qlinear = {
    .op = Op::qlinear,
    .name = "qlinear",
    .doc =
        "linear on codes: exact int32 sums of (x - x_zero_point) * (weight - weight_zero_point), then the epilogue of "
        "ir/epilogue.h. A residual of an f32 result may be f32.",
    .inputs = ops::kDotInputs,
    .attributes = {{ops::kXScale, ops::kXZeroPoint, ops::kOutDtype, ops::kOutScale, ops::kOutZeroPoint,
                    ops::kResidualScale, ops::kResidualZeroPoint, ops::kActivation, ops::kActivationMin,
                    ops::kActivationMax}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
