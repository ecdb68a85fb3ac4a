// Units: the nodes of a graph as PyTorch FX would have them, one per module call, function or method.
//
// A module that is several nodes of ours (an LSTM over two layers, a convolution with its relu) is one unit: its nodes
// carry one name and one scope. Constants belong to their readers, except attributes that a forward reads by name.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace aoq::fx {

enum class UnitKind : std::uint8_t { placeholder, get_attr, call_module, call_function, call_method, output };

struct Unit {
  UnitKind kind = UnitKind::call_module;
  std::string name;             // FX's name of the node
  std::vector<Node*> nodes;     // in order
  std::vector<Value*> inputs;   // what comes from other units, in the order it is read; each once for several nodes
  std::vector<Value*> results;  // what other units read; at least the last node's first result

  const Scope& scope() const { return nodes.front()->scope; }
  // The node that decides what the unit is: the weighted one, else the first.
  Node* main() const;
  bool is_traced = false;  // from the module API: types are PyTorch's

  // What patterns and recipes may call it: the callee of a function or method, else the module type, and for imported
  // models, whose types are another format's, the op's name.
  std::vector<std::string> keys() const;
  bool is_call() const {
    return kind == UnitKind::call_module || kind == UnitKind::call_function || kind == UnitKind::call_method;
  }
};

class Units {
 public:
  // `graph` must stay as it is while this is used.
  explicit Units(const Graph& graph);

  const std::vector<Unit>& all() const { return units_; }
  // Index of the unit that makes a value; -1 for constants that belong to a reader.
  int of(const Value* value) const;
  int of(const Node* node) const;
  // Indexes of the units that read a value, in order, each once.
  std::vector<int> readers(const Value* value) const;

 private:
  void collect(const Graph& graph);
  void connect();

  std::vector<Unit> units_;
  std::map<const Node*, int> index_;
};

}  // namespace aoq::fx
