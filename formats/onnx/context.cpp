#include "formats/onnx/context.h"
#include "ir/error_id.h"

#include <algorithm>

namespace aoq::onnx {

NodeContext::NodeContext(Importer& importer, const NodeProto& node, std::vector<Binding*> inputs)
    : importer_(importer),
      node_(node),
      inputs_(std::move(inputs)),
      touched_(node.attributes.size()),
      results_(node.outputs.size()) {
  while (!inputs_.empty() && inputs_.back() == nullptr) inputs_.pop_back();
}

Result<Value*> NodeContext::input(std::size_t i) {
  if (!has(i)) return error(Code::invalid_model, "input {} is missing", i);
  return importer_.materialize(*inputs_[i]);
}

Result<Value*> NodeContext::optional_input(std::size_t i) {
  if (!has(i)) return static_cast<Value*>(nullptr);
  return input(i);
}

bool NodeContext::all_known() {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (has(i) && known(i) == nullptr) return false;
  }
  return true;
}

Result<std::vector<Dim>> NodeContext::dims_of_input(std::size_t i, std::string_view what) {
  if (!has(i)) return error(Code::invalid_model, "input {} ({}) is missing", i, what);
  if (const Known* k = known(i); k != nullptr && k->dtype != DType::f32) return k->elements;
  return error(Code::unsupported,
               "{} depends on data; only values that follow from the shapes of the graph inputs are supported", what);
}

Result<std::vector<std::int64_t>> NodeContext::integers_of(std::size_t i, std::string_view what) {
  AOQ_ASSIGN(std::vector<Dim> dims, dims_of_input(i, what));
  if (!all_constant(dims)) {
    return error(ErrorId::onnx_open_dimension, "{} is {}, which is not constant; bind the symbols to numbers", what,
                 aoq::to_string(dims));
  }
  return constants(dims);
}

Result<double> NodeContext::number_of(std::size_t i, std::string_view what) {
  const Tensor* t = constant(i);
  if (t == nullptr) return error(Code::unsupported, "{} is not constant", what);
  if (t->element_count() != 1)
    return error(Code::invalid_model, "{} has {} elements, expected 1", what, t->element_count());
  return load_as_double(t->dtype(), t->bytes().data(), 0);
}

const AttributeProto* NodeContext::peek(std::string_view name) const {
  for (const AttributeProto& a : node_.attributes) {
    if (a.name == name) return &a;
  }
  return nullptr;
}

void NodeContext::remember(Status status) {
  if (attribute_error_.ok()) attribute_error_ = std::move(status);
}

namespace {

// Old writers leave the type out; then the field that is set tells it.
bool has_type(const AttributeProto& a, AttributeType type) {
  if (a.type != AttributeType::undefined) return a.type == type;
  switch (type) {
    case AttributeType::reals:
      return a.ints.empty() && a.strings.empty();
    case AttributeType::integers:
      return a.floats.empty() && a.strings.empty();
    case AttributeType::tensor:
      return a.tensors.size() == 1;
    case AttributeType::graph:
      return a.graphs.size() == 1;
    default:
      return true;
  }
}

}  // namespace

const AttributeProto* NodeContext::typed(std::string_view name, AttributeType type) {
  const AttributeProto* a = raw(name);
  if (a == nullptr) return nullptr;
  if (!has_type(*a, type)) {
    remember(invalid("attribute {} has kind {}, expected {}", name, static_cast<int>(a->type), static_cast<int>(type)));
    return nullptr;
  }
  return a;
}

const AttributeProto* NodeContext::raw(std::string_view name) {
  for (std::size_t i = 0; i < node_.attributes.size(); ++i) {
    if (node_.attributes[i].name != name) continue;
    if (!node_.attributes[i].ref_name.empty())
      remember(unsupported("attribute {} refers to a function's attribute", name));
    touched_[i] = true;
    return &node_.attributes[i];
  }
  return nullptr;
}

std::int64_t NodeContext::integer(std::string_view name, std::int64_t otherwise) {
  const AttributeProto* a = typed(name, AttributeType::integer);
  return a ? a->i : otherwise;
}

double NodeContext::real(std::string_view name, double otherwise) {
  const AttributeProto* a = typed(name, AttributeType::real);
  return a ? static_cast<double>(a->f) : otherwise;
}

std::string NodeContext::string(std::string_view name, std::string otherwise) {
  const AttributeProto* a = typed(name, AttributeType::string);
  return a ? std::string(a->s.substr(0, 1024)) : std::move(otherwise);
}

std::vector<std::int64_t> NodeContext::integers(std::string_view name, std::vector<std::int64_t> otherwise) {
  const AttributeProto* a = typed(name, AttributeType::integers);
  return a ? a->ints : std::move(otherwise);
}

std::vector<double> NodeContext::reals(std::string_view name) {
  const AttributeProto* a = typed(name, AttributeType::reals);
  return a ? std::vector<double>(a->floats.begin(), a->floats.end()) : std::vector<double>{};
}

std::vector<std::string> NodeContext::strings(std::string_view name) {
  const AttributeProto* a = typed(name, AttributeType::strings);
  return a ? std::vector<std::string>(a->strings.begin(), a->strings.end()) : std::vector<std::string>{};
}

std::int64_t NodeContext::required_integer(std::string_view name) {
  if (peek(name) == nullptr) remember(invalid("attribute {} is missing", name));
  return integer(name, 0);
}

std::vector<std::int64_t> NodeContext::required_integers(std::string_view name) {
  if (peek(name) == nullptr) remember(invalid("attribute {} is missing", name));
  return integers(name);
}

void NodeContext::ignore(std::initializer_list<std::string_view> names) {
  for (std::string_view name : names) raw(name);
}

void NodeContext::only(std::string_view name, std::int64_t value) {
  std::int64_t given = integer(name, value);
  if (given != value) remember(unsupported("attribute {} = {} is not supported, only {}", name, given, value));
}

Status NodeContext::finish_attributes() const {
  if (!attribute_error_.ok()) return attribute_error_;
  for (std::size_t i = 0; i < touched_.size(); ++i) {
    if (!touched_[i]) return unsupported("attribute \"{}\" is not supported", node_.attributes[i].name);
  }
  return {};
}

Result<std::vector<Value*>> NodeContext::emit_all(Op op, std::vector<Value*> inputs, Attributes attributes) {
  return importer_.emit(this, op, std::move(inputs), std::move(attributes));
}

Result<Value*> NodeContext::emit(Op op, std::vector<Value*> inputs, Attributes attributes) {
  AOQ_ASSIGN(std::vector<Value*> results, emit_all(op, std::move(inputs), std::move(attributes)));
  return results.front();
}

Value* NodeContext::constant_value(Tensor tensor) {
  Value* value = importer_.graph().constant(std::move(tensor), nullptr, origin());
  value->def()->scope = scope();
  return value;
}

Value* NodeContext::scalar(DType dtype, double value) {
  Result<Tensor> t = Tensor::make(dtype, {});
  AOQ_CHECK(t.ok());
  if (is_integer(dtype)) {
    store_integer(dtype, t->mutable_bytes().data(), 0, static_cast<std::int64_t>(value));
  } else {
    store_from_double(dtype, t->mutable_bytes().data(), 0, value);
  }
  return constant_value(std::move(*t));
}

Result<Value*> NodeContext::reshape(Value* x, std::vector<Dim> shape) {
  if (x->type().shape == shape) return x;
  return emit(Op::reshape, {x}, {{"shape", std::move(shape)}});
}

Result<Value*> NodeContext::cast(Value* x, DType dtype) {
  if (x->type().dtype == dtype) return x;
  return emit(Op::cast, {x}, {{"dtype", dtype}});
}

Result<Value*> NodeContext::permute(Value* x, std::vector<std::int64_t> perm) {
  if (std::is_sorted(perm.begin(), perm.end())) return x;
  return emit(Op::permute, {x}, {{"perm", std::move(perm)}});
}

Result<Value*> NodeContext::expand(Value* x, std::vector<Dim> shape) {
  if (x->type().shape == shape) return x;
  return emit(Op::expand, {x}, {{"shape", std::move(shape)}});
}

Status NodeContext::result(Result<Value*> value, std::size_t i) {
  if (!value.ok()) return std::move(value).status();
  return result(*value, i);
}

Status NodeContext::result(Binding binding, std::size_t i) {
  if (i >= results_.size()) return {};
  results_[i] = std::move(binding);
  return {};
}

Scope NodeContext::scope() const {
  std::string_view name = node_.name;
  while (!name.empty() && name.front() == '/') name.remove_prefix(1);
  std::size_t last = name.rfind('/');
  std::string path(last == std::string_view::npos ? std::string_view() : name.substr(0, last));
  std::replace(path.begin(), path.end(), '/', '.');
  return Scope{std::move(path), std::string(node_.op_type), {}};
}

std::string NodeContext::origin() const {
  if (!node_.name.empty()) return std::string(node_.name);
  for (std::string_view out : node_.outputs) {
    if (!out.empty()) return std::string(out);
  }
  return std::string(node_.op_type);
}

Result<std::int64_t> normalized(std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) {
    return error(Code::invalid_model, "axis {} is out of range for rank {}", axis, rank);
  }
  return axis < 0 ? axis + rank : axis;
}

Result<std::vector<std::int64_t>> normalized(std::vector<std::int64_t> axes, std::int64_t rank) {
  for (std::int64_t& axis : axes) {
    AOQ_ASSIGN(axis, normalized(axis, rank));
  }
  std::vector<std::int64_t> sorted = axes;
  std::sort(sorted.begin(), sorted.end());
  auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) return error(Code::invalid_model, "axis {} is given twice", *twice);
  return axes;
}

}  // namespace aoq::onnx
