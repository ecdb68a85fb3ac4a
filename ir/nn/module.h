// Module: a piece of a model with parameters and submodules, written in C++ and traced into a graph.
//
//   struct Mlp : nn::Module {
//     nn::Linear fc1{at("fc1"), 16, 32};
//     nn::Linear fc2{at("fc2"), 32, 4};
//     const char* type_name() const override { return "Mlp"; }
//     nn::Proxy forward(const nn::Proxy& x) override { return fc2(nn::F::relu(fc1(x))); }
//   };
//
// A submodule is a member that is told its place: its name is the member's. Parameters are found by path
// ("fc1.weight"), as in a state dict. Modules live as long as their parents and can be neither copied nor moved. Not
// thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ir/nn/tracer.h"

namespace aoq::nn {

class Module;

// Where a module hangs: its parent and its name there. Empty for a root.
struct Slot {
  Module* parent = nullptr;
  std::string name;
};

class Parameter {
 public:
  // Zeros until a state is loaded. `owner` must outlive it. A parameter that is not `required` may be missing in a
  // state: it keeps its value.
  Parameter(Module& owner, std::string name, std::vector<std::int64_t> shape, DType dtype = DType::f32);
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  const std::string& name() const { return name_; }
  std::string path() const;
  Module& owner() const { return owner_; }
  const Tensor& tensor() const { return tensor_; }
  // invalid_argument when dtype or shape differ.
  Status set(Tensor tensor);
  void fill(float value);
  // To another float type, rounding its numbers; parameters that are no floats stay.
  Status convert(DType dtype);
  // A module may have been told to do without (bias = false): it is then no parameter of the module.
  bool is_present() const { return is_present_; }
  void remove();
  bool is_required() const { return is_required_; }
  void make_optional() { is_required_ = false; }

  // Its value in the trace that `like` belongs to, as an attribute that a forward reads by name.
  Proxy operator()(const Proxy& like) const;

 private:
  Module& owner_;
  std::string name_;
  Tensor tensor_;
  bool is_present_ = true, is_required_ = true;
};

using StateDict = std::map<std::string, Tensor>;

class Module {
 public:
  Module() = default;
  explicit Module(Slot slot);
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  // The class, as recipes and reports name it.
  virtual const char* type_name() const { return "Module"; }
  // One unit for the tracer: true of the built-in layers.
  virtual bool is_leaf() const { return false; }
  // One input, one result. Modules with other signatures derive from ModuleOf.
  virtual Proxy forward(const Proxy& x);
  Proxy operator()(const Proxy& x);

  const std::string& name() const { return name_; }
  Module* parent() const { return parent_; }
  std::string path() const;
  const std::vector<Module*>& children() const { return children_; }
  const std::vector<Parameter*>& own_parameters() const { return parameters_; }
  // All parameters below, by path relative to this module.
  std::map<std::string, Parameter*> parameters() const;
  // Null when there is none.
  Module* find(std::string_view relative_path);

  // Sets every parameter by name. invalid_argument naming what is missing, what nobody takes (entries ending in
  // "num_batches_tracked" are ignored) and which shapes differ; then nothing was changed.
  Status load_state(const StateDict& state);
  StateDict state() const;
  // Every float parameter to f32, bf16 or f16, as torch's module.to(dtype). invalid_argument for other types.
  Status to(DType dtype);

 protected:
  Slot at(std::string name) { return {this, std::move(name)}; }

 private:
  friend class Parameter;
  void collect(const std::string& prefix, std::map<std::string, Parameter*>& out) const;

  Module* parent_ = nullptr;
  std::string name_;
  std::vector<Module*> children_;
  std::vector<Parameter*> parameters_;
};

// For modules whose forward takes or returns something else than one value; D::forward may have any signature whose
// first argument is a Proxy.
//
//   struct Attention : nn::ModuleOf<Attention> {
//     using Module::forward;  // or the compiler may warn that it is hidden
//     nn::Proxy forward(const nn::Proxy& x, const nn::Proxy& mask);
//   };
template <class D>
class ModuleOf : public Module {
 public:
  using Module::Module;
  template <class... Rest>
  auto operator()(const Proxy& first, const Rest&... rest) {
    Tracer::Entered entered(first.tracer(), *this);
    return static_cast<D&>(*this).forward(first, rest...);
  }
};

}  // namespace aoq::nn
