// What becomes of the weights of a node, by its qconfig:
//
//   activation                     weight                              form
//   observer of integers           integers                            static int8: conv, linear
//   placeholder, integer dtype     integers                            dynamic int8: linear, lstm, gru, rnn
//   placeholder, float dtype       integers                            weight-only: conv, linear
//   placeholder, float dtype       per_channel_affine_float_qparams    weight-only rows: gather and embedding_bag
//   placeholder, float dtype       placeholder of f16                  float16: linear, lstm, gru, rnn
#pragma once

#include "passes/quantize/recipe.h"

namespace aoq {

// `requested` of nodes whose arithmetic stays in float while their weights are narrower; their reason says which.
inline constexpr const char* kFloatArithmetic = "float32";

// Leaves a traced node in float that the recipe wants quantized, because that costs less: prepare and lower do not
// touch it, and reports give the figures. For our own recipes; the FX workflow decides by itself.
inline constexpr std::string_view kDeclined = "float is faster: ";  // how its reason begins
void decline(Node* n, std::string_view figures);
bool is_declined(const Node& n);

enum class WeightForm : std::uint8_t { static_int8, dynamic_int8, weight_only, rows, float16 };
WeightForm weight_form(const QConfig& config);

// lstm, gru and rnn.
bool is_recurrent(const Node& n);
// A gather along axis 0 or an embedding_bag whose table is a constant f32 matrix.
bool is_embedding(const Node& n);

struct IntegerWeight {
  Tensor codes;
  std::vector<float> scale;
  std::vector<float> error;  // w - dequantized, element by element
};
// i8 codes with one scale, or one for each index of axis 0.
Result<IntegerWeight> quantize_weight(const Tensor& weight, const ObserverSpec& spec);
// By qparams that were learnt before, as in training.
Result<IntegerWeight> quantize_weight(const Tensor& weight, const QParams& q);

// w [d, M, K] and r of a recurrent node become dequantize(codes, scale): each direction is quantized by itself, with
// scales [d] (axis 0), or [d, M, 1] (token) where the spec is per channel.
Status quantize_recurrent_weights(Graph& graph, Node* n, const ObserverSpec& spec);
// The table becomes dequantize_rows(codes, scale, bias) with bias = -(zero point * scale); with 4 bits scale and bias
// are rounded to f16, as PyTorch packs them. Nodes of one table and width share it.
Status quantize_table(Graph& graph, Node* n, const ObserverSpec& spec);
// The weights become their nearest f16 numbers, saturating, as f32.
Status round_weights_to_f16(Graph& graph, Node* n);

}  // namespace aoq
