#include "backends/cpu/rows/conv_nodes.h"

#include <limits>

#include "backends/cpu/rows/layouts.h"

namespace aoq::cpu {

Result<ActivationParams> activation_of(const Attributes& attributes) {
  const std::string& name = attributes.string("activation");
  auto a = static_cast<float>(attributes.real("activation_min"));
  auto b = static_cast<float>(attributes.real("activation_max"));
  if (name == "none") return ActivationParams{};
  if (name == "relu") return ActivationParams{Activation::clamp, 0.0f, std::numeric_limits<float>::infinity()};
  if (name == "clamp") return ActivationParams{Activation::clamp, a, b};
  if (name == "hardswish") return ActivationParams{Activation::hardswish};
  if (name == "hardsigmoid") return ActivationParams{Activation::hardsigmoid, a, b};
  if (name == "sigmoid") return ActivationParams{Activation::sigmoid};
  if (name == "tanh") return ActivationParams{Activation::tanh};
  if (name == "silu") return ActivationParams{Activation::silu};
  if (name == "gelu") return ActivationParams{Activation::gelu_erf};
  if (name == "gelu_tanh") return ActivationParams{Activation::gelu_tanh};
  return refuse("the kernel has no fused {}", name);
}

namespace {

// unsupported with a reason where no convolution kernel takes the node.
Status check_conv_node(const Node& node, const Attributes& attributes) {
  AOQ_TRY(activation_of(attributes).status());
  if (!is_weight(node.input(1))) return refuse("the weight is not a constant");
  if (!node.is(Op::conv) && !node.is(Op::qconv)) return {};
  if (!attributes.boolean("channels_last")) return refuse("the kernel reads channels last");
  std::int64_t rank = node.input(0)->type().rank();
  if (rank > 4) return refuse("the kernel has no three-dimensional form");
  return {};
}

}  // namespace

HeightWidth window_attribute(const Attributes& attributes, std::string_view name, std::size_t spatial_rank,
                             std::int64_t absent) {
  const std::vector<std::int64_t>& values = attributes.integers(name);
  if (values.empty()) return {absent, absent};
  if (spatial_rank == 1) return {absent, values[0]};
  return {values[0], values[1]};
}

Result<ConvDims> conv_dims(const PrepareContext& context) {
  AOQ_TRY(check_conv_node(context.node, context.attributes));
  const std::vector<std::int64_t>& x = context.inputs[0].shape;
  const std::vector<std::int64_t>& weight = context.inputs[1].shape;
  if (context.node.is(Op::linear) || context.node.is(Op::qlinear)) {
    AOQ_TRY(dims_of_weight(weight, 1).status());
    return dims_of_linear(element_count(std::span(x).first(x.size() - 1)), weight[1], weight[0]);
  }
  const std::vector<std::int64_t>& out = context.outputs[0].shape;
  AOQ_ASSIGN(ConvDims d, dims_of_weight(weight, context.attributes.integer("groups")));
  std::size_t spatial = x.size() - 2;
  HeightWidth stride = window_attribute(context.attributes, "stride", spatial, 1);
  HeightWidth dilation = window_attribute(context.attributes, "dilation", spatial, 1);
  HeightWidth pads = window_attribute(context.attributes, "pads", spatial, 0);
  d.batch = x[0];
  d.in_h = spatial == 2 ? x[1] : 1;
  d.in_w = x[spatial];
  d.out_h = spatial == 2 ? out[1] : 1;
  d.out_w = out[spatial];
  d.stride_h = stride.h;
  d.stride_w = stride.w;
  d.dilation_h = dilation.h;
  d.dilation_w = dilation.w;
  d.pad_top = pads.h;
  d.pad_left = pads.w;
  return d;
}

bool is_depthwise(const ConvDims& dims) {
  return dims.groups > 1 && dims.in_c == dims.groups && dims.out_c == dims.groups;
}

}  // namespace aoq::cpu
