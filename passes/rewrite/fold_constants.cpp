// A node whose inputs are all constants   =>   constants with its results.
//
// Uses the reference implementation, so folding changes no number. Quantize and dequantize stay: they are the stubs
// that lowering looks for. Results larger than 64 MiB stay too (an expand or tile is cheaper to run than to store).
#include "ir/interpreter.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

constexpr std::int64_t kMaxResultElements = std::int64_t{1} << 24;

bool foldable(const Node& n) {
  if (n.def().reference == nullptr || n.def().rule == QuantRule::boundary || n.def().has_trait(kStructural))
    return false;
  for (const Value* v : n.inputs()) {
    if (v != nullptr && constant_tensor(v) == nullptr) return false;
  }
  for (std::size_t i = 0; i < n.output_count(); ++i) {
    Dim count = product(n.output(i)->type().shape);
    if (!all_constant(n.output(i)->type().shape) || !count.is_constant() || count.constant() > kMaxResultElements) {
      return false;
    }
  }
  for (const auto& [name, value] : n.attributes()) {
    const auto* dims = std::get_if<std::vector<Dim>>(&value);
    if (dims != nullptr && !all_constant(*dims)) return false;
  }
  return true;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    if (foldable(*n)) {
      std::vector<Tensor> inputs;
      for (const Value* v : n->inputs()) inputs.push_back(v ? *constant_tensor(v) : Tensor());
      Result<std::vector<Tensor>> results = evaluate_node(*n, inputs);
      if (!results.ok()) return std::move(results).status().with_context(describe(*n));
      for (std::size_t i = 0; i < n->output_count(); ++i) {
        if (n->output(i)->uses().empty()) continue;
        graph.replace_uses(n->output(i), graph.constant(std::move((*results)[i]), n, folded_label(*n)));
      }
      graph.erase(n);
      changed = true;
    }
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_fold_constants;
const PassDef kPass_fold_constants = {
    .name = "fold-constants", .summary = "Computes nodes whose inputs are all constants.", .run = run};

}  // namespace aoq
