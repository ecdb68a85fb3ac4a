#include "passes/algorithms/channel_scales.h"

#include "passes/quantize/arithmetic.h"

namespace aoq {

Result<Tensor> scale_columns(TensorView weight, std::span<const float> factors) {
  const bool fits = weight.shape.size() == 2 && weight.shape[1] == static_cast<std::int64_t>(factors.size());
  if (!fits) {
    return error(Code::invalid_argument, "{} factors for a weight of shape {}", factors.size(),
                 shape_to_string(weight.shape));
  }
  AOQ_ASSIGN(std::vector<float> values, to_floats(weight));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= factors[i % factors.size()];
  AOQ_ASSIGN(Tensor out, Tensor::make(weight.dtype, {weight.shape.begin(), weight.shape.end()}));
  dtype_info(weight.dtype).from_float(values, out.mutable_bytes().data(), 0);
  return out;
}

std::vector<float> pre_scale_of(std::span<const float> factors, DType dtype) {
  const Rounding round(dtype);
  std::vector<float> result;
  for (float f : factors) result.push_back(round(1.0f / f));
  return result;
}

}  // namespace aoq
