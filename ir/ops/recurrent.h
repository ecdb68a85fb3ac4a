// What lstm, gru and rnn share: ONNX's shapes and order of gates.
//
// x [T, B, I]; per direction d: w [d, G*H, I], r [d, G*H, H], bias [d, 2*G*H] (of w, then of r), sequence_lengths i32
// [B], initial state [d, B, H]; results y [T, d, B, H] and the last state [d, B, H]. Every sum of products is a chain
// of fused multiply-adds from 0; a gate is ((x part + r part) + w bias) + r bias.
#pragma once

#include <optional>
#include <string>

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

inline constexpr AttributeDef kHidden = {"hidden", AttributeKind::integer, kRequired, "H"};
inline constexpr AttributeDef kDirection = {"direction", AttributeKind::string, "forward",
                                            "forward, reverse or bidirectional"};
inline constexpr AttributeDef kActivations = {"activations", AttributeKind::strings, "[]",
                                              "per direction, in ONNX's order; none: its defaults"};
inline constexpr AttributeDef kStateScale = {"state_scale", AttributeKind::real, kAbsent,
                                             "products see the state as u8 codes with this scale"};
inline constexpr AttributeDef kStateZeroPoint = {"state_zero_point", AttributeKind::integer, kAbsent, "absent: 0"};
inline constexpr AttributeDef kClip = {"clip", AttributeKind::real, "0", "bound of what activations see; 0: none"};

// Operands of the float ops, and of those with codes for weights; an lstm has more behind them.
using InputDefs = decltype(OpDef::inputs);
inline constexpr InputDefs kStateInputs = {{{"x"},
                                            {"w"},
                                            {"r"},
                                            {"bias", Arity::optional},
                                            {"sequence_lengths", Arity::optional},
                                            {"initial_h", Arity::optional}}};
inline constexpr InputDefs kCodedStateInputs = {{{"x"},
                                                 {"w"},
                                                 {"r"},
                                                 {"w_scale"},
                                                 {"r_scale"},
                                                 {"bias", Arity::optional},
                                                 {"sequence_lengths", Arity::optional},
                                                 {"initial_h", Arity::optional}}};
inline constexpr InputDef kInitialCell = {"initial_c", Arity::optional};
inline constexpr InputDef kPeepholeInput = {"peephole", Arity::optional};
constexpr InputDefs with_inputs(InputDefs inputs, std::initializer_list<InputDef> more) {
  std::size_t at = 0;
  while (inputs[at].name != nullptr) ++at;
  for (const InputDef& def : more) inputs[at++] = def;
  return inputs;
}

// `gates` is G; with a cell state there is a third result, and inputs initial_c and peephole.
struct RecurrentForm {
  std::int64_t gates;
  std::span<const std::string_view> default_activations;
  bool has_cell_state;
};
inline constexpr std::string_view kLstmActivations[] = {"sigmoid", "tanh", "tanh"};
inline constexpr std::string_view kGruActivations[] = {"sigmoid", "tanh"};
inline constexpr std::string_view kRnnActivations[] = {"tanh"};
inline constexpr RecurrentForm kLstmForm = {4, kLstmActivations, true};
inline constexpr RecurrentForm kGruForm = {3, kGruActivations, false};
inline constexpr RecurrentForm kRnnForm = {1, kRnnActivations, false};
InferResult infer_recurrent(const InferContext& c, const RecurrentForm& form);

using GateActivation = float (*)(float);
Result<std::vector<GateActivation>> read_activations(const Attributes& attributes, const RecurrentForm& form,
                                                     std::int64_t directions);
// The lengths of the sequences in a batch, from operand `input`; all steps where it is absent.
Result<std::vector<std::int64_t>> read_lengths(const EvalContext& c, std::size_t input, std::int64_t steps,
                                               std::int64_t batch);

// The scale and zero point of u8 codes.
struct CodeQParams {
  float scale = 1.0f;
  std::int32_t zero_point = 0;
};
// Attributes <prefix>_scale and <prefix>_zero_point; none where there is no scale. Checked: a scale between kMinScale
// and kMaxScale, so that no product or quotient of a few leaves the range of f32, and a zero point of u8.
inline constexpr double kMinScale = 0x1p-40, kMaxScale = 0x1p40;
Status check_code_qparams(std::string_view name, double scale, std::int64_t zero_point);
Result<std::optional<CodeQParams>> read_code_qparams(const Attributes& attributes, const std::string& prefix);

// One direction of one node with its weights transposed for the chains.
struct RecurrentDirection {
  std::int64_t input, hidden, gates;
  std::vector<float> w, r;          // [I, G*H], [H, G*H]
  const float* bias = nullptr;      // [2*G*H] or null
  const float* peephole = nullptr;  // [3*H] or null
  std::vector<GateActivation> activations;
  float clip = 0.0f;
  std::vector<float> x_part, r_part;  // [G*H], of the current step
  std::optional<CodeQParams> state;   // products see the state as codes

  // What products see of a state.
  float seen(float v) const;

  void start_step(const float* x, const float* h);
  // The gate before its activation, without clip.
  float gate(std::int64_t index) const;
  float w_bias(std::int64_t index) const { return bias == nullptr ? 0.0f : bias[index]; }
  float r_bias(std::int64_t index) const { return bias == nullptr ? 0.0f : bias[gates * hidden + index]; }
  float clipped(float v) const;
};

// What follows the products: one step of the state h [H] (and cell state) from x_part and r_part. A gru computes its
// reset gates first; unless it is linear before reset, r_part must then hold the product with the reset state in the
// columns of the candidate.
enum class InputForget : std::uint8_t { no, yes };
enum class LinearBeforeReset : std::uint8_t { no, yes };
void lstm_step(RecurrentDirection& d, InputForget input_forget, float* h, float* cell);
std::vector<float> gru_reset_gates(const RecurrentDirection& d);
void gru_step(RecurrentDirection& d, const std::vector<float>& reset, LinearBeforeReset order, float* h);
void rnn_step(RecurrentDirection& d, float* h);

// Runs `step(context, direction, h, c)` over all time steps, which turns state h (and cell state c) [H] into the next.
struct RecurrentStep {
  const void* context;
  void (*call)(const void* context, RecurrentDirection& direction, float* h, float* cell);
};
Status run_recurrent(const EvalContext& c, const RecurrentForm& form, const RecurrentStep& step);

}  // namespace aoq::ops
