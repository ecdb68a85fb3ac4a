#include "ir/ops/static_recurrent.h"

namespace aoq {

const OpDef kOpDef_qlstm_static = {
    .op = Op::qlstm_static,
    .name = "qlstm_static",
    .doc =
        "lstm on u8 codes: i8 weights (scales [d], or [d, G*H] for each output channel), and every inner value as "
        "codes "
        "with a scale of its own: igates, hgates, gates, fgate_cx, igate_cgate, fgate_cx_igate_cgate and ogate_cy, per "
        "direction in this order (ir/ops/static_recurrent.h). The results have the "
        "scales of the forward direction.",
    .inputs = {{{"x"},
                {"w"},
                {"r"},
                {"w_scale"},
                {"r_scale"},
                {"bias", Arity::optional},
                {"initial_h", Arity::optional},
                {"initial_c", Arity::optional}}},
    .attributes = {{ops::kHidden, ops::kDirection, ops::kStaticX, ops::kStaticXZero, ops::kInitialHScale,
                    ops::kInitialHZero, ops::kInitialCScale, ops::kInitialCZero, ops::kInnerScales,
                    ops::kInnerZeroPoints}},
    .outputs = 3,
    .traits = kQuantizedOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) { return ops::infer_static_recurrent(c, ops::kStaticLstm); },
    .reference = [](const EvalContext& c) { return ops::run_static_recurrent(c, ops::kStaticLstm); },
};

}  // namespace aoq
