// recognize-layer-norm: finds layer normalisation spelled out.
//
//   before   d = x - mean(x)                         means over the axes A, as reduce_mean, sum * (1/n) or sum / n
//            y = d / sqrt(v + eps) * weight + bias   in any order of factors, with sqrt and div, reciprocal or rsqrt
//            v = mean(d * d)                         or mean(x * x) - mean(x)^2, perhaps max(0, ...)
//   after    layer_norm(x, weight, bias) {axis, eps} between permutations where A are not the last axes
//
// Correct because mean((x - m)^2) = mean(x^2) - m^2, which is not negative; the two forms differ by rounding only, and
// the op uses the more accurate one. weight and bias, both optional, must depend on the axes A alone. The quotient must
// have no other reader; statistics that are read elsewhere stay.
#include <algorithm>
#include <cmath>

#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

using match::Reduced;

struct Found {
  Value* x = nullptr;
  std::vector<std::int64_t> axes;
  double epsilon = 0;
  Value* weight = nullptr;
};

// d is x - mean(x).
std::optional<Reduced> centered(Value* d) {
  const Node* sub = match::node_of(d, Op::sub);
  if (sub == nullptr || sub->input(0)->type() != d->type()) return std::nullopt;
  std::optional<Reduced> mean = match::mean_of(sub->input(1));
  return mean && mean->x == sub->input(0) ? mean : std::nullopt;
}

bool is_mean_square(Value* v, Value* of, const std::vector<std::int64_t>& axes) {
  std::optional<Reduced> mean = match::mean_of(v);
  return mean && mean->axes == axes && match::square_of(mean->x) == of;
}

// Without a reshape between the statistic and its use.
Value* through_reshape(Value* v) {
  const Node* n = match::node_of(v, Op::reshape);
  return n ? n->input(0) : v;
}

// A mean before the reduced dimensions are put back: the reduction, and what its sum is multiplied by.
struct Statistic {
  const Node* reduce = nullptr;
  double factor = 0;  // 0 for reduce_mean
};

Statistic statistic_of(const Value* a) {
  const Node* n = a->def();
  if (n->is(Op::reduce_mean)) return {n, 0};
  if (!n->is(Op::mul) && !n->is(Op::div)) return {};
  std::optional<match::WithScalar> w = match::with_scalar(*n);
  if (!w.has_value()) return {};
  if (n->is(Op::div) && w->other != n->input(0)) return {};
  return {match::node_of(w->other, Op::reduce_sum), n->is(Op::div) ? 1.0 / w->scalar : w->scalar};
}

// Whether the statistic is the mean over `axes` of what it reduces.
bool is_mean_over(const Statistic& s, const std::vector<std::int64_t>& axes) {
  const Type& x = s.reduce->input(0)->type();
  std::vector<std::int64_t> own = s.reduce->attributes().integers("axes");
  for (std::int64_t& axis : own) axis = axis < 0 ? axis + x.rank() : axis;
  std::sort(own.begin(), own.end());
  if (own != axes) return false;
  if (s.reduce->is(Op::reduce_mean)) return true;
  double count = 1;
  for (std::int64_t axis : axes) {
    const Dim& d = x.shape[static_cast<std::size_t>(axis)];
    if (!d.is_constant()) return false;
    count *= static_cast<double>(d.constant());
  }
  return match::is_close(1.0 / s.factor, count);
}

bool is_same_mean(Value* a, const Reduced& mean) {
  if (std::optional<Reduced> m = match::mean_of(a)) return m->x == mean.x && m->axes == mean.axes;
  Statistic s = statistic_of(a);
  return s.reduce != nullptr && s.reduce->input(0) == mean.x && is_mean_over(s, mean.axes);
}

// mean(x^2), with or without the reduced dimensions.
bool is_same_mean_square(Value* a, const Reduced& mean) {
  if (is_mean_square(a, mean.x, mean.axes)) return true;
  Statistic s = statistic_of(a);
  return s.reduce != nullptr && match::square_of(s.reduce->input(0)) == mean.x && is_mean_over(s, mean.axes);
}

// v is the variance that belongs to `mean`: E[(x-m)^2] or max(0, E[x^2] - m^2).
bool is_variance(Value* v, Value* d, const Reduced& mean) {
  if (is_mean_square(v, d, mean.axes)) return true;
  v = through_reshape(v);
  if (const Node* n = match::node_of(v, Op::maximum)) {
    auto w = match::with_scalar(*n);
    if (!w || w->scalar != 0.0) return false;
    v = w->other;
  } else if (const Node* relu = match::node_of(v, Op::relu)) {
    v = relu->input(0);
  }
  const Node* sub = match::node_of(v, Op::sub);
  if (sub == nullptr) return false;
  Value* m = match::square_of(sub->input(1));
  return m != nullptr && is_same_mean(m, mean) && is_same_mean_square(sub->input(0), mean);
}

// What stands under the root: variance + eps.
std::optional<match::WithScalar> variance_and_epsilon(Value* v) {
  const Node* add = match::node_of(v, Op::add);
  auto w = add ? match::with_scalar(*add) : std::nullopt;
  return w && w->scalar >= 0.0 ? w : std::nullopt;
}

Value* under_root(const match::Product& p) {
  if (p.divisors.size() == 1 && p.root_divisors.empty()) {
    const Node* sqrt = match::node_of(p.divisors[0], Op::sqrt);
    return sqrt ? sqrt->input(0) : nullptr;
  }
  return p.root_divisors.size() == 1 && p.divisors.empty() ? p.root_divisors[0] : nullptr;
}

std::optional<Found> normalization_of(Value* y) {
  match::Product p = match::product_of(y);
  Value* root = under_root(p);
  if (root == nullptr || !match::is_close(p.scalar, 1.0) || p.factors.empty() || p.factors.size() > 2)
    return std::nullopt;
  std::optional<match::WithScalar> variance = variance_and_epsilon(root);
  if (!variance) return std::nullopt;
  for (std::size_t i = 0; i < p.factors.size(); ++i) {
    Value* d = p.factors[i];
    std::optional<Reduced> mean = d->type() == y->type() ? centered(d) : std::nullopt;
    if (!mean || mean->axes.empty() || !is_variance(variance->other, d, *mean)) continue;
    Value* weight = p.factors.size() == 2 ? p.factors[1 - i] : nullptr;
    if (weight && !match::is_parameter_over(weight, mean->x->type().shape, mean->axes)) continue;
    return Found{mean->x, mean->axes, variance->scalar, weight};
  }
  return std::nullopt;
}

// A following add of a parameter is the bias.
Value* bias_behind(Node*& last, const Found& found) {
  Node* add = match::only_reader(last->output(), Op::add);
  Value* bias = add ? match::other_operand(*add, last->output()) : nullptr;
  if (bias == nullptr || constant_tensor(bias) == nullptr || add->output()->type() != last->output()->type() ||
      !match::is_parameter_over(bias, found.x->type().shape, found.axes)) {
    return nullptr;
  }
  last = add;
  return bias;
}

Result<Value*> ones(Graph& graph, const Found& found, Node* before) {
  std::vector<std::int64_t> shape;
  for (std::int64_t a : found.axes) shape.push_back(found.x->type().shape[static_cast<std::size_t>(a)].constant());
  AOQ_ASSIGN(Tensor t, Tensor::make(found.x->type().dtype, std::move(shape)));
  for (std::int64_t i = 0; i < t.element_count(); ++i) store_from_double(t.dtype(), t.mutable_bytes().data(), i, 1.0);
  return graph.constant(std::move(t), before);
}

Status replace(Graph& graph, Node* last, const Found& found, Value* bias) {
  const std::vector<Dim>& shape = found.x->type().shape;
  match::LastAxes order = match::last_axes(found.x->type().rank(), found.axes);
  Value* x = found.x;
  if (!order.to_last.empty()) {
    AOQ_ASSIGN(Node * permute, graph.create_like(*last, Op::permute, {x}, {{"perm", order.to_last}}, last));
    x = permute->output();
  }
  std::vector<Value*> inputs{x};
  if (found.weight) {
    AOQ_ASSIGN(Value * weight, match::parameter_over(graph, found.weight, shape, found.axes, last));
    inputs.push_back(weight);
  } else if (bias) {
    AOQ_ASSIGN(Value * weight, ones(graph, found, last));
    inputs.push_back(weight);
  }
  if (bias) {
    AOQ_ASSIGN(Value * b, match::parameter_over(graph, bias, shape, found.axes, last));
    inputs.push_back(b);
  }
  Attributes attributes{{"axis", order.first}, {"epsilon", found.epsilon}};
  AOQ_ASSIGN(Node * norm, graph.create_like(*last, Op::layer_norm, std::move(inputs), std::move(attributes), last));
  Value* y = norm->output();
  if (!order.back.empty()) {
    AOQ_ASSIGN(Node * permute, graph.create_like(*last, Op::permute, {y}, {{"perm", order.back}}, last));
    y = permute->output();
  }
  graph.replace_uses(last->output(), y);
  return {};
}

}  // namespace

Result<bool> recognize_layer_norm(Graph& graph) {
  bool changed = false;
  // Backwards, so that the product with the weight is met before the quotient inside it.
  for (Node* n = graph.last(); n != nullptr;) {
    Node* previous = n->previous();
    bool is_candidate = (n->is(Op::mul) || n->is(Op::div)) && !n->output()->uses().empty();
    std::optional<Found> found = is_candidate ? normalization_of(n->output()) : std::nullopt;
    if (found) {
      Node* last = n;
      Value* bias = bias_behind(last, *found);
      bool has_ones = found->weight != nullptr || bias == nullptr;
      for (std::int64_t a : found->axes)
        has_ones = has_ones || found->x->type().shape[static_cast<std::size_t>(a)].is_constant();
      if (!has_ones) {
        last = n;
        bias = nullptr;
      }
      AOQ_TRY(replace(graph, last, *found, bias));
      // Gone now, or the quotient inside the product would be found once more.
      if (last != n) graph.erase(last);
      graph.erase(n);
      changed = true;
    }
    n = previous;
  }
  return changed;
}

}  // namespace aoq
