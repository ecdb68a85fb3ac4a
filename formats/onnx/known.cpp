// Arithmetic on dimensions: what can be said about expressions without knowing the symbols.
#include <algorithm>
#include <cmath>

#include "formats/onnx/context.h"
#include "ir/checked.h"

namespace aoq::onnx {

std::vector<std::int64_t> constants(std::span<const Dim> dims) {
  std::vector<std::int64_t> out;
  out.reserve(dims.size());
  for (const Dim& d : dims) out.push_back(d.constant());
  return out;
}

std::vector<Dim> dims_of(std::span<const std::int64_t> values) {
  return {values.begin(), values.end()};
}

std::optional<Known> known_from_tensor(const Tensor& tensor) {
  DType dtype = tensor.dtype();
  bool is_whole = is_integer(dtype) || dtype == DType::boolean;
  if ((!is_whole && dtype != DType::f32) || tensor.element_count() > kMaxKnown) return std::nullopt;
  Known k{dtype, tensor.shape(), {}};
  for (std::int64_t i = 0; i < tensor.element_count(); ++i) {
    if (is_whole) {
      k.elements.emplace_back(load_integer(dtype, tensor.bytes().data(), i));
      continue;
    }
    constexpr float kExact = 16777216.0f;
    float v = tensor.as<float>()[static_cast<std::size_t>(i)];
    if (!(std::fabs(v) < kExact) || v != std::trunc(v) || (v == 0.0f && std::signbit(v))) return std::nullopt;
    k.elements.emplace_back(static_cast<std::int64_t>(v));
  }
  return k;
}

Result<Tensor> tensor_from_known(const Known& known) {
  AOQ_ASSIGN(Tensor t, Tensor::make(known.dtype, known.shape));
  std::span<std::byte> bytes = t.mutable_bytes();
  for (std::size_t i = 0; i < known.elements.size(); ++i) {
    std::int64_t v = known.elements[i].constant();
    auto at = static_cast<std::int64_t>(i);
    if (known.dtype == DType::f32) {
      store_from_double(known.dtype, bytes.data(), at, static_cast<double>(v));
    } else {
      store_integer(known.dtype, bytes.data(), at, v);
    }
  }
  return t;
}

Result<std::vector<Dim>> broadcast(std::span<const Dim> a, std::span<const Dim> b) {
  std::size_t rank = std::max(a.size(), b.size());
  std::vector<Dim> out(rank, Dim(1));
  for (std::size_t i = 0; i < rank; ++i) {
    Dim x = i < rank - a.size() ? Dim(1) : a[i - (rank - a.size())];
    Dim y = i < rank - b.size() ? Dim(1) : b[i - (rank - b.size())];
    if (x == y || y == Dim(1)) {
      out[i] = x;
    } else if (x == Dim(1)) {
      out[i] = y;
    } else if (x.is_constant() && y.is_constant()) {
      return error(Code::invalid_model, "shapes {} and {} do not broadcast", aoq::to_string(a), aoq::to_string(b));
    } else {
      out[i] = x.is_constant() ? x : y;
    }
  }
  return out;
}

std::optional<bool> decide_less(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return a.constant() < b.constant();
  std::optional<std::int64_t> gap = (b - a).lower_bound();
  if (gap && *gap > 0) return true;
  gap = (a - b).lower_bound();
  if (gap && *gap >= 0) return false;
  return std::nullopt;
}

std::optional<bool> decide_equal(const Dim& a, const Dim& b) {
  if (a == b) return true;
  if (decide_less(a, b) == true || decide_less(b, a) == true) return false;
  return std::nullopt;
}

Dim clamp_dim(const Dim& v, const Dim& low, const Dim& high) {
  Dim at_least = v;
  if (std::optional<bool> less = decide_less(v, low); less != false) at_least = less ? low : max(v, low);
  std::optional<bool> above = decide_less(high, at_least);
  if (above == false) return at_least;
  return above ? high : min(at_least, high);
}

std::optional<Dim> truncated_div(const Dim& a, const Dim& b) {
  if (b == Dim(0)) return std::nullopt;
  if (a.is_constant() && b.is_constant()) {
    if (b == Dim(-1)) return Dim(0) - a;
    return Dim(a.constant() / b.constant());
  }
  Dim q = floor_div(a, b);
  if (q * b == a) return q;
  std::optional<std::int64_t> least_a = a.lower_bound();
  std::optional<std::int64_t> least_b = b.lower_bound();
  if (!least_a || *least_a < 0 || !least_b || *least_b <= 0) return std::nullopt;
  return q;
}

}  // namespace aoq::onnx
