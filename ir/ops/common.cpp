#include "ir/ops/common.h"

#include <algorithm>

namespace aoq::ops {

namespace {

Result<Dim> broadcast_dim(const Dim& a, const Dim& b) {
  if (a == b || b == Dim(1)) return a;
  if (a == Dim(1)) return b;
  if (a.is_constant() && !b.is_constant()) return a;
  if (b.is_constant() && !a.is_constant()) return b;
  if (may_equal(a, b)) return a;
  return error(Code::invalid_model, "dimensions {} and {} do not broadcast", a.to_string(), b.to_string());
}

Result<std::vector<Dim>> broadcast_inputs(const InferContext& c) {
  AOQ_TRY(require_one_dtype(c));
  return broadcast_shapes(c.input(0).shape, c.input(1).shape);
}

float load_float(const TensorView& x, std::int64_t i) {
  return static_cast<float>(load_as_double(x.dtype, x.data, i));
}

}  // namespace

Type plain(const Type& type) {
  return Type{type.dtype, type.shape, std::nullopt};
}

Type moved(const Type& type, std::vector<Dim> shape) {
  Type result{type.dtype, std::move(shape), std::nullopt};
  const std::optional<Quantization>& q = type.quantization;
  if (q && q->is_immediate && q->granularity == Quantization::Granularity::tensor) result.quantization = q;
  return result;
}

InferResult one_result(DType dtype, std::vector<Dim> shape) {
  return std::vector<Type>{Type{dtype, std::move(shape), std::nullopt}};
}

Status require(bool condition, const Type& type, std::string_view what) {
  if (condition) return {};
  return error(Code::invalid_model, "input is {}, expected {}", to_string(type), what);
}

Status require_float(const Type& type) {
  return require(is_float(type.dtype), type, "a floating type");
}

Status require_number(const Type& type) {
  return require(is_number(type.dtype) && !type.quantization, type, "a number type that is not quantized");
}

Status require_index(const Type& type) {
  return require(type.dtype == DType::i32 || type.dtype == DType::i64, type, "i32 or i64");
}

Status require_one_dtype(const InferContext& c) {
  for (const Type* t : c.inputs) {
    if (t == nullptr || t->dtype == c.input(0).dtype) continue;
    return error(Code::invalid_model, "inputs are {} and {}, expected one element type", to_string(c.input(0)),
                 to_string(*t));
  }
  return {};
}

bool may_equal(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return a == b;
  Dim difference = a - b;
  return !difference.is_constant() || difference.constant() == 0;
}

Status require_shape(std::string_view what, const Type& type, std::span<const Dim> shape) {
  bool fits = type.shape.size() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = may_equal(type.shape[i], shape[i]);
  if (fits) return {};
  return error(Code::invalid_model, "{} is {}, expected shape {}", what, to_string(type), to_string(shape));
}

Status require_rank(const Type& type, std::int64_t min, std::int64_t max) {
  if (type.rank() >= min && type.rank() <= max) return {};
  if (min == max) return error(Code::invalid_model, "input is {}, expected rank {}", to_string(type), min);
  return error(Code::invalid_model, "input is {}, expected a rank in [{}, {}]", to_string(type), min, max);
}

Status require_range(std::string_view name, std::int64_t value, std::int64_t min, std::int64_t max) {
  if (value >= min && value <= max) return {};
  return error(Code::invalid_model, "{} is {}, expected a value in [{}, {}]", name, value, min, max);
}

Status require_finite(const Attributes& attributes, std::string_view name) {
  double value = attributes.real(name);
  if (std::isfinite(static_cast<float>(value))) return {};
  return error(Code::invalid_model, "{} is {}, expected a finite number", name, value);
}

InferResult infer_same_float(const InferContext& c) {
  AOQ_TRY(require_float(c.input(0)));
  return std::vector<Type>{plain(c.input(0))};
}

InferResult infer_same_number(const InferContext& c) {
  AOQ_TRY(require_number(c.input(0)));
  return std::vector<Type>{c.input(0)};
}

InferResult infer_same_scale(const InferContext& c) {
  AOQ_TRY(require(is_number(c.input(0).dtype), c.input(0), "a number type"));
  AOQ_ASSIGN(std::optional<Quantization> quantization, shared_quantization(c));
  return std::vector<Type>{Type{c.input(0).dtype, c.input(0).shape, quantization}};
}

InferResult infer_float_predicate(const InferContext& c) {
  AOQ_TRY(require_float(c.input(0)));
  return one_result(DType::boolean, c.input(0).shape);
}

InferResult infer_broadcast(const InferContext& c) {
  AOQ_TRY(require_number(c.input(0)));
  AOQ_TRY(require_number(c.input(1)));
  AOQ_ASSIGN(std::vector<Dim> shape, broadcast_inputs(c));
  return one_result(c.input(0).dtype, std::move(shape));
}

InferResult infer_broadcast_same_scale(const InferContext& c) {
  AOQ_TRY(require(is_number(c.input(0).dtype), c.input(0), "a number type"));
  AOQ_ASSIGN(std::vector<Dim> shape, broadcast_inputs(c));
  AOQ_ASSIGN(std::optional<Quantization> quantization, shared_quantization(c));
  return std::vector<Type>{Type{c.input(0).dtype, std::move(shape), quantization}};
}

InferResult infer_broadcast_integer(const InferContext& c) {
  AOQ_TRY(require(is_integer(c.input(0).dtype), c.input(0), "an integer type"));
  return infer_broadcast(c);
}

InferResult infer_compare(const InferContext& c) {
  for (const Type* t : c.inputs) AOQ_TRY(require(!t->quantization, *t, "a type that is not quantized"));
  AOQ_ASSIGN(std::vector<Dim> shape, broadcast_inputs(c));
  return one_result(DType::boolean, std::move(shape));
}

InferResult infer_logical(const InferContext& c) {
  for (const Type* t : c.inputs) AOQ_TRY(require(t->dtype == DType::boolean, *t, "boolean"));
  if (c.inputs.size() == 1) return std::vector<Type>{c.input(0)};
  return infer_compare(c);
}

Result<std::optional<Quantization>> moved_quantization(const InferContext& c) {
  std::vector<const Type*> known;
  bool is_complete = true;
  for (const Type* t : c.inputs) {
    if (t == nullptr) continue;
    if (t->quantization) {
      known.push_back(t);
    } else {
      is_complete = false;
    }
  }
  AOQ_ASSIGN(std::optional<Quantization> shared, shared_quantization({c.op, known, c.attributes}));
  return is_complete ? shared : std::optional<Quantization>();
}

Result<std::optional<Quantization>> shared_quantization(const InferContext& c) {
  const Type* first = nullptr;
  for (const Type* t : c.inputs) {
    if (t == nullptr) continue;
    if (first == nullptr) first = t;
    if (t->quantization != first->quantization) {
      return error(Code::invalid_model, "inputs are {} and {}, expected one scale and zero point", to_string(*first),
                   to_string(*t));
    }
  }
  if (first == nullptr || !first->quantization) return std::optional<Quantization>();
  const Quantization& q = *first->quantization;
  AOQ_TRY(require(q.is_immediate && q.granularity == Quantization::Granularity::tensor, *first,
                  "one scale and zero point that are known"));
  return first->quantization;
}

Result<std::vector<Dim>> broadcast_shapes(std::span<const Dim> a, std::span<const Dim> b) {
  std::size_t rank = std::max(a.size(), b.size());
  std::vector<Dim> out(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    Dim x = i < rank - a.size() ? Dim(1) : a[i - (rank - a.size())];
    Dim y = i < rank - b.size() ? Dim(1) : b[i - (rank - b.size())];
    AOQ_ASSIGN(out[i], broadcast_dim(x, y));
  }
  return out;
}

Result<std::int64_t> normalize_axis(std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) {
    return error(Code::invalid_model, "axis {} is out of range for rank {}", axis, rank);
  }
  return axis < 0 ? axis + rank : axis;
}

Result<std::vector<std::int64_t>> normalize_axes(std::span<const std::int64_t> axes, std::int64_t rank) {
  std::vector<std::int64_t> out;
  if (axes.empty()) {
    for (std::int64_t i = 0; i < rank; ++i) out.push_back(i);
    return out;
  }
  if (static_cast<std::int64_t>(axes.size()) > rank) {
    return error(Code::invalid_model, "{} axes are given for rank {}", axes.size(), rank);
  }
  for (std::int64_t a : axes) {
    AOQ_ASSIGN(std::int64_t axis, normalize_axis(a, rank));
    out.push_back(axis);
  }
  std::sort(out.begin(), out.end());
  auto twice = std::adjacent_find(out.begin(), out.end());
  if (twice != out.end()) return error(Code::invalid_model, "axis {} is given twice", *twice);
  return out;
}

std::size_t checked_axis(const EvalContext& c, std::size_t rank) {
  std::int64_t axis = c.attributes.integer("axis");
  return static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis);
}

BroadcastIndex::BroadcastIndex(std::span<const std::int64_t> out_shape, std::span<const TensorView> inputs)
    : shape_(out_shape.begin(), out_shape.end()), counter_(out_shape.size()), position_(inputs.size()) {
  for (const TensorView& in : inputs) {
    std::vector<std::int64_t> strides(shape_.size());
    std::int64_t stride = 1;
    for (std::size_t i = 0; i < in.shape.size(); ++i) {
      std::size_t from = in.shape.size() - 1 - i;
      strides[shape_.size() - 1 - i] = in.shape[from] == 1 ? 0 : stride;
      stride *= in.shape[from];
    }
    strides_.push_back(std::move(strides));
  }
}

void BroadcastIndex::next() {
  for (std::size_t d = shape_.size(); d-- > 0;) {
    for (std::size_t i = 0; i < position_.size(); ++i) position_[i] += strides_[i][d];
    if (++counter_[d] < shape_[d]) return;
    for (std::size_t i = 0; i < position_.size(); ++i) position_[i] -= strides_[i][d] * shape_[d];
    counter_[d] = 0;
  }
}

Status unary(const EvalContext& c, const UnaryFunctions& f) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  std::int64_t n = y.element_count();
  if (x.dtype == DType::f32) {
    const auto* in = reinterpret_cast<const float*>(x.data);
    auto* out = reinterpret_cast<float*>(y.data);
    for (std::int64_t i = 0; i < n; ++i) out[i] = f.f32(in[i]);
  } else if (is_integer(x.dtype)) {
    AOQ_CHECK(f.integer != nullptr);
    for (std::int64_t i = 0; i < n; ++i) store_integer(y.dtype, y.data, i, f.integer(load_integer(x.dtype, x.data, i)));
  } else if (x.dtype == DType::f64 && f.f64 != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) {
      store_from_double(y.dtype, y.data, i, f.f64(load_as_double(x.dtype, x.data, i)));
    }
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      store_from_double(y.dtype, y.data, i, static_cast<double>(f.f32(load_float(x, i))));
    }
  }
  return {};
}

Status unary_float(const EvalContext& c, float (*f)(float)) {
  return unary(c, {.f32 = f});
}

Status unary_float(const EvalContext& c, Parameters parameters, float (*f)(float, Parameters)) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  for (std::int64_t i = 0, n = y.element_count(); i < n; ++i) {
    store_from_double(y.dtype, y.data, i, static_cast<double>(f(load_float(x, i), parameters)));
  }
  return {};
}

Status unary_predicate(const EvalContext& c, bool (*f)(double)) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  for (std::int64_t i = 0, n = y.element_count(); i < n; ++i) {
    y.data[i] = static_cast<std::byte>(f(load_as_double(x.dtype, x.data, i)));
  }
  return {};
}

namespace {

std::int64_t apply_integer(const BinaryFunctions& f, DType dtype, std::int64_t a, std::int64_t b) {
  if (dtype != DType::u64 || f.u64 == nullptr) return f.integer(a, b);
  return static_cast<std::int64_t>(f.u64(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b)));
}

}  // namespace

Status binary(const EvalContext& c, const BinaryFunctions& f) {
  const TensorView& a = c.inputs[0];
  const TensorView& b = c.inputs[1];
  const MutableTensorView& y = c.outputs[0];
  BroadcastIndex at(y.shape, c.inputs.first(2));
  bool integers = is_integer(a.dtype) || a.dtype == DType::boolean;
  AOQ_CHECK(!integers || f.integer != nullptr);
  for (std::int64_t k = 0, n = y.element_count(); k < n; ++k, at.next()) {
    std::int64_t i = at.index(0);
    std::int64_t j = at.index(1);
    if (a.dtype == DType::f32) {
      reinterpret_cast<float*>(y.data)[k] =
          f.f32(reinterpret_cast<const float*>(a.data)[i], reinterpret_cast<const float*>(b.data)[j]);
    } else if (integers) {
      store_integer(y.dtype, y.data, k,
                    apply_integer(f, a.dtype, load_integer(a.dtype, a.data, i), load_integer(b.dtype, b.data, j)));
    } else if (a.dtype == DType::f64 && f.f64 != nullptr) {
      store_from_double(y.dtype, y.data, k,
                        f.f64(load_as_double(a.dtype, a.data, i), load_as_double(b.dtype, b.data, j)));
    } else {
      store_from_double(y.dtype, y.data, k, static_cast<double>(f.f32(load_float(a, i), load_float(b, j))));
    }
  }
  return {};
}

Status binary_compare(const EvalContext& c, bool (*f)(double, double), bool (*i)(std::int64_t, std::int64_t)) {
  const TensorView& a = c.inputs[0];
  const TensorView& b = c.inputs[1];
  const MutableTensorView& y = c.outputs[0];
  // Moves the unsigned order onto the signed one.
  std::int64_t flip = a.dtype == DType::u64 ? INT64_MIN : 0;
  bool floats = is_float(a.dtype) || a.dtype == DType::f8_e8m0;
  BroadcastIndex at(y.shape, c.inputs.first(2));
  for (std::int64_t k = 0, n = y.element_count(); k < n; ++k, at.next()) {
    bool r = floats ? f(load_as_double(a.dtype, a.data, at.index(0)), load_as_double(b.dtype, b.data, at.index(1)))
                    : i(load_integer(a.dtype, a.data, at.index(0)) ^ flip,
                        load_integer(b.dtype, b.data, at.index(1)) ^ flip);
    y.data[k] = static_cast<std::byte>(r);
  }
  return {};
}

Status check_divisor(const EvalContext& c) {
  const TensorView& b = c.inputs[1];
  if (!is_integer(b.dtype) || c.outputs[0].element_count() == 0) return {};
  for (std::int64_t i = 0, n = b.element_count(); i < n; ++i) {
    if (load_integer(b.dtype, b.data, i) == 0) {
      return error(Code::invalid_data, "divisor element {} is 0, expected another integer", i);
    }
  }
  return {};
}

}  // namespace aoq::ops
