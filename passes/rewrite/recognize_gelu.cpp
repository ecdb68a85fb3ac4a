// recognize-gelu: finds GELU spelled out.
//
//   before   x * 0.5 * (1 + erf(x / sqrt(2)))                          factors in any order, mul or div
//   after    gelu(x) {approximate = "none"}
//   before   x * 0.5 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))   x^3 as pow or as products, or
//            x * 0.5 * (1 + tanh(sqrt(2/pi) * x * (1 + 0.044715 * x^2)))
//   after    gelu(x) {approximate = "tanh"}
//
// Correct because these are the definitions of the op; constants must agree to within float rounding, every value
// between x and the result must have no other reader, and the result must have the type of x.
#include <cmath>
#include <numbers>

#include "passes/rewrite/match.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

using match::is_close;
using match::product_of;
using match::take;

constexpr double kCubic = 0.044715;

// v is 1 + f(u): gives u.
Value* argument_of_one_plus(Value* v, Op f) {
  const Node* add = match::own_node_of(v, Op::add);
  auto w = add ? match::with_scalar(*add) : std::nullopt;
  if (!w || !is_close(w->scalar, 1.0)) return nullptr;
  const Node* inner = match::own_node_of(w->other, f);
  return inner ? inner->input(0) : nullptr;
}

// v is scale * x^power.
bool is_power(Value* v, Value* x, int power, double scale) {
  match::Product p = product_of(v);
  if (!p.divisors.empty() || !p.root_divisors.empty() || !is_close(p.scalar, scale)) return false;
  int found = 0;
  for (Value* f : p.factors) {
    const Node* pow = match::node_of(f, Op::pow);
    std::optional<double> exponent = pow ? match::scalar_of(pow->input(1)) : std::nullopt;
    if (f == x) {
      found += 1;
    } else if (exponent && pow->input(0) == x && (*exponent == 2.0 || *exponent == 3.0)) {
      found += static_cast<int>(*exponent);
    } else {
      return false;
    }
  }
  return found == power;
}

bool is_erf_argument(Value* u, Value* x) {
  return is_power(u, x, 1, std::numbers::sqrt2 / 2.0);
}

// u is sqrt(2/pi) * (x + 0.044715 x^3) in one of its two forms.
bool is_tanh_argument(Value* u, Value* x) {
  match::Product p = product_of(u);
  if (!p.divisors.empty() || !p.root_divisors.empty() || !is_close(p.scalar, std::sqrt(2.0 / std::numbers::pi)))
    return false;
  bool has_x = take(p.factors, x);
  if (p.factors.size() != 1) return false;
  const Node* add = match::own_node_of(p.factors[0], Op::add);
  if (add == nullptr) return false;
  if (has_x) {
    auto w = match::with_scalar(*add);
    return w && is_close(w->scalar, 1.0) && is_power(w->other, x, 2, kCubic);
  }
  Value* cubic = match::other_operand(*add, x);
  return cubic != nullptr && is_power(cubic, x, 3, kCubic);
}

// The form of GELU that the value is, and of what.
struct Found {
  Value* x;
  const char* approximate;
};

std::optional<Found> gelu_of(Value* y) {
  match::Product p = product_of(y);
  if (!is_close(p.scalar, 0.5) || p.factors.size() != 2 || !p.divisors.empty() || !p.root_divisors.empty())
    return std::nullopt;
  for (std::size_t i = 0; i < 2; ++i) {
    Value* x = p.factors[i];
    if (x->type() != y->type()) continue;
    Value* u = argument_of_one_plus(p.factors[1 - i], Op::erf);
    if (u != nullptr && is_erf_argument(u, x)) return Found{x, "none"};
    u = argument_of_one_plus(p.factors[1 - i], Op::tanh);
    if (u != nullptr && is_tanh_argument(u, x)) return Found{x, "tanh"};
  }
  return std::nullopt;
}

}  // namespace

Result<bool> recognize_gelu(Graph& graph) {
  bool changed = false;
  for (Node* n : graph.nodes()) {
    if ((!n->is(Op::mul) && !n->is(Op::div)) || n->output()->uses().empty()) continue;
    std::optional<Found> found = gelu_of(n->output());
    if (!found) continue;
    Attributes attributes{{"approximate", std::string(found->approximate)}};
    AOQ_ASSIGN(Node * gelu, graph.create_like(*n, Op::gelu, {found->x}, std::move(attributes), n));
    graph.replace_uses(n->output(), gelu->output());
    changed = true;
  }
  return changed;
}

}  // namespace aoq
