// The scale and zero point of a quantized tensor plus or times a number, as PyTorch derives them from the tensor's own
// (aten/src/ATen/native/quantized: add_scalar, mul_scalar). Nothing is observed for such ops.
#pragma once

#include <cstdint>

#include "ir/dynamic_qparams.h"

namespace aoq {

// The number as whole steps of the scale, rounded half to even: what is added to the codes.
std::int64_t scalar_steps(double scale, double other);
// The codes stay and the zero point moves; where it would leave `range`, the scale grows.
TensorQParams add_scalar_qparams(const TensorQParams& x, double other, QRange range);
// The scale takes the factor; a negative one mirrors the codes, 0 gives scale 1 and zero point 0.
TensorQParams mul_scalar_qparams(const TensorQParams& x, double other, QRange range);

}  // namespace aoq
