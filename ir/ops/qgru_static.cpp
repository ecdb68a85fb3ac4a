#include "ir/ops/static_recurrent.h"

namespace aoq {

const OpDef kOpDef_qgru_static = {
    .op = Op::qgru_static,
    .name = "qgru_static",
    .doc =
        "gru on u8 codes: i8 weights (scales [d], or [d, G*H] for each output channel), and every inner value as codes "
        "with a scale of its own: igates, hgates, gates, rgate_hgates, ngates, inverse_zgate_ngate, zgate_hx and "
        "hidden, per direction in this order (ir/ops/static_recurrent.h); linear before reset. The results have the "
        "scales of the forward direction.",
    .inputs =
        {{{"x"}, {"w"}, {"r"}, {"w_scale"}, {"r_scale"}, {"bias", Arity::optional}, {"initial_h", Arity::optional}}},
    .attributes = {{ops::kHidden, ops::kDirection, ops::kStaticX, ops::kStaticXZero, ops::kInitialHScale,
                    ops::kInitialHZero, ops::kInnerScales, ops::kInnerZeroPoints}},
    .outputs = 2,
    .traits = kQuantizedOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_static_recurrent(c, ops::kStaticGru); },
    .reference = [](const EvalContext& c) { return ops::run_static_recurrent(c, ops::kStaticGru); },
};

}  // namespace aoq
