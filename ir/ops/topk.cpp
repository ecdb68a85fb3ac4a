#include <algorithm>
#include <numeric>

#include "ir/ops/reduction.h"

namespace aoq {

namespace {

// The keys of one line such that a smaller key comes first; NaN counts as the largest value.
struct Key {
  std::int64_t integer;
  double real;
};

bool comes_first(const Key& a, const Key& b, bool largest) {
  if (a.integer != b.integer) return largest ? a.integer > b.integer : a.integer < b.integer;
  return largest ? ops::is_greater(a.real, b.real) : ops::is_greater(b.real, a.real);
}

Key key_of(const TensorView& x, std::int64_t i) {
  if (!is_integer(x.dtype)) return {0, load_as_double(x.dtype, x.data, i)};
  // Moves the unsigned order onto the signed one.
  return {load_integer(x.dtype, x.data, i) ^ (x.dtype == DType::u64 ? INT64_MIN : 0), 0.0};
}

Status reference(const EvalContext& c) {
  if (c.outputs[0].element_count() == 0) return {};
  const TensorView& x = c.inputs[0];
  std::int64_t k = c.attributes.integer("k");
  bool largest = c.attributes.boolean("largest");
  ops::Lines in = ops::lines_along(x.shape, ops::checked_axis(c, x.shape.size()));
  ops::Lines out{in.count, k, in.stride};
  std::vector<Key> keys(static_cast<std::size_t>(in.length));
  std::vector<std::int64_t> order(keys.size());
  for (std::int64_t l = 0; l < in.count; ++l) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      keys[i] = key_of(x, in.base(l) + static_cast<std::int64_t>(i) * in.stride);
    }
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      const Key& x_key = keys[static_cast<std::size_t>(a)];
      const Key& y_key = keys[static_cast<std::size_t>(b)];
      if (comes_first(x_key, y_key, largest)) return true;
      return !comes_first(y_key, x_key, largest) && a < b;
    });
    for (std::int64_t i = 0; i < k; ++i) {
      std::int64_t from = order[static_cast<std::size_t>(i)];
      std::int64_t to = out.base(l) + i * out.stride;
      ops::copy_elements(x.dtype, x.data, in.base(l) + from * in.stride, c.outputs[0].data, to, 1);
      store_integer(DType::i64, c.outputs[1].data, to, from);
    }
  }
  return {};
}

}  // namespace

const OpDef kOpDef_topk = {
    .op = Op::topk,
    .name = "topk",
    .doc = "The k largest or smallest elements along an axis and their indices, best first; of equals the first.",
    .inputs = {{{"x"}}},
    .attributes = {{{"k", AttributeKind::integer, ops::kRequired, ""},
                    {"axis", AttributeKind::integer, "-1", ""},
                    {"largest", AttributeKind::boolean, "true", ""},
                    {"sorted", AttributeKind::boolean, "true", "false: any order is good"}}},
    .outputs = 2,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      AOQ_TRY(ops::require_number(x));
      AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(c.attributes.integer("axis"), x.rank()));
      std::vector<Dim> shape = x.shape;
      Dim& dim = shape[static_cast<std::size_t>(axis)];
      std::int64_t most = dim.is_constant() ? dim.constant() : std::int64_t{1} << 48;
      AOQ_TRY(ops::require_range("k", c.attributes.integer("k"), 0, most));
      dim = Dim(c.attributes.integer("k"));
      return std::vector<Type>{Type{x.dtype, shape, std::nullopt}, Type{DType::i64, shape, std::nullopt}};
    },
    .reference = reference,
};

}  // namespace aoq
