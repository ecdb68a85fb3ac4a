#include "ir/ops/reduction.h"

namespace aoq {

namespace {

template <typename T, typename Add, typename Load, typename Store>
void accumulate(const EvalContext& c, Add add, Load load, Store store) {
  const TensorView& x = c.inputs[0];
  ops::Lines lines = ops::lines_along(x.shape, ops::checked_axis(c, x.shape.size()));
  bool exclusive = c.attributes.boolean("exclusive");
  bool reverse = c.attributes.boolean("reverse");
  for (std::int64_t l = 0; l < lines.count; ++l) {
    T sum = 0;
    for (std::int64_t k = 0; k < lines.length; ++k) {
      std::int64_t at = lines.base(l) + (reverse ? lines.length - 1 - k : k) * lines.stride;
      T next = add(sum, load(at));
      store(at, exclusive ? sum : next);
      sum = next;
    }
  }
}

}  // namespace

const OpDef kOpDef_cumsum = {
    .op = Op::cumsum,
    .name = "cumsum",
    .doc = "The running sum along an axis; integers wrap.",
    .inputs = {{{"x"}}},
    .attributes = {{{"axis", AttributeKind::integer, ops::kRequired, ""},
                    {"exclusive", AttributeKind::boolean, "false", "without the element itself"},
                    {"reverse", AttributeKind::boolean, "false", "from the end"}}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_number(c.input(0)));
      AOQ_TRY(ops::normalize_axis(c.attributes.integer("axis"), c.input(0).rank()).status());
      return std::vector<Type>{c.input(0)};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const MutableTensorView& y = c.outputs[0];
      if (is_integer(x.dtype)) {
        accumulate<std::int64_t>(
            c, ops::wrap_add, [&](std::int64_t i) { return load_integer(x.dtype, x.data, i); },
            [&](std::int64_t i, std::int64_t v) { store_integer(y.dtype, y.data, i, v); });
      } else if (x.dtype == DType::f64) {
        accumulate<double>(
            c, [](double a, double b) { return a + b; },
            [&](std::int64_t i) { return load_as_double(x.dtype, x.data, i); },
            [&](std::int64_t i, double v) { store_from_double(y.dtype, y.data, i, v); });
      } else {
        ops::FloatInput in(x);
        ops::FloatOutput out(y);
        accumulate<float>(
            c, [](float a, float b) { return a + b; }, [&](std::int64_t i) { return in[i]; },
            [&](std::int64_t i, float v) { out[i] = v; });
      }
      return {};
    },
};

}  // namespace aoq
