// The symbolic tracer: runs a model's forward once on proxies and keeps what it did as a graph.
//
// Nodes carry where they come from: a built-in module's nodes have its path and type ({"encoder.fc1", "Linear"}); what
// a function or method made has the surrounding module's path and type and the callee ("F.relu"). Names are those that
// PyTorch FX gives (ir/nn/namer.h), as the first origin.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/nn/namer.h"
#include "ir/nn/proxy.h"

namespace aoq::nn {

class Module;
class Parameter;

struct TraceInput {
  std::string name;
  Type type;
};

struct TraceOptions {
  std::string graph_name = "main";
  // Modules, by path or by type, that stay one unit: recipes treat them as one op of an unknown kind, left in float.
  std::vector<std::string> leaf_names;
  std::vector<std::string> leaf_classes;
  std::map<std::string, SymbolRange> symbols;  // of the dimensions in the input types
  // Attributes of the model that go along in the graph's metadata: text, or JSON for lists and numbers.
  std::map<std::string, std::string> attributes;
};

// The graph of a module with one input and one result.
Result<Graph> symbolic_trace(Module& module, const TraceInput& input, const TraceOptions& options = {});
// Of anything: `forward` is called once with a proxy for each input. Paths are relative to `root`.
using TraceBody = std::function<Proxies(std::span<const Proxy> inputs)>;
Result<Graph> symbolic_trace(Module& root, const std::vector<TraceInput>& inputs, const TraceBody& forward,
                             const TraceOptions& options = {});

// Where a traced graph's metadata has the classes of modules that are no units: "path class", one a line.
inline constexpr const char* kModuleClasses = "module_classes";

// What modules and functions emit nodes through. A trace owns one; nothing else makes one.
class Tracer {
 public:
  Tracer(Module& root, const TraceOptions& options);

  // Nodes made while it lives belong to one unit: a leaf module or a function. Inside another one it does nothing.
  class Unit {
   public:
    Unit(Tracer* tracer, std::string_view callee);
    Unit(Tracer* tracer, const Module& leaf);
    ~Unit();
    Unit(const Unit&) = delete;
    Unit& operator=(const Unit&) = delete;

   private:
    Tracer* tracer_ = nullptr;  // null: an outer unit is at work
  };

  // The module whose forward runs from here on; a unit of its own when it is a leaf.
  class Entered {
   public:
    Entered(Tracer* tracer, const Module& module);
    ~Entered();
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

   private:
    Tracer* tracer_;
    std::optional<Unit> unit_;
  };

  // One node; the results as proxies (null ones after an error).
  Proxies emit_all(Op op, std::span<const Proxy> inputs, Attributes attributes);
  Proxy emit(Op op, std::span<const Proxy> inputs, Attributes attributes = {});
  Proxy emit(Op op, std::initializer_list<Proxy> inputs, Attributes attributes = {}) {
    return emit(op, std::span<const Proxy>(inputs.begin(), inputs.size()), std::move(attributes));
  }
  Proxy constant(Tensor value, std::string label = {});
  // A constant of the dtype and rank 0 of `like`'s elements.
  Proxy scalar(double value, const Proxy& like);
  // The parameter's value: one constant however often it is read. Absent ones give an absent proxy.
  Proxy parameter(const Parameter& parameter);

  void fail(Status status);
  bool has_failed() const { return !status_.ok(); }
  Result<Graph> finish(const std::vector<TraceInput>& inputs, const TraceBody& forward);

 private:
  struct Frame {
    std::string path, type;
  };
  std::string relative(const Module& module) const;
  bool is_leaf(const Module& module, const std::string& path) const;
  void note_class(const std::string& path, const char* type);
  Scope current_scope() const;
  std::string where() const;

  Graph graph_;
  Status status_;
  Namer names_;
  const Module& root_;
  const TraceOptions& options_;
  std::vector<Frame> frames_;
  // The unit at work: its scope and name.
  std::optional<Scope> unit_;
  std::string unit_name_;
  std::map<const Parameter*, Value*> parameters_;
};

}  // namespace aoq::nn
