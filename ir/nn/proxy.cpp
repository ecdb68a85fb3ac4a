#include "ir/nn/proxy.h"

#include <algorithm>

#include "ir/nn/build.h"

namespace aoq::nn {

using Unit = Tracer::Unit;

Index Index::slice(std::optional<std::int64_t> start, std::optional<std::int64_t> end, std::int64_t step) {
  Index i(0);
  i.kind = Kind::slice;
  i.start = start;
  i.end = end;
  i.step = step;
  return i;
}

Index Index::new_axis() {
  Index i(0);
  i.kind = Kind::new_axis;
  return i;
}

std::int64_t Proxy::rank() const {
  return value_ == nullptr ? 0 : value_->type().rank();
}

Dim Proxy::size(std::int64_t dim) const {
  if (value_ == nullptr) return {1};
  const std::int64_t axis = build::axis_of(*this, dim);
  return rank() == 0 ? Dim(1) : value_->type().shape[static_cast<std::size_t>(axis)];
}

Shape Proxy::sizes() const {
  return value_ == nullptr ? Shape() : value_->type().shape;
}

Proxy Proxy::view(const Shape& shape) const {
  Unit unit(tracer_, ".view");
  return build::reshape(*this, shape);
}
Proxy Proxy::reshape(const Shape& shape) const {
  Unit unit(tracer_, ".reshape");
  return build::reshape(*this, shape);
}
Proxy Proxy::permute(const std::vector<std::int64_t>& dims) const {
  Unit unit(tracer_, ".permute");
  return build::permute(*this, dims);
}
Proxy Proxy::transpose(std::int64_t a, std::int64_t b) const {
  Unit unit(tracer_, ".transpose");
  return build::transpose(*this, a, b);
}
Proxy Proxy::flatten(std::int64_t start, std::int64_t end) const {
  Unit unit(tracer_, ".flatten");
  return build::flatten(*this, start, end);
}
Proxy Proxy::squeeze(std::int64_t dim) const {
  Unit unit(tracer_, ".squeeze");
  Shape shape = sizes();
  const std::int64_t axis = build::axis_of(*this, dim);
  if (!shape.empty() && shape[static_cast<std::size_t>(axis)] == Dim(1)) shape.erase(shape.begin() + axis);
  return build::reshape(*this, std::move(shape));
}
Proxy Proxy::unsqueeze(std::int64_t dim) const {
  Unit unit(tracer_, ".unsqueeze");
  Shape shape = sizes();
  shape.insert(shape.begin() + (value_ == nullptr ? 0 : build::axis_of(*this, dim, 1)), Dim(1));
  return build::reshape(*this, std::move(shape));
}
Proxy Proxy::expand(const Shape& shape) const {
  Unit unit(tracer_, ".expand");
  if (value_ == nullptr) return *this;
  Shape full = shape;
  const std::size_t added = full.size() - std::min(full.size(), sizes().size());
  for (std::size_t i = added; i < full.size(); ++i) {
    if (full[i] == Dim(-1)) full[i] = sizes()[i - added];
  }
  return tracer_->emit(Op::expand, {*this}, {{"shape", std::move(full)}});
}
Proxy Proxy::contiguous() const {
  Unit unit(tracer_, ".contiguous");
  return build::same(*this);
}

namespace {

// A bound of a slice, as Python reads it: negative ones count from the end, and what lies outside is cut.
Dim bound(const Proxy& x, std::int64_t axis, std::int64_t at) {
  const Dim length = x.size(axis);
  if (at < 0) return length.is_constant() ? Dim(std::max<std::int64_t>(length.constant() + at, 0)) : length + Dim(at);
  return length.is_constant() ? Dim(std::min(length.constant(), at)) : Dim(at);
}

}  // namespace

Proxy Proxy::operator[](std::initializer_list<Index> index) const {
  Unit unit(tracer_, "operator.getitem");
  Proxy x = *this;
  std::int64_t axis = 0;
  for (const Index& i : index) {
    if (!x.is_present()) return x;
    if (i.kind == Index::Kind::select) {
      x = build::select(x, axis, *i.start);
      continue;
    }
    if (i.kind == Index::Kind::new_axis) {
      Shape shape = x.sizes();
      shape.insert(shape.begin() + axis, Dim(1));
      x = build::reshape(x, std::move(shape));
    } else if (i.start || i.end || i.step != 1) {
      x = build::slice(x, axis, i.start ? bound(x, axis, *i.start) : Dim(0),
                       i.end ? bound(x, axis, *i.end) : x.size(axis), i.step);
    }
    ++axis;
  }
  return x;
}

Proxies Proxy::chunk(std::int64_t parts, std::int64_t dim) const {
  return build::chunk(".chunk", *this, parts, dim);
}

Proxy Proxy::relu() const {
  return build::unary(".relu", *this, Op::relu);
}
Proxy Proxy::sigmoid() const {
  return build::unary(".sigmoid", *this, Op::sigmoid);
}
Proxy Proxy::tanh() const {
  return build::unary(".tanh", *this, Op::tanh);
}
Proxy Proxy::softmax(std::int64_t dim) const {
  Unit unit(tracer_, ".softmax");
  return build::softmax(*this, dim);
}
Proxy Proxy::clamp(double min, double max) const {
  Unit unit(tracer_, ".clamp");
  return build::clamp(*this, min, max);
}
Proxy Proxy::mean(const std::vector<std::int64_t>& dims, bool keepdim) const {
  Unit unit(tracer_, ".mean");
  return build::reduce(Op::reduce_mean, *this, dims, keepdim);
}
Proxy Proxy::sum(const std::vector<std::int64_t>& dims, bool keepdim) const {
  Unit unit(tracer_, ".sum");
  return build::reduce(Op::reduce_sum, *this, dims, keepdim);
}
Proxy Proxy::matmul(const Proxy& other) const {
  return build::binary(".matmul", *this, other, Op::matmul);
}

namespace {

Proxy scalar_first(std::string_view callee, double a, const Proxy& b, Op op) {
  Unit unit(b.tracer(), callee);
  return b.tracer() == nullptr ? Proxy() : b.tracer()->emit(op, {b.tracer()->scalar(a, b), b});
}

}  // namespace

Proxy operator+(const Proxy& a, const Proxy& b) {
  return build::binary("operator.add", a, b, Op::add);
}
Proxy operator-(const Proxy& a, const Proxy& b) {
  return build::binary("operator.sub", a, b, Op::sub);
}
Proxy operator*(const Proxy& a, const Proxy& b) {
  return build::binary("operator.mul", a, b, Op::mul);
}
Proxy operator/(const Proxy& a, const Proxy& b) {
  return build::binary("operator.truediv", a, b, Op::div);
}
Proxy operator+(const Proxy& a, double b) {
  return build::with_scalar("operator.add", a, b, Op::add);
}
Proxy operator-(const Proxy& a, double b) {
  return build::with_scalar("operator.sub", a, b, Op::sub);
}
Proxy operator*(const Proxy& a, double b) {
  return build::with_scalar("operator.mul", a, b, Op::mul);
}
Proxy operator/(const Proxy& a, double b) {
  return build::with_scalar("operator.truediv", a, b, Op::div);
}
Proxy operator+(double a, const Proxy& b) {
  return scalar_first("operator.add", a, b, Op::add);
}
Proxy operator-(double a, const Proxy& b) {
  return scalar_first("operator.sub", a, b, Op::sub);
}
Proxy operator*(double a, const Proxy& b) {
  return scalar_first("operator.mul", a, b, Op::mul);
}
Proxy operator/(double a, const Proxy& b) {
  return scalar_first("operator.truediv", a, b, Op::div);
}
Proxy operator-(const Proxy& a) {
  return build::unary("operator.neg", a, Op::neg);
}
Proxy operator==(const Proxy& a, const Proxy& b) {
  return build::binary("operator.eq", a, b, Op::equal);
}
Proxy operator<(const Proxy& a, const Proxy& b) {
  return build::binary("operator.lt", a, b, Op::less);
}
Proxy operator>(const Proxy& a, const Proxy& b) {
  return build::binary("operator.gt", a, b, Op::greater);
}
Proxy operator<(const Proxy& a, double b) {
  return build::with_scalar("operator.lt", a, b, Op::less);
}
Proxy operator>(const Proxy& a, double b) {
  return build::with_scalar("operator.gt", a, b, Op::greater);
}

}  // namespace aoq::nn
