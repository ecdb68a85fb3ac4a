// Proxy: a tensor while a model is being traced. Arithmetic on it adds nodes to the graph.
//
//   Proxy q = query(x).view({x.size(0), x.size(1), heads, width}).permute({0, 2, 1, 3});
//   Proxy scores = matmul(q, k.transpose(-1, -2)) / std::sqrt(width);
//
// Shapes are known while tracing (numbers, or expressions over named symbols), so control flow over them is plain C++.
// Values are not: a Proxy does not convert to bool. C++ may evaluate either operand of `a(x) + b(x)` first: give values
// names where the order of nodes matters. What goes wrong (shapes that do not fit, ...) is remembered, and
// symbolic_trace returns the first error; calls on a Proxy after an error do nothing. Used by the tracing thread only.
#pragma once

#include <concepts>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace aoq::nn {

class Tracer;
class Proxy;

using Shape = std::vector<Dim>;
using Proxies = std::vector<Proxy>;

// One entry of x[{...}]: an index, a slice start:end:step, or a new dimension of length 1.
class Index {
 public:
  enum class Kind : std::uint8_t { select, slice, new_axis };
  Index(std::int64_t i) : kind(Kind::select), start(i) {}  // NOLINT: a number is an index
  Index(int i) : Index(std::int64_t{i}) {}                 // NOLINT
  static Index slice(std::optional<std::int64_t> start = {}, std::optional<std::int64_t> end = {},
                     std::int64_t step = 1);
  static Index all() { return slice(); }
  static Index new_axis();

  Kind kind;
  std::optional<std::int64_t> start, end;
  std::int64_t step = 1;
};

namespace detail {
template <class>
inline constexpr bool kAlwaysFalse = false;
}

class Proxy {
 public:
  Proxy() = default;  // absent: for optional inputs
  Proxy(Tracer* tracer, Value* value) : tracer_(tracer), value_(value) {}

  // Null for an absent input, and after an error.
  Value* value() const { return value_; }
  Tracer* tracer() const { return tracer_; }
  template <class T>
    requires std::same_as<T, bool>
  operator T() const {  // NOLINT: never returns
    static_assert(detail::kAlwaysFalse<T>,
                  "a traced value has no bool: which way the model goes would depend on its data. Three ways out: "
                  "(1) trace only the part without this decision (symbolic_trace on a submodule) and decide in the "
                  "host's code; (2) mark the module as a leaf (TraceOptions::leaf_names or leaf_classes), so that it "
                  "stays in float as one unit; (3) write it as a custom region (ir/nn/region_module.h), with observed "
                  "and quantized forms of its own");
    return false;
  }
  bool is_present() const { return value_ != nullptr; }

  std::int64_t rank() const;
  // Negative dimensions count from the end. One out of range is an error of the trace.
  Dim size(std::int64_t dim) const;
  Shape sizes() const;

  // Views and movement. One dimension of view, reshape and expand may be -1: inferred, or kept by expand.
  Proxy view(const Shape& shape) const;
  Proxy reshape(const Shape& shape) const;
  Proxy permute(const std::vector<std::int64_t>& dims) const;
  Proxy transpose(std::int64_t a, std::int64_t b) const;
  Proxy flatten(std::int64_t start = 0, std::int64_t end = -1) const;
  Proxy squeeze(std::int64_t dim) const;
  Proxy unsqueeze(std::int64_t dim) const;
  Proxy expand(const Shape& shape) const;
  Proxy contiguous() const;
  Proxy operator[](std::initializer_list<Index> index) const;
  Proxy operator[](std::int64_t index) const { return (*this)[{Index(index)}]; }
  // Equal parts along a dimension whose length is a number; the last may be shorter.
  Proxies chunk(std::int64_t parts, std::int64_t dim = 0) const;

  // Arithmetic as methods, as models spell it.
  Proxy relu() const;
  Proxy sigmoid() const;
  Proxy tanh() const;
  Proxy softmax(std::int64_t dim) const;
  Proxy clamp(double min, double max) const;
  Proxy mean(const std::vector<std::int64_t>& dims, bool keepdim = false) const;
  Proxy sum(const std::vector<std::int64_t>& dims, bool keepdim = false) const;
  Proxy matmul(const Proxy& other) const;

 private:
  Tracer* tracer_ = nullptr;
  Value* value_ = nullptr;
};

Proxy operator+(const Proxy& a, const Proxy& b);
Proxy operator-(const Proxy& a, const Proxy& b);
Proxy operator*(const Proxy& a, const Proxy& b);
Proxy operator/(const Proxy& a, const Proxy& b);
Proxy operator+(const Proxy& a, double b);
Proxy operator-(const Proxy& a, double b);
Proxy operator*(const Proxy& a, double b);
Proxy operator/(const Proxy& a, double b);
Proxy operator+(double a, const Proxy& b);
Proxy operator-(double a, const Proxy& b);
Proxy operator*(double a, const Proxy& b);
Proxy operator/(double a, const Proxy& b);
Proxy operator-(const Proxy& a);
// Element by element; the results are traced too.
Proxy operator==(const Proxy& a, const Proxy& b);
Proxy operator<(const Proxy& a, const Proxy& b);
Proxy operator>(const Proxy& a, const Proxy& b);
Proxy operator<(const Proxy& a, double b);
Proxy operator>(const Proxy& a, double b);

}  // namespace aoq::nn
