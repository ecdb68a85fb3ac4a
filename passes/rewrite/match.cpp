#include "passes/rewrite/match.h"

#include <algorithm>
#include <cmath>

namespace aoq::match {

std::optional<double> scalar_of(const Value* value) {
  const Tensor* t = constant_tensor(value);
  if (t == nullptr || !is_float(t->dtype()) || t->element_count() != 1) return std::nullopt;
  return load_as_double(t->dtype(), t->bytes().data(), 0);
}

bool is_close(double a, double b) {
  return std::fabs(a - b) <= 2e-6 * std::max(std::fabs(a), std::fabs(b));
}

bool is_scalar(const Value* value, double expected) {
  std::optional<double> v = scalar_of(value);
  return v && is_close(*v, expected);
}

const Node* node_of(const Value* value, Op op) {
  return value != nullptr && value->def()->is(op) ? value->def() : nullptr;
}

const Node* own_node_of(const Value* value, Op op) {
  return value != nullptr && value->has_one_use() ? node_of(value, op) : nullptr;
}

std::optional<WithScalar> with_scalar(const Node& node) {
  if (node.inputs().size() != 2) return std::nullopt;
  const std::vector<Dim>& shape = node.output()->type().shape;
  for (std::size_t i = 0; i < 2; ++i) {
    std::optional<double> v = scalar_of(node.input(i));
    // A constant of shape [1, 1, 1] may give the result a higher rank; then it is more than a scalar.
    if (v && node.input(1 - i)->type().shape == shape) return WithScalar{node.input(1 - i), *v};
  }
  return std::nullopt;
}

Value* other_operand(const Node& node, const Value* one) {
  if (node.inputs().size() != 2) return nullptr;
  if (node.input(0) == one) return node.input(1);
  return node.input(1) == one ? node.input(0) : nullptr;
}

namespace {

enum class Side { factor, divisor };

// Adds one operand of a product. Depth is bounded by the number of nodes, so a list stands in for recursion.
struct Pending {
  Value* value;
  Side side;
  bool is_root;
};

}  // namespace

Product product_of(Value* value) {
  Product p;
  std::vector<Pending> pending{{value, Side::factor, true}};
  while (!pending.empty()) {
    Pending next = pending.back();
    pending.pop_back();
    Side opposite = next.side == Side::factor ? Side::divisor : Side::factor;
    const Node& node = *next.value->def();
    bool is_open = next.is_root || next.value->has_one_use();
    if (std::optional<double> v = scalar_of(next.value)) {
      p.scalar = next.side == Side::factor ? p.scalar * *v : p.scalar / *v;
    } else if (is_open && node.is(Op::mul)) {
      pending.push_back({node.input(1), next.side, false});
      pending.push_back({node.input(0), next.side, false});
    } else if (is_open && node.is(Op::div)) {
      pending.push_back({node.input(1), opposite, false});
      pending.push_back({node.input(0), next.side, false});
    } else if (is_open && node.is(Op::reciprocal)) {
      pending.push_back({node.input(0), opposite, false});
    } else if (is_open && node.is(Op::rsqrt) && next.side == Side::factor) {
      p.root_divisors.push_back(node.input(0));
    } else {
      (next.side == Side::factor ? p.factors : p.divisors).push_back(next.value);
    }
  }
  return p;
}

bool take(std::vector<Value*>& values, const Value* value) {
  auto it = std::find(values.begin(), values.end(), value);
  if (it == values.end()) return false;
  values.erase(it);
  return true;
}

namespace {

std::vector<std::int64_t> axes_of(const Node& reduce) {
  std::vector<std::int64_t> axes = reduce.attributes().integers("axes");
  std::int64_t rank = reduce.input(0)->type().rank();
  for (std::int64_t& a : axes) a = a < 0 ? a + rank : a;
  if (axes.empty()) {
    for (std::int64_t i = 0; i < rank; ++i) axes.push_back(i);
  }
  std::sort(axes.begin(), axes.end());
  return axes;
}

std::vector<Dim> kept_shape(const std::vector<Dim>& shape, const std::vector<std::int64_t>& axes) {
  std::vector<Dim> kept = shape;
  for (std::int64_t a : axes) kept[static_cast<std::size_t>(a)] = Dim(1);
  return kept;
}

// A reduction, and whether a reshape behind it puts the reduced dimensions back as ones.
std::optional<Reduced> reduced_by(Value* value, Op op) {
  Value* v = value;
  if (const Node* n = node_of(v, Op::reshape)) v = n->input(0);
  const Node* reduce = node_of(v, op);
  if (reduce == nullptr) return std::nullopt;
  Reduced r{reduce->input(0), axes_of(*reduce)};
  if (value->type().shape != kept_shape(r.x->type().shape, r.axes)) return std::nullopt;
  return r;
}

double extent(const Reduced& r) {
  double n = 1;
  for (std::int64_t a : r.axes) {
    const Dim& d = r.x->type().shape[static_cast<std::size_t>(a)];
    if (!d.is_constant()) return -1;
    n *= static_cast<double>(d.constant());
  }
  return n;
}

}  // namespace

std::optional<Reduced> sum_of(Value* value) {
  return reduced_by(value, Op::reduce_sum);
}
std::optional<Reduced> max_of(Value* value) {
  // jax takes the maximum with -inf once more.
  Value* v = value;
  const Node* reshape = node_of(v, Op::reshape);
  if (reshape) v = reshape->input(0);
  const Node* n = node_of(v, Op::maximum);
  std::optional<WithScalar> w = n ? with_scalar(*n) : std::nullopt;
  if (!w || !std::isinf(w->scalar) || w->scalar > 0) return reduced_by(value, Op::reduce_max);
  const Node* reduce = node_of(w->other, Op::reduce_max);
  if (reduce == nullptr) return std::nullopt;
  Reduced r{reduce->input(0), axes_of(*reduce)};
  if (value->type().shape != kept_shape(r.x->type().shape, r.axes)) return std::nullopt;
  return r;
}

std::optional<Reduced> mean_of(Value* value) {
  if (std::optional<Reduced> r = reduced_by(value, Op::reduce_mean)) return r;
  // sum * (1/n) or sum / n, before or behind the reshape that keeps the dimensions.
  Value* v = value;
  const Node* reshape = node_of(v, Op::reshape);
  if (reshape) v = reshape->input(0);
  const Node* n = v->def();
  if (!n->is(Op::mul) && !n->is(Op::div)) return std::nullopt;
  std::optional<WithScalar> w = with_scalar(*n);
  if (!w || (n->is(Op::div) && w->other != n->input(0))) return std::nullopt;
  const Node* sum = node_of(w->other, Op::reduce_sum);
  std::optional<Reduced> r = sum ? std::optional(Reduced{sum->input(0), axes_of(*sum)}) : sum_of(w->other);
  if (!r || value->type().shape != kept_shape(r->x->type().shape, r->axes)) return std::nullopt;
  double count = extent(*r);
  bool is_mean = count > 0 && is_close(n->is(Op::div) ? w->scalar : 1.0 / w->scalar, count);
  return is_mean ? r : std::nullopt;
}

Value* square_of(Value* value) {
  const Node* n = value->def();
  if (n->is(Op::mul) && n->input(0) == n->input(1)) return n->input(0);
  if (n->is(Op::pow) && is_scalar(n->input(1), 2.0) && n->input(0)->type().shape == value->type().shape)
    return n->input(0);
  return nullptr;
}

bool is_parameter_over(const Value* value, const std::vector<Dim>& shape, const std::vector<std::int64_t>& axes) {
  const std::vector<Dim>& own = value->type().shape;
  if (own.size() > shape.size()) return false;
  std::size_t missing = shape.size() - own.size();
  for (std::size_t i = 0; i < shape.size(); ++i) {
    bool is_axis = std::find(axes.begin(), axes.end(), static_cast<std::int64_t>(i)) != axes.end();
    Dim d = i < missing ? Dim(1) : own[i - missing];
    if (!(d == (is_axis ? shape[i] : Dim(1)))) return false;
  }
  return true;
}

Result<Value*> parameter_over(Graph& graph, Value* value, const std::vector<Dim>& shape,
                              const std::vector<std::int64_t>& axes, Node* before) {
  if (!is_parameter_over(value, shape, axes)) return static_cast<Value*>(nullptr);
  std::vector<Dim> wanted;
  for (std::int64_t a : axes) wanted.push_back(shape[static_cast<std::size_t>(a)]);
  if (value->type().shape == wanted) return value;
  if (const Tensor* t = constant_tensor(value); t != nullptr && all_constant(wanted)) {
    std::vector<std::int64_t> numbers;
    for (const Dim& d : wanted) numbers.push_back(d.constant());
    AOQ_ASSIGN(Tensor reshaped, t->reshaped(std::move(numbers)));
    Value* v = graph.constant(std::move(reshaped), before);
    v->def()->origins = value->def()->origins;
    v->def()->scope = value->def()->scope;
    return v;
  }
  AOQ_ASSIGN(Node * n, graph.create_like(*before, Op::reshape, {value}, {{"shape", wanted}}, before));
  return n->output();
}

LastAxes last_axes(std::int64_t rank, const std::vector<std::int64_t>& axes) {
  LastAxes l;
  l.first = rank - static_cast<std::int64_t>(axes.size());
  bool is_last = !axes.empty() && axes.front() == l.first;
  for (std::size_t i = 1; i < axes.size(); ++i) is_last = is_last && axes[i] == axes[i - 1] + 1;
  if (is_last) return l;
  for (std::int64_t i = 0; i < rank; ++i) {
    if (std::find(axes.begin(), axes.end(), i) == axes.end()) l.to_last.push_back(i);
  }
  l.to_last.insert(l.to_last.end(), axes.begin(), axes.end());
  l.back.resize(l.to_last.size());
  for (std::size_t i = 0; i < l.to_last.size(); ++i) {
    l.back[static_cast<std::size_t>(l.to_last[i])] = static_cast<std::int64_t>(i);
  }
  return l;
}

Node* only_reader(const Value* value, Op op) {
  if (!value->has_one_use()) return nullptr;
  Node* n = value->uses().front().user;
  return n->is(op) ? n : nullptr;
}

}  // namespace aoq::match
