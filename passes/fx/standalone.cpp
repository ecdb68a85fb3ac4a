#include "passes/fx/standalone.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "ir/nn/namer.h"
#include "ir/nn/tracer.h"
#include "ir/region.h"
#include "ir/text.h"
#include "passes/rewrite/common.h"

namespace aoq::fx {

namespace {

constexpr const char* kClass = "aoq.standalone";
constexpr const char* kPaths = "standalone_modules";

// ---- the node that stands for a module: its settings are a graph whose inputs have the types of the results

std::string settings_of(const std::vector<Value*>& results, const Graph& graph, const std::string& id) {
  Graph types;
  types.name = id;
  types.symbols = graph.symbols;
  for (std::size_t i = 0; i < results.size(); ++i) types.input(fmt::format("r{}", i), results[i]->type());
  return print_text(types).text;
}

Result<std::vector<Type>> infer_stand_in(const InferContext& c) {
  AOQ_ASSIGN(const Graph graph, parse_text(c.attributes.string("settings"), {}));
  std::vector<Type> types;
  for (const Node* n : graph.input_nodes()) types.push_back(n->output()->type());
  return types;
}

Status run_stand_in(const EvalContext&) {
  return error(Code::internal, "a standalone module was left out of its graph");
}

Status register_stand_in() {
  static const Status status = register_region({.name = kClass,
                                                .doc = "Stands for a standalone module while a graph is prepared.",
                                                .infer = infer_stand_in,
                                                .reference = run_stand_in});
  return status;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// ---- which modules

// "path class", one a line.
std::vector<std::pair<std::string, std::string>> module_classes(const Graph& graph) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto noted = graph.metadata.find(nn::kModuleClasses);
  if (noted == graph.metadata.end()) return out;
  for (const std::string& line : lines_of(noted->second)) {
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) out.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return out;
}

struct Wanted {
  std::string path, recipe;
};

bool is_named(const std::vector<Wanted>& wanted, const std::string& path) {
  return std::ranges::any_of(wanted, [&](const Wanted& w) { return w.path == path; });
}

// Names go before classes, and a module in another one is that one's matter.
std::vector<Wanted> wanted_modules(const Graph& graph, const Recipe& recipe) {
  std::vector<Wanted> all;
  for (const auto& [name, inner] : recipe.custom.standalone_module_name) {
    if (!is_named(all, name)) all.push_back({name, inner});
  }
  for (const auto& [type, inner] : recipe.custom.standalone_module_class) {
    for (const std::string& path : modules_of_class(graph, type)) {
      if (!is_named(all, path)) all.push_back({path, inner});
    }
  }
  std::vector<Wanted> outermost;
  for (const Wanted& w : all) {
    const bool is_inside =
        std::ranges::any_of(all, [&](const Wanted& o) { return o.path != w.path && is_in_module(w.path, o.path); });
    if (!is_inside) outermost.push_back(w);
  }
  return outermost;
}

// ---- taking out

// Nodes of one call: those that are connected by values made inside.
std::vector<std::vector<Node*>> calls_of(const std::vector<Node*>& nodes) {
  std::map<const Node*, std::size_t> call_of;
  for (std::size_t i = 0; i < nodes.size(); ++i) call_of[nodes[i]] = i;
  for (const Node* n : nodes) {
    for (const Value* v : n->inputs()) {
      const auto maker = v == nullptr ? call_of.end() : call_of.find(v->def());
      if (maker == call_of.end()) continue;
      const std::size_t from = maker->second, to = call_of[n];
      for (auto& [node, call] : call_of) {
        if (call == from) call = to;
      }
    }
  }
  std::vector<std::vector<Node*>> calls;
  std::map<std::size_t, std::size_t> index;
  for (Node* n : nodes) {
    const auto [it, is_new] = index.try_emplace(call_of[n], calls.size());
    if (is_new) calls.emplace_back();
    calls[it->second].push_back(n);
  }
  return calls;
}

Status not_one_piece(const std::string& path) {
  return error(ErrorId::recipe_invalid,
               "standalone module \"{}\" is not one piece: what it reads depends on what it makes, or parts of it are "
               "called from outside",
               path);
}

bool is_same_call(const std::vector<Node*>& a, const std::vector<Node*>& b) {
  return std::ranges::equal(a, b, [](const Node* x, const Node* y) { return x->is(y->op()) && x->scope == y->scope; });
}

class Extraction {
 public:
  Extraction(Graph& graph, const std::string& path, std::vector<Node*> nodes)
      : graph_(graph), path_(path), nodes_(std::move(nodes)), inside_(nodes_.begin(), nodes_.end()) {
    find_borders();
  }

  // Whether nothing outside reads what it makes.
  bool is_dead() const { return results_.empty(); }

  struct Part {
    Graph graph;
    std::string settings;
  };
  Result<Part> run(const std::string& id) {
    AOQ_ASSIGN(Node * before, place());
    Graph part;
    part.name = path_;
    part.stage = graph_.stage;
    part.symbols = graph_.symbols;
    part.metadata = graph_.metadata;
    part.metadata.erase(kPaths);
    note_classes(part);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const std::string name = fmt::format("input_{}", i);
      Value* v = part.input(name, inputs_[i]->type());
      v->def()->origins = {name};
      mapped_[inputs_[i]] = v;
    }
    for (const Node* n : nodes_) AOQ_TRY(copy(*n, part));
    std::vector<Value*> results;
    std::vector<std::string> names;
    for (const Value* v : results_) {
      results.push_back(mapped_.at(v));
      names.push_back(fmt::format("output_{}", names.size()));
    }
    AOQ_TRY(part.output(std::move(results), std::move(names)));
    std::string settings = settings_of(results_, graph_, id);
    AOQ_TRY(replace(settings, before));
    return Part{std::move(part), std::move(settings)};
  }

 private:
  void find_borders() {
    for (Node* n : nodes_) {
      for (Value* v : n->inputs()) {
        const bool is_foreign = v != nullptr && !inside_.contains(v->def()) && constant_tensor(v) == nullptr;
        if (is_foreign && std::ranges::find(inputs_, v) == inputs_.end()) inputs_.push_back(v);
      }
      for (std::size_t i = 0; i < n->output_count(); ++i) {
        const bool leaves =
            std::ranges::any_of(n->output(i)->uses(), [&](const Use& u) { return !inside_.contains(u.user); });
        if (leaves) results_.push_back(n->output(i));
      }
    }
  }

  // Behind the last node of the module; everything outside must lie before or behind that.
  Result<Node*> place() const {
    std::set<const Node*> above;
    for (const Node* n = nodes_.back(); n != nullptr; n = n->previous()) above.insert(n);
    for (const Value* v : inputs_) {
      if (!above.contains(v->def())) return not_one_piece(path_);
    }
    for (const Value* v : results_) {
      for (const Use& use : v->uses()) {
        if (!inside_.contains(use.user) && above.contains(use.user)) return not_one_piece(path_);
      }
    }
    return nodes_.back()->next();
  }

  Scope relative(const Scope& scope) const {
    Scope out = scope;
    if (is_in_module(scope.path, path_)) out.path = scope.path.substr(std::min(path_.size() + 1, scope.path.size()));
    return out;
  }

  Status copy(const Node& n, Graph& part) {
    std::vector<Value*> inputs;
    for (Value* v : n.inputs()) {
      if (const Tensor* t = constant_tensor(v); t != nullptr && !mapped_.contains(v)) {
        Value* c = part.constant(*t);
        c->def()->origins = v->def()->origins;
        c->def()->scope = relative(v->def()->scope);
        mapped_[v] = c;
        constants_.push_back(v);
      }
      inputs.push_back(v == nullptr ? nullptr : mapped_.at(v));
    }
    AOQ_ASSIGN(Node * made, part.create(n.op(), std::move(inputs), n.attributes()));
    made->scope = relative(n.scope);
    made->origins = n.origins;
    made->requested = n.requested;
    made->reason = n.reason;
    for (std::size_t i = 0; i < n.output_count(); ++i) mapped_[n.output(i)] = made->output(i);
    return {};
  }

  Status replace(const std::string& settings, Node* before) {
    Attributes a{{"class", std::string(kClass)}, {"settings", settings}};
    AOQ_ASSIGN(Node * stand_in, graph_.create(Op::region, inputs_, std::move(a), before));
    stand_in->scope = {path_, class_of_module(), {}};
    std::string name = path_;
    std::ranges::replace(name, '.', '_');
    stand_in->origins = {name};
    for (std::size_t i = 0; i < results_.size(); ++i) graph_.replace_uses(results_[i], stand_in->output(i));
    for (auto n = nodes_.rbegin(); n != nodes_.rend(); ++n) graph_.erase(*n);
    for (Value* c : constants_) {
      if (c->uses().empty()) graph_.erase(c->def());
    }
    return {};
  }

  std::string class_of_module() const {
    for (const auto& [path, type] : module_classes(graph_)) {
      if (path == path_) return type;
    }
    for (const Node* n : nodes_) {
      if (n->scope.path == path_) return n->scope.type;
    }
    return {};
  }

  // The classes of the modules in it, by paths that begin at it.
  void note_classes(Graph& part) const {
    std::string text;
    for (const auto& [path, type] : module_classes(graph_)) {
      if (path != path_ && is_in_module(path, path_)) {
        text += fmt::format("{} {}\n", path.substr(path_.size() + 1), type);
      }
    }
    part.metadata[nn::kModuleClasses] = text;
  }

  Graph& graph_;
  const std::string& path_;
  const std::vector<Node*> nodes_;
  const std::set<const Node*> inside_;
  std::vector<Value*> inputs_, results_, constants_;
  std::map<const Value*, Value*> mapped_;
};

// The recipe of a module; where none is given, the qconfig that the recipe around it has for the module.
Result<std::unique_ptr<Recipe>> recipe_of(const Wanted& wanted, const Node& stand_in, const Recipe& outer) {
  auto inner = std::make_unique<Recipe>();
  if (wanted.recipe.empty()) {
    const QConfigMatch match = match_qconfig(outer, stand_in);
    inner->backend = outer.backend;
    inner->qat = outer.qat;
    inner->bias_correction = inner->equalization = false;
    if (match.qconfig != nullptr) inner->global = *match.qconfig;
    return inner;
  }
  AOQ_ASSIGN(*inner, parse_recipe(wanted.recipe));
  return inner;
}

Node* find_stand_in(const Graph& graph, const StandaloneModule& module) {
  for (Node* n : graph.nodes()) {
    if (n->is(Op::region) && n->attributes().string("settings") == module.settings) return n;
  }
  return nullptr;
}

Status check_inputs(const StandaloneModule& module) {
  const std::size_t inputs = module.graph.input_nodes().size();
  for (const CustomConfig::QuantizedInput& q : module.recipe->custom.quantized_inputs) {
    if (q.index >= 0 && static_cast<std::size_t>(q.index) < inputs) continue;
    return error(ErrorId::recipe_invalid, "standalone module \"{}\": quantized_inputs: {} is no input; it has {}",
                 module.path, q.index, inputs);
  }
  return {};
}

// ---- putting back

class Return {
 public:
  Return(Graph& graph, const StandaloneModule& module, Node* stand_in)
      : graph_(graph), module_(module), stand_in_(stand_in) {}

  Status run() {
    std::size_t next = 0;
    for (const Node* n : module_.graph.nodes()) {
      if (n->is(Op::input)) {
        mapped_[n->output()] = stand_in_->input(next++);
      } else if (n->is(Op::output)) {
        for (std::size_t i = 0; i < n->inputs().size(); ++i) {
          graph_.replace_uses(stand_in_->output(i), mapped_.at(n->input(i)));
        }
      } else {
        AOQ_TRY(copy(*n));
      }
    }
    graph_.erase(stand_in_);
    return {};
  }

 private:
  Status copy(const Node& n) {
    std::vector<Value*> inputs;
    for (const Value* v : n.inputs()) inputs.push_back(v == nullptr ? nullptr : mapped_.at(v));
    AOQ_ASSIGN(Node * made, graph_.create(n.op(), std::move(inputs), n.attributes(), stand_in_));
    made->scope = n.scope;
    made->scope.path = inner_path(n.scope.path);
    made->origins = n.origins;
    made->requested = n.requested;
    made->reason = n.reason;
    if (n.is(Op::observe)) rename(made);
    if (n.attributes().has("place")) {
      made->set_attribute("place", inner_path(n.attributes().string("place")));
    }
    for (std::size_t i = 0; i < n.output_count(); ++i) mapped_[n.output(i)] = made->output(i);
    return {};
  }

  std::string inner_path(const std::string& path) const {
    return path.empty() ? module_.path : module_.path + "." + path;
  }

  // A weight's observer has the weight's name, which is whole.
  void rename(Node* observe) const {
    const std::string name = observe->attributes().string("observer");
    const Node& observed = *observe->input(0)->def();
    if (observed.is(Op::constant) && observed.label() == name) return;
    observe->set_attribute("observer", inner_path(name));
    observe->origins = {inner_path(name)};
  }

  Graph& graph_;
  const StandaloneModule& module_;
  Node* stand_in_;
  std::map<const Value*, Value*> mapped_;
};

// ---- looking at them again

// Observers and stubs are where their names say, everything else where its module is.
bool lies_in(const Node& n, const std::string& module) {
  const bool is_observer = n.is(Op::observe) || n.scope.type == "Observer";
  if (is_observer && !n.origins.empty()) return n.origins[0].starts_with(module + ".");
  return is_in_module(n.scope.path, module);
}

// The names that a trace of this graph alone would give.
void rename_units(Graph& graph, const std::string& module) {
  nn::Namer names;
  std::map<std::string, std::string> renamed;
  for (Node* n : graph.nodes()) {
    if (n->origins.empty() || n->is(Op::constant) || n->is(Op::input)) continue;
    std::string& own = n->origins[0];
    if (n->is(Op::observe) || n->scope.type == "Observer") {
      if (!module.empty() && own.starts_with(module + ".")) own = own.substr(module.size() + 1);
      continue;
    }
    const auto [it, is_new] = renamed.try_emplace(own);
    const std::string& callee = n->scope.callee;
    const bool is_function = !callee.empty() && callee != "leaf" && callee != "module";
    if (is_new) it->second = names.create(is_function ? callee.substr(callee.find_last_of('.') + 1) : n->scope.path);
    own = it->second;
  }
}

void note_path(Graph& graph, const std::string& path) {
  std::string& all = graph.metadata[kPaths];
  const std::vector<std::string> paths = lines_of(all);
  if (std::ranges::find(paths, path) == paths.end()) all += path + "\n";
}

}  // namespace

bool StandaloneModule::takes_codes(std::size_t input) const {
  return std::ranges::any_of(recipe->custom.quantized_inputs,
                             [&](const auto& q) { return q.index == static_cast<std::int64_t>(input); });
}

bool StandaloneModule::gives_codes(std::size_t result) const {
  return std::ranges::any_of(recipe->custom.quantized_outputs,
                             [&](std::int64_t k) { return k == static_cast<std::int64_t>(result); });
}

bool is_in_module(const std::string& path, const std::string& module) {
  return path == module || (path.size() > module.size() && path.starts_with(module) && path[module.size()] == '.');
}

std::vector<std::string> modules_of_class(const Graph& graph, const std::string& type) {
  std::vector<std::string> paths;
  const auto add = [&](const std::string& path) {
    if (!path.empty() && std::ranges::find(paths, path) == paths.end()) paths.push_back(path);
  };
  for (const auto& [path, noted] : module_classes(graph)) {
    if (noted == type) add(path);
  }
  // What a function made and fusing moved into a layer has the class of the module around.
  if (!paths.empty()) return paths;
  for (const Node* n : graph.nodes()) {
    if (n->scope.type == type) add(n->scope.path);
  }
  return paths;
}

Result<std::vector<StandaloneModule>> take_out_standalone(Graph& graph, const Recipe& recipe) {
  std::vector<StandaloneModule> modules;
  if (recipe.custom.standalone_module_name.empty() && recipe.custom.standalone_module_class.empty()) return modules;
  AOQ_TRY(register_stand_in());
  for (const Wanted& wanted : wanted_modules(graph, recipe)) {
    std::vector<Node*> nodes;
    for (Node* n : graph.nodes()) {
      if (!n->is(Op::constant) && is_in_module(n->scope.path, wanted.path)) nodes.push_back(n);
    }
    std::vector<std::vector<Node*>> calls = calls_of(nodes);
    for (const std::vector<Node*>& call : calls) {
      if (!is_same_call(call, calls.front())) return not_one_piece(wanted.path);
    }
    for (std::vector<Node*>& call : calls) {
      Extraction extraction(graph, wanted.path, std::move(call));
      if (extraction.is_dead()) continue;
      AOQ_ASSIGN(Extraction::Part part, extraction.run(fmt::format("{} {}", wanted.path, modules.size())));
      StandaloneModule module{wanted.path, nullptr, std::move(part.graph), std::move(part.settings)};
      AOQ_ASSIGN(module.recipe, recipe_of(wanted, *find_stand_in(graph, module), recipe));
      AOQ_TRY(check_inputs(module));
      modules.push_back(std::move(module));
    }
  }
  return modules;
}

const StandaloneModule* standalone_of(const std::vector<StandaloneModule>& modules, const Node& node) {
  if (!node.is(Op::region)) return nullptr;
  for (const StandaloneModule& m : modules) {
    if (m.settings == node.attributes().string("settings")) return &m;
  }
  return nullptr;
}

Status put_back_standalone(Graph& graph, std::vector<StandaloneModule>& modules) {
  for (StandaloneModule& module : modules) {
    Node* stand_in = find_stand_in(graph, module);
    if (stand_in == nullptr) continue;  // nobody read its result
    AOQ_TRY(Return(graph, module, stand_in).run().with_context(fmt::format("standalone module \"{}\"", module.path)));
    note_path(graph, module.path);
    const auto nested = module.graph.metadata.find(kPaths);
    if (nested == module.graph.metadata.end()) continue;
    for (const std::string& path : lines_of(nested->second)) note_path(graph, module.path + "." + path);
  }
  modules.clear();
  return {};
}

Result<std::vector<StandaloneView>> split_standalone(Graph& graph) {
  std::vector<StandaloneView> views;
  const auto noted = graph.metadata.find(kPaths);
  if (noted == graph.metadata.end()) return views;
  AOQ_TRY(register_stand_in());
  const std::vector<std::string> paths = lines_of(noted->second);
  for (const std::string& path : paths) {
    std::vector<Node*> nodes;
    for (Node* n : graph.nodes()) {
      if (!n->is(Op::constant) && lies_in(*n, path)) nodes.push_back(n);
    }
    bool is_first = true;
    for (std::vector<Node*>& call : calls_of(nodes)) {
      Extraction extraction(graph, path, std::move(call));
      if (extraction.is_dead()) continue;
      AOQ_ASSIGN(Extraction::Part part, extraction.run(fmt::format("{} {}", path, views.size())));
      if (!is_first) continue;
      is_first = false;
      for (const std::string& nested : paths) {
        if (nested != path && is_in_module(nested, path)) note_path(part.graph, nested.substr(path.size() + 1));
      }
      rename_units(part.graph, path);
      views.push_back({path, std::move(part.graph)});
    }
  }
  rename_units(graph, "");
  return views;
}

}  // namespace aoq::fx
