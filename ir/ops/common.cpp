#include "ir/ops/common.h"

#include <algorithm>

namespace aoq::ops {

namespace {

Type plain(const Type& type) { return Type{type.dtype, type.shape, std::nullopt}; }

Status require(bool condition, const Type& type, std::string_view what) {
  if (condition) return {};
  return error(Code::invalid_model, "input is {}, expected {}", to_string(type), what);
}

bool is_number(DType d) { return is_float(d) || is_integer(d); }

Result<Dim> broadcast_dim(const Dim& a, const Dim& b) {
  if (a == b || b == Dim(1)) return a;
  if (a == Dim(1)) return b;
  if (a.is_constant() && !b.is_constant()) return a;
  if (b.is_constant() && !a.is_constant()) return b;
  return error(Code::invalid_model, "dimensions {} and {} do not broadcast", a.to_string(), b.to_string());
}

}  // namespace

Result<std::vector<Type>> infer_same(const InferContext& c) { return std::vector<Type>{plain(c.input(0))}; }

Result<std::vector<Type>> infer_same_float(const InferContext& c) {
  AOQ_TRY(require(is_float(c.input(0).dtype), c.input(0), "a floating type"));
  return infer_same(c);
}

Result<std::vector<Type>> infer_same_number(const InferContext& c) {
  AOQ_TRY(require(is_number(c.input(0).dtype), c.input(0), "a number type"));
  return infer_same(c);
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

Result<std::vector<Type>> infer_broadcast(const InferContext& c) {
  const Type& a = c.input(0);
  const Type& b = c.input(1);
  if (a.dtype != b.dtype) {
    return error(Code::invalid_model, "inputs are {} and {}, expected one element type", to_string(a), to_string(b));
  }
  AOQ_TRY(require(is_number(a.dtype), a, "a number type"));
  AOQ_ASSIGN(std::vector<Dim> shape, broadcast_shapes(a.shape, b.shape));
  return std::vector<Type>{Type{a.dtype, std::move(shape), std::nullopt}};
}

Result<std::vector<Type>> infer_compare(const InferContext& c) {
  const Type& a = c.input(0);
  const Type& b = c.input(1);
  if (a.dtype != b.dtype) {
    return error(Code::invalid_model, "inputs are {} and {}, expected one element type", to_string(a), to_string(b));
  }
  AOQ_ASSIGN(std::vector<Dim> shape, broadcast_shapes(a.shape, b.shape));
  return std::vector<Type>{Type{DType::boolean, std::move(shape), std::nullopt}};
}

Result<std::vector<Type>> infer_logical(const InferContext& c) {
  for (const Type* t : c.inputs) AOQ_TRY(require(t->dtype == DType::boolean, *t, "boolean"));
  if (c.inputs.size() == 1) return infer_same(c);
  return infer_compare(c);
}

Result<std::int64_t> normalize_axis(std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) {
    return error(Code::invalid_model, "axis {} is out of range for rank {}", axis, rank);
  }
  return axis < 0 ? axis + rank : axis;
}

Result<Dim> window_output(const Dim& in, const Window& w) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  auto in_range = [](std::int64_t v, std::int64_t low) { return v >= low && v < kLimit; };
  if (!in_range(w.kernel, 1)) return error(Code::invalid_model, "kernel size {} is out of range", w.kernel);
  if (!in_range(w.stride, 1)) return error(Code::invalid_model, "stride {} is out of range", w.stride);
  if (!in_range(w.dilation, 1)) return error(Code::invalid_model, "dilation {} is out of range", w.dilation);
  if (!in_range(w.pad_begin, 0) || !in_range(w.pad_end, 0)) {
    return error(Code::invalid_model, "padding [{}, {}] is out of range", w.pad_begin, w.pad_end);
  }
  if (w.dilation > 1 && w.kernel > kLimit / w.dilation) return error(Code::invalid_model, "window is too large");
  Dim covered = in + Dim(w.pad_begin + w.pad_end - w.dilation * (w.kernel - 1) - 1);
  if (covered.is_constant() && covered.constant() < 0) {
    return error(Code::invalid_model, "window of {} is larger than the padded input {}", w.dilation * (w.kernel - 1) + 1,
                 (in + Dim(w.pad_begin + w.pad_end)).to_string());
  }
  if (!w.ceil_mode) return floor_div(covered, w.stride) + Dim(1);
  // The last window must start inside the input or its left padding.
  Dim out = ceil_div(covered, w.stride) + Dim(1);
  if (out.is_constant() && in.is_constant() && (out.constant() - 1) * w.stride >= in.constant() + w.pad_begin) {
    return out - Dim(1);
  }
  return out;
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

Status unary_float(const EvalContext& c, float (*f)(float)) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  std::int64_t n = y.element_count();
  if (x.dtype == DType::f32) {
    const auto* in = reinterpret_cast<const float*>(x.data);
    auto* out = reinterpret_cast<float*>(y.data);
    for (std::int64_t i = 0; i < n; ++i) out[i] = f(in[i]);
    return {};
  }
  for (std::int64_t i = 0; i < n; ++i) {
    float v = static_cast<float>(load_as_double(x.dtype, x.data, i));
    store_from_double(y.dtype, y.data, i, static_cast<double>(f(v)));
  }
  return {};
}

Status binary_number(const EvalContext& c, float (*f)(float, float), std::int64_t (*i)(std::int64_t, std::int64_t)) {
  const TensorView& a = c.inputs[0];
  const TensorView& b = c.inputs[1];
  const MutableTensorView& y = c.outputs[0];
  if (is_integer(a.dtype) && i == nullptr) {
    return error(Code::unsupported, "no integer form for {}", dtype_name(a.dtype));
  }
  BroadcastIndex at(y.shape, c.inputs.subspan(0, 2));
  for (std::int64_t k = 0, n = y.element_count(); k < n; ++k, at.next()) {
    if (a.dtype == DType::f32) {
      reinterpret_cast<float*>(y.data)[k] = f(reinterpret_cast<const float*>(a.data)[at.index(0)],
                                              reinterpret_cast<const float*>(b.data)[at.index(1)]);
    } else if (is_integer(a.dtype)) {
      store_integer(y.dtype, y.data, k,
                    i(load_integer(a.dtype, a.data, at.index(0)), load_integer(b.dtype, b.data, at.index(1))));
    } else {
      float x = static_cast<float>(load_as_double(a.dtype, a.data, at.index(0)));
      float z = static_cast<float>(load_as_double(b.dtype, b.data, at.index(1)));
      store_from_double(y.dtype, y.data, k, static_cast<double>(f(x, z)));
    }
  }
  return {};
}

Status binary_compare(const EvalContext& c, bool (*f)(double, double), bool (*i)(std::int64_t, std::int64_t)) {
  const TensorView& a = c.inputs[0];
  const TensorView& b = c.inputs[1];
  const MutableTensorView& y = c.outputs[0];
  BroadcastIndex at(y.shape, c.inputs.subspan(0, 2));
  for (std::int64_t k = 0, n = y.element_count(); k < n; ++k, at.next()) {
    bool r = is_float(a.dtype)
                 ? f(load_as_double(a.dtype, a.data, at.index(0)), load_as_double(b.dtype, b.data, at.index(1)))
                 : i(load_integer(a.dtype, a.data, at.index(0)), load_integer(b.dtype, b.data, at.index(1)));
    y.data[k] = static_cast<std::byte>(r);
  }
  return {};
}

}  // namespace aoq::ops
