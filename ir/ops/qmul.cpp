#include "ir/ops/qbinary.h"

namespace aoq {

const OpDef kOpDef_qmul = {
    .op = Op::qmul,
    .name = "qmul",
    .doc =
        "mul on codes: the exact product (a - a_zero_point) * (b - b_zero_point), times (a_scale * b_scale) / "
        "out_scale; "
        "f32 results are not divided.",
    .inputs = {{{"a"}, {"b"}}},
    .attributes = ops::kQBinaryAttributes,
    .traits = kElementwise | kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = ops::infer_qbinary,
    .reference = [](const EvalContext& c) -> Status {
      ops::Codes a = ops::read_codes(c, 0, "a");
      ops::Codes b = ops::read_codes(c, 1, "b");
      ops::Output out = ops::read_output(c);
      float multiplier = a.scale * b.scale / out.scale;
      if (!std::isfinite(multiplier)) return error(Code::invalid_data, "the scales are out of the range of f32");
      ops::BroadcastIndex at(c.outputs[0].shape, c.inputs.first(2));
      for (std::int64_t i = 0, n = c.outputs[0].element_count(); i < n; ++i, at.next()) {
        out.store_product(i, a[at.index(0)] * b[at.index(1)], multiplier);
      }
      return {};
    },
};

}  // namespace aoq
