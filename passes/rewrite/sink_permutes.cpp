// Moves permutes towards the outputs, where they meet their inverse:
//
//   op(permute(x))              =>   permute(op(x))              op elementwise
//   op(permute(x), permute(y))  =>   permute(op(x, y))           both by the same permutation
//   op(permute(x), constant)    =>   permute(op(x, constant permuted back))
//   concat|softmax|reduce|pad|slice|resize(permute(x)) with attributes named after x's dimensions
//
// Elementwise ops do not care where an element stands; for the others only the names of the dimensions change. Permutes
// only move down, so the pass ends.
#include <algorithm>

#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

using Perm = std::vector<std::int64_t>;

// A constant that broadcasts against a permuted tensor, rearranged to broadcast against the tensor before the permute.
// Null when it is too large to copy for this.
Value* constant_before(Graph& graph, Node* at, const Tensor& t, const Perm& perm) {
  std::size_t rank = perm.size();
  std::vector<std::int64_t> wide(rank, 1), shape(rank), source(rank);
  std::copy(t.shape().begin(), t.shape().end(), wide.end() - static_cast<std::ptrdiff_t>(t.shape().size()));
  std::int64_t stride = 1;
  std::vector<std::int64_t> strides(rank);
  for (std::size_t d = rank; d-- > 0; stride *= wide[d]) strides[d] = stride;
  for (std::size_t d = 0; d < rank; ++d) {
    auto to = static_cast<std::size_t>(perm[d]);
    shape[to] = wide[d];
    source[to] = strides[d];
  }
  if (dtype_info(t.dtype()).bits % 8 != 0) return nullptr;
  auto size = static_cast<std::size_t>(dtype_info(t.dtype()).bits / 8);
  Result<Tensor> out = Tensor::make(t.dtype(), shape);
  if (!out.ok()) return nullptr;
  std::span<std::byte> to = out->mutable_bytes();
  std::vector<std::int64_t> counter(rank, 0);
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    std::int64_t from = 0;
    for (std::size_t d = 0; d < rank; ++d) from += counter[d] * source[d];
    std::copy_n(t.bytes().begin() + from * static_cast<std::int64_t>(size), size,
                to.begin() + i * static_cast<std::int64_t>(size));
    for (std::size_t d = rank; d-- > 0;) {
      if (++counter[d] < shape[d]) break;
      counter[d] = 0;
    }
  }
  return graph.constant(std::move(*out), at);
}

// The permutation that every non-constant operand of the op comes through; empty when there is none.
Perm common_perm(const Node& n, std::size_t operands) {
  Perm perm;
  for (std::size_t i = 0; i < operands; ++i) {
    const Value* v = n.input(i);
    if (v == nullptr || constant_tensor(v) != nullptr) continue;
    Node* p = input_node(&n, i, Op::permute);
    if (p == nullptr) return {};
    const Perm& found = p->attributes().integers("perm");
    if (!perm.empty() && perm != found) return {};
    perm = found;
  }
  return perm;
}

// Operand `i` before the permute; null when it cannot be had.
Value* before_permute(Graph& graph, Node* n, std::size_t i, const Perm& perm) {
  Value* v = n->input(i);
  if (v == nullptr) return nullptr;
  if (const Tensor* t = constant_tensor(v)) {
    if (t->element_count() == 1 && t->shape().size() <= 1) return v;
    return t->shape().size() <= perm.size() ? constant_before(graph, n, *t, perm) : nullptr;
  }
  return v->def()->input(0);
}

std::int64_t axis_before(std::int64_t axis, const Perm& perm) {
  if (axis < 0) axis += static_cast<std::int64_t>(perm.size());
  return perm[static_cast<std::size_t>(axis)];
}

template <typename T>
std::vector<T> entries_before(const std::vector<T>& entries, const Perm& perm, std::size_t offset = 0) {
  std::vector<T> out(perm.size());
  for (std::size_t d = 0; d < perm.size(); ++d) out[static_cast<std::size_t>(perm[d])] = entries[offset + d];
  return out;
}

bool is_reduction(const Node& n) {
  return n.def().attribute("keepdims") != nullptr && n.def().attribute("axes") != nullptr;
}

// The attributes of the op on the tensor before the permute; nothing when the op cannot be moved.
std::optional<Attributes> attributes_before(const Node& n, const Perm& perm) {
  Attributes a = n.attributes();
  if (n.def().has_trait(kElementwise)) return a;
  // Per-tensor scales do not care; per-axis ones would have to follow.
  if (is_one_of(n, {Op::quantize, Op::dequantize})) {
    return n.inputs().size() == 1 ? std::optional(a) : std::nullopt;
  }
  if (is_one_of(n, {Op::lookup, Op::requantize, Op::qadd, Op::qmul})) return a;
  if (is_one_of(n, {Op::concat, Op::softmax, Op::log_softmax})) {
    a.set("axis", axis_before(a.integer("axis"), perm));
    return a;
  }
  if (is_reduction(n)) {
    Perm axes = a.integers("axes");
    if (!a.boolean("keepdims") && !axes.empty()) return std::nullopt;
    for (std::int64_t& axis : axes) axis = axis_before(axis, perm);
    std::sort(axes.begin(), axes.end());
    a.set("axes", axes);
    return a;
  }
  if (n.is(Op::pad)) {
    const Perm& pads = n.attributes().integers("pads");
    Perm begin = entries_before(pads, perm), end = entries_before(pads, perm, perm.size());
    begin.insert(begin.end(), end.begin(), end.end());
    a.set("pads", begin);
    return a;
  }
  if (n.is(Op::slice)) {
    Perm axes = a.integers("axes");
    for (std::int64_t& axis : axes) axis = axis_before(axis, perm);
    a.set("axes", axes);
    return a;
  }
  if (n.is(Op::resize)) {
    a.set("sizes", entries_before(a.dims("sizes"), perm));
    const auto& scales = a.get<std::vector<double>>("scales");
    if (!scales.empty()) a.set("scales", entries_before(scales, perm));
    return a;
  }
  return std::nullopt;
}

// A reduction of the permuted tensor that drops its dimensions: which permutation is left of the result.
Perm remaining_perm(const Node& n, const Perm& perm) {
  std::vector<bool> dropped(perm.size());
  for (std::int64_t axis : n.attributes().integers("axes")) {
    dropped[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(perm.size()) : axis)] = true;
  }
  Perm kept, sorted;
  for (std::size_t d = 0; d < perm.size(); ++d) {
    if (!dropped[d]) kept.push_back(perm[d]);
  }
  sorted = kept;
  std::sort(sorted.begin(), sorted.end());
  for (std::int64_t& d : kept) d = std::find(sorted.begin(), sorted.end(), d) - sorted.begin();
  return kept;
}

// How many leading operands are tensors of the result's layout.
std::size_t layout_operands(const Node& n) {
  if (n.def().has_trait(kElementwise) || is_one_of(n, {Op::concat, Op::qadd, Op::qmul})) return n.inputs().size();
  return 1;
}

Result<bool> sink(Graph& graph, Node* n) {
  if (n->inputs().empty() || n->output_count() != 1 || n->is(Op::permute)) return false;
  std::size_t operands = layout_operands(*n);
  Perm perm = common_perm(*n, operands);
  if (perm.empty() || n->input(0) == nullptr) return false;
  Attributes attributes;
  Perm after = perm;
  if (is_reduction(*n) && !n->attributes().boolean("keepdims") && !n->attributes().integers("axes").empty()) {
    attributes = n->attributes();
    Perm axes = attributes.integers("axes");
    for (std::int64_t& axis : axes) axis = axis_before(axis, perm);
    std::sort(axes.begin(), axes.end());
    attributes.set("axes", axes);
    after = remaining_perm(*n, perm);
  } else {
    std::optional<Attributes> moved = attributes_before(*n, perm);
    if (!moved || n->output()->type().rank() != static_cast<std::int64_t>(perm.size())) return false;
    attributes = std::move(*moved);
  }
  std::vector<Value*> inputs = n->inputs();
  for (std::size_t i = 0; i < operands; ++i) {
    if (inputs[i] == nullptr) continue;
    inputs[i] = before_permute(graph, n, i, perm);
    if (inputs[i] == nullptr) return false;
  }
  AOQ_ASSIGN(Node * made, graph.create_like(*n, n->op(), std::move(inputs), std::move(attributes), n));
  AOQ_ASSIGN(Node * permute, graph.create_like(*n, Op::permute, {made->output()}, {{"perm", after}}, n));
  replace_node(graph, n, permute->output());
  return true;
}

Result<bool> run(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* n = graph.first(); n != nullptr;) {
    Node* next = n->next();
    AOQ_ASSIGN(bool moved, sink(graph, n));
    changed = changed || moved;
    n = next;
  }
  return changed;
}

}  // namespace

extern const PassDef kPass_sink_permutes;
const PassDef kPass_sink_permutes = {
    .name = "sink-permutes", .summary = "Moves permutes towards the outputs, where they cancel.", .run = run};

}  // namespace aoq
