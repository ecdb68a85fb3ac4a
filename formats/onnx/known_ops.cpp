#include "formats/onnx/known_ops.h"

#include <algorithm>

namespace aoq::onnx {

namespace {

// Steps through a broadcast result and tells where the operands' elements are.
class Positions {
 public:
  Positions(std::span<const std::int64_t> out, const Known& operand) {
    std::int64_t stride = 1;
    strides_.assign(out.size(), 0);
    for (std::size_t i = 0; i < operand.shape.size(); ++i) {
      std::size_t from = operand.shape.size() - 1 - i;
      if (operand.shape[from] != 1) strides_[out.size() - 1 - i] = stride;
      stride *= operand.shape[from];
    }
  }
  std::size_t at(std::span<const std::int64_t> counter) const {
    std::int64_t p = 0;
    for (std::size_t i = 0; i < counter.size(); ++i) p += counter[i] * strides_[i];
    return static_cast<std::size_t>(p);
  }

 private:
  std::vector<std::int64_t> strides_;
};

std::int64_t count_of(std::span<const std::int64_t> shape) {
  std::int64_t n = 1;
  for (std::int64_t d : shape) {
    if (d > kMaxKnown || (n *= d) > kMaxKnown) return kMaxKnown + 1;
  }
  return n;
}

void step(std::vector<std::int64_t>& counter, std::span<const std::int64_t> shape) {
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (++counter[d] < shape[d]) return;
    counter[d] = 0;
  }
}

// f(operand elements) over the broadcast of all inputs.
template <class F>
Result<bool> map_known(NodeContext& c, DType dtype, F f) {
  std::vector<Dim> shape;
  std::vector<const Known*> operands;
  bool is_symbolic = false;
  for (std::size_t i = 0; i < c.input_count(); ++i) {
    const Known* k = c.known(i);
    if (k == nullptr) return false;
    is_symbolic = is_symbolic || !k->is_constant();
    operands.push_back(k);
    AOQ_ASSIGN(shape, broadcast(shape, dims_of(k->shape)));
  }
  // Constants go through the ops themselves: their widths and roundings are exact there.
  if (!is_symbolic) return false;
  Known out{dtype, constants(shape), {}};
  std::int64_t n = count_of(out.shape);
  if (n > kMaxKnown) return false;
  std::vector<Positions> positions;
  for (const Known* k : operands) positions.emplace_back(out.shape, *k);
  std::vector<std::int64_t> counter(out.shape.size());
  std::vector<Dim> arguments(operands.size());
  for (std::int64_t i = 0; i < n; ++i, step(counter, out.shape)) {
    for (std::size_t o = 0; o < operands.size(); ++o) arguments[o] = operands[o]->elements[positions[o].at(counter)];
    std::optional<Dim> v = f(arguments);
    if (!v) return false;
    out.elements.push_back(std::move(*v));
  }
  AOQ_TRY(c.finish_attributes());
  AOQ_TRY(c.result(Binding::of(std::move(out))));
  return true;
}

std::optional<Dim> from_bool(std::optional<bool> b) {
  return b ? std::optional<Dim>(Dim(*b ? 1 : 0)) : std::nullopt;
}

// Folds a variadic op from the left.
Result<bool> known_chain(NodeContext& c, DimFunction f) {
  if (c.input_count() == 0) return false;
  return map_known(c, c.known(0)->dtype, [f](const std::vector<Dim>& a) -> std::optional<Dim> {
    std::optional<Dim> v = a[0];
    for (std::size_t i = 1; v && i < a.size(); ++i) v = f(*v, a[i]);
    return v;
  });
}

}  // namespace

Result<bool> known_binary(NodeContext& c, DimFunction f, std::optional<DType> result_type) {
  if (c.input_count() != 2) return false;
  DType dtype = result_type.value_or(c.known(0)->dtype);
  return map_known(c, dtype, [f](const std::vector<Dim>& a) { return f(a[0], a[1]); });
}

Result<bool> known_add(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return std::optional<Dim>(a + b); });
}
Result<bool> known_sub(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return std::optional<Dim>(a - b); });
}
Result<bool> known_mul(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return std::optional<Dim>(a * b); });
}

Result<bool> known_div(NodeContext& c) {
  if (c.known(0)->dtype == DType::f32) {
    // Only quotients that are whole numbers can be tracked.
    return known_binary(c, [](const Dim& a, const Dim& b) -> std::optional<Dim> {
      std::optional<Dim> q = truncated_div(a, b);
      if (!q || !(*q * b == a)) return std::nullopt;
      return q;
    });
  }
  return known_binary(c, truncated_div);
}

Result<bool> known_mod(NodeContext& c) {
  if (c.known(0)->dtype == DType::f32) return false;
  c.ignore({"fmod"});  // the two definitions agree where truncated_div decides
  return known_binary(c, [](const Dim& a, const Dim& b) -> std::optional<Dim> {
    std::optional<Dim> q = truncated_div(a, b);
    if (!q || (a.is_constant() && a.constant() < 0) || (b.is_constant() && b.constant() < 0)) return std::nullopt;
    return a - *q * b;
  });
}

Result<bool> known_min(NodeContext& c) {
  return known_chain(c, [](const Dim& a, const Dim& b) {
    std::optional<bool> less = decide_less(b, a);
    return std::optional<Dim>(!less ? min(a, b) : *less ? b : a);
  });
}
Result<bool> known_max(NodeContext& c) {
  return known_chain(c, [](const Dim& a, const Dim& b) {
    std::optional<bool> less = decide_less(a, b);
    return std::optional<Dim>(!less ? max(a, b) : *less ? b : a);
  });
}

Result<bool> known_neg(NodeContext& c) {
  return map_known(c, c.known(0)->dtype, [](const std::vector<Dim>& a) { return std::optional<Dim>(Dim(0) - a[0]); });
}

Result<bool> known_same(NodeContext& c) {
  return map_known(c, c.known(0)->dtype, [](const std::vector<Dim>& a) { return std::optional<Dim>(a[0]); });
}

Result<bool> known_abs(NodeContext& c) {
  return map_known(c, c.known(0)->dtype, [](const std::vector<Dim>& a) -> std::optional<Dim> {
    std::optional<std::int64_t> least = a[0].lower_bound();
    if (!least || *least < 0) return std::nullopt;
    return a[0];
  });
}

Result<bool> known_cast(NodeContext& c) {
  std::optional<DType> to = dtype_from_onnx(c.required_integer("to"));
  c.ignore({"saturate", "round_mode"});
  // Dimensions fit the wide types; f32 is exact for those below 2^24, which the ones that become sizes are.
  bool is_wide = to == DType::i64 || to == DType::i32 || to == DType::u64 || to == DType::u32 || to == DType::f32;
  if (!is_wide || c.known(0)->dtype == DType::boolean) return false;
  return map_known(c, *to, [](const std::vector<Dim>& a) { return std::optional<Dim>(a[0]); });
}

Result<bool> known_equal(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return from_bool(decide_equal(a, b)); }, DType::boolean);
}
Result<bool> known_less(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return from_bool(decide_less(a, b)); }, DType::boolean);
}
Result<bool> known_greater(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return from_bool(decide_less(b, a)); }, DType::boolean);
}

namespace {

std::optional<Dim> negated(std::optional<bool> b) {
  return b ? from_bool(!*b) : std::nullopt;
}

}  // namespace

Result<bool> known_less_equal(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return negated(decide_less(b, a)); }, DType::boolean);
}
Result<bool> known_greater_equal(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return negated(decide_less(a, b)); }, DType::boolean);
}

Result<bool> known_not(NodeContext& c) {
  return map_known(c, DType::boolean, [](const std::vector<Dim>& a) { return std::optional<Dim>(Dim(1) - a[0]); });
}
Result<bool> known_and(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return std::optional<Dim>(a * b); }, DType::boolean);
}
Result<bool> known_or(NodeContext& c) {
  return known_binary(c, [](const Dim& a, const Dim& b) { return std::optional<Dim>(a + b - a * b); }, DType::boolean);
}

Result<bool> known_where(NodeContext& c) {
  if (c.input_count() != 3) return false;
  return map_known(c, c.known(1)->dtype, [](const std::vector<Dim>& a) -> std::optional<Dim> {
    if (a[1] == a[2]) return a[1];
    if (!a[0].is_constant()) return std::nullopt;
    return a[0] == Dim(0) ? a[2] : a[1];
  });
}

}  // namespace aoq::onnx
