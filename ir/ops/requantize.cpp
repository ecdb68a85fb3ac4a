#include "ir/ops/lowered.h"

namespace aoq {

const OpDef kOpDef_requantize = {
    .op = Op::requantize,
    .name = "requantize",
    .doc =
        "Codes under another scale and zero point, as dequantize and quantize would give: ((x - x_zero_point) * "
        "x_scale) * "
        "(1 / out_scale).",
    .inputs = {{{"x"}}},
    .attributes = {{{"x_scale", AttributeKind::real, ops::kRequired, ""},
                    {"x_zero_point", AttributeKind::integer, "0", ""},
                    ops::kOutDtype,
                    ops::kOutScale,
                    ops::kOutZeroPoint}},
    .traits = kElementwise | kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::check_codes(c, 0, "x"));
      AOQ_TRY(ops::check_output(c));
      return ops::one_result(ops::output_dtype(c), c.input(0).shape);
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::Codes x = ops::read_codes(c, 0, "x");
      ops::Output out = ops::read_output(c);
      if (!std::isfinite(out.inverse_scale)) return error(Code::invalid_data, "out_scale is out of the range of f32");
      for (std::int64_t i = 0, n = c.outputs[0].element_count(); i < n; ++i) {
        const float v = static_cast<float>(x[i]) * x.scale;
        if (out.is_float) {
          out.store_float(i, v);
        } else {
          out.store_scaled(i, v * out.inverse_scale);
        }
      }
      return {};
    },
};

}  // namespace aoq
