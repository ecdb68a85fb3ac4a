#include "ir/ops/lowered.h"

#include "ir/ops/qparams.h"

namespace aoq::ops {

namespace {

std::string join(std::string_view prefix, std::string_view name) {
  return std::string(prefix) + std::string(name);
}

std::int64_t integer_or_zero(const Attributes& attributes, std::string_view name) {
  return attributes.has(name) ? attributes.integer(name) : 0;
}

Status check_qparams(const Attributes& attributes, std::string_view prefix, DType dtype) {
  std::string scale = join(prefix, "_scale");
  std::string zero_point = join(prefix, "_zero_point");
  if (!attributes.has(scale)) return error(Code::invalid_model, "attribute {} is missing", scale);
  AOQ_TRY(check_scale(scale, attributes.real(scale)));
  return check_zero_point(zero_point, integer_or_zero(attributes, zero_point), dtype);
}

}  // namespace

bool is_code(DType dtype) {
  return dtype == DType::u8 || dtype == DType::i8;
}

Status require_codes(const Type& type) {
  return require(is_code(type.dtype), type, "u8 or i8");
}

Status check_codes(const InferContext& c, std::size_t input, std::string_view prefix) {
  AOQ_TRY(require_codes(c.input(input)));
  return check_qparams(c.attributes, prefix, c.input(input).dtype);
}

Codes read_codes(const EvalContext& c, std::size_t input, std::string_view prefix) {
  Codes codes{c.inputs[input].data, c.inputs[input].dtype == DType::i8};
  codes.scale = static_cast<float>(c.attributes.real(join(prefix, "_scale")));
  codes.zero_point = static_cast<std::int32_t>(integer_or_zero(c.attributes, join(prefix, "_zero_point")));
  return codes;
}

Status check_output(const InferContext& c) {
  DType dtype = output_dtype(c);
  if (dtype != DType::f32 && !is_code(dtype)) {
    return error(Code::invalid_model, "out_dtype is {}, expected u8, i8 or f32", dtype_name(dtype));
  }
  if (dtype != DType::f32) return check_qparams(c.attributes, "out", dtype);
  for (const char* name : {"out_scale", "out_zero_point"}) {
    if (c.attributes.has(name)) return error(Code::invalid_model, "the result is f32 but has an attribute {}", name);
  }
  return {};
}

DType output_dtype(const InferContext& c) {
  return c.attributes.dtype("out_dtype");
}

Output read_output(const EvalContext& c) {
  Output out;
  out.view = c.outputs[0];
  if (c.attributes.has("activation")) {
    Result<Activation> activation = read_activation(c.attributes);
    AOQ_CHECK(activation.ok());
    out.activation = *activation;
  }
  out.is_float = out.view.dtype == DType::f32;
  if (out.is_float) return out;
  out.scale = static_cast<float>(c.attributes.real("out_scale"));
  out.inverse_scale = 1.0f / out.scale;
  auto zero_point = static_cast<std::int32_t>(integer_or_zero(c.attributes, "out_zero_point"));
  auto qmin = static_cast<std::int32_t>(dtype_info(out.view.dtype).min);
  auto qmax = static_cast<std::int32_t>(dtype_info(out.view.dtype).max);
  std::int32_t lo = qmin;
  std::int32_t hi = qmax;
  auto code = [&](float bound) { return quantize_value(bound, out.inverse_scale, zero_point, qmin, qmax); };
  if (out.activation.kind == Activation::Kind::relu) lo = code(0.0f);
  if (out.activation.kind == Activation::Kind::clamp) {
    lo = code(out.activation.parameters.a);
    hi = code(out.activation.parameters.b);
  }
  out.bounds = {static_cast<float>(lo - zero_point), static_cast<float>(hi - zero_point), zero_point};
  return out;
}

void Output::store_value(std::int64_t i, float value) const {
  if (is_float) return store_float(i, value);
  auto qmin = static_cast<std::int32_t>(dtype_info(view.dtype).min);
  auto qmax = static_cast<std::int32_t>(dtype_info(view.dtype).max);
  view.data[i] = static_cast<std::byte>(quantize_value(value, inverse_scale, bounds.zero_point, qmin, qmax));
}

void Output::store_product(std::int64_t i, std::int32_t accumulator, float multiplier) const {
  float v = static_cast<float>(accumulator) * multiplier;
  if (is_float) {
    store_float(i, activation(v));
  } else {
    store_scaled(i, v);
  }
}

std::array<const Type*, 3> dot_shape_inputs(const InferContext& c) {
  return {c.inputs[0], c.inputs[1], c.has(3) ? c.inputs[3] : nullptr};
}

namespace {

constexpr std::size_t kWeightScale = 2, kBias = 3, kResidual = 4, kXScaleInput = 5, kXZeroPointInput = 6,
                      kWeightZeroPoint = 7;

Status check_scalar(const InferContext& c, std::size_t i, const char* name, DType dtype) {
  const Type& type = c.input(i);
  bool one = type.shape.empty() || type.shape == std::vector<Dim>{1};
  if (type.dtype == dtype && one) return {};
  return error(Code::invalid_model, "{} is {}, expected {}[]", name, to_string(type), dtype_name(dtype));
}

Status check_x_qparams(const InferContext& c) {
  bool attribute = c.attributes.has("x_scale");
  if (attribute == c.has(kXScaleInput)) {
    return error(Code::invalid_model, "has {}, expected either an attribute x_scale or an operand",
                 attribute ? "both" : "neither");
  }
  if (attribute) {
    if (c.has(kXZeroPointInput)) {
      return error(Code::invalid_model, "x_scale is an attribute and x_zero_point an operand");
    }
    return check_qparams(c.attributes, "x", c.input(0).dtype);
  }
  if (c.attributes.has("x_zero_point")) {
    return error(Code::invalid_model, "x_scale is an operand and x_zero_point an attribute");
  }
  AOQ_TRY(check_scalar(c, kXScaleInput, "x_scale", DType::f32));
  return c.has(kXZeroPointInput) ? check_scalar(c, kXZeroPointInput, "x_zero_point", DType::i32) : Status();
}

Status check_residual(const InferContext& c, std::span<const Dim> result_shape) {
  if (!c.has(kResidual)) return {};
  const Type& residual = c.input(kResidual);
  AOQ_TRY(require_shape("residual", residual, result_shape));
  if (residual.dtype == DType::f32 && output_dtype(c) == DType::f32) return {};
  return check_codes(c, kResidual, "residual");
}

Status check_channels(const InferContext& c, std::size_t i, const char* name, DType dtype, const Dim& channels) {
  const Type& type = c.input(i);
  if (type.dtype != dtype) {
    return error(Code::invalid_model, "{} is {}, expected {}", name, to_string(type), dtype_name(dtype));
  }
  if (i == kWeightScale && type.shape == std::vector<Dim>{1}) return {};
  std::vector<Dim> shape{channels};
  return require_shape(name, type, shape);
}

}  // namespace

Status check_dot(const InferContext& c, const Dim& channels, std::span<const Dim> result_shape) {
  AOQ_TRY(require_codes(c.input(0)));
  AOQ_TRY(require(c.input(1).dtype == DType::i8, c.input(1), "an i8 weight"));
  AOQ_TRY(check_channels(c, kWeightScale, "weight_scale", DType::f32, channels));
  if (c.has(kBias)) AOQ_TRY(check_channels(c, kBias, "bias", DType::f32, channels));
  if (c.has(kWeightZeroPoint)) AOQ_TRY(check_channels(c, kWeightZeroPoint, "weight_zero_point", DType::i32, channels));
  AOQ_TRY(check_x_qparams(c));
  AOQ_TRY(check_output(c));
  AOQ_TRY(read_activation(c.attributes).status());
  return check_residual(c, result_shape);
}

Result<DotEpilogue> DotEpilogue::read(const EvalContext& c) {
  DotEpilogue e;
  e.output_ = read_output(c);
  DType x_dtype = c.inputs[0].dtype;
  float x_scale = c.has(kXScaleInput) ? *reinterpret_cast<const float*>(c.inputs[kXScaleInput].data)
                                      : static_cast<float>(c.attributes.real("x_scale"));
  std::int64_t x_zero_point = c.has(kXZeroPointInput) ? load_integer(DType::i32, c.inputs[kXZeroPointInput].data, 0)
                                                      : integer_or_zero(c.attributes, "x_zero_point");
  if (!check_scale("x_scale", static_cast<double>(x_scale)).ok() ||
      !check_zero_point("x_zero_point", x_zero_point, x_dtype).ok()) {
    return error(Code::invalid_data, "x_scale is {} and x_zero_point {}, out of range for {}", x_scale, x_zero_point,
                 dtype_name(x_dtype));
  }
  e.x_zero_point_ = static_cast<std::int32_t>(x_zero_point);
  auto channels = c.inputs[1].shape[0];
  const auto* weight_scale = reinterpret_cast<const float*>(c.inputs[kWeightScale].data);
  bool one_scale = c.inputs[kWeightScale].shape[0] == 1;
  e.has_bias_ = c.has(kBias);
  for (std::int64_t i = 0; i < channels; ++i) {
    Channel channel;
    channel.scale = x_scale * weight_scale[one_scale ? 0 : i];
    if (e.has_bias_) channel.bias = reinterpret_cast<const float*>(c.inputs[kBias].data)[i];
    if (e.has_bias_) channel.b = channel.bias / channel.scale;
    channel.multiplier = channel.scale / e.output_.scale;
    bool sound = std::isfinite(channel.multiplier) && std::isfinite(channel.b) && channel.scale > 0.0f;
    if (!sound) {
      return error(Code::invalid_data, "channel {} has scale {} * {} and bias {}, out of the range of f32", i, x_scale,
                   weight_scale[one_scale ? 0 : i], channel.bias);
    }
    e.channels_.push_back(channel);
    if (!c.has(kWeightZeroPoint)) continue;
    std::int64_t z = load_integer(DType::i32, c.inputs[kWeightZeroPoint].data, i);
    if (!check_zero_point("weight_zero_point", z, DType::i8).ok()) {
      return error(Code::invalid_data, "weight_zero_point element {} is {}, out of range for i8", i, z);
    }
    e.weight_zero_points_.push_back(static_cast<std::int32_t>(z));
  }
  if (!c.has(kResidual)) return e;
  if (c.inputs[kResidual].dtype == DType::f32) {
    e.float_residual_ = reinterpret_cast<const float*>(c.inputs[kResidual].data);
  } else {
    e.residual_ = read_codes(c, kResidual, "residual");
    e.residual_multiplier_ = e.residual_.scale / e.output_.scale;
    if (!std::isfinite(255.0f * e.residual_multiplier_) || !std::isfinite(255.0f * e.residual_.scale)) {
      return error(Code::invalid_data, "residual_scale is {}, out of the range of f32", e.residual_.scale);
    }
  }
  return e;
}

float DotEpilogue::add_residual(float v, std::int64_t i, float scale) const {
  if (float_residual_ != nullptr) return v + float_residual_[i];
  if (residual_.data == nullptr) return v;
  return v + static_cast<float>(residual_[i]) * scale;
}

void DotEpilogue::store(std::int64_t i, std::int64_t channel, std::int32_t accumulator) const {
  const Channel& p = channels_[static_cast<std::size_t>(channel)];
  auto acc = static_cast<float>(accumulator);
  if (output_.is_float) {
    float v = acc * p.scale;
    if (has_bias_) v = v + p.bias;
    return output_.store_float(i, output_.activation(add_residual(v, i, residual_.scale)));
  }
  if (output_.activation.is_clamp_like()) {
    float v = (acc + p.b) * p.multiplier;
    return output_.store_scaled(i, add_residual(v, i, residual_multiplier_));
  }
  float v = add_residual((acc + p.b) * p.scale, i, residual_.scale);
  output_.store_scaled(i, output_.activation(v) * output_.inverse_scale);
}

std::int32_t integer_dot(const std::int16_t* a, const std::int16_t* b, std::int64_t n) {
  std::uint32_t sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    sum += static_cast<std::uint32_t>(static_cast<std::int32_t>(a[i]) * static_cast<std::int32_t>(b[i]));
  }
  return static_cast<std::int32_t>(sum);
}

}  // namespace aoq::ops
