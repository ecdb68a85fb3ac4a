#include "ir/math.h"
#include "ir/ops/lowered.h"
#include "ir/ops/normalization.h"

namespace aoq {

const OpDef kOpDef_qlayer_norm = {
    .op = Op::qlayer_norm,
    .name = "qlayer_norm",
    .doc = "layer_norm of floats with its result as codes: the numbers of layer_norm, then those of quantize.",
    .inputs = {{{"x"}, {"weight", Arity::optional}, {"bias", Arity::optional}}},
    .attributes = {{{"axis", AttributeKind::integer, "-1", "the first dimension of a row"},
                    ops::kEpsilon,
                    {"out_dtype", AttributeKind::dtype, "u8", "u8 or i8"},
                    {"out_scale", AttributeKind::real, ops::kRequired, ""},
                    ops::kOutZeroPoint}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require(c.input(0).dtype == DType::f32, c.input(0), "f32"));
      AOQ_ASSIGN(std::vector<Type> types, ops::infer_row_norm(c));
      if (!ops::is_code(ops::output_dtype(c))) {
        return error(Code::invalid_model, "out_dtype is {}, expected u8 or i8", dtype_name(ops::output_dtype(c)));
      }
      AOQ_TRY(ops::check_output(c));
      return ops::one_result(ops::output_dtype(c), std::move(types[0].shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::FloatInput x(c.inputs[0]);
      ops::FloatInput weight(c.has(1) ? c.inputs[1] : TensorView{});
      ops::FloatInput bias(c.has(2) ? c.inputs[2] : TensorView{});
      math::LayerNormParams params{weight.data(), bias.data(), static_cast<float>(c.attributes.real("epsilon"))};
      ops::Output out = ops::read_output(c);
      ops::Rows rows = ops::rows_from_axis(c);
      std::vector<float> line(static_cast<std::size_t>(rows.length));
      for (std::int64_t r = 0; r < rows.count; ++r) {
        math::layer_norm_row(x.data() + r * rows.length, line.data(), rows.length, params);
        for (std::size_t i = 0; i < line.size(); ++i) {
          out.store_value(r * rows.length + static_cast<std::int64_t>(i), line[i]);
        }
      }
      return {};
    },
};

}  // namespace aoq
