// Statically quantized lstm and gru. Two forms, by the qconfig's `inner` observer:
//
//   of codes    every inner value is u8 codes with a scale of its own, as in PyTorch's quantized LSTM:
//               lstm(x, w, r) => observed_lstm, whose inner values are observed
//                             => y, h, c = dequantize(qlstm_static(x codes, w_int8, r_int8))
//   floats      the products are int8 with static scales of x and the state, the gates between them are f32:
//               lstm(x, w, r) => lstm(observe(x), w, r) and observe(y)
//                             => lstm(dequantize(x codes), dequantize(w_int8), ...) {state_scale, state_zero_point}
//                             => qlstm with those scales, when lowered
//
// Observers of inner values are named as PyTorch's modules are: "<place>.layer_fw.cell.igates", layer_bw for the second
// direction, with place "<module>.layers.<n>"; each time step is one observation. The state's is "<place>.state".
#pragma once

#include <functional>
#include <string>

#include "passes/quantize/recipe.h"

namespace aoq {

enum class InnerForm : std::uint8_t { floats, codes };
// What the qconfig says; `absent` where it has no inner observer.
InnerForm inner_form(const QConfig& config, InnerForm absent);

// Why a recurrent op cannot be statically quantized with a qconfig; empty where it can.
std::string why_no_static_form(const Node& n, const QConfig& config);

// Where a recurrent op is, for the names of its observers.
std::string recurrent_place(const std::string& module, std::int64_t layer);

// For codes: replaces `n` by its observed form, with observers; x and the initial states are observed by the caller.
Status observe_inner_values(Graph& graph, Node* n, const QConfig& config, const std::string& place);
// For floats: an observer of what the products see of the state.
Status observe_state(Graph& graph, Node* n, const QConfig& config, const std::string& place);

using ObserverQParams = std::function<Result<QParams>(const std::string& observer)>;
bool is_observed_recurrent(const Node& n);
// The observed form, whose inputs are stubs already, becomes the static one; returns the new node. Codes go on through
// what moves the results within their module.
Result<Node*> quantize_observed_recurrent(Graph& graph, Node* n, const ObserverQParams& qparams_of);
// The state's observer, where there is one, becomes attributes.
Status quantize_state(Graph& graph, Node* n, const ObserverQParams& qparams_of);

}  // namespace aoq
