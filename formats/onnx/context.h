// What the handlers of ONNX ops work with. Included by formats/onnx/*.cpp only.
#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/onnx/importer.h"
#include "formats/onnx/wire.h"

namespace aoq::onnx {

// A small tensor whose elements are known as expressions: the currency of shape arithmetic.
struct Known {
  DType dtype = DType::i64;  // an integer type, boolean (0 or 1), or f32 when every element is an integer
  std::vector<std::int64_t> shape;
  std::vector<Dim> elements;

  bool is_constant() const { return all_constant(elements); }
};

// The most elements for which expressions are tracked.
inline constexpr std::int64_t kMaxKnown = 1024;

// What an ONNX name stands for. It enters the graph only when a node needs it as an operand.
struct Binding {
  Value* value = nullptr;
  std::optional<Tensor> tensor;
  std::optional<Known> known;
  bool known_tried = false;
  std::string origin;

  static Binding of(Value* v) {
    Binding b;
    b.value = v;
    return b;
  }
  static Binding of(Tensor t) {
    Binding b;
    b.tensor = std::move(t);
    return b;
  }
  static Binding of(Known k) {
    Binding b;
    b.known = std::move(k);
    b.known_tried = true;
    return b;
  }
};

class Importer;
class NodeContext;

// One row per ONNX op: the opsets it is understood for, its arity and what it becomes.
struct Handler {
  const char* op_type;
  int since;  // first opset of the row
  int until;  // last one, 0 for none
  int min_inputs;
  int max_inputs;  // -1: any number
  int max_outputs;
  Status (*run)(NodeContext&);
  // Shape arithmetic, tried first when every input is Known. False: not decidable, use `run`.
  Result<bool> (*known)(NodeContext&) = nullptr;
  // Operands whose elements the result is made of, as a bit mask: an op that only moves data needs no `known`.
  unsigned moves = 0;
};

inline constexpr int kAnyNumber = -1;
inline constexpr unsigned kMovesAll = ~0u;

// One list per family; handlers.cpp joins them.
std::span<const Handler> elementwise_handlers();
std::span<const Handler> nn_handlers();
std::span<const Handler> shape_handlers();
std::span<const Handler> reduce_handlers();
std::span<const Handler> recurrent_handlers();
std::span<const Handler> quant_handlers();
std::span<const Handler> control_handlers();

// The row for an op at an opset; null when there is none. `range` gets the opsets that are understood, for messages.
const Handler* find_handler(std::string_view op_type, int opset, std::string* range = nullptr);
bool is_default_domain(std::string_view domain);

// Dtypes by their number in the file format; empty for strings, complex numbers and unknown ones.
std::optional<DType> dtype_from_onnx(std::int64_t number);
std::string onnx_type_name(std::int64_t number);
Result<Tensor> to_tensor(const TensorProto& proto, const OnnxOptions& options);

// The elements of an integer or boolean tensor, or of an f32 tensor of integers; empty when it is too large or has
// other elements.
std::optional<Known> known_from_tensor(const Tensor& tensor);
Result<Tensor> tensor_from_known(const Known& known);
std::vector<std::int64_t> constants(std::span<const Dim> dims);
std::vector<Dim> dims_of(std::span<const std::int64_t> values);
Result<std::vector<Dim>> broadcast(std::span<const Dim> a, std::span<const Dim> b);
// min(max(v, low), high), simplified as far as the bounds of symbols allow.
Dim clamp_dim(const Dim& v, const Dim& low, const Dim& high);
// a / b rounded toward zero; empty when the signs cannot be told.
std::optional<Dim> truncated_div(const Dim& a, const Dim& b);
// Whether a == b, a < b: empty when it depends on the symbols.
std::optional<bool> decide_equal(const Dim& a, const Dim& b);
std::optional<bool> decide_less(const Dim& a, const Dim& b);

class Importer {
 public:
  Importer(const ModelProto& model, const OnnxOptions& options, int opset)
      : model_(model), options_(options), opset_(opset) {}

  Result<Graph> run();
  // Imports the nodes of a subgraph that sees the names around it; gives its outputs.
  Result<std::vector<Binding>> inline_subgraph(const GraphProto& subgraph);

  Graph& graph() { return graph_; }
  const OnnxOptions& options() const { return options_; }
  int opset() const { return opset_; }

  Binding* find(std::string_view name);
  Status define(std::string_view name, Binding binding);
  // Puts what a binding stands for into the graph.
  Result<Value*> materialize(Binding& binding);
  const Tensor* constant(Binding& binding) const;
  const Known* known(Binding& binding);
  Type type(const Binding& binding) const;
  // Creates a node, or its results as constants when everything it needs is constant.
  Result<std::vector<Value*>> emit(const NodeContext* context, Op op, std::vector<Value*> inputs,
                                   Attributes attributes);

 private:
  Status check_supported(const GraphProto& graph) const;
  Status add_initializers(const GraphProto& graph, bool is_main);
  Status add_inputs();
  Status add_outputs();
  Status add_metadata();
  Result<Type> input_type(const ValueInfoProto& info);
  Result<Dim> input_dim(const ValueInfoProto& info, std::size_t axis);
  std::string fresh_symbol(std::string wanted);
  Status import_nodes(const GraphProto& graph);
  Status import_node(const NodeProto& node);
  Status fold(Node* node, std::vector<Value*>& results);
  void drop_unused_constants();

  const ModelProto& model_;
  const OnnxOptions& options_;
  int opset_;
  Graph graph_;
  std::vector<std::unordered_map<std::string_view, Binding>> scopes_;
  std::map<std::string, std::string, std::less<>> symbols_;  // dim_param to symbol
  std::set<std::string, std::less<>> symbol_names_;
  std::set<std::string, std::less<>> bound_;  // names of options_.bind that were met
  std::int64_t folded_bytes_ = 0;
  int depth_ = 0;
};

// One ONNX node on its way into the graph. A wrong attribute is remembered and reported when the handler is done, so
// reading attributes needs no error handling.
class NodeContext {
 public:
  NodeContext(Importer& importer, const NodeProto& node, std::vector<Binding*> inputs);

  const NodeProto& node() const { return node_; }
  int opset() const { return importer_.opset(); }
  Importer& importer() { return importer_; }

  // Inputs. Trailing absent ones are not counted.
  std::size_t input_count() const { return inputs_.size(); }
  bool has(std::size_t i) const { return i < inputs_.size() && inputs_[i] != nullptr; }
  Binding& binding(std::size_t i) { return *inputs_[i]; }
  Result<Value*> input(std::size_t i);
  // Null when absent.
  Result<Value*> optional_input(std::size_t i);
  Type type(std::size_t i) const { return importer_.type(*inputs_[i]); }
  std::int64_t rank(std::size_t i) const { return type(i).rank(); }
  const Tensor* constant(std::size_t i) const { return has(i) ? importer_.constant(*inputs_[i]) : nullptr; }
  const Known* known(std::size_t i) { return has(i) ? importer_.known(*inputs_[i]) : nullptr; }
  bool all_known();
  // The elements of an input that must be known now; `what` names it in the message.
  Result<std::vector<std::int64_t>> integers_of(std::size_t i, std::string_view what);
  Result<std::vector<Dim>> dims_of_input(std::size_t i, std::string_view what);
  Result<double> number_of(std::size_t i, std::string_view what);

  // Attributes.
  bool has_attribute(std::string_view name) const { return peek(name) != nullptr; }
  std::int64_t integer(std::string_view name, std::int64_t otherwise);
  double real(std::string_view name, double otherwise);
  std::string string(std::string_view name, std::string otherwise);
  std::vector<std::int64_t> integers(std::string_view name, std::vector<std::int64_t> otherwise = {});
  std::vector<double> reals(std::string_view name);
  std::vector<std::string> strings(std::string_view name);
  std::int64_t required_integer(std::string_view name);
  std::vector<std::int64_t> required_integers(std::string_view name);
  const AttributeProto* raw(std::string_view name);
  // Attributes that do not matter for inference.
  void ignore(std::initializer_list<std::string_view> names);
  // unsupported unless the attribute is absent or has this value.
  void only(std::string_view name, std::int64_t value);
  Status finish_attributes() const;

  // Building.
  Result<Value*> emit(Op op, std::vector<Value*> inputs, Attributes attributes = {});
  Result<std::vector<Value*>> emit_all(Op op, std::vector<Value*> inputs, Attributes attributes = {});
  Value* constant_value(Tensor tensor);
  Value* scalar(DType dtype, double value);
  // Same value when nothing changes.
  Result<Value*> reshape(Value* x, std::vector<Dim> shape);
  Result<Value*> cast(Value* x, DType dtype);
  Result<Value*> permute(Value* x, std::vector<std::int64_t> perm);
  Result<Value*> expand(Value* x, std::vector<Dim> shape);

  // Outputs.
  bool wants(std::size_t i) const { return i < node_.outputs.size() && !node_.outputs[i].empty(); }
  Status result(Value* value, std::size_t i = 0) { return result(Binding::of(value), i); }
  Status result(Result<Value*> value, std::size_t i = 0);
  Status result(Binding binding, std::size_t i = 0);
  std::vector<Binding>& results() { return results_; }

  template <typename... Args>
  Status unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    return error(Code::unsupported, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  Status invalid(fmt::format_string<Args...> format, Args&&... args) const {
    return error(Code::invalid_model, format, std::forward<Args>(args)...);
  }

  Scope scope() const;
  std::string origin() const;

 private:
  const AttributeProto* peek(std::string_view name) const;
  const AttributeProto* typed(std::string_view name, AttributeType type);
  void remember(Status status);

  Importer& importer_;
  const NodeProto& node_;
  std::vector<Binding*> inputs_;
  std::vector<bool> touched_;
  Status attribute_error_;
  std::vector<Binding> results_;
};

// `axis` in [-rank, rank) to [0, rank).
Result<std::int64_t> normalized(std::int64_t axis, std::int64_t rank);
Result<std::vector<std::int64_t>> normalized(std::vector<std::int64_t> axes, std::int64_t rank);

}  // namespace aoq::onnx
