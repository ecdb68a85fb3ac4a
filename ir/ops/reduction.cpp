#include "ir/ops/reduction.h"

namespace aoq::ops {

namespace {

Result<std::vector<Dim>> reduced_shape(const InferContext& c) {
  const Type& x = c.input(0);
  AOQ_ASSIGN(std::vector<std::int64_t> axes, normalize_axes(c.attributes.integers("axes"), x.rank()));
  std::vector<Dim> shape;
  std::size_t next = 0;
  for (std::size_t d = 0; d < x.shape.size(); ++d) {
    bool reduced = next < axes.size() && axes[next] == static_cast<std::int64_t>(d);
    if (reduced) ++next;
    if (!reduced) shape.push_back(x.shape[d]);
    if (reduced && c.attributes.boolean("keepdims")) shape.emplace_back(1);
  }
  return shape;
}

// x seen as kept dimensions outside and reduced ones inside.
struct Split {
  Sizes kept, kept_strides, reduced, reduced_strides;
};

Split split(const EvalContext& c) {
  const TensorView& x = c.inputs[0];
  Result<std::vector<std::int64_t>> axes =
      normalize_axes(c.attributes.integers("axes"), static_cast<std::int64_t>(x.shape.size()));
  AOQ_CHECK(axes.ok());
  Sizes strides = row_major_strides(x.shape);
  Split s;
  std::size_t next = 0;
  for (std::size_t d = 0; d < x.shape.size(); ++d) {
    bool reduced = next < axes->size() && (*axes)[next] == static_cast<std::int64_t>(d);
    if (reduced) ++next;
    (reduced ? s.reduced : s.kept).push_back(x.shape[d]);
    (reduced ? s.reduced_strides : s.kept_strides).push_back(strides[d]);
  }
  return s;
}

template <typename T, typename Load, typename Finish>
void for_each_group(const Split& s, Load load, Finish finish) {
  std::vector<T> group(static_cast<std::size_t>(count(s.reduced, 0, s.reduced.size())));
  Sizes outer(s.kept.size());
  for (std::int64_t i = 0, n = count(s.kept, 0, s.kept.size()); i < n; ++i, next_index(outer, s.kept)) {
    std::int64_t base = 0;
    for (std::size_t d = 0; d < outer.size(); ++d) base += outer[d] * s.kept_strides[d];
    Sizes inner(s.reduced.size());
    for (T& element : group) {
      std::int64_t at = base;
      for (std::size_t d = 0; d < inner.size(); ++d) at += inner[d] * s.reduced_strides[d];
      element = load(at);
      next_index(inner, s.reduced);
    }
    finish(i, group);
  }
}

}  // namespace

InferResult infer_reduce_float(const InferContext& c) {
  AOQ_TRY(require_float(c.input(0)));
  AOQ_ASSIGN(std::vector<Dim> shape, reduced_shape(c));
  return one_result(c.input(0).dtype, std::move(shape));
}

InferResult infer_reduce_number(const InferContext& c) {
  AOQ_TRY(require_number(c.input(0)));
  AOQ_ASSIGN(std::vector<Dim> shape, reduced_shape(c));
  return one_result(c.input(0).dtype, std::move(shape));
}

InferResult infer_reduce_order(const InferContext& c) {
  const Type& x = c.input(0);
  AOQ_TRY(require(is_number(x.dtype) || x.dtype == DType::boolean, x, "a number type or boolean"));
  AOQ_ASSIGN(std::optional<Quantization> quantization, shared_quantization(c));
  AOQ_ASSIGN(std::vector<Dim> shape, reduced_shape(c));
  return std::vector<Type>{Type{x.dtype, std::move(shape), quantization}};
}

Status reduce(const EvalContext& c, const Reducer& reducer) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  if (y.element_count() == 0) return {};
  Split s = split(c);
  if (is_integer(x.dtype) || x.dtype == DType::boolean) {
    AOQ_CHECK(reducer.integer != nullptr);
    for_each_group<std::int64_t>(
        s, [&](std::int64_t i) { return load_integer(x.dtype, x.data, i); },
        [&](std::int64_t i, const std::vector<std::int64_t>& group) {
          store_integer(y.dtype, y.data, i,
                        reducer.integer(group.data(), static_cast<std::int64_t>(group.size()), x.dtype));
        });
  } else if (x.dtype == DType::f64 && reducer.f64 != nullptr) {
    for_each_group<double>(
        s, [&](std::int64_t i) { return load_as_double(x.dtype, x.data, i); },
        [&](std::int64_t i, const std::vector<double>& group) {
          store_from_double(y.dtype, y.data, i, reducer.f64(group.data(), static_cast<std::int64_t>(group.size())));
        });
  } else {
    FloatInput in(x);
    FloatOutput out(y);
    for_each_group<float>(
        s, [&](std::int64_t i) { return in[i]; },
        [&](std::int64_t i, const std::vector<float>& group) {
          out[i] = reducer.f32(group.data(), static_cast<std::int64_t>(group.size()));
        });
  }
  return {};
}

Lines lines_along(std::span<const std::int64_t> shape, std::size_t axis) {
  std::int64_t inner = count(shape, axis + 1, shape.size());
  return {count(shape, 0, axis) * inner, shape[axis], inner};
}

InferResult infer_along_axis(const InferContext& c) {
  AOQ_TRY(require_float(c.input(0)));
  AOQ_TRY(normalize_axis(c.attributes.integer("axis"), c.input(0).rank()).status());
  return std::vector<Type>{plain(c.input(0))};
}

InferResult infer_arg(const InferContext& c) {
  const Type& x = c.input(0);
  AOQ_TRY(require(is_number(x.dtype), x, "a number type"));
  AOQ_ASSIGN(std::int64_t axis, normalize_axis(c.attributes.integer("axis"), x.rank()));
  std::vector<Dim> shape = x.shape;
  if (shape[static_cast<std::size_t>(axis)] == Dim(0)) {
    return error(Code::invalid_model, "axis {} of {} is empty, expected an element", axis, to_string(x));
  }
  shape[static_cast<std::size_t>(axis)] = Dim(1);
  if (!c.attributes.boolean("keepdims")) shape.erase(shape.begin() + axis);
  return one_result(DType::i64, std::move(shape));
}

bool is_greater(double a, double b) {
  return a > b || (std::isnan(a) && !std::isnan(b));
}

namespace {

// Compares integers exactly where double would round.
struct Order {
  const TensorView& x;
  bool exact;
  std::int64_t flip;

  explicit Order(const TensorView& tensor)
      : x(tensor), exact(is_integer(tensor.dtype)), flip(tensor.dtype == DType::u64 ? INT64_MIN : 0) {}
  // Whether element i is above (max) or below (min) element j; NaN counts as the most extreme.
  bool beats(std::int64_t i, std::int64_t j, Extreme extreme) const {
    bool max = extreme == Extreme::max;
    if (exact) {
      std::int64_t a = load_integer(x.dtype, x.data, i) ^ flip;
      std::int64_t b = load_integer(x.dtype, x.data, j) ^ flip;
      return max ? a > b : a < b;
    }
    double a = load_as_double(x.dtype, x.data, i);
    double b = load_as_double(x.dtype, x.data, j);
    return max ? is_greater(a, b) : is_greater(-a, -b);
  }
};

}  // namespace

Status arg_extreme(const EvalContext& c, Extreme extreme) {
  const TensorView& x = c.inputs[0];
  Lines lines = lines_along(x.shape, checked_axis(c, x.shape.size()));
  Order order(x);
  bool last = c.attributes.boolean("select_last");
  for (std::int64_t l = 0; l < lines.count; ++l) {
    std::int64_t best = 0;
    for (std::int64_t k = 1; k < lines.length; ++k) {
      std::int64_t here = lines.base(l) + k * lines.stride;
      std::int64_t there = lines.base(l) + best * lines.stride;
      if (last ? !order.beats(there, here, extreme) : order.beats(here, there, extreme)) best = k;
    }
    store_integer(DType::i64, c.outputs[0].data, l, best);
  }
  return {};
}

}  // namespace aoq::ops
