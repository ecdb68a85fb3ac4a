// qconv and qlinear: codes times i8 weights, exact, with the epilogue of ir/epilogue.h.
#include <cmath>

#include "backends/cpu/kernels/conv_maddubs.h"
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/conv_vnni256.h"
#include "backends/cpu/kernels/conv_winograd.h"
#include "backends/cpu/kernels/depthwise_maddubs.h"
#include "backends/cpu/kernels/depthwise_s8.h"
#include "backends/cpu/kernels/depthwise_vnni.h"
#include "backends/cpu/rows/conv_nodes.h"
#include "backends/cpu/rows/layouts.h"
#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

enum Operand : std::size_t { kX, kWeight, kWeightScale, kBias, kResidual, kXScale, kXZeroPoint, kWeightZeroPoint };

// The quantization of the node, scales and bias plain and per channel.
struct Quantized {
  EpilogueS8 epilogue;
  RequantSource source;
  std::vector<float> bias;
  std::vector<float> weight_scales;
  std::int32_t x_zero_point = 0;
  bool scale_is_operand = false;
  bool zero_point_is_operand = false;
};

bool is_clamp_like(Activation a) {
  return a == Activation::none || a == Activation::clamp;
}

Status check_weight_zero_point(const Node& node) {
  if (node.input(kWeightZeroPoint) == nullptr) return {};
  const Tensor* tensor = constant_tensor(node.input(kWeightZeroPoint));
  if (tensor == nullptr) return refuse("weight_zero_point is not a constant");
  for (std::int64_t i = 0; i < tensor->element_count(); ++i) {
    if (load_integer(tensor->dtype(), tensor->bytes().data(), i) != 0) return refuse("the weight is not symmetric");
  }
  return {};
}

EpilogueS8 epilogue_of(const PrepareContext& context, const ActivationParams& activation) {
  const Attributes& a = context.attributes;
  EpilogueS8 e;
  e.out_type = a.dtype("out_dtype");
  e.has_residual = context.node.input(kResidual) != nullptr;
  e.activation = activation;
  if (e.out_type == DType::f32) return e;
  float out_scale = real_attribute(a, "out_scale").value_or(1.0f);
  e.bounds = full_bounds(e.out_type, integer_attribute(a, "out_zero_point").value_or(0));
  e.inv_out = 1.0f / out_scale;
  if (e.has_residual) {
    float residual_scale = real_attribute(a, "residual_scale").value_or(1.0f);
    e.residual_type = context.inputs[kResidual].dtype;
    e.residual_zero_point = integer_attribute(a, "residual_zero_point").value_or(0);
    e.residual_multiplier = is_clamp_like(activation.kind) ? residual_scale / out_scale : residual_scale;
  }
  if (activation.kind == Activation::clamp) {
    e.bounds = narrowed_bounds(e.bounds, activation.a, activation.b, out_scale);
    e.activation = {};
  }
  return e;
}

Result<Quantized> quantized_of(const PrepareContext& context, std::int64_t channels) {
  const Attributes& a = context.attributes;
  AOQ_TRY(check_weight_zero_point(context.node));
  AOQ_ASSIGN(ActivationParams activation, activation_of(a));
  Quantized q;
  q.epilogue = epilogue_of(context, activation);
  if (q.epilogue.has_residual &&
      (q.epilogue.out_type == DType::f32) != (context.inputs[kResidual].dtype == DType::f32)) {
    return refuse("the residual is {} and the result {}", dtype_name(context.inputs[kResidual].dtype),
                  dtype_name(q.epilogue.out_type));
  }
  AOQ_ASSIGN(q.bias, float_constants(context, kBias, channels));
  std::int64_t scales = element_count(context.inputs[kWeightScale]);
  AOQ_ASSIGN(q.weight_scales, float_constants(context, kWeightScale, scales));
  q.scale_is_operand = context.node.input(kXScale) != nullptr;
  q.zero_point_is_operand = context.node.input(kXZeroPoint) != nullptr;
  q.x_zero_point = integer_attribute(a, "x_zero_point").value_or(0);
  q.source = {.x_scale = real_attribute(a, "x_scale").value_or(1.0f),
              .out_scale = real_attribute(a, "out_scale").value_or(1.0f),
              .out_type = q.epilogue.out_type,
              .activation = activation.kind};
  return q;
}

// The order of the epilogue's arrays: one entry per channel, the panels of spread_channels, or the vectors of
// spread_depthwise_vnni.
enum class ChannelOrder : std::uint8_t { plain, panels, depthwise_vnni };

// The epilogue's arrays in the order of the kernel. With a scale that is an operand and codes as the result they are
// made at every run, in scratch.
struct EpilogueArrays {
  std::vector<float> bias, multiplier;
  ChannelOrder order = ChannelOrder::plain;
  std::int64_t padded = 0;
  bool at_run = false;
};

RequantSource source_of(const Quantized& q, float x_scale) {
  RequantSource source = q.source;
  source.bias = q.bias;
  source.weight_scales = q.weight_scales;
  source.x_scale = x_scale;
  return source;
}

// Whether every multiplier is usable; where not, the reference says which one is wrong.
bool is_sound(std::span<const float> bias, std::span<const float> multiplier) {
  for (std::size_t i = 0; i < bias.size(); ++i) {
    if (!std::isfinite(bias[i]) || !std::isfinite(multiplier[i]) || !(multiplier[i] > 0.0f)) return false;
  }
  return true;
}

void order_channels(ChannelOrder order, const ConvDims& dims, std::span<const float> values, std::span<float> out) {
  if (order == ChannelOrder::panels) return spread_channels(dims, values, out);
  if (order == ChannelOrder::depthwise_vnni) return spread_depthwise_vnni(values, out);
  std::fill(std::copy(values.begin(), values.end(), out.begin()), out.end(), 0.0f);
}

std::int64_t padded_size(ChannelOrder order, const ConvDims& dims) {
  if (order == ChannelOrder::panels) return padded_channels(dims);
  if (order == ChannelOrder::depthwise_vnni) return padded_depthwise_vnni(dims);
  return std::max<std::int64_t>(dims.out_c, 16);
}

Result<EpilogueArrays> arrays_of(const Quantized& q, const ConvDims& dims, ChannelOrder order) {
  EpilogueArrays arrays;
  arrays.order = order;
  arrays.padded = padded_size(order, dims);
  arrays.at_run = q.scale_is_operand && q.epilogue.out_type != DType::f32;
  auto channels = static_cast<std::size_t>(dims.out_c);
  std::vector<float> bias(channels), multiplier(channels);
  prepare_epilogue(source_of(q, q.source.x_scale), bias, multiplier);
  if (!q.scale_is_operand && !is_sound(bias, multiplier)) return refuse("a scale or bias is out of the range of f32");
  arrays.bias.resize(static_cast<std::size_t>(arrays.padded));
  arrays.multiplier.resize(static_cast<std::size_t>(arrays.padded));
  order_channels(order, dims, bias, arrays.bias);
  order_channels(order, dims, multiplier, arrays.multiplier);
  return arrays;
}

// Everything of a kernel but its plan.
struct Prepared {
  Quantized quantized;
  EpilogueArrays arrays;
  const std::byte* weights = nullptr;
  DType x_type = DType::u8;
  ConvDims dims;
  std::uint64_t array_bytes() const {
    if (!arrays.at_run) return 0;
    return static_cast<std::uint64_t>(bytes_to_cache_line(2 * (arrays.padded + dims.out_c) * 4));
  }
};

// b and m for a scale that is only known now, in `scratch`.
Result<EpilogueArgs> arrays_at_run(const Prepared& p, float x_scale, std::byte* scratch) {
  auto padded = static_cast<std::size_t>(p.arrays.padded);
  auto channels = static_cast<std::size_t>(p.dims.out_c);
  auto* floats = reinterpret_cast<float*>(scratch);
  std::span<float> bias(floats, padded), multiplier(floats + padded, padded);
  std::span<float> plain_bias(floats + 2 * padded, channels);
  std::span<float> plain_multiplier(floats + 2 * padded + channels, channels);
  prepare_epilogue(source_of(p.quantized, x_scale), plain_bias, plain_multiplier);
  if (!is_sound(plain_bias, plain_multiplier)) {
    return error(Code::invalid_data, "x_scale is {}, out of range with these weights", x_scale);
  }
  order_channels(p.arrays.order, p.dims, plain_bias, bias);
  order_channels(p.arrays.order, p.dims, plain_multiplier, multiplier);
  return EpilogueArgs{.bias = bias.data(), .multiplier = multiplier.data()};
}

Status check_run_qparams(const Prepared& p, float x_scale, std::int32_t x_zero_point) {
  std::int32_t lowest = p.x_type == DType::i8 ? -128 : 0;
  bool in_range = x_zero_point >= lowest && x_zero_point <= lowest + 255;
  if (in_range && std::isfinite(x_scale) && x_scale > 0.0f) return {};
  return error(Code::invalid_data, "x_scale is {} and x_zero_point {}, out of range for {}", x_scale, x_zero_point,
               dtype_name(p.x_type));
}

template <typename Args>
Result<Args> args_of(const Prepared& p, const RunContext& context) {
  const Quantized& q = p.quantized;
  float x_scale = q.scale_is_operand ? *input_of<float>(context, kXScale) : q.source.x_scale;
  Args args;
  args.x = context.inputs[kX];
  args.x_zero_point = q.zero_point_is_operand ? *input_of<std::int32_t>(context, kXZeroPoint) : q.x_zero_point;
  args.weights = p.weights;
  AOQ_TRY(check_run_qparams(p, x_scale, args.x_zero_point));
  args.epilogue = {p.arrays.bias.data(), p.arrays.multiplier.data()};
  if (p.arrays.at_run) {
    AOQ_ASSIGN(args.epilogue, arrays_at_run(p, x_scale, context.scratch));
  }
  args.epilogue.x_scale = x_scale;
  args.epilogue.residual = q.epilogue.has_residual ? context.inputs[kResidual] : nullptr;
  args.epilogue.out = context.outputs[0];
  return args;
}

template <typename Plan, typename Args>
using RunUnits = void (*)(const Plan&, const Args&, std::int64_t, std::int64_t, std::byte*);

template <typename Args, typename Plan>
KernelResult kernel_of(const PrepareContext& context, Prepared prepared, const Plan& plan, RunUnits<Plan, Args> run) {
  const ConvDims& d = prepared.dims;
  std::int64_t products = d.batch * d.out_h * d.out_w * d.out_c * d.kernel_h * d.kernel_w * (d.in_c / d.groups);
  Split split = split_work(plan.units, products / 8 / std::max<std::int64_t>(plan.units, 1) + 1, context);
  std::uint64_t first = prepared.array_bytes();
  auto worker_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(plan.scratch_bytes));
  KernelNeeds needs{.scratch_bytes = first + worker_bytes * static_cast<std::uint64_t>(split.workers)};
  return make_kernel(
      [p = std::move(prepared), plan, run, split, first, worker_bytes](const RunContext& c) -> Status {
        AOQ_ASSIGN(Args args, args_of<Args>(p, c));
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          run(plan, args, begin, end, c.scratch + first + worker_bytes * static_cast<std::uint64_t>(worker));
        });
        return {};
      },
      needs);
}

Result<ConvDims> checked_dims(const PrepareContext& context) {
  AOQ_ASSIGN(ConvDims dims, conv_dims(context));
  if (context.inputs[kWeight].dtype != DType::i8) {
    return refuse("the weight is {}, the kernel reads i8", dtype_name(context.inputs[kWeight].dtype));
  }
  if (dims.kernel_h * dims.kernel_w * (dims.in_c / dims.groups) > kMaxExactProducts) {
    return refuse("a result sums more than {} products, the limit of an exact int32 sum", kMaxExactProducts);
  }
  return dims;
}

Result<Prepared> prepared_depthwise(const PrepareContext& context, ChannelOrder order) {
  Prepared p;
  AOQ_ASSIGN(p.dims, checked_dims(context));
  if (!is_depthwise(p.dims)) return refuse("the convolution is not depthwise");
  p.x_type = context.inputs[kX].dtype;
  AOQ_ASSIGN(p.quantized, quantized_of(context, p.dims.out_c));
  AOQ_ASSIGN(p.arrays, arrays_of(p.quantized, p.dims, order));
  return p;
}

// For the kernels that work on panels of channels.
Result<Prepared> prepared_dense(const PrepareContext& context, std::string_view layout,
                                std::int64_t (*packed_bytes)(const ConvDims&)) {
  Prepared p;
  AOQ_ASSIGN(p.dims, checked_dims(context));
  p.x_type = context.inputs[kX].dtype;
  AOQ_ASSIGN(p.quantized, quantized_of(context, p.dims.out_c));
  AOQ_ASSIGN(p.arrays, arrays_of(p.quantized, p.dims, ChannelOrder::panels));
  AOQ_ASSIGN(p.weights, packed_input(context, kWeight, layout_name(layout, p.dims.groups), packed_bytes(p.dims)));
  return p;
}

KernelResult winograd_of(const PrepareContext& context, Isa isa) {
  AOQ_ASSIGN(const ConvDims dims, checked_dims(context));
  if (!is_winograd_worth(dims, isa)) {
    return refuse(
        "the kernel takes 3x3 convolutions of stride 1 on a multiple of 16 channels where they are large enough");
  }
  AOQ_ASSIGN(Prepared p, prepared_dense(context, kLayoutS8Quads, packed_bytes_conv_vnni));
  ConvWinogradPlan plan = plan_conv_winograd(p.dims, p.x_type, p.quantized.epilogue, {isa, context.workers});
  return kernel_of<ConvS8Args>(context, std::move(p), plan, run_conv_winograd);
}

// Depthwise kernels that clamp codes only after rounding.
Status need_small_scales(const Prepared& p) {
  const std::int64_t products = p.dims.kernel_h * p.dims.kernel_w;
  if (!p.arrays.at_run && stays_small(p.quantized.epilogue, products, p.arrays.bias, p.arrays.multiplier)) return {};
  return refuse("the kernel needs scales that are known and keep what is rounded in int32");
}

}  // namespace

KernelResult make_qconv_depthwise(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepared_depthwise(context, ChannelOrder::plain));
  AOQ_ASSIGN(p.weights, packed_input(context, kWeight, kLayoutS8Depthwise, packed_bytes_depthwise_s8(p.dims)));
  DepthwiseS8Plan plan = plan_depthwise_s8(p.dims, p.x_type, p.quantized.epilogue, best_isa());
  return kernel_of<DepthwiseS8Args>(context, std::move(p), plan, run_depthwise_s8);
}

KernelResult make_qconv_depthwise_vnni(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepared_depthwise(context, ChannelOrder::depthwise_vnni));
  if (!takes_depthwise_vnni(p.dims, p.quantized.epilogue)) {
    return refuse("the kernel takes 3x3 and 5x5, strides to 2, codes without residual, clamps and hardswish");
  }
  AOQ_TRY(need_small_scales(p));
  AOQ_ASSIGN(p.weights, packed_input(context, kWeight, kLayoutS8DepthwiseQuads, packed_bytes_depthwise_vnni(p.dims)));
  DepthwiseVnniPlan plan = plan_depthwise_vnni(p.dims, p.x_type, p.quantized.epilogue);
  return kernel_of<DepthwiseS8Args>(context, std::move(p), plan, run_depthwise_vnni);
}

KernelResult make_qconv_depthwise_maddubs(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepared_depthwise(context, ChannelOrder::plain));
  if (!takes_depthwise_maddubs(p.dims, p.quantized.epilogue)) {
    return refuse("the kernel takes 3x3 and 5x5 on at least 32 channels, codes without residual, clamps only");
  }
  AOQ_TRY(need_small_scales(p));
  AOQ_ASSIGN(p.weights,
             packed_input(context, kWeight, kLayoutS8DepthwiseSplit, packed_bytes_depthwise_maddubs(p.dims)));
  DepthwiseMaddubsPlan plan = plan_depthwise_maddubs(p.dims, p.x_type, p.quantized.epilogue);
  return kernel_of<DepthwiseS8Args>(context, std::move(p), plan, run_depthwise_maddubs);
}

KernelResult make_qconv(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepared_dense(context, kLayoutS8, packed_bytes_conv_s8));
  ConvS8Plan plan = plan_conv_s8(p.dims, p.x_type, p.quantized.epilogue, best_isa());
  return kernel_of<ConvS8Args>(context, std::move(p), plan, run_conv_s8);
}

KernelResult make_qconv_winograd(const PrepareContext& context) {
  return winograd_of(context, Isa::avx2);
}

KernelResult make_qconv_winograd_vnni(const PrepareContext& context) {
  return winograd_of(context, Isa::avx512_vnni);
}

KernelResult make_qconv_vnni256(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepared_dense(context, kLayoutS8Quads, packed_bytes_conv_vnni));
  ConvPanelsPlan plan = plan_conv_vnni256(p.dims, p.x_type, p.quantized.epilogue);
  return kernel_of<ConvS8Args>(context, std::move(p), plan, run_conv_vnni256);
}

KernelResult make_qconv_maddubs(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepared_dense(context, kLayoutS8SafeQuads, packed_bytes_conv_maddubs));
  if (!is_well_formed_maddubs(p.dims, p.weights)) return refuse("the packed weights' words are not numbered once each");
  ConvPanelsPlan plan = plan_conv_maddubs(p.dims, p.x_type, p.quantized.epilogue);
  return kernel_of<ConvS8Args>(context, std::move(p), plan, run_conv_maddubs);
}

KernelResult make_qconv_vnni(const PrepareContext& context) {
  AOQ_ASSIGN(Prepared p, prepared_dense(context, kLayoutS8Quads, packed_bytes_conv_vnni));
  ConvPanelsPlan plan = plan_conv_vnni(p.dims, p.x_type, p.quantized.epilogue);
  return kernel_of<ConvS8Args>(context, std::move(p), plan, run_conv_vnni);
}

}  // namespace aoq::cpu
