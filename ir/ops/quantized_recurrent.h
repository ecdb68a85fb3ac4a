// What qlstm, qgru and qrnn share: the recurrent ops with i8 weights and dynamic u8 activations, as PyTorch's dynamic
// quantization computes them.
//
// A dynamic linear of rows X [n, K] with weights W [M, K]: (s, z) = choose_qparams of all of X by the formula "aten"
// (ir/dynamic_qparams.h), codes u8, and
//
//   y = float(sum over k of (code[k] - z) * W[m, k]) * (s * w_scale[m]) + bias[m]            the sum exact, int32
//
// Per direction: x_part is one dynamic linear (w, first half of the bias) over the rows of x that lie within their
// sequences, all time steps together. At every time step t, r_part is one dynamic linear (r, second half of the bias)
// over the states of the sequences that have a step t; a gru that is not linear before reset has one more over the
// reset states for its candidate. With x_scale and state_scale (both or none) those are (s, z) in place of chosen ones:
// of x, and of the states and reset states. The gates are those of the float op with x_part and r_part and without
// bias.
#pragma once

#include "ir/ops/recurrent.h"

namespace aoq::ops {

inline constexpr AttributeDef kReduceRange = {"reduce_range", AttributeKind::boolean, "false",
                                              "activations take half the range of their codes"};

inline constexpr AttributeDef kStaticXScale = {"x_scale", AttributeKind::real, kAbsent,
                                               "of all of x, not chosen in every run"};
inline constexpr AttributeDef kStaticXZeroPoint = {"x_zero_point", AttributeKind::integer, kAbsent, "absent: 0"};

// Positions of the inputs.
enum QuantizedRecurrentInput : std::size_t {
  kQX,
  kQW,
  kQR,
  kQWScale,
  kQRScale,
  kQBias,
  kQLengths,
  kQInitialH,
  kQInitialC,
  kQPeephole
};

InferResult infer_quantized_recurrent(const InferContext& c, const RecurrentForm& form);

// Whether a step needs the product of r with the reset state in place of the state for its last gate.
enum class ResetsState : std::uint8_t { no, yes };
Status run_quantized_recurrent(const EvalContext& c, const RecurrentForm& form, ResetsState resets,
                               const RecurrentStep& step);

}  // namespace aoq::ops
