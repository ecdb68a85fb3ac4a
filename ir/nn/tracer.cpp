#include "ir/nn/tracer.h"

#include <algorithm>

#include <fmt/format.h>

#include "ir/nn/module.h"

namespace aoq::nn {

namespace {

bool contains(const std::vector<std::string>& list, std::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

// "torch.relu" -> "relu", ".view" -> "view".
std::string_view last_part(std::string_view callee) {
  const std::size_t at = callee.find_last_of('.');
  return at == std::string_view::npos ? callee : callee.substr(at + 1);
}

}  // namespace

Tracer::Tracer(Module& root, const TraceOptions& options) : root_(root), options_(options) {
  graph_.name = options.graph_name;
  graph_.symbols = options.symbols;
  graph_.metadata = options.attributes;
  graph_.metadata["symbolic_trace"] = root.type_name();
  frames_.push_back({"", root.type_name()});
}

// ---- units

Tracer::Unit::Unit(Tracer* tracer, std::string_view callee) {
  if (tracer == nullptr || tracer->unit_) return;
  tracer_ = tracer;
  tracer->unit_ = Scope{tracer->frames_.back().path, tracer->frames_.back().type, std::string(callee)};
  tracer->unit_name_ = tracer->names_.create(last_part(callee));
}

Tracer::Unit::Unit(Tracer* tracer, const Module& leaf) {
  if (tracer == nullptr || tracer->unit_) return;
  tracer_ = tracer;
  const std::string path = tracer->relative(leaf);
  // A leaf that is no layer of ours is an op of its own kind, whatever is in it.
  tracer->unit_ = Scope{path, leaf.type_name(), leaf.is_leaf() ? std::string() : std::string("leaf")};
  tracer->unit_name_ = tracer->names_.create(path.empty() ? std::string(leaf.type_name()) : path);
}

Tracer::Unit::~Unit() {
  if (tracer_ != nullptr) tracer_->unit_.reset();
}

Tracer::Entered::Entered(Tracer* tracer, const Module& module) : tracer_(tracer) {
  if (tracer == nullptr) return;
  const std::string path = tracer->relative(module);
  if (tracer->is_leaf(module, path)) {
    unit_.emplace(tracer, module);
  } else {
    tracer->note_class(path, module.type_name());
  }
  tracer->frames_.push_back({path, module.type_name()});
}

Tracer::Entered::~Entered() {
  if (tracer_ != nullptr) tracer_->frames_.pop_back();
}

std::string Tracer::relative(const Module& module) const {
  std::string path;
  for (const Module* m = &module; m != nullptr && m != &root_; m = m->parent()) {
    path = path.empty() ? m->name() : m->name() + "." + path;
  }
  return path;
}

bool Tracer::is_leaf(const Module& module, const std::string& path) const {
  return module.is_leaf() || contains(options_.leaf_names, path) || contains(options_.leaf_classes, module.type_name());
}

void Tracer::note_class(const std::string& path, const char* type) {
  if (path.empty()) return;
  std::string& all = graph_.metadata[kModuleClasses];
  const std::string line = fmt::format("{} {}\n", path, type);
  const std::size_t found = all.find(line);
  if (found == std::string::npos || (found > 0 && all[found - 1] != '\n')) all += line;
}

Scope Tracer::current_scope() const {
  return unit_ ? *unit_ : Scope{frames_.back().path, frames_.back().type, {}};
}

std::string Tracer::where() const {
  const Scope scope = current_scope();
  std::string text = fmt::format("module \"{}\" ({})", scope.path, scope.type);
  return scope.callee.empty() ? text : text + ", " + scope.callee;
}

// ---- nodes

Proxies Tracer::emit_all(Op op, std::span<const Proxy> inputs, Attributes attributes) {
  Proxies none(static_cast<std::size_t>(op_def(op).outputs), Proxy(this, nullptr));
  if (has_failed()) return none;
  std::vector<Value*> values;
  for (const Proxy& p : inputs) {
    if (p.is_present() && p.tracer() != this) {
      fail(error(Code::invalid_argument, "{}: an input of {} belongs to another trace", where(), op_name(op)));
      return none;
    }
    values.push_back(p.value());
  }
  while (!values.empty() && values.back() == nullptr) values.pop_back();
  Result<Node*> node = graph_.create(op, std::move(values), std::move(attributes));
  if (!node.ok()) {
    fail(std::move(node).status().with_context(where()));
    return none;
  }
  (*node)->scope = current_scope();
  if (unit_) (*node)->origins = {unit_name_};
  Proxies out;
  for (std::size_t i = 0; i < (*node)->output_count(); ++i) out.emplace_back(this, (*node)->output(i));
  return out;
}

Proxy Tracer::emit(Op op, std::span<const Proxy> inputs, Attributes attributes) {
  return emit_all(op, inputs, std::move(attributes))[0];
}

Proxy Tracer::constant(Tensor value, std::string label) {
  if (has_failed()) return {this, nullptr};
  Value* v = graph_.constant(std::move(value), nullptr, std::move(label));
  v->def()->scope = current_scope();
  return {this, v};
}

Proxy Tracer::scalar(double value, const Proxy& like) {
  if (has_failed() || !like.is_present()) return {this, nullptr};
  Result<Tensor> t = Tensor::make(like.value()->type().dtype, {});
  if (!t.ok()) {
    fail(std::move(t).status());
    return {this, nullptr};
  }
  store_from_double(t->dtype(), t->mutable_bytes().data(), 0, value);
  return constant(std::move(*t));
}

Proxy Tracer::parameter(const Parameter& parameter) {
  if (!parameter.is_present() || has_failed()) return {this, nullptr};
  auto [it, inserted] = parameters_.try_emplace(&parameter, nullptr);
  if (inserted) {
    const std::string owner = relative(parameter.owner());
    const std::string label = owner.empty() ? parameter.name() : owner + "." + parameter.name();
    Value* v = graph_.constant(parameter.tensor(), nullptr, label);
    v->def()->scope = current_scope();
    // Read by the forward of a module that is no unit: an attribute of that module.
    if (!unit_) {
      v->def()->scope.callee = "getattr";
      v->def()->origins.push_back(names_.create(label));
    }
    it->second = v;
  }
  return {this, it->second};
}

void Tracer::fail(Status status) {
  if (!has_failed()) status_ = std::move(status);
}

Result<Graph> Tracer::finish(const std::vector<TraceInput>& inputs, const TraceBody& forward) {
  Proxies in;
  for (const TraceInput& input : inputs) {
    Value* v = graph_.input(input.name, input.type);
    v->def()->origins = {names_.create(input.name)};
    in.emplace_back(this, v);
  }
  const Proxies out = forward(in);
  AOQ_TRY(std::move(status_));
  std::vector<Value*> values;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!out[i].is_present()) return error(Code::invalid_argument, "forward: result {} is absent", i);
    values.push_back(out[i].value());
    names.push_back(out.size() == 1 ? "output" : fmt::format("output_{}", i));
  }
  AOQ_TRY(graph_.output(std::move(values), std::move(names)));
  return std::move(graph_);
}

Result<Graph> symbolic_trace(Module& root, const std::vector<TraceInput>& inputs, const TraceBody& forward,
                             const TraceOptions& options) {
  Tracer tracer(root, options);
  return tracer.finish(inputs, forward);
}

Result<Graph> symbolic_trace(Module& module, const TraceInput& input, const TraceOptions& options) {
  return symbolic_trace(
      module, std::vector<TraceInput>{input},
      [&](std::span<const Proxy> in) {
        // A leaf traced by itself is a unit; another module's own name says nothing.
        return module.is_leaf() ? Proxies{module(in[0])} : Proxies{module.forward(in[0])};
      },
      options);
}

}  // namespace aoq::nn
