// What qlstm_static and qgru_static share: recurrent ops whose every value is u8 codes with a scale of its own, as
// PyTorch's quantized LSTM computes (torch.ao.nn.quantized.LSTM; the gru by analogy).
//
// The steps are those of ir/ops/observed_recurrent.h, on codes: products and their bias as qlinear, sums as qadd,
// products of two values as qmul, sigmoid and tanh as tables of all codes with the scales below. Per direction there is
// a scale and a zero point for every inner value, in the order of the tables there. An initial state has its own; an
// absent one is code 0 of scale 1 and zero point 0. 1 - z is min(256 - code, 255) of sigmoid's scale.
//
// Results y [T, d, B, H], h and c [d, B, H] have the scales of the forward direction's hidden and cell values; codes of
// the other direction are requantized. They are plain codes: what reads them states the scale.
#pragma once

#include <array>

#include "ir/ops/observed_recurrent.h"

namespace aoq::ops {

inline constexpr CodeQParams kSigmoidQParams = {1.0f / 256.0f, 0}, kTanhQParams = {2.0f / 256.0f, 128};

// Positions of the inputs.
enum StaticRecurrentInput : std::size_t { kSX, kSW, kSR, kSWScale, kSRScale, kSBias, kSInitialH, kSInitialC };

inline constexpr AttributeDef kStaticX = {"x_scale", AttributeKind::real, kRequired, "of the codes x"};
inline constexpr AttributeDef kStaticXZero = {"x_zero_point", AttributeKind::integer, "0", ""};
inline constexpr AttributeDef kInitialHScale = {"initial_h_scale", AttributeKind::real, kAbsent, "with an initial_h"};
inline constexpr AttributeDef kInitialHZero = {"initial_h_zero_point", AttributeKind::integer, kAbsent, "absent: 0"};
inline constexpr AttributeDef kInitialCScale = {"initial_c_scale", AttributeKind::real, kAbsent, "with an initial_c"};
inline constexpr AttributeDef kInitialCZero = {"initial_c_zero_point", AttributeKind::integer, kAbsent, "absent: 0"};
inline constexpr AttributeDef kInnerScales = {"scales", AttributeKind::reals, kRequired,
                                              "of the inner values, per direction"};
inline constexpr AttributeDef kInnerZeroPoints = {"zero_points", AttributeKind::integers, kRequired,
                                                  "of the inner values, per direction"};

struct StaticForm {
  const RecurrentForm& form;
  std::span<const InnerValue> values;
  std::size_t hidden, cell;  // which values h and c are; hidden twice without a cell state
};
inline constexpr StaticForm kStaticLstm = {kLstmForm, kLstmValues, kLstmHidden, kCell};
inline constexpr StaticForm kStaticGru = {kGruForm, kGruValues, kGruHidden, kGruHidden};

InferResult infer_static_recurrent(const InferContext& c, const StaticForm& form);
Status run_static_recurrent(const EvalContext& c, const StaticForm& form);

// Everything about scales that one node says.
struct StaticQParams {
  CodeQParams x, initial_h, initial_c;
  std::vector<std::vector<CodeQParams>> inner;  // [direction][value]
};
// Of a node whose attributes were checked by inference.
StaticQParams read_static_qparams(const Attributes& attributes, const StaticForm& form);

using CodeTable = std::array<std::uint8_t, 256>;
CodeTable sigmoid_table(const CodeQParams& x);
CodeTable tanh_table(const CodeQParams& x);
// Code of 1 - z for every code of a sigmoid.
CodeTable complement_table();
CodeTable requantize_table(const CodeQParams& from, const CodeQParams& to);

}  // namespace aoq::ops
