// recognize-rms-norm: finds RMS normalisation spelled out.
//
//   before   x / sqrt(mean(x * x) + eps) * weight    mean over the last axes; any order of factors; sqrt and div,
//                                                    reciprocal or rsqrt
//   after    rms_norm(x, weight) {axis, eps}
//
// Correct by the definition of the op. weight is optional and must depend on the normalised axes alone. What is no
// layer norm stays apart: there the numerator is x - mean(x), whose square is averaged under the root.
#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

struct Found {
  Value* x = nullptr;
  std::vector<std::int64_t> axes;
  double epsilon = 0;
  Value* weight = nullptr;
};

// Under the root: mean(x * x) + eps.
std::optional<Found> mean_square(Value* v) {
  const Node* add = match::node_of(v, Op::add);
  auto w = add ? match::with_scalar(*add) : std::nullopt;
  auto mean = w && w->scalar >= 0.0 ? match::mean_of(w->other) : std::nullopt;
  Value* x = mean ? match::square_of(mean->x) : nullptr;
  if (x == nullptr || mean->axes.empty()) return std::nullopt;
  return Found{x, mean->axes, w->scalar, nullptr};
}

// Whether x is already centred, so that the whole is a layer norm.
bool is_centered(const Value* x) {
  const Node* sub = match::node_of(x, Op::sub);
  auto mean = sub ? match::mean_of(sub->input(1)) : std::nullopt;
  return mean && mean->x == sub->input(0);
}

std::optional<Found> normalization_of(Value* y) {
  match::Product p = match::product_of(y);
  Value* root = nullptr;
  if (p.divisors.size() == 1 && p.root_divisors.empty()) {
    const Node* sqrt = match::node_of(p.divisors[0], Op::sqrt);
    root = sqrt ? sqrt->input(0) : nullptr;
  } else if (p.root_divisors.size() == 1 && p.divisors.empty()) {
    root = p.root_divisors[0];
  }
  std::optional<Found> found = root ? mean_square(root) : std::nullopt;
  if (!found || !match::is_close(p.scalar, 1.0) || found->x->type() != y->type() || is_centered(found->x))
    return std::nullopt;
  if (!match::last_axes(found->x->type().rank(), found->axes).to_last.empty()) return std::nullopt;
  if (!match::take(p.factors, found->x) || p.factors.size() > 1) return std::nullopt;
  if (p.factors.empty()) return found;
  if (!match::is_parameter_over(p.factors[0], found->x->type().shape, found->axes)) return std::nullopt;
  found->weight = p.factors[0];
  return found;
}

}  // namespace

Result<bool> recognize_rms_norm(Graph& graph) {
  bool changed = false;
  // Backwards, so that the product with the weight is met before the quotient inside it.
  for (Node* n = graph.last(); n != nullptr;) {
    Node* previous = n->previous();
    bool is_candidate = (n->is(Op::mul) || n->is(Op::div)) && !n->output()->uses().empty();
    std::optional<Found> found = is_candidate ? normalization_of(n->output()) : std::nullopt;
    if (found) {
      std::vector<Value*> inputs{found->x};
      if (found->weight) {
        AOQ_ASSIGN(Value * weight, match::parameter_over(graph, found->weight, found->x->type().shape, found->axes, n));
        inputs.push_back(weight);
      }
      Attributes attributes{{"axis", found->axes.front()}, {"epsilon", found->epsilon}};
      AOQ_ASSIGN(Node * norm, graph.create_like(*n, Op::rms_norm, std::move(inputs), std::move(attributes), n));
      graph.replace_uses(n->output(), norm->output());
      // Gone now, or the quotient inside the product would be found once more.
      graph.erase(n);
      changed = true;
    }
    n = previous;
  }
  return changed;
}

}  // namespace aoq
