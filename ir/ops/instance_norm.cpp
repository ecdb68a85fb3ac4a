#include "ir/ops/normalization.h"

namespace aoq {

const OpDef kOpDef_instance_norm = {
    .op = Op::instance_norm,
    .name = "instance_norm",
    .doc = "(x - mean) / sqrt(variance + epsilon) over each channel of each sample, then * weight + bias per channel.",
    .inputs = {{{"x"}, {"weight", Arity::optional}, {"bias", Arity::optional}}},
    .attributes = {{ops::kEpsilon}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      AOQ_TRY(ops::require_float(x));
      AOQ_TRY(ops::require_rank(x, 2, static_cast<std::int64_t>(kMaxRank)));
      AOQ_TRY(ops::check_epsilon(c));
      AOQ_TRY(ops::check_per_channel(c, 1, x.shape[1]));
      return std::vector<Type>{ops::plain(x)};
    },
    .reference = [](const EvalContext& c) -> Status {
      if (c.inputs[0].shape[1] > 0) ops::normalize_groups(c, c.inputs[0].shape[1]);
      return {};
    },
};

}  // namespace aoq
