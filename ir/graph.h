// Graph: a program in SSA form.
//
// Nodes form a list in which every value is defined before it is used. Graph inputs, constants and the one `output`
// node are ordinary nodes. A Graph owns its nodes, a node owns its values; pointers to them stay valid until they are
// erased. Not thread-safe while it is changed; a const Graph may be read from many threads.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ir/op.h"

namespace aoq {

class Graph;
class Node;

struct Use {
  Node* user;
  int operand;
  friend bool operator==(const Use&, const Use&) = default;
};

class Value {
 public:
  Node* def() const { return def_; }
  int index() const { return index_; }
  const Type& type() const { return type_; }
  void set_type(Type type) { type_ = std::move(type); }
  const std::vector<Use>& uses() const { return uses_; }
  bool has_one_use() const { return uses_.size() == 1; }

 private:
  friend class Graph;
  friend class Node;
  Node* def_ = nullptr;
  int index_ = 0;
  Type type_;
  std::vector<Use> uses_;
};

// The module a node came from, such as {"encoder.layer.0.attention.query", "Linear"}. A node that a function or method
// made in a module's forward has the module's path and type and the callee as the source spells it: "F.relu",
// "operator.add", ".view". It is empty for what a module is made of itself.
struct Scope {
  std::string path;
  std::string type;
  std::string callee = {};
  friend bool operator==(const Scope&, const Scope&) = default;
};

class Node {
 public:
  Op op() const { return op_; }
  const OpDef& def() const { return op_def(op_); }
  bool is(Op op) const { return op_ == op; }

  // Null where an optional input is absent.
  const std::vector<Value*>& inputs() const { return inputs_; }
  Value* input(std::size_t i) const { return i < inputs_.size() ? inputs_[i] : nullptr; }
  std::size_t output_count() const { return outputs_.size(); }
  Value* output(std::size_t i = 0) const { return outputs_[i].get(); }

  const Attributes& attributes() const { return attributes_; }
  void set_attribute(std::string_view name, Attribute value) { attributes_.set(name, std::move(value)); }

  Scope scope;
  // Names in the source model of what this node was made from; the first is its own.
  std::vector<std::string> origins;
  // The precision the recipe asked for ("int8", empty: none asked) and, where the node does not run in it, why.
  std::string requested;
  std::string reason;
  // The first origin, or "<op>" when there is none: for messages and reports.
  std::string label() const;

  Node* next() const { return next_; }
  Node* previous() const { return previous_; }

 private:
  friend class Graph;
  Op op_{};
  std::vector<Value*> inputs_;
  std::vector<std::unique_ptr<Value>> outputs_;
  Attributes attributes_;
  Node* previous_ = nullptr;
  Node* next_ = nullptr;
};

struct SymbolRange {
  std::int64_t min = 1;
  std::int64_t max = INT64_MAX;
  friend bool operator==(const SymbolRange&, const SymbolRange&) = default;
};

class Graph {
 public:
  Graph() = default;
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;
  ~Graph();
  // Constants share their bytes with the original.
  Graph clone() const;

  std::string name = "main";
  Stage stage = Stage::traced;
  std::map<std::string, SymbolRange> symbols;
  // Free text that travels with the model: producer, licence, class names, ...
  std::map<std::string, std::string> metadata;

  // Iterates in order. Nodes may be inserted while iterating; the current one may not be erased.
  class Iterator {
   public:
    explicit Iterator(Node* node) : node_(node) {}
    Node* operator*() const { return node_; }
    Iterator& operator++() {
      node_ = node_->next();
      return *this;
    }
    friend bool operator==(Iterator, Iterator) = default;

   private:
    Node* node_;
  };
  struct Range {
    Node* first;
    Iterator begin() const { return Iterator(first); }
    Iterator end() const { return Iterator(nullptr); }
  };
  Range nodes() const { return {first_}; }
  Node* first() const { return first_; }
  Node* last() const { return last_; }
  std::size_t node_count() const { return count_; }

  std::vector<Node*> input_nodes() const;
  Node* output_node() const;  // null while a graph is being built

  // Makes a node before `before` (null: at the end), with attributes completed and types inferred.
  Result<Node*> create(Op op, std::vector<Value*> inputs, Attributes attributes = {}, Node* before = nullptr);
  // Same, taking scope, origins and what was requested of `like`.
  Result<Node*> create_like(const Node& like, Op op, std::vector<Value*> inputs, Attributes attributes = {},
                            Node* before = nullptr);
  // A constant, or a graph input.
  Value* constant(Tensor value, Node* before = nullptr, std::string origin = {});
  Value* input(std::string name, Type type);
  Status output(std::vector<Value*> values, std::vector<std::string> names);

  void set_input(Node* node, std::size_t operand, Value* value);
  void replace_uses(Value* from, Value* to);
  // Like replace_uses, but the uses by `except` stay.
  void replace_uses_except(Value* from, Value* to, const Node* except);
  // Its values must have no uses left.
  void erase(Node* node);
  void move_before(Node* node, Node* before);
  // Infers the types of a node's results again, after its inputs or attributes changed.
  Status infer(Node* node);

 private:
  static void add_uses(Node* node);
  void link(Node* node, Node* before);
  void unlink(Node* node);
  void clear();

  Node* first_ = nullptr;
  Node* last_ = nullptr;
  std::size_t count_ = 0;
};

// The tensor of a constant value; null for other values (and for null).
const Tensor* constant_tensor(const Value* value);
// "node conv1/Conv (conv)": how messages name a node.
std::string describe(const Node& node);

}  // namespace aoq
