#include "ir/ops/qbinary.h"

namespace aoq {

const OpDef kOpDef_qadd = {
    .op = Op::qadd,
    .name = "qadd",
    .doc =
        "add on codes: (a - a_zero_point) * a_scale + (b - b_zero_point) * b_scale, each rounded to f32, times "
        "1 / out_scale.",
    .inputs = {{{"a"}, {"b"}}},
    .attributes = ops::kQBinaryAttributes,
    .traits = kElementwise | kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = ops::infer_qbinary,
    .reference = [](const EvalContext& c) -> Status {
      ops::Codes a = ops::read_codes(c, 0, "a");
      ops::Codes b = ops::read_codes(c, 1, "b");
      ops::Output out = ops::read_output(c);
      if (!std::isfinite(a.scale * 255.0f + b.scale * 255.0f) || !std::isfinite(out.inverse_scale)) {
        return error(Code::invalid_data, "the scales are out of the range of f32");
      }
      ops::BroadcastIndex at(c.outputs[0].shape, c.inputs.first(2));
      for (std::int64_t i = 0, n = c.outputs[0].element_count(); i < n; ++i, at.next()) {
        float v = static_cast<float>(a[at.index(0)]) * a.scale;
        v = v + static_cast<float>(b[at.index(1)]) * b.scale;
        if (out.is_float) {
          out.store_float(i, out.activation(v));
        } else {
          out.store_scaled(i, v * out.inverse_scale);
        }
      }
      return {};
    },
};

}  // namespace aoq
