// The built-in modules, with PyTorch's names, parameters and defaults, in evaluation mode. Each is one unit of a trace.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ir/nn/functional.h"
#include "ir/nn/module.h"

namespace aoq::nn {

enum class Bias : std::uint8_t { with, without };

class Layer : public Module {
 public:
  using Module::Module;
  bool is_leaf() const override { return true; }
};

// weight [out, in], bias [out]; x [..., in].
class Linear : public Layer {
 public:
  Linear(Slot slot, std::int64_t in, std::int64_t out, Bias with_bias = Bias::with);
  const char* type_name() const override { return "Linear"; }
  Proxy forward(const Proxy& x) override;

  Parameter weight, bias;
};

// weight [out, in / groups, kernel...], or [in, out / groups, kernel...] transposed; x [N, in, spatial...].
class ConvNd : public Layer {
 public:
  struct Form {
    const char* type_name;
    std::size_t spatial;
    Op op;
  };
  ConvNd(Slot slot, Form form, std::int64_t in, std::int64_t out, Sizes kernel, ConvOptions options, Bias with_bias);
  const char* type_name() const override { return form_.type_name; }
  Proxy forward(const Proxy& x) override;
  const ConvOptions& options() const { return options_; }
  void set_options(ConvOptions options) { options_ = std::move(options); }

 private:
  Form form_;
  ConvOptions options_;

 public:
  Parameter weight, bias;
};

#define AOQ_NN_CONV(Type, spatial, op)                                                                                \
  class Type : public ConvNd {                                                                                        \
   public:                                                                                                            \
    Type(Slot slot, std::int64_t in, std::int64_t out, Sizes kernel, ConvOptions options = {},                        \
         Bias with_bias = Bias::with)                                                                                 \
        : ConvNd(std::move(slot), {#Type, spatial, op}, in, out, std::move(kernel), std::move(options), with_bias) {} \
  };
AOQ_NN_CONV(Conv1d, 1, Op::conv)
AOQ_NN_CONV(Conv2d, 2, Op::conv)
AOQ_NN_CONV(Conv3d, 3, Op::conv)
AOQ_NN_CONV(ConvTranspose1d, 1, Op::conv_transpose)
AOQ_NN_CONV(ConvTranspose2d, 2, Op::conv_transpose)
AOQ_NN_CONV(ConvTranspose3d, 3, Op::conv_transpose)
#undef AOQ_NN_CONV

// weight, bias, running_mean, running_var [features].
class BatchNormNd : public Layer {
 public:
  BatchNormNd(Slot slot, const char* type_name, std::int64_t features, double eps);
  const char* type_name() const override { return type_name_; }
  Proxy forward(const Proxy& x) override;

 private:
  const char* type_name_;

 public:
  double eps;
  Parameter weight, bias, running_mean, running_var;
};

#define AOQ_NN_BATCH_NORM(Type)                                     \
  class Type : public BatchNormNd {                                 \
   public:                                                          \
    Type(Slot slot, std::int64_t features, double epsilon = 1e-5)   \
        : BatchNormNd(std::move(slot), #Type, features, epsilon) {} \
  };
AOQ_NN_BATCH_NORM(BatchNorm1d)
AOQ_NN_BATCH_NORM(BatchNorm2d)
AOQ_NN_BATCH_NORM(BatchNorm3d)
#undef AOQ_NN_BATCH_NORM

class LayerNorm : public Layer {
 public:
  LayerNorm(Slot slot, Sizes normalized_shape, double epsilon = 1e-5);
  const char* type_name() const override { return "LayerNorm"; }
  Proxy forward(const Proxy& x) override;

  double eps;
  Parameter weight, bias;
};

class GroupNorm : public Layer {
 public:
  GroupNorm(Slot slot, std::int64_t groups, std::int64_t channels, double epsilon = 1e-5);
  const char* type_name() const override { return "GroupNorm"; }
  Proxy forward(const Proxy& x) override;

  std::int64_t groups;
  double eps;
  Parameter weight, bias;
};

// Without `affine` it has no parameters, as PyTorch's default.
class InstanceNorm2d : public Layer {
 public:
  InstanceNorm2d(Slot slot, std::int64_t features, double epsilon = 1e-5, Bias affine = Bias::without);
  const char* type_name() const override { return "InstanceNorm2d"; }
  Proxy forward(const Proxy& x) override;

  double eps;
  Parameter weight, bias;
};

// weight [count, width]; indices of any shape, integers.
class Embedding : public Layer {
 public:
  Embedding(Slot slot, std::int64_t count, std::int64_t width);
  const char* type_name() const override { return "Embedding"; }
  Proxy forward(const Proxy& indices) override;

  Parameter weight;
};

// weight [count, width]; bags of indices [B, L], or indices [n] with offsets.
class EmbeddingBag : public Layer {
 public:
  EmbeddingBag(Slot slot, std::int64_t count, std::int64_t width, std::string bag_mode = "mean");
  const char* type_name() const override { return "EmbeddingBag"; }
  Proxy forward(const Proxy& indices) override;
  using Module::operator();
  Proxy operator()(const Proxy& indices, const Proxy& offsets);

  std::string mode;
  Parameter weight;
};

// Modules without parameters that are one function of one value.
class FunctionLayer : public Layer {
 public:
  using Function = std::function<Proxy(const Proxy&)>;
  FunctionLayer(Slot slot, const char* type_name, Function function)
      : Layer(std::move(slot)), type_name_(type_name), function_(std::move(function)) {}
  const char* type_name() const override { return type_name_; }
  Proxy forward(const Proxy& x) override { return function_(x); }

 private:
  const char* type_name_;
  Function function_;
};

#define AOQ_NN_FUNCTION(Type, function)                                                \
  class Type : public FunctionLayer {                                                  \
   public:                                                                             \
    explicit Type(Slot slot = {}) : FunctionLayer(std::move(slot), #Type, function) {} \
  };
AOQ_NN_FUNCTION(ReLU, F::relu)
AOQ_NN_FUNCTION(ReLU6, F::relu6)
AOQ_NN_FUNCTION(Sigmoid, F::sigmoid)
AOQ_NN_FUNCTION(Tanh, F::tanh)
AOQ_NN_FUNCTION(Hardswish, F::hardswish)
AOQ_NN_FUNCTION(Hardsigmoid, F::hardsigmoid)
AOQ_NN_FUNCTION(SiLU, F::silu)
AOQ_NN_FUNCTION(Mish, F::mish)
AOQ_NN_FUNCTION(Softplus, F::softplus)
AOQ_NN_FUNCTION(Dropout, F::dropout)
AOQ_NN_FUNCTION(Identity, F::dropout)
#undef AOQ_NN_FUNCTION

// Marks where a model made by hand turns into codes, and back (pytorch-semantics B.6). In float they do nothing.
class QuantStub : public FunctionLayer {
 public:
  explicit QuantStub(Slot slot = {}) : FunctionLayer(std::move(slot), "QuantStub", F::dropout) {}
};
class DeQuantStub : public FunctionLayer {
 public:
  explicit DeQuantStub(Slot slot = {}) : FunctionLayer(std::move(slot), "DeQuantStub", F::dropout) {}
};

class Hardtanh : public FunctionLayer {
 public:
  explicit Hardtanh(Slot slot = {}, double min = -1, double max = 1)
      : FunctionLayer(std::move(slot), "Hardtanh", [=](const Proxy& x) { return F::hardtanh(x, min, max); }) {}
};
class LeakyReLU : public FunctionLayer {
 public:
  explicit LeakyReLU(Slot slot = {}, double negative_slope = 0.01)
      : FunctionLayer(std::move(slot), "LeakyReLU", [=](const Proxy& x) { return F::leaky_relu(x, negative_slope); }) {}
};
class ELU : public FunctionLayer {
 public:
  explicit ELU(Slot slot = {}, double alpha = 1)
      : FunctionLayer(std::move(slot), "ELU", [=](const Proxy& x) { return F::elu(x, alpha); }) {}
};
class GELU : public FunctionLayer {
 public:
  explicit GELU(Slot slot = {}, std::string approximate = "none")
      : FunctionLayer(std::move(slot), "GELU", [=](const Proxy& x) { return F::gelu(x, approximate); }) {}
};
class Softmax : public FunctionLayer {
 public:
  explicit Softmax(Slot slot, std::int64_t dim)
      : FunctionLayer(std::move(slot), "Softmax", [=](const Proxy& x) { return F::softmax(x, dim); }) {}
};
class LogSoftmax : public FunctionLayer {
 public:
  explicit LogSoftmax(Slot slot, std::int64_t dim)
      : FunctionLayer(std::move(slot), "LogSoftmax", [=](const Proxy& x) { return F::log_softmax(x, dim); }) {}
};
class Flatten : public FunctionLayer {
 public:
  explicit Flatten(Slot slot = {}, std::int64_t start = 1, std::int64_t end = -1)
      : FunctionLayer(std::move(slot), "Flatten", [=](const Proxy& x) { return flatten(x, start, end); }) {}
};
class Upsample : public FunctionLayer {
 public:
  Upsample(Slot slot, double scale_factor, std::string mode = "nearest")
      : FunctionLayer(std::move(slot), "Upsample",
                      [=](const Proxy& x) { return F::interpolate(x, scale_factor, mode); }) {}
};

class PReLU : public Layer {
 public:
  explicit PReLU(Slot slot = {}, std::int64_t parameters = 1);
  const char* type_name() const override { return "PReLU"; }
  Proxy forward(const Proxy& x) override;

  Parameter weight;
};

#define AOQ_NN_POOL(Type, function)                                                                              \
  class Type : public FunctionLayer {                                                                            \
   public:                                                                                                       \
    Type(Slot slot, Sizes kernel, PoolOptions options = {})                                                      \
        : FunctionLayer(std::move(slot), #Type, [=](const Proxy& x) { return function(x, kernel, options); }) {} \
  };
AOQ_NN_POOL(MaxPool1d, F::max_pool)
AOQ_NN_POOL(MaxPool2d, F::max_pool)
AOQ_NN_POOL(MaxPool3d, F::max_pool)
AOQ_NN_POOL(AvgPool1d, F::avg_pool)
AOQ_NN_POOL(AvgPool2d, F::avg_pool)
AOQ_NN_POOL(AvgPool3d, F::avg_pool)
#undef AOQ_NN_POOL

#define AOQ_NN_ADAPTIVE_POOL(Type)                                                                                  \
  class Type : public FunctionLayer {                                                                               \
   public:                                                                                                          \
    Type(Slot slot, Sizes output)                                                                                   \
        : FunctionLayer(std::move(slot), #Type, [=](const Proxy& x) { return F::adaptive_avg_pool(x, output); }) {} \
  };
AOQ_NN_ADAPTIVE_POOL(AdaptiveAvgPool1d)
AOQ_NN_ADAPTIVE_POOL(AdaptiveAvgPool2d)
AOQ_NN_ADAPTIVE_POOL(AdaptiveAvgPool3d)
#undef AOQ_NN_ADAPTIVE_POOL

// Modules called one after the other; it owns them. Children are named "0", "1", ...
class Sequential : public Module {
 public:
  explicit Sequential(Slot slot = {}) : Module(std::move(slot)) {}
  const char* type_name() const override { return "Sequential"; }
  Proxy forward(const Proxy& x) override;

  // add<Linear>(16, 4): the slot is the container's affair.
  template <class M, class... Arguments>
  M& add(Arguments&&... arguments) {
    auto module = std::make_unique<M>(at(std::to_string(modules_.size())), std::forward<Arguments>(arguments)...);
    M& added = *module;
    modules_.push_back(std::move(module));
    return added;
  }
  std::size_t size() const { return modules_.size(); }
  Module& operator[](std::size_t i) const { return *modules_[i]; }

 private:
  std::vector<std::unique_ptr<Module>> modules_;
};

// A list of modules that the owner calls itself.
class ModuleList : public Sequential {
 public:
  using Sequential::Sequential;
  const char* type_name() const override { return "ModuleList"; }
};

}  // namespace aoq::nn
