// Three steps: types at these shapes and a kernel for every node; then which values share a buffer (views, in-place
// kernels, results); then offsets.
#include "runtime/plan.h"

#include <algorithm>
#include <unordered_map>

#include "ir/bind.h"
#include "ir/checked.h"
#include "ir/error_id.h"
#include "runtime/arena.h"
#include "runtime/computed_constant.h"
#include "runtime/kernel_choice.h"
#include "runtime/multiply_accumulates.h"

namespace aoq {
namespace {

Result<std::uint64_t> byte_size(const ConcreteType& type) {
  const std::optional<std::int64_t> count = checked::element_count(type.shape);
  const std::optional<std::uint64_t> bytes =
      count ? checked::packed_bytes(static_cast<std::uint64_t>(*count),
                                    static_cast<std::uint64_t>(dtype_info(type.dtype).bits))
            : std::nullopt;
  if (!bytes || *bytes > (std::uint64_t{1} << 62)) {
    return error(Code::resource_limit, "{}{} is too large", dtype_name(type.dtype), shape_to_string(type.shape));
  }
  return *bytes;
}

// Buffers before placement. Values that share one point to the same entry.
struct Buffer {
  std::uint64_t bytes = 0;
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t output = -1;  // the graph result it holds
  std::size_t merged_into = SIZE_MAX;
};

// Where a value is before offsets are known.
struct Home {
  Place::Kind kind = Place::Kind::none;
  std::size_t index = 0;  // buffer (kind arena) or input
  const std::byte* data = nullptr;
};

class Builder {
 public:
  Builder(const Model& model, PackedStores& stores) : model_(model), stores_(stores), plan_(std::make_unique<Plan>()) {}

  Result<std::unique_ptr<Plan>> build(const Shapes& input_shapes);

 private:
  Status add_node(const Node& node);
  Result<std::vector<Type>> infer(const Node& node, const Attributes& attributes) const;
  void add_constant(const Node& node);
  Result<bool> add_computed_constant(const Node& node);
  Status add_view(const Node& node, const Type& type);
  Status add_step(const Node& node, const std::vector<Type>& types, const Attributes& attributes);
  Result<PreparedKernel> prepare(const Node& node, const Attributes& attributes, std::span<const ConcreteType> outputs,
                                 StepInfo& info);
  Result<std::size_t> add_buffer(const ConcreteType& type);
  void claim_outputs();
  void share_in_place();
  Status place_buffers();
  Status add_ports();
  void resolve();
  Place place_of(const Value* value) const;

  std::size_t root(std::size_t buffer) const {
    while (buffers_[buffer].merged_into != SIZE_MAX) buffer = buffers_[buffer].merged_into;
    return buffer;
  }
  const ConcreteType& type_of(const Value* value) const { return types_.at(value); }
  std::int64_t next_step() const { return static_cast<std::int64_t>(plan_->steps.size()); }

  const Model& model_;
  PackedStores& stores_;
  std::unique_ptr<Plan> plan_;
  SymbolValues symbols_;
  std::size_t inputs_seen_ = 0;
  std::unordered_map<const Value*, ConcreteType> types_;
  std::unordered_map<const Value*, Home> homes_;
  std::vector<Buffer> buffers_;
  std::vector<std::uint64_t> offsets_;  // of the buffers in the arena
};

Result<std::vector<Type>> Builder::infer(const Node& node, const Attributes& attributes) const {
  std::vector<Type> inputs;
  inputs.reserve(node.inputs().size());
  std::vector<const Type*> pointers;
  for (const Value* v : node.inputs()) {
    if (v != nullptr) {
      const ConcreteType& c = type_of(v);
      inputs.push_back(Type{c.dtype, {c.shape.begin(), c.shape.end()}, v->type().quantization});
    }
    pointers.push_back(v != nullptr ? &inputs.back() : nullptr);
  }
  // Symbols that met a number in broadcasting have a value only now: whether it fits is asked again here.
  AOQ_ASSIGN(std::vector<Type> types, node.def().infer(InferContext{node.op(), pointers, attributes}));
  AOQ_CHECK(types.size() == node.output_count());
  for (const Type& t : types) {
    for (const Dim& d : t.shape) {
      if (d.is_constant() && d.constant() >= 0) continue;
      return error(Code::invalid_data, "a dimension of the result is {} at these input shapes", d.to_string());
    }
  }
  return types;
}

ConcreteType concrete(const Type& type) {
  ConcreteType out{type.dtype, {}};
  for (const Dim& d : type.shape) out.shape.push_back(d.constant());
  return out;
}

Result<std::size_t> Builder::add_buffer(const ConcreteType& type) {
  AOQ_ASSIGN(std::uint64_t bytes, byte_size(type));
  buffers_.push_back({bytes, next_step(), next_step()});
  return buffers_.size() - 1;
}

void Builder::add_constant(const Node& node) {
  const Tensor& value = node.attributes().tensor("value");
  // A kernel that wants a packed constant asks the store; nothing may read its bytes as if they were plain.
  const bool is_plain = node.is(Op::constant);
  homes_[node.output()] = {is_plain ? Place::Kind::constant : Place::Kind::none, 0,
                           is_plain ? value.bytes().data() : nullptr};
}

// False where the store keeps no more of them: then it is computed in every run.
Result<bool> Builder::add_computed_constant(const Node& node) {
  PackedStore& store = stores_.store(*model_.options().backends[0]);
  Result<std::span<const std::byte>> bytes = store.packed(*node.output(), "");
  if (!bytes.ok() && bytes.status().code() == Code::unsupported) return false;
  AOQ_TRY(bytes.status());
  homes_[node.output()] = {Place::Kind::constant, 0, bytes->data()};
  return true;
}

Status Builder::add_view(const Node& node, const Type& type) {
  AOQ_ASSIGN(std::uint64_t from, byte_size(type_of(node.input(0))));
  AOQ_ASSIGN(std::uint64_t to, byte_size(concrete(type)));
  if (from != to) return error(Code::invalid_data, "the result takes {} bytes, the input has {}", to, from);
  homes_[node.output()] = homes_.at(node.input(0));
  return {};
}

Result<PreparedKernel> Builder::prepare(const Node& node, const Attributes& attributes,
                                        std::span<const ConcreteType> outputs, StepInfo& info) {
  std::vector<ConcreteType> inputs;
  for (const Value* v : node.inputs()) inputs.push_back(v != nullptr ? type_of(v) : ConcreteType{});
  std::vector<Refusal> refused;
  for (const auto& backend : model_.options().backends) {
    PrepareContext context{node,
                           inputs,
                           outputs,
                           attributes,
                           stores_.store(*backend),
                           model_.pool().size(),
                           model_.options().deterministic,
                           chosen_row(model_.graph(), node)};
    Result<PreparedKernel> prepared = backend->prepare(context);
    if (prepared.ok()) {
      info.backend = backend->name();
      prepared->refused.insert(prepared->refused.begin(), refused.begin(), refused.end());
      return prepared;
    }
    if (prepared.status().code() != Code::unsupported) return std::move(prepared).status();
    refused.push_back({std::string(backend->name()), prepared.status().message()});
  }
  std::string why;
  for (const Refusal& r : refused) why += "; " + r.row + ": " + r.reason;
  return error(ErrorId::no_kernel, "no backend takes it{}", why);
}

Status Builder::add_step(const Node& node, const std::vector<Type>& types, const Attributes& attributes) {
  PlanStep step;
  step.node = &node;
  std::vector<ConcreteType> outputs;
  for (const Type& t : types) outputs.push_back(concrete(t));
  AOQ_ASSIGN(PreparedKernel prepared, prepare(node, attributes, outputs, step.info));
  step.kernel = std::move(prepared.kernel);
  step.input_count = static_cast<std::uint32_t>(node.inputs().size());
  step.output_count = static_cast<std::uint32_t>(outputs.size());
  step.info.label = node.label();
  step.info.op = node.def().name;
  step.info.row = std::move(prepared.row);
  step.info.inexact = prepared.inexact;
  step.info.refused = std::move(prepared.refused);
  std::vector<ConcreteType> inputs;
  for (const Value* v : node.inputs()) inputs.push_back(v != nullptr ? type_of(v) : ConcreteType{});
  step.info.macs = multiply_accumulates(node, inputs, outputs);
  step.info.output = outputs.empty() ? ConcreteType{} : outputs[0];
  step.info.scratch_bytes = step.kernel->scratch_bytes();
  for (const Value* v : node.inputs()) {
    if (v == nullptr) continue;
    const Home& home = homes_.at(v);
    if (home.kind == Place::Kind::arena) buffers_[home.index].last = next_step();
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    AOQ_ASSIGN(std::size_t buffer, add_buffer(outputs[i]));
    homes_[node.output(i)] = {Place::Kind::arena, buffer, nullptr};
  }
  plan_->steps.push_back(std::move(step));
  return {};
}

Status Builder::add_node(const Node& node) {
  if (node.is(Op::output)) return {};
  AOQ_ASSIGN(Attributes attributes, substitute(node.attributes(), symbols_));
  AOQ_ASSIGN(std::vector<Type> types, infer(node, attributes));
  for (std::size_t i = 0; i < types.size(); ++i) types_[node.output(i)] = concrete(types[i]);
  if (node.is(Op::input)) {
    homes_[node.output()] = {Place::Kind::input, inputs_seen_++, nullptr};
    return {};
  }
  if (node.def().has_trait(kStructural)) {
    add_constant(node);
    return {};
  }
  if (is_computed_constant(node)) {
    AOQ_ASSIGN(const bool added, add_computed_constant(node));
    if (added) return {};
  }
  // A view of packed bytes would be no view of the elements: its kernel refuses.
  if (node.def().has_trait(kView) && homes_.at(node.input(0)).kind != Place::Kind::none)
    return add_view(node, types[0]);
  return add_step(node, types, attributes);
}

// Gives each result a buffer of its own where a step writes one; the others are copied at the end.
void Builder::claim_outputs() {
  const Node& output = *model_.graph().output_node();
  for (std::size_t i = 0; i < output.inputs().size(); ++i) {
    const Home& home = homes_.at(output.input(i));
    if (home.kind != Place::Kind::arena || buffers_[home.index].output >= 0) continue;
    buffers_[home.index].output = static_cast<std::int64_t>(i);
    buffers_[home.index].last = next_step();
  }
}

void Builder::share_in_place() {
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
    PlanStep& step = plan_->steps[s];
    const int wanted = step.kernel->in_place_input();
    const Value* input = wanted < 0 ? nullptr : step.node->input(static_cast<std::size_t>(wanted));
    if (input == nullptr || homes_.at(input).kind != Place::Kind::arena) continue;
    const std::size_t from = root(homes_.at(input).index);
    const std::size_t to = homes_.at(step.node->output()).index;
    if (buffers_[from].output >= 0 || buffers_[from].last != static_cast<std::int64_t>(s)) continue;
    if (buffers_[from].bytes != buffers_[to].bytes) continue;
    bool read_twice = false;
    for (std::size_t i = 0; i < step.node->inputs().size(); ++i) {
      const Value* other = step.node->input(i);
      if (other == nullptr || static_cast<int>(i) == wanted || homes_.at(other).kind != Place::Kind::arena) continue;
      read_twice = read_twice || root(homes_.at(other).index) == from;
    }
    if (read_twice) continue;
    buffers_[to].merged_into = from;
    buffers_[from].last = buffers_[to].last;
    buffers_[from].output = buffers_[to].output;
    step.info.in_place = true;
  }
}

Status Builder::place_buffers() {
  std::vector<ArenaBuffer> arena;
  std::vector<std::size_t> owner;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    if (buffers_[b].merged_into != SIZE_MAX || buffers_[b].output >= 0) continue;
    arena.push_back({buffers_[b].bytes, buffers_[b].first, buffers_[b].last});
    owner.push_back(b);
  }
  std::vector<std::size_t> scratch_owner;
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
    const std::uint64_t bytes = plan_->steps[s].info.scratch_bytes;
    if (bytes == 0) continue;
    arena.push_back({bytes, static_cast<std::int64_t>(s), static_cast<std::int64_t>(s)});
    scratch_owner.push_back(s);
  }
  AOQ_ASSIGN(ArenaPlan placed, plan_arena(arena));
  offsets_.assign(buffers_.size(), 0);
  for (std::size_t i = 0; i < owner.size(); ++i) offsets_[owner[i]] = placed.offsets[i];
  for (std::size_t i = 0; i < scratch_owner.size(); ++i) {
    plan_->steps[scratch_owner[i]].scratch_offset = placed.offsets[owner.size() + i];
  }
  plan_->memory.arena_bytes = placed.bytes;
  plan_->memory.lower_bound = placed.lower_bound;
  return {};
}

Result<PlanPort> make_port(const ConcreteType& type, std::uint64_t& end) {
  AOQ_ASSIGN(std::uint64_t bytes, byte_size(type));
  PlanPort port{type.dtype, type.shape, bytes, static_cast<std::uint64_t>(std::max(1, dtype_info(type.dtype).bits / 8)),
                end};
  std::optional<std::uint64_t> next = checked::add(end, bytes);
  if (next) next = checked::align_up(*next, kArenaAlignment);
  if (!next) return error(Code::resource_limit, "inputs and results are too large");
  end = *next;
  return port;
}

Status Builder::add_ports() {
  std::uint64_t staging = 0, results = 0;
  for (const Node* n : model_.graph().input_nodes()) {
    AOQ_ASSIGN(PlanPort port, make_port(type_of(n->output()), staging));
    plan_->input_ports.push_back(std::move(port));
  }
  for (const Value* v : model_.graph().output_node()->inputs()) {
    AOQ_ASSIGN(PlanPort port, make_port(type_of(v), results));
    plan_->output_ports.push_back(std::move(port));
  }
  plan_->memory.output_bytes = results;
  plan_->memory.staging_bytes = staging;
  return {};
}

Place Builder::place_of(const Value* value) const {
  if (value == nullptr) return {};
  const Home& home = homes_.at(value);
  if (home.kind != Place::Kind::arena) return {home.kind, static_cast<std::uint32_t>(home.index), 0, home.data};
  const std::size_t buffer = root(home.index);
  if (buffers_[buffer].output >= 0) {
    return {Place::Kind::output, static_cast<std::uint32_t>(buffers_[buffer].output), 0, nullptr};
  }
  return {Place::Kind::arena, 0, offsets_[buffer], nullptr};
}

// Fills in operands, what taps see, and copies, now that every place is known.
void Builder::resolve() {
  std::unordered_map<const Value*, std::size_t> step_of;  // the step that makes the elements, SIZE_MAX: an input
  for (PlanStep& step : plan_->steps) {
    const std::size_t s = static_cast<std::size_t>(&step - plan_->steps.data());
    step.first_input = static_cast<std::uint32_t>(plan_->inputs.size());
    for (const Value* v : step.node->inputs()) plan_->inputs.push_back(place_of(v));
    step.first_output = static_cast<std::uint32_t>(plan_->outputs.size());
    for (std::size_t i = 0; i < step.output_count; ++i) {
      plan_->outputs.push_back(place_of(step.node->output(i)));
      step_of[step.node->output(i)] = s;
    }
  }
  for (const Node* n : model_.graph().nodes()) {
    if (n->output_count() == 0 || (n->def().has_trait(kStructural) && !n->is(Op::input))) continue;
    if (n->is(Op::input)) step_of[n->output()] = SIZE_MAX;
    if (step_of.find(n->output()) == step_of.end()) {
      auto source = step_of.find(n->input(0));
      if (source == step_of.end()) continue;  // a view of a constant
      step_of[n->output()] = source->second;
    }
    for (std::size_t i = 0; i < n->output_count(); ++i) {
      const std::size_t s = step_of.at(n->output(i));
      std::vector<VisibleValue>& visible = s == SIZE_MAX ? plan_->visible_inputs : plan_->steps[s].visible;
      visible.push_back({n->output(i), type_of(n->output(i)), place_of(n->output(i))});
    }
  }
  const Node& output = *model_.graph().output_node();
  for (std::size_t i = 0; i < output.inputs().size(); ++i) {
    const Place place = place_of(output.input(i));
    if (place.kind == Place::Kind::output && place.index == i) continue;
    plan_->copies.push_back({static_cast<std::uint32_t>(i), place});
  }
}

Result<std::unique_ptr<Plan>> Builder::build(const Shapes& input_shapes) {
  std::vector<InputShape> shapes;
  for (std::size_t i = 0; i < input_shapes.size(); ++i) {
    const bool known = i < model_.inputs().size();
    shapes.push_back({known ? model_.inputs()[i].type.dtype : DType::f32, input_shapes[i]});
  }
  AOQ_ASSIGN(symbols_, bind_symbols(model_.graph(), shapes));
  for (const Node* n : model_.graph().nodes()) {
    Status added = add_node(*n);
    if (!added.ok()) return std::move(added).with_context(describe(*n));
  }
  claim_outputs();
  share_in_place();
  AOQ_TRY(place_buffers());
  AOQ_TRY(add_ports());
  const std::uint64_t cap = model_.options().memory_cap;
  const std::uint64_t need = plan_->memory.arena_bytes + plan_->memory.output_bytes;
  if (cap != 0 && need > cap) {
    return error(ErrorId::memory_cap, "a run needs {} bytes for its values ({} of them results), the cap is {}", need,
                 plan_->memory.output_bytes, cap);
  }
  resolve();
  return std::move(plan_);
}

}  // namespace

Result<std::unique_ptr<Plan>> build_plan(const Model& model, const Shapes& input_shapes, PackedStores& stores) {
  return Builder(model, stores).build(input_shapes);
}

}  // namespace aoq
