#include "ir/graph.h"

#include <algorithm>
#include <new>
#include <unordered_map>

#include "ir/checked.h"

namespace aoq {

std::string Node::label() const {
  return origins.empty() ? fmt::format("<{}>", def().name) : origins.front();
}

std::string describe(const Node& node) {
  return fmt::format("node {} ({})", node.label(), node.def().name);
}

Graph::Graph(Graph&& other) noexcept {
  *this = std::move(other);
}

Graph& Graph::operator=(Graph&& other) noexcept {
  if (this == &other) return *this;
  clear();
  name = std::move(other.name);
  stage = other.stage;
  symbols = std::move(other.symbols);
  metadata = std::move(other.metadata);
  first_ = std::exchange(other.first_, nullptr);
  last_ = std::exchange(other.last_, nullptr);
  count_ = std::exchange(other.count_, 0);
  return *this;
}

Graph::~Graph() {
  clear();
}

void Graph::clear() {
  while (first_ != nullptr) {
    Node* next = first_->next_;
    delete first_;
    first_ = next;
  }
  last_ = nullptr;
  count_ = 0;
}

Graph Graph::clone() const {
  Graph copy;
  copy.name = name;
  copy.stage = stage;
  copy.symbols = symbols;
  copy.metadata = metadata;
  std::unordered_map<const Value*, Value*> mapped;
  for (const Node* n : nodes()) {
    auto owned = std::make_unique<Node>();
    Node* m = owned.get();
    m->op_ = n->op_;
    m->scope = n->scope;
    m->origins = n->origins;
    m->requested = n->requested;
    m->reason = n->reason;
    m->attributes_ = n->attributes_;
    for (std::size_t i = 0; i < n->inputs_.size(); ++i) {
      Value* v = n->inputs_[i] ? mapped.at(n->inputs_[i]) : nullptr;
      m->inputs_.push_back(v);
    }
    for (const auto& out : n->outputs_) {
      auto v = std::make_unique<Value>();
      v->def_ = m;
      v->index_ = out->index_;
      v->type_ = out->type_;
      mapped[out.get()] = v.get();
      m->outputs_.push_back(std::move(v));
    }
    add_uses(m);
    copy.link(owned.release(), nullptr);
  }
  return copy;
}

void Graph::link(Node* node, Node* before) {
  node->next_ = before;
  node->previous_ = before ? before->previous_ : last_;
  (node->previous_ ? node->previous_->next_ : first_) = node;
  (before ? before->previous_ : last_) = node;
  ++count_;
}

void Graph::unlink(Node* node) {
  (node->previous_ ? node->previous_->next_ : first_) = node->next_;
  (node->next_ ? node->next_->previous_ : last_) = node->previous_;
  --count_;
}

std::vector<Node*> Graph::input_nodes() const {
  std::vector<Node*> out;
  for (Node* n : nodes()) {
    if (n->is(Op::input)) out.push_back(n);
  }
  return out;
}

Node* Graph::output_node() const {
  for (Node* n = last_; n != nullptr; n = n->previous_) {
    if (n->is(Op::output)) return n;
  }
  return nullptr;
}

namespace {

std::vector<const Type*> types_of(const std::vector<Value*>& inputs) {
  std::vector<const Type*> types;
  types.reserve(inputs.size());
  for (const Value* v : inputs) types.push_back(v ? &v->type() : nullptr);
  return types;
}

// Keeps later arithmetic on dimensions far from overflow.
Status check_size(const Type& type) {
  if (type.shape.size() > kMaxRank) return error(Code::resource_limit, "rank {} is above {}", type.rank(), kMaxRank);
  std::vector<std::int64_t> known;
  for (const Dim& d : type.shape) {
    if (!d.is_constant()) continue;
    known.push_back(d.constant());
    if (d.constant() < 0 || d.constant() > checked::kMaxDimension) {
      return error(Code::invalid_model, "result is {}, where dimension {} is out of range", to_string(type),
                   d.constant());
    }
  }
  if (!checked::element_count(known)) return error(Code::resource_limit, "result is {}, too large", to_string(type));
  return {};
}

Result<std::vector<Type>> infer_types(const OpDef& def, const std::vector<Value*>& inputs,
                                      const Attributes& attributes) {
  std::vector<const Type*> types = types_of(inputs);
  AOQ_TRY(check_arity(def, types));
  AOQ_ASSIGN(std::vector<Type> results, def.infer(InferContext{def.op, types, attributes}));
  for (const Type& t : results) AOQ_TRY(check_size(t));
  return results;
}

}  // namespace

void Graph::add_uses(Node* node) {
  std::size_t i = 0;
  try {
    for (; i < node->inputs_.size(); ++i) {
      if (node->inputs_[i]) node->inputs_[i]->uses_.push_back({node, static_cast<int>(i)});
    }
  } catch (const std::bad_alloc&) {
    // The graph is as before.
    while (i-- > 0) {
      if (node->inputs_[i]) node->inputs_[i]->uses_.pop_back();
    }
    throw;
  }
}

Result<Node*> Graph::create(Op op, std::vector<Value*> inputs, Attributes attributes, Node* before) {
  const OpDef& def = op_def(op);
  Status completed = complete_attributes(def, attributes);
  if (!completed.ok()) return std::move(completed).with_context(def.name);
  while (!inputs.empty() && inputs.back() == nullptr) inputs.pop_back();
  Result<std::vector<Type>> types = infer_types(def, inputs, attributes);
  if (!types.ok()) return std::move(types).status().with_context(def.name);

  auto node = std::make_unique<Node>();
  node->op_ = op;
  node->inputs_ = std::move(inputs);
  node->attributes_ = std::move(attributes);
  for (std::size_t i = 0; i < types->size(); ++i) {
    auto v = std::make_unique<Value>();
    v->def_ = node.get();
    v->index_ = static_cast<int>(i);
    v->type_ = std::move((*types)[i]);
    node->outputs_.push_back(std::move(v));
  }
  add_uses(node.get());
  link(node.get(), before);
  return node.release();
}

Result<Node*> Graph::create_like(const Node& like, Op op, std::vector<Value*> inputs, Attributes attributes,
                                 Node* before) {
  AOQ_ASSIGN(Node * node, create(op, std::move(inputs), std::move(attributes), before));
  node->scope = like.scope;
  node->origins = like.origins;
  // What only moves data beside it was not asked for.
  if (node->def().has_trait(kDataMovement) && !like.def().has_trait(kDataMovement)) return node;
  node->requested = like.requested;
  node->reason = like.reason;
  return node;
}

Value* Graph::constant(Tensor value, Node* before, std::string origin) {
  Result<Node*> node = create(Op::constant, {}, {{"value", std::move(value)}}, before);
  AOQ_CHECK(node.ok());
  if (!origin.empty()) (*node)->origins.push_back(std::move(origin));
  return (*node)->output();
}

Value* Graph::input(std::string input_name, Type type) {
  Result<Node*> node = create(Op::input, {}, {{"name", input_name}, {"dtype", type.dtype}, {"shape", type.shape}});
  AOQ_CHECK(node.ok());
  (*node)->origins.push_back(std::move(input_name));
  return (*node)->output();
}

Status Graph::output(std::vector<Value*> values, std::vector<std::string> names) {
  return create(Op::output, std::move(values), {{"names", std::move(names)}}).status();
}

void Graph::set_input(Node* node, std::size_t operand, Value* value) {
  if (operand >= node->inputs_.size()) node->inputs_.resize(operand + 1, nullptr);
  Use use{node, static_cast<int>(operand)};
  if (Value* old = node->inputs_[operand]) std::erase(old->uses_, use);
  node->inputs_[operand] = value;
  if (value) value->uses_.push_back(use);
}

void Graph::replace_uses(Value* from, Value* to) {
  replace_uses_except(from, to, nullptr);
}

void Graph::replace_uses_except(Value* from, Value* to, const Node* except) {
  AOQ_CHECK(from != to);
  std::vector<Use> uses = from->uses_;
  for (const Use& use : uses) {
    if (use.user != except) set_input(use.user, static_cast<std::size_t>(use.operand), to);
  }
}

void Graph::erase(Node* node) {
  for (const auto& out : node->outputs_) AOQ_CHECK(out->uses_.empty());
  for (std::size_t i = 0; i < node->inputs_.size(); ++i) set_input(node, i, nullptr);
  unlink(node);
  delete node;
}

void Graph::move_before(Node* node, Node* before) {
  unlink(node);
  link(node, before);
}

Status Graph::infer(Node* node) {
  Result<std::vector<Type>> types = infer_types(node->def(), node->inputs_, node->attributes_);
  if (!types.ok()) return std::move(types).status().with_context(describe(*node));
  AOQ_CHECK(types->size() == node->outputs_.size());
  for (std::size_t i = 0; i < types->size(); ++i) node->outputs_[i]->type_ = std::move((*types)[i]);
  return {};
}

const Tensor* constant_tensor(const Value* value) {
  if (value == nullptr || !value->def()->is(Op::constant)) return nullptr;
  return &value->def()->attributes().tensor("value");
}

}  // namespace aoq
