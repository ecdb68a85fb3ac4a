#include "runtime/session.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <unordered_set>

#include "ir/bind.h"
#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/guard.h"
#include "runtime/memory.h"
#include "runtime/plan.h"

namespace aoq {
namespace {

// A plan with its operands as pointers into this session's memory.
struct Instance {
  // Owners: this session and the others that run these shapes.
  std::shared_ptr<const Plan> plan;
  std::uint64_t last_used = 0;
  const std::byte* arena = nullptr;  // what the pointers were resolved against
  std::vector<const std::byte*> inputs;
  std::vector<std::byte*> outputs;
  // Operands that change from run to run: where, and the number of the input or result.
  struct Patch {
    std::uint32_t operand;
    std::uint32_t port;
  };
  std::vector<Patch> input_from_input, input_from_output, output_from_output;
  // Of each worker in a loop, for the largest of its steps: the operands of a step on a slice, how it went, and how
  // long the steps took.
  struct Worker {
    std::vector<const std::byte*> inputs;
    std::vector<std::byte*> outputs;
    std::vector<std::int64_t> nanoseconds;
    bool has_run = false;
    Status status;
  };
  std::vector<Worker> workers;
  // This run's.
  std::vector<const std::byte*> input_data;
  std::vector<std::byte*> output_data;
  std::vector<TensorView> results;
};

bool is_aligned(const std::byte* data, std::uint64_t alignment) {
  return reinterpret_cast<std::uintptr_t>(data) % alignment == 0;
}

bool overlaps(const std::byte* a, std::uint64_t a_bytes, const std::byte* b, std::uint64_t b_bytes) {
  const auto x = reinterpret_cast<std::uintptr_t>(a);
  const auto y = reinterpret_cast<std::uintptr_t>(b);
  return a_bytes > 0 && b_bytes > 0 && x < y + b_bytes && y < x + a_bytes;
}

bool same_shape(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void copy_bytes(std::byte* to, const std::byte* from, std::uint64_t bytes) {
  if (bytes > 0 && to != from) std::memmove(to, from, bytes);
}

// "\"x\", \"mask\""
std::string list_names(std::span<const Port> ports) {
  std::string text;
  for (const Port& p : ports) text += (text.empty() ? "\"" : ", \"") + p.name + "\"";
  return text;
}

// What a new shape must pass before a plan is made for it.
Status check_inputs(const Model& model, std::span<const TensorView> inputs) {
  const std::vector<Port>& ports = model.inputs();
  if (inputs.size() != ports.size()) {
    return error(Code::invalid_data, "{} inputs are given, expected {}: {}", inputs.size(), ports.size(),
                 list_names(ports));
  }
  std::vector<InputShape> shapes;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::optional<std::int64_t> count = checked::element_count(inputs[i].shape);
    if (!count) {
      return error(Code::invalid_data, "input \"{}\" has shape {}, which is negative or too large", ports[i].name,
                   shape_to_string(inputs[i].shape));
    }
    if (inputs[i].data == nullptr && *count > 0)
      return error(Code::invalid_data, "input \"{}\" has no data", ports[i].name);
    shapes.push_back({inputs[i].dtype, inputs[i].shape});
  }
  return bind_symbols(model.graph(), shapes).status();
}

using Wanted = std::unordered_set<const Value*>;

// What watches the steps of a run; both are mostly absent.
struct Watch {
  const Tap* tap = nullptr;
  const StepTimes* times = nullptr;
};

std::int64_t nanoseconds_now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// Runs a step and gives the time since `start`; where it gives the same again, the shortest of `times` runs.
Status run_timed(const PlanStep& step, const RunContext& context, int times, std::int64_t start,
                 std::int64_t& shortest) {
  AOQ_TRY(step.kernel->run(context));
  shortest = nanoseconds_now() - start;
  for (int i = 1; i < times && !step.info.in_place; ++i) {
    const std::int64_t again = nanoseconds_now();
    AOQ_TRY(step.kernel->run(context));
    shortest = std::min(shortest, nanoseconds_now() - again);
  }
  return {};
}

// One call after another on the caller's thread, for kernels in a loop whose slices are shared out.
ThreadPool& serial_pool() {
  static ThreadPool pool(1);
  return pool;
}

// Room for the workers of the loops of a plan.
std::vector<Instance::Worker> make_workers(const Plan& plan) {
  std::size_t count = 0, inputs = 0, outputs = 0, steps = 0;
  for (const PlanLoop& loop : plan.loops) {
    count = std::max(count, static_cast<std::size_t>(loop.workers));
    steps = std::max<std::size_t>(steps, loop.step_count);
    for (std::size_t s = loop.first_step; s < loop.first_step + loop.step_count; ++s) {
      inputs = std::max<std::size_t>(inputs, plan.steps[s].input_count);
      outputs = std::max<std::size_t>(outputs, plan.steps[s].output_count);
    }
  }
  std::vector<Instance::Worker> workers(count);
  for (Instance::Worker& w : workers) {
    w.inputs.resize(inputs);
    w.outputs.resize(outputs);
    w.nanoseconds.resize(steps);
  }
  return workers;
}

}  // namespace

struct Session::Impl {
  // A plan without loops shows every value, but only one that was free to have some is the fastest.
  static bool serves(const Plan& plan, PlanUse use) {
    return plan.use == use || (use == PlanUse::tap && plan.loops.empty());
  }

  explicit Impl(std::shared_ptr<const Model> m) : model(std::move(m)), by_name(model->inputs().size()) {}

  Result<Instance*> instance_for(std::span<const TensorView> inputs, PlanUse use);
  Instance* find(std::span<const TensorView> inputs, PlanUse use);
  Result<Instance*> add(const Shapes& shapes, PlanUse use);
  Result<const Plan*> plan_for(const Shapes& shapes);
  Status resolve(Instance& instance);

  Status set_inputs(Instance& instance, std::span<const TensorView> inputs);
  Status own_outputs(Instance& instance);
  Status check_outputs(const Instance& instance, std::span<const MutableTensorView> outputs) const;
  Status set_outputs(Instance& instance, std::span<const TensorView> inputs,
                     std::span<const MutableTensorView> outputs);
  Status execute(Instance& instance, const Watch& watch);
  RunContext context(const Instance& instance, const PlanStep& step);
  // The part of a loop that one worker does: slices [begin, end).
  struct Share {
    const PlanLoop& loop;
    int worker = 0;
    std::int64_t begin = 0, end = 0;
  };
  RunContext context(Instance& instance, const PlanStep& step, const Share& share, std::int64_t slice);
  Status run_step(const Instance& instance, const PlanStep& step, const StepTimes* times, std::int64_t& start);
  Status run_share(Instance& instance, const Share& share, const StepTimes* times);
  Status run_loop(Instance& instance, const PlanLoop& loop, const StepTimes* times);
  Status run_steps(Instance& instance, const StepTimes* times);
  Status run_tapped(const Instance& instance, const Tap& tap);
  Status show(const Instance& instance, std::span<const VisibleValue> values, const Wanted& wanted,
              const Tap& tap) const;
  const std::byte* pointer(const Instance& instance, const Place& place) const;
  Result<std::span<const TensorView>> run(std::span<const TensorView> inputs, const Watch& watch);
  Status run_into(std::span<const TensorView> inputs, std::span<const MutableTensorView> outputs);
  Status order_by_name(std::span<const NamedInput> inputs);

  // Owners: the caller, this session and the others.
  std::shared_ptr<const Model> model;
  std::vector<std::unique_ptr<Instance>> instances;
  std::uint64_t clock = 0;
  MemoryBlock arena;
  MemoryBlock results;  // those the session owns, also while the caller's buffers cannot be written in place
  MemoryBlock staging;  // inputs whose alignment is not that of their elements
  std::vector<TensorView> by_name;
};

Instance* Session::Impl::find(std::span<const TensorView> inputs, PlanUse use) {
  for (const auto& instance : instances) {
    if (!serves(*instance->plan, use)) continue;
    const std::vector<PlanPort>& ports = instance->plan->input_ports;
    bool same = ports.size() == inputs.size();
    for (std::size_t i = 0; same && i < ports.size(); ++i) {
      same = inputs[i].dtype == ports[i].dtype && same_shape(inputs[i].shape, ports[i].shape) &&
             (inputs[i].data != nullptr || ports[i].bytes == 0);
    }
    if (same) return instance.get();
  }
  return nullptr;
}

Result<Instance*> Session::Impl::add(const Shapes& shapes, PlanUse use) {
  auto instance = std::make_unique<Instance>();
  AOQ_ASSIGN(instance->plan, model->plan(shapes, use));
  const Plan& plan = *instance->plan;
  instance->inputs.resize(plan.inputs.size());
  instance->outputs.resize(plan.outputs.size());
  for (std::uint32_t i = 0; i < plan.inputs.size(); ++i) {
    if (plan.inputs[i].kind == Place::Kind::input) instance->input_from_input.push_back({i, plan.inputs[i].index});
    if (plan.inputs[i].kind == Place::Kind::output) instance->input_from_output.push_back({i, plan.inputs[i].index});
  }
  for (std::uint32_t i = 0; i < plan.outputs.size(); ++i) {
    if (plan.outputs[i].kind == Place::Kind::output) instance->output_from_output.push_back({i, plan.outputs[i].index});
  }
  instance->workers = make_workers(plan);
  instance->input_data.resize(plan.input_ports.size());
  instance->output_data.resize(plan.output_ports.size());
  for (const PlanPort& port : plan.output_ports) instance->results.push_back({port.dtype, port.shape, nullptr});
  if (instances.size() >= model->options().max_cached_plans) {
    instances.erase(std::min_element(instances.begin(), instances.end(),
                                     [](const auto& a, const auto& b) { return a->last_used < b->last_used; }));
  }
  instances.push_back(std::move(instance));
  return instances.back().get();
}

// Points operands into the arena, when it moved since the last time.
Status Session::Impl::resolve(Instance& instance) {
  const Plan& plan = *instance.plan;
  AOQ_TRY(arena.reserve(plan.memory.arena_bytes));
  if (instance.arena == arena.data()) return {};
  for (std::size_t i = 0; i < plan.inputs.size(); ++i) {
    const Place& p = plan.inputs[i];
    if (p.kind == Place::Kind::arena) instance.inputs[i] = arena.data() + p.offset;
    if (p.kind == Place::Kind::constant) instance.inputs[i] = p.data;
  }
  for (std::size_t i = 0; i < plan.outputs.size(); ++i) {
    if (plan.outputs[i].kind == Place::Kind::arena) instance.outputs[i] = arena.data() + plan.outputs[i].offset;
  }
  instance.arena = arena.data();
  return {};
}

Result<Instance*> Session::Impl::instance_for(std::span<const TensorView> inputs, PlanUse use) {
  Instance* instance = find(inputs, use);
  if (instance == nullptr) {
    AOQ_TRY(check_inputs(*model, inputs));
    Shapes shapes;
    for (const TensorView& t : inputs) shapes.emplace_back(t.shape.begin(), t.shape.end());
    AOQ_ASSIGN(instance, add(shapes, use));
  }
  instance->last_used = ++clock;
  AOQ_TRY(resolve(*instance));
  return instance;
}

Result<const Plan*> Session::Impl::plan_for(const Shapes& shapes) {
  for (const auto& instance : instances) {
    const std::vector<PlanPort>& ports = instance->plan->input_ports;
    if (!serves(*instance->plan, PlanUse::run)) continue;
    if (std::equal(ports.begin(), ports.end(), shapes.begin(), shapes.end(),
                   [](const PlanPort& p, const auto& s) { return p.shape == s; })) {
      return instance->plan.get();
    }
  }
  AOQ_ASSIGN(Instance * instance, add(shapes, PlanUse::run));
  instance->last_used = ++clock;
  return instance->plan.get();
}

Status Session::Impl::set_inputs(Instance& instance, std::span<const TensorView> inputs) {
  const std::vector<PlanPort>& ports = instance.plan->input_ports;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::byte* data = inputs[i].data;
    if (data == nullptr || !is_aligned(data, ports[i].alignment)) {
      AOQ_TRY(staging.reserve(instance.plan->memory.staging_bytes));
      copy_bytes(staging.data() + ports[i].offset, data, ports[i].bytes);
      data = staging.data() + ports[i].offset;
    }
    instance.input_data[i] = data;
  }
  return {};
}

Status Session::Impl::own_outputs(Instance& instance) {
  AOQ_TRY(results.reserve(instance.plan->memory.output_bytes));
  const std::vector<PlanPort>& ports = instance.plan->output_ports;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    instance.output_data[i] = results.data() + ports[i].offset;
    instance.results[i].data = instance.output_data[i];
  }
  return {};
}

Status Session::Impl::check_outputs(const Instance& instance, std::span<const MutableTensorView> outputs) const {
  const std::vector<PlanPort>& ports = instance.plan->output_ports;
  if (outputs.size() != ports.size()) {
    return error(Code::invalid_data, "found {} buffers for results, expected {}: {}", outputs.size(), ports.size(),
                 list_names(model->outputs()));
  }
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::string& name = model->outputs()[i].name;
    if (outputs[i].dtype != ports[i].dtype || !same_shape(outputs[i].shape, ports[i].shape)) {
      return error(Code::invalid_data, "the buffer for result \"{}\" is {}{}, expected {}{}", name,
                   dtype_name(outputs[i].dtype), shape_to_string(outputs[i].shape), dtype_name(ports[i].dtype),
                   shape_to_string(ports[i].shape));
    }
    if (outputs[i].data == nullptr && ports[i].bytes > 0) {
      return error(Code::invalid_data, "the buffer for result \"{}\" is null", name);
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (overlaps(outputs[i].data, ports[i].bytes, outputs[j].data, ports[j].bytes)) {
        return error(Code::invalid_data, "the buffers for results \"{}\" and \"{}\" overlap", model->outputs()[j].name,
                     name);
      }
    }
  }
  return {};
}

// Writes in place where that is safe: at the elements' alignment, and not over an input that is still to be read.
Status Session::Impl::set_outputs(Instance& instance, std::span<const TensorView> inputs,
                                  std::span<const MutableTensorView> outputs) {
  const std::vector<PlanPort>& ports = instance.plan->output_ports;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    bool in_place = outputs[i].data != nullptr && is_aligned(outputs[i].data, ports[i].alignment);
    for (std::size_t j = 0; in_place && j < inputs.size(); ++j) {
      in_place = !overlaps(outputs[i].data, ports[i].bytes, inputs[j].data, instance.plan->input_ports[j].bytes);
    }
    if (!in_place) AOQ_TRY(results.reserve(instance.plan->memory.output_bytes));
    instance.output_data[i] = in_place ? outputs[i].data : results.data() + ports[i].offset;
  }
  return {};
}

const std::byte* Session::Impl::pointer(const Instance& instance, const Place& place) const {
  switch (place.kind) {
    case Place::Kind::none:
      return nullptr;
    case Place::Kind::arena:
      return arena.data() + place.offset;
    case Place::Kind::input:
      return instance.input_data[place.index];
    case Place::Kind::output:
      return instance.output_data[place.index];
    case Place::Kind::constant:
      return place.data;
  }
  return nullptr;
}

Status Session::Impl::show(const Instance& instance, std::span<const VisibleValue> values, const Wanted& wanted,
                           const Tap& tap) const {
  for (const VisibleValue& v : values) {
    if (!wanted.contains(v.value)) continue;
    AOQ_TRY(tap.callback(*v.value, TensorView{v.type.dtype, v.type.shape, pointer(instance, v.place)}));
  }
  return {};
}

RunContext Session::Impl::context(const Instance& instance, const PlanStep& step) {
  return {{instance.inputs.data() + step.first_input, step.input_count},
          {instance.outputs.data() + step.first_output, step.output_count},
          arena.data() + step.scratch_offset,
          &model->pool()};
}

// Of a step on one slice, in the worker's own arrays.
RunContext Session::Impl::context(Instance& instance, const PlanStep& step, const Share& share, std::int64_t slice) {
  const Plan& plan = *instance.plan;
  Instance::Worker& worker = instance.workers[static_cast<std::size_t>(share.worker)];
  const std::uint64_t own = share.loop.worker_bytes * static_cast<std::uint64_t>(share.worker);
  auto offset = [&](const Place& place) {
    return place.slice_bytes * static_cast<std::uint64_t>(slice) + (place.is_per_worker ? own : 0);
  };
  for (std::size_t i = 0; i < step.input_count; ++i) {
    const std::byte* data = instance.inputs[step.first_input + i];
    worker.inputs[i] = data == nullptr ? nullptr : data + offset(plan.inputs[step.first_input + i]);
  }
  for (std::size_t i = 0; i < step.output_count; ++i) {
    worker.outputs[i] = instance.outputs[step.first_output + i] + offset(plan.outputs[step.first_output + i]);
  }
  return {{worker.inputs.data(), step.input_count},
          {worker.outputs.data(), step.output_count},
          arena.data() + step.scratch_offset + own,
          share.loop.workers > 1 ? &serial_pool() : &model->pool()};
}

// With times `start` is the end of the step before, and becomes that of this one.
Status Session::Impl::run_step(const Instance& instance, const PlanStep& step, const StepTimes* times,
                               std::int64_t& start) {
  const RunContext operands = context(instance, step);
  Status status;
  if (times == nullptr) {
    status = step.kernel->run(operands);
  } else {
    const auto index = static_cast<std::size_t>(&step - instance.plan->steps.data());
    status = run_timed(step, operands, times->repeats, start, times->nanoseconds[index]);
    start = nanoseconds_now();
  }
  return status.ok() ? std::move(status) : std::move(status).with_context(aoq::describe(*step.node));
}

Status Session::Impl::run_share(Instance& instance, const Share& share, const StepTimes* times) {
  Instance::Worker& worker = instance.workers[static_cast<std::size_t>(share.worker)];
  std::int64_t start = times != nullptr ? nanoseconds_now() : 0;
  for (std::int64_t slice = share.begin; slice < share.end; ++slice) {
    for (std::uint32_t i = 0; i < share.loop.step_count; ++i) {
      const PlanStep& step = instance.plan->steps[share.loop.first_step + i];
      const RunContext operands = context(instance, step, share, slice);
      Status status;
      if (times == nullptr) {
        status = step.kernel->run(operands);
      } else {
        std::int64_t shortest = 0;
        status = run_timed(step, operands, times->repeats, start, shortest);
        worker.nanoseconds[i] += shortest;
        start = nanoseconds_now();
      }
      if (!status.ok()) return std::move(status).with_context(aoq::describe(*step.node));
    }
  }
  return {};
}

Status Session::Impl::run_loop(Instance& instance, const PlanLoop& loop, const StepTimes* times) {
  for (Instance::Worker& w : instance.workers) {
    w.has_run = false;
    if (times != nullptr) std::fill(w.nanoseconds.begin(), w.nanoseconds.end(), 0);
  }
  model->pool().parallel_for(
      loop.slices,
      [&](int worker, std::int64_t begin, std::int64_t end) {
        Instance::Worker& w = instance.workers[static_cast<std::size_t>(worker)];
        w.has_run = true;
        w.status = guarded([&] { return run_share(instance, {loop, worker, begin, end}, times); });
      },
      loop.workers);
  std::int64_t shared = 0;
  // Workers follow each other in the order of the slices.
  for (Instance::Worker& w : instance.workers) {
    if (!w.has_run) continue;
    AOQ_TRY(std::exchange(w.status, Status{}));
    ++shared;
  }
  for (std::uint32_t i = 0; times != nullptr && i < loop.step_count; ++i) {
    std::int64_t& sum = times->nanoseconds[loop.first_step + i] = 0;
    for (const Instance::Worker& w : instance.workers) sum += w.nanoseconds[i];
    sum /= shared;
  }
  return {};
}

Status Session::Impl::run_steps(Instance& instance, const StepTimes* times) {
  const Plan& plan = *instance.plan;
  if (times != nullptr && times->nanoseconds.size() != plan.steps.size()) {
    return error(Code::invalid_argument, "found room for {} times, expected one for each of the {} steps",
                 times->nanoseconds.size(), plan.steps.size());
  }
  std::int64_t start = times != nullptr ? nanoseconds_now() : 0;
  auto loop = plan.loops.begin();
  for (std::size_t s = 0; s < plan.steps.size();) {
    if (loop == plan.loops.end() || loop->first_step != s) {
      AOQ_TRY(run_step(instance, plan.steps[s++], times, start));
      continue;
    }
    AOQ_TRY(run_loop(instance, *loop, times));
    s += loop->step_count;
    ++loop;
    start = times != nullptr ? nanoseconds_now() : 0;
  }
  return {};
}

Status Session::Impl::run_tapped(const Instance& instance, const Tap& tap) {
  const Wanted wanted(tap.values.begin(), tap.values.end());
  AOQ_TRY(show(instance, instance.plan->visible_inputs, wanted, tap));
  std::int64_t start = 0;
  for (const PlanStep& step : instance.plan->steps) {
    AOQ_TRY(run_step(instance, step, nullptr, start));
    AOQ_TRY(show(instance, step.visible, wanted, tap));
  }
  return {};
}

Status Session::Impl::execute(Instance& instance, const Watch& watch) {
  const Plan& plan = *instance.plan;
  for (const auto& p : instance.input_from_input) instance.inputs[p.operand] = instance.input_data[p.port];
  for (const auto& p : instance.input_from_output) instance.inputs[p.operand] = instance.output_data[p.port];
  for (const auto& p : instance.output_from_output) instance.outputs[p.operand] = instance.output_data[p.port];
  AOQ_TRY(watch.tap != nullptr ? run_tapped(instance, *watch.tap) : run_steps(instance, watch.times));
  for (const OutputCopy& copy : plan.copies) {
    copy_bytes(instance.output_data[copy.output], pointer(instance, copy.from), plan.output_ports[copy.output].bytes);
  }
  return {};
}

Result<std::span<const TensorView>> Session::Impl::run(std::span<const TensorView> inputs, const Watch& watch) {
  AOQ_ASSIGN(Instance * instance, instance_for(inputs, watch.tap != nullptr ? PlanUse::tap : PlanUse::run));
  AOQ_TRY(set_inputs(*instance, inputs));
  AOQ_TRY(own_outputs(*instance));
  AOQ_TRY(execute(*instance, watch));
  return std::span<const TensorView>(instance->results);
}

Status Session::Impl::run_into(std::span<const TensorView> inputs, std::span<const MutableTensorView> outputs) {
  AOQ_ASSIGN(Instance * instance, instance_for(inputs, PlanUse::run));
  AOQ_TRY(check_outputs(*instance, outputs));
  AOQ_TRY(set_inputs(*instance, inputs));
  AOQ_TRY(set_outputs(*instance, inputs, outputs));
  AOQ_TRY(execute(*instance, Watch{}));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    copy_bytes(outputs[i].data, instance->output_data[i], instance->plan->output_ports[i].bytes);
  }
  return {};
}

// Fills by_name. A handful of names: comparing them all is cheaper than a map.
Status Session::Impl::order_by_name(std::span<const NamedInput> inputs) {
  const std::vector<Port>& ports = model->inputs();
  std::size_t found = 0;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const NamedInput* given = nullptr;
    for (const NamedInput& in : inputs) {
      if (in.name != ports[i].name) continue;
      if (given != nullptr) return error(Code::invalid_data, "input \"{}\" is given twice", ports[i].name);
      given = &in;
    }
    if (given == nullptr) return error(ErrorId::input_missing, "input \"{}\" is missing", ports[i].name);
    by_name[i] = given->tensor;
    ++found;
  }
  if (found == inputs.size()) return {};
  for (const NamedInput& in : inputs) {
    if (std::none_of(ports.begin(), ports.end(), [&](const Port& p) { return p.name == in.name; })) {
      return error(ErrorId::input_unknown, "there is no input \"{}\"; the model has {}", in.name, list_names(ports));
    }
  }
  return error(Code::internal, "inputs were counted wrongly");
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session> Session::create(std::shared_ptr<const Model> model) {
  return guarded([&]() -> Result<Session> {
    if (model == nullptr) return error(Code::invalid_argument, "no model was given");
    return Session(std::make_unique<Impl>(std::move(model)));
  });
}

const Model& Session::model() const {
  return *impl_->model;
}

Result<std::span<const TensorView>> Session::run(std::span<const TensorView> inputs, const Tap& tap) {
  return guarded([&] { return impl_->run(inputs, {.tap = &tap}); });
}

Result<std::span<const TensorView>> Session::run(std::span<const TensorView> inputs) {
  return guarded([&] { return impl_->run(inputs, Watch{}); });
}

Result<std::span<const TensorView>> Session::run(std::span<const TensorView> inputs, const StepTimes& times) {
  return guarded([&] { return impl_->run(inputs, {.times = &times}); });
}

Result<std::span<const TensorView>> Session::run(std::span<const NamedInput> inputs) {
  return guarded([&]() -> Result<std::span<const TensorView>> {
    AOQ_TRY(impl_->order_by_name(inputs));
    return impl_->run(impl_->by_name, Watch{});
  });
}

Status Session::run_into(std::span<const TensorView> inputs, std::span<const MutableTensorView> outputs) {
  return guarded([&] { return impl_->run_into(inputs, outputs); });
}

Result<Shapes> Session::output_shapes(const Shapes& input_shapes) {
  return guarded([&]() -> Result<Shapes> {
    AOQ_ASSIGN(const Plan* plan, impl_->plan_for(input_shapes));
    Shapes shapes;
    for (const PlanPort& port : plan->output_ports) shapes.push_back(port.shape);
    return shapes;
  });
}

Result<MemoryNeed> Session::memory_needed(const Shapes& input_shapes) {
  return guarded([&]() -> Result<MemoryNeed> {
    AOQ_ASSIGN(const Plan* plan, impl_->plan_for(input_shapes));
    return plan->memory;
  });
}

Result<PlanInfo> Session::describe(const Shapes& input_shapes) {
  return guarded([&]() -> Result<PlanInfo> {
    AOQ_ASSIGN(const Plan* plan, impl_->plan_for(input_shapes));
    PlanInfo info;
    for (const PlanStep& step : plan->steps) info.steps.push_back(step.info);
    info.memory = plan->memory;
    return info;
  });
}

}  // namespace aoq
