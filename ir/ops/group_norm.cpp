#include "ir/ops/normalization.h"

namespace aoq {

const OpDef kOpDef_group_norm = {
    .op = Op::group_norm,
    .name = "group_norm",
    .doc = "(x - mean) / sqrt(variance + epsilon) over each group of channels, then * weight + bias per channel.",
    .inputs = {{{"x"}, {"weight", Arity::optional}, {"bias", Arity::optional}}},
    .attributes = {{{"groups", AttributeKind::integer, ops::kRequired, "divides the channels"}, ops::kEpsilon}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      AOQ_TRY(ops::require_float(x));
      AOQ_TRY(ops::require_rank(x, 2, static_cast<std::int64_t>(kMaxRank)));
      AOQ_TRY(ops::check_epsilon(c));
      std::int64_t groups = c.attributes.integer("groups");
      AOQ_TRY(ops::require_range("groups", groups, 1, std::int64_t{1} << 31));
      if (x.shape[1].is_constant() && x.shape[1].constant() % groups != 0) {
        return error(Code::invalid_model, "x is {}, expected a multiple of {} groups in dimension 1", to_string(x),
                     groups);
      }
      AOQ_TRY(ops::check_per_channel(c, 1, x.shape[1]));
      return std::vector<Type>{ops::plain(x)};
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::normalize_groups(c, c.attributes.integer("groups"));
      return {};
    },
};

}  // namespace aoq
