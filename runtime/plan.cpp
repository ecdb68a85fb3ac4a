// Five steps: types at these shapes and the nodes that are steps; then which of them run slice by slice of the batch;
// then a kernel for every step; then which values share a buffer (views, in-place kernels, results); then offsets.
#include "runtime/plan.h"

#include <algorithm>
#include <unordered_map>

#include "ir/bind.h"
#include "ir/checked.h"
#include "ir/error_id.h"
#include "runtime/arena.h"
#include "runtime/batch_loops.h"
#include "runtime/computed_constant.h"
#include "runtime/kernel_choice.h"
#include "runtime/multiply_accumulates.h"
#include "runtime/sample_slices.h"

namespace aoq {
namespace {

// Buffers before placement. Values that share one point to the same entry.
struct Buffer {
  std::uint64_t bytes = 0;
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t output = -1;  // the graph result it holds
  std::int64_t loop = -1;    // the one that alone sees it: it has the size of a slice
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
  Builder(const Model& model, PackedStores& stores, PlanUse use)
      : model_(model), stores_(stores), plan_(std::make_unique<Plan>()) {
    plan_->use = use;
  }

  Result<std::unique_ptr<Plan>> build(const Shapes& input_shapes);

 private:
  Status add_node(const Node& node);
  Result<std::vector<Type>> infer(const Node& node, const Attributes& attributes) const;
  void add_constant(const Node& node);
  Result<bool> add_computed_constant(const Node& node);
  Status add_view(const Node& node, const Type& type);
  Status add_step(const Node& node, Attributes attributes);
  void choose_batch_loops();
  LoopProblem loop_problem(const SampleSlices& slices) const;
  LoopStep loop_step(const SampleSlices& slices, const LoopProblem& problem, std::size_t s) const;
  void add_loop(const BatchLoop& chosen, const SampleSlices& slices);
  void cut_buffers();
  Status prepare_step(std::size_t s);
  Result<PreparedKernel> prepare(const Node& node, const SlicedNode& at, int workers, StepInfo& info);
  const PlanLoop* loop_of(std::size_t step) const;
  Result<std::size_t> add_buffer(const ConcreteType& type);
  void claim_outputs();
  void share_in_place();
  Status place_loop(std::size_t loop);
  Status place_buffers();
  Status add_ports();
  void resolve();
  void add_visible();
  Place place_of(const Value* value) const;
  Place operand(std::size_t step, const Value* value, bool is_cut) const;

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
  ConcreteTypes types_;
  std::unordered_map<const Value*, Home> homes_;
  std::vector<Buffer> buffers_;
  std::vector<std::uint64_t> offsets_;  // of the buffers in the arena
  std::vector<SlicedNode> nodes_;       // of the steps, as their kernels see them
  std::vector<std::int64_t> loops_;     // of the steps; -1: none
};

Result<std::vector<Type>> Builder::infer(const Node& node, const Attributes& attributes) const {
  std::vector<ConcreteType> inputs;
  for (const Value* v : node.inputs()) inputs.push_back(v != nullptr ? type_of(v) : ConcreteType{});
  // Symbols that met a number in broadcasting have a value only now: whether it fits is asked again here.
  AOQ_ASSIGN(std::vector<Type> types, infer_at(node, inputs, attributes));
  AOQ_CHECK(types.size() == node.output_count());
  for (const Type& t : types) {
    for (const Dim& d : t.shape) {
      if (d.is_constant() && d.constant() >= 0) continue;
      return error(Code::invalid_data, "a dimension of the result is {} at these input shapes", d.to_string());
    }
  }
  return types;
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

Result<PreparedKernel> Builder::prepare(const Node& node, const SlicedNode& at, int workers, StepInfo& info) {
  std::vector<Refusal> refused;
  for (const auto& backend : model_.options().backends) {
    PrepareContext context{node,
                           at.inputs,
                           at.outputs,
                           at.attributes,
                           stores_.store(*backend),
                           workers,
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

Status Builder::add_step(const Node& node, Attributes attributes) {
  SlicedNode whole{std::move(attributes), {}, {}, std::vector<bool>(node.inputs().size(), false)};
  for (const Value* v : node.inputs()) {
    whole.inputs.push_back(v != nullptr ? type_of(v) : ConcreteType{});
    if (v == nullptr) continue;
    const Home& home = homes_.at(v);
    if (home.kind == Place::Kind::arena) buffers_[home.index].last = next_step();
  }
  for (std::size_t i = 0; i < node.output_count(); ++i) {
    whole.outputs.push_back(type_of(node.output(i)));
    AOQ_ASSIGN(std::size_t buffer, add_buffer(whole.outputs.back()));
    homes_[node.output(i)] = {Place::Kind::arena, buffer, nullptr};
  }
  PlanStep step;
  step.node = &node;
  step.input_count = static_cast<std::uint32_t>(node.inputs().size());
  step.output_count = static_cast<std::uint32_t>(whole.outputs.size());
  step.info.label = node.label();
  step.info.op = node.def().name;
  step.info.macs = multiply_accumulates(node, whole.inputs, whole.outputs);
  step.info.output = whole.outputs.empty() ? ConcreteType{} : whole.outputs[0];
  plan_->steps.push_back(std::move(step));
  nodes_.push_back(std::move(whole));
  loops_.push_back(-1);
  return {};
}

Status Builder::prepare_step(std::size_t s) {
  PlanStep& step = plan_->steps[s];
  const PlanLoop* loop = loop_of(s);
  const int workers = loop != nullptr && loop->workers > 1 ? 1 : model_.pool().size();
  AOQ_ASSIGN(PreparedKernel prepared, prepare(*step.node, nodes_[s], workers, step.info));
  step.kernel = std::move(prepared.kernel);
  step.info.row = std::move(prepared.row);
  step.info.inexact = prepared.inexact;
  step.info.refused = std::move(prepared.refused);
  step.info.scratch_bytes = step.kernel->scratch_bytes();
  return {};
}

Status Builder::add_node(const Node& node) {
  if (node.is(Op::output)) return {};
  AOQ_ASSIGN(Attributes attributes, substitute(node.attributes(), symbols_));
  AOQ_ASSIGN(const std::vector<Type> types, infer(node, attributes));
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
  return add_step(node, std::move(attributes));
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
    // A value that crosses the border of a loop is read again by the next slice.
    if (loops_[s] >= 0 && (buffers_[from].loop != loops_[s] || buffers_[to].loop != loops_[s])) continue;
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

// Places what only one loop sees, its scratch with it: as often as there are workers, one after the other.
Status Builder::place_loop(std::size_t loop) {
  PlanLoop& l = plan_->loops[loop];
  std::vector<ArenaBuffer> arena;
  std::vector<std::uint64_t*> places;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    const Buffer& buffer = buffers_[b];
    if (buffer.loop != static_cast<std::int64_t>(loop) || buffer.merged_into != SIZE_MAX) continue;
    arena.push_back({buffer.bytes, buffer.first, buffer.last});
    places.push_back(&offsets_[b]);
  }
  for (std::size_t s = l.first_step; s < l.first_step + l.step_count; ++s) {
    const std::uint64_t bytes = plan_->steps[s].info.scratch_bytes;
    if (bytes == 0) continue;
    arena.push_back({bytes, static_cast<std::int64_t>(s), static_cast<std::int64_t>(s)});
    places.push_back(&plan_->steps[s].scratch_offset);
  }
  AOQ_ASSIGN(const ArenaPlan placed, plan_arena(arena));
  for (std::size_t i = 0; i < places.size(); ++i) *places[i] = placed.offsets[i];
  l.worker_bytes = placed.bytes;
  return {};
}

Status Builder::place_buffers() {
  offsets_.assign(buffers_.size(), 0);
  std::vector<ArenaBuffer> arena;
  std::vector<std::uint64_t*> places;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    const Buffer& buffer = buffers_[b];
    if (buffer.merged_into != SIZE_MAX || buffer.output >= 0 || buffer.loop >= 0) continue;
    arena.push_back({buffer.bytes, buffer.first, buffer.last});
    places.push_back(&offsets_[b]);
  }
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
    const std::uint64_t bytes = plan_->steps[s].info.scratch_bytes;
    if (bytes == 0 || loops_[s] >= 0) continue;
    arena.push_back({bytes, static_cast<std::int64_t>(s), static_cast<std::int64_t>(s)});
    places.push_back(&plan_->steps[s].scratch_offset);
  }
  for (std::size_t i = 0; i < plan_->loops.size(); ++i) {
    AOQ_TRY(place_loop(i));
    const PlanLoop& l = plan_->loops[i];
    const auto first = static_cast<std::int64_t>(l.first_step);
    const std::optional<std::uint64_t> bytes = checked::mul(l.worker_bytes, static_cast<std::uint64_t>(l.workers));
    if (!bytes) return error(Code::resource_limit, "the values of one run take more than 2^62 bytes");
    arena.push_back({*bytes, first, first + static_cast<std::int64_t>(l.step_count) - 1});
  }
  AOQ_ASSIGN(const ArenaPlan placed, plan_arena(arena));
  for (std::size_t i = 0; i < places.size(); ++i) *places[i] = placed.offsets[i];
  for (std::size_t i = 0; i < plan_->loops.size(); ++i) {
    const std::uint64_t offset = placed.offsets[places.size() + i];
    const PlanLoop& l = plan_->loops[i];
    for (std::size_t b = 0; b < buffers_.size(); ++b) {
      if (buffers_[b].loop == static_cast<std::int64_t>(i)) offsets_[b] += offset;
    }
    for (std::size_t s = l.first_step; s < l.first_step + l.step_count; ++s) plan_->steps[s].scratch_offset += offset;
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
  Place place{Place::Kind::arena, 0, offsets_[buffer], nullptr};
  place.is_per_worker = buffers_[buffer].loop >= 0;
  return place;
}

// As a step sees it: in a loop a whole value is read and written slice by slice.
Place Builder::operand(std::size_t step, const Value* value, bool is_cut) const {
  Place place = place_of(value);
  const PlanLoop* loop = loop_of(step);
  if (loop == nullptr || !is_cut || place.is_per_worker) return place;
  place.slice_bytes = byte_size(type_of(value)).value() / static_cast<std::uint64_t>(loop->slices);
  return place;
}

const PlanLoop* Builder::loop_of(std::size_t step) const {
  return loops_[step] < 0 ? nullptr : &plan_->loops[static_cast<std::size_t>(loops_[step])];
}

// Fills in operands and copies, now that every place is known.
void Builder::resolve() {
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
    PlanStep& step = plan_->steps[s];
    step.first_input = static_cast<std::uint32_t>(plan_->inputs.size());
    for (std::size_t i = 0; i < step.input_count; ++i) {
      plan_->inputs.push_back(operand(s, step.node->input(i), nodes_[s].cut[i]));
    }
    step.first_output = static_cast<std::uint32_t>(plan_->outputs.size());
    for (std::size_t i = 0; i < step.output_count; ++i)
      plan_->outputs.push_back(operand(s, step.node->output(i), true));
  }
  const Node& output = *model_.graph().output_node();
  for (std::size_t i = 0; i < output.inputs().size(); ++i) {
    const Place place = place_of(output.input(i));
    if (place.kind == Place::Kind::output && place.index == i) continue;
    plan_->copies.push_back({static_cast<std::uint32_t>(i), place});
  }
}

// What taps see. Values of a loop are never whole.
void Builder::add_visible() {
  if (!plan_->loops.empty()) return;
  std::unordered_map<const Value*, std::size_t> step_of;  // the step that makes the elements, SIZE_MAX: an input
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
    const PlanStep& step = plan_->steps[s];
    for (std::size_t i = 0; i < step.output_count; ++i) step_of[step.node->output(i)] = s;
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
}

LoopStep Builder::loop_step(const SampleSlices& slices, const LoopProblem& problem, std::size_t s) const {
  LoopStep out;
  const Node& node = *plan_->steps[s].node;
  std::optional<SlicedNode> sliced;
  for (std::int64_t count : problem.slice_counts) {
    sliced = slices.slice(node, slices.batch() / count);
    if (!sliced) return out;
  }
  std::uint64_t largest = 0;  // constant, in elements
  for (std::size_t i = 0; i < node.inputs().size(); ++i) {
    if (node.input(i) == nullptr) continue;
    const Home& home = homes_.at(node.input(i));
    const Result<std::uint64_t> bytes = byte_size(type_of(node.input(i)));
    if (!bytes.ok()) return out;
    const bool is_constant = home.kind == Place::Kind::none || home.kind == Place::Kind::constant;
    // A kernel may read a constant packed, and then all of it.
    if (is_constant && sliced->cut[i]) return out;
    if (is_constant) {
      out.weight_bytes += *bytes;
      const std::optional<std::int64_t> elements = checked::element_count(type_of(node.input(i)).shape);
      largest = std::max(largest, static_cast<std::uint64_t>(elements.value_or(0)));
    } else if (sliced->cut[i]) {
      out.moving_bytes += *bytes;
    } else if (home.kind == Place::Kind::arena) {
      out.whole_from = std::max(out.whole_from, buffers_[home.index].first);
    }
  }
  for (std::size_t i = 0; i < node.output_count(); ++i)
    out.moving_bytes += buffers_[homes_.at(node.output(i)).index].bytes;
  const std::uint64_t macs = plan_->steps[s].info.macs;
  // Without products a constant is a table, of which no more is read than is written.
  if (macs == 0) out.weight_bytes = std::min(out.weight_bytes, out.moving_bytes);
  if (macs > 0 && largest > 0) out.weight_rows = static_cast<double>(macs) / static_cast<double>(largest);
  out.is_sliceable = true;
  return out;
}

LoopProblem Builder::loop_problem(const SampleSlices& slices) const {
  LoopProblem problem{{}, {}, slices.slice_counts(), cache_sizes(), model_.pool().size()};
  std::vector<std::vector<std::int64_t>> accesses(buffers_.size());
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
    problem.steps.push_back(loop_step(slices, problem, s));
    const Node& node = *plan_->steps[s].node;
    for (std::size_t i = 0; i < node.inputs().size() + node.output_count(); ++i) {
      const bool is_input = i < node.inputs().size();
      const Value* v = is_input ? node.input(i) : node.output(i - node.inputs().size());
      if (v == nullptr || homes_.at(v).kind != Place::Kind::arena) continue;
      accesses[homes_.at(v).index].push_back(static_cast<std::int64_t>(s));
    }
  }
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    if (buffers_[b].output >= 0) continue;
    problem.values.push_back({buffers_[b].first, buffers_[b].last, buffers_[b].bytes, std::move(accesses[b])});
  }
  return problem;
}

void Builder::choose_batch_loops() {
  const BatchLoops where = model_.options().batch_loops;
  if (plan_->use == PlanUse::tap || where == BatchLoops::nowhere) return;
  const SampleSlices slices(model_.graph(), symbols_, types_);
  if (slices.batch() < 2) return;
  const LoopProblem problem = loop_problem(slices);
  for (const BatchLoop& loop : where == BatchLoops::everywhere ? all_loops(problem) : choose_loops(problem)) {
    add_loop(loop, slices);
  }
  cut_buffers();
}

void Builder::add_loop(const BatchLoop& chosen, const SampleSlices& slices) {
  PlanLoop loop{static_cast<std::uint32_t>(chosen.first), static_cast<std::uint32_t>(chosen.count), chosen.slices};
  loop.workers = loop_workers(chosen.slices, model_.pool().size());
  const auto index = static_cast<std::int64_t>(plan_->loops.size());
  for (std::size_t s = loop.first_step; s < loop.first_step + loop.step_count; ++s) {
    PlanStep& step = plan_->steps[s];
    std::optional<SlicedNode> sliced = slices.slice(*step.node, slices.batch() / chosen.slices);
    AOQ_CHECK(sliced.has_value());
    nodes_[s] = std::move(*sliced);
    loops_[s] = step.info.loop = index;
    step.info.slices = chosen.slices;
  }
  plan_->loops.push_back(loop);
}

// Values that one loop alone sees shrink to a slice; others live for all slices of the loops that touch them.
void Builder::cut_buffers() {
  const auto steps = static_cast<std::int64_t>(plan_->steps.size());
  auto loop_at = [&](std::int64_t s) { return s < steps ? loops_[static_cast<std::size_t>(s)] : -1; };
  for (Buffer& b : buffers_) {
    const std::int64_t first = loop_at(b.first), last = loop_at(b.last);
    if (b.output < 0 && first >= 0 && first == last) {
      b.loop = first;
      b.bytes /= static_cast<std::uint64_t>(plan_->loops[static_cast<std::size_t>(first)].slices);
      continue;
    }
    if (first >= 0) b.first = plan_->loops[static_cast<std::size_t>(first)].first_step;
    if (last < 0) continue;
    const PlanLoop& loop = plan_->loops[static_cast<std::size_t>(last)];
    b.last = static_cast<std::int64_t>(loop.first_step) + static_cast<std::int64_t>(loop.step_count) - 1;
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
  choose_batch_loops();
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) {
    Status prepared = prepare_step(s);
    if (!prepared.ok()) return std::move(prepared).with_context(describe(*plan_->steps[s].node));
  }
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
  add_visible();
  return std::move(plan_);
}

}  // namespace

Result<std::unique_ptr<Plan>> build_plan(const Model& model, const Shapes& input_shapes, PlanUse use,
                                         PackedStores& stores) {
  return Builder(model, stores, use).build(input_shapes);
}

}  // namespace aoq
