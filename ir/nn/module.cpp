#include "ir/nn/module.h"

#include <fmt/format.h>

namespace aoq::nn {

Parameter::Parameter(Module& owner, std::string name, std::vector<std::int64_t> shape, DType dtype)
    : owner_(owner), name_(std::move(name)) {
  Result<Tensor> zeros = Tensor::make(dtype, std::move(shape));
  if (zeros.ok()) {
    tensor_ = std::move(*zeros);
  } else {
    is_present_ = false;  // a shape that memory has no room for: the trace reports the absent operand
  }
  owner.parameters_.push_back(this);
}

std::string Parameter::path() const {
  const std::string owner = owner_.path();
  return owner.empty() ? name_ : owner + "." + name_;
}

Status Parameter::set(Tensor tensor) {
  if (tensor.dtype() != tensor_.dtype() || tensor.shape() != tensor_.shape()) {
    return error(Code::invalid_argument, "{}: found {}{}, expected {}{}", path(), dtype_name(tensor.dtype()),
                 shape_to_string(tensor.shape()), dtype_name(tensor_.dtype()), shape_to_string(tensor_.shape()));
  }
  tensor_ = std::move(tensor);
  return {};
}

void Parameter::fill(float value) {
  if (tensor_.dtype() != DType::f32) return;
  for (float& v : tensor_.mutable_as<float>()) v = value;
}

Status Parameter::convert(DType dtype) {
  if (!is_float(tensor_.dtype()) || tensor_.dtype() == dtype) return {};
  std::vector<float> values(static_cast<std::size_t>(tensor_.element_count()));
  dtype_info(tensor_.dtype()).to_float(tensor_.bytes().data(), 0, values);
  AOQ_ASSIGN(tensor_, Tensor::make(dtype, tensor_.shape()));
  dtype_info(dtype).from_float(values, tensor_.mutable_bytes().data(), 0);
  return {};
}

void Parameter::remove() {
  is_present_ = false;
  tensor_ = Tensor();
}

Proxy Parameter::operator()(const Proxy& like) const {
  return like.tracer() == nullptr ? Proxy() : like.tracer()->parameter(*this);
}

Module::Module(Slot slot) : parent_(slot.parent), name_(std::move(slot.name)) {
  if (parent_ != nullptr) parent_->children_.push_back(this);
}

Proxy Module::forward(const Proxy& x) {
  if (x.tracer() != nullptr) {
    x.tracer()->fail(error(Code::invalid_argument,
                           "module \"{}\" ({}) has no forward of one input: override it, or "
                           "derive from ModuleOf and call it with its own inputs",
                           path(), type_name()));
  }
  return {x.tracer(), nullptr};
}

Proxy Module::operator()(const Proxy& x) {
  Tracer::Entered entered(x.tracer(), *this);
  return forward(x);
}

std::string Module::path() const {
  if (parent_ == nullptr) return {};
  const std::string above = parent_->path();
  return above.empty() ? name_ : above + "." + name_;
}

void Module::collect(const std::string& prefix, std::map<std::string, Parameter*>& out) const {
  for (Parameter* p : parameters_) {
    if (p->is_present()) out.emplace(prefix + p->name(), p);
  }
  for (const Module* child : children_) child->collect(prefix + child->name() + ".", out);
}

std::map<std::string, Parameter*> Module::parameters() const {
  std::map<std::string, Parameter*> out;
  collect("", out);
  return out;
}

Module* Module::find(std::string_view relative_path) {
  if (relative_path.empty()) return this;
  for (Module* child : children_) {
    const std::string& name = child->name();
    if (!relative_path.starts_with(name)) continue;
    if (relative_path.size() == name.size()) return child;
    if (relative_path[name.size()] != '.') continue;
    if (Module* found = child->find(relative_path.substr(name.size() + 1))) return found;
  }
  return nullptr;
}

Status Module::to(DType dtype) {
  if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::f16) {
    return error(Code::invalid_argument, "a module's dtype is f32, bf16 or f16, found {}", dtype_name(dtype));
  }
  for (const auto& [name, p] : parameters()) AOQ_TRY(p->convert(dtype));
  return {};
}

Status Module::load_state(const StateDict& state) {
  const std::map<std::string, Parameter*> all = parameters();
  std::vector<std::string> missing, unexpected, wrong;
  for (const auto& [name, p] : all) {
    const auto found = state.find(name);
    if (found == state.end()) {
      if (p->is_required()) missing.push_back(name);
    } else if (found->second.dtype() != p->tensor().dtype() || found->second.shape() != p->tensor().shape()) {
      wrong.push_back(fmt::format("{} is {}{}, expected {}{}", name, dtype_name(found->second.dtype()),
                                  shape_to_string(found->second.shape()), dtype_name(p->tensor().dtype()),
                                  shape_to_string(p->tensor().shape())));
    }
  }
  for (const auto& [name, tensor] : state) {
    if (!all.contains(name) && !name.ends_with("num_batches_tracked")) unexpected.push_back(name);
  }
  if (!missing.empty() || !unexpected.empty() || !wrong.empty()) {
    auto list = [](const std::vector<std::string>& names) {
      return names.empty() ? std::string("none") : fmt::format("{}", fmt::join(names, ", "));
    };
    return error(Code::invalid_argument, "state of {}: missing: {}; not of this model: {}; of another shape: {}",
                 type_name(), list(missing), list(unexpected), list(wrong));
  }
  for (const auto& [name, p] : all) {
    if (const auto found = state.find(name); found != state.end()) AOQ_TRY(p->set(found->second));
  }
  return {};
}

StateDict Module::state() const {
  StateDict out;
  for (const auto& [name, p] : parameters()) out.emplace(name, p->tensor());
  return out;
}

}  // namespace aoq::nn
