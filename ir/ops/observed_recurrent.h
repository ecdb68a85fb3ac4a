// lstm and gru as statically quantized ones compute them: one named value for every step that has a scale of its own.
//
//   lstm   igates = x W + w bias, hgates = h R + r bias, gates = igates + hgates; i, o, f = sigmoid, g = tanh of gates
//          fgate_cx = f * c, igate_cgate = i * g, fgate_cx_igate_cgate = their sum = c'
//          ogate_cy = o * tanh(c') = h'
//   gru    igates and hgates as above (z, r, candidate); gates = igates + hgates of z and r; z, r = sigmoid of gates
//          rgate_hgates = r * hgates of the candidate; ngates = igates of the candidate + rgate_hgates; n =
//          tanh(ngates) inverse_zgate_ngate = (1 - z) * n, zgate_hx = z * h, hidden = their sum = h'
//
// The lstm's are those of PyTorch's quantizable LSTM. A gru is linear before reset. All of a direction's sequences have
// all steps; there are no peepholes, clips, coupled gates or other activations.
#pragma once

#include "ir/ops/recurrent.h"

namespace aoq::ops {

struct InnerValue {
  const char* name;
  std::int64_t gates;  // it has gates * hidden elements for each row of the batch
};
inline constexpr InnerValue kLstmValues[] = {{"igates", 4},   {"hgates", 4},      {"gates", 4},
                                             {"fgate_cx", 1}, {"igate_cgate", 1}, {"fgate_cx_igate_cgate", 1},
                                             {"ogate_cy", 1}};
inline constexpr InnerValue kGruValues[] = {{"igates", 3},       {"hgates", 3}, {"gates", 2},
                                            {"rgate_hgates", 1}, {"ngates", 1}, {"inverse_zgate_ngate", 1},
                                            {"zgate_hx", 1},     {"hidden", 1}};
// Positions in the tables above.
enum LstmValue : std::size_t { kLstmIgates, kLstmHgates, kLstmGates, kForgetCell, kInputCell, kCell, kLstmHidden };
enum GruValue : std::size_t {
  kGruIgates,
  kGruHgates,
  kGruGates,
  kResetHgates,
  kCandidateGates,
  kInverseCandidate,
  kUpdateHidden,
  kGruHidden
};
// Results before the inner values of an observed op: y, h and, of an lstm, c.
inline constexpr std::size_t kLstmResults = 3, kGruResults = 2;

inline constexpr AttributeDef kPlace = {"place", AttributeKind::string, "",
                                        "what the names of its observers begin with"};
inline constexpr AttributeDef kWeightSpec = {"weight_spec", AttributeKind::string, "",
                                             "the observer of the weights, as JSON"};

// The inner values of one step: out[value] points at its elements.
using RecordStep = void (*)(const RecurrentDirection& d, const float* h, const float* cell, float* const* out);

// The float op's results, then the inner values [d, T, B, gates * hidden] in the order of each direction's steps.
InferResult infer_observed(const InferContext& c, const RecurrentForm& form, std::span<const InnerValue> values);
// Runs `step` as the float op would, and `record` before every step.
Status run_observed(const EvalContext& c, const RecurrentForm& form, std::span<const InnerValue> values,
                    const RecurrentStep& step, RecordStep record);

}  // namespace aoq::ops
