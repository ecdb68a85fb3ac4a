// What the families of ops share that `lower` turns into integer ops: how stubs are read, and how an integer op takes
// a float one's place. lower.cpp has the list of patterns.
#pragma once

#include <cstdint>
#include <string>

#include "ir/graph.h"
#include "ir/target.h"
#include "passes/rewrite/layout.h"

namespace aoq::lowering {

using rewrite::LayoutNode;

// A value seen as codes with a static scale.
struct Codes {
  Value* value = nullptr;
  float scale = 1.0f;
  std::int64_t zero_point = 0;
  DType dtype = DType::u8;
};
// What a per-tensor static dequantize reads; false for anything else.
bool codes_of(const Value* v, Codes* out);

// The same for scales that choose_qparams makes at run time: one for the whole tensor, or one for each row of the last
// axis with zero points of 0.
struct DynamicCodes {
  Value* value = nullptr;
  Value* scale = nullptr;
  Value* zero_point = nullptr;
  bool per_token = false;
};
bool dynamic_codes_of(const Value* v, DynamicCodes* out);

// Constant s8 codes with constant scales and zero points of 0.
struct Weight {
  Value* codes = nullptr;
  Value* scale = nullptr;
  const Node* dequantize = nullptr;
};
bool weight_of(const Value* v, Weight* out);

// A constant of one element.
bool is_scalar_constant(const Value* v);

// The quantize that is the only reader of a float value.
struct Target {
  Node* quantize = nullptr;
  float scale = 1.0f;
  std::int64_t zero_point = 0;
  DType dtype = DType::f32;
};
bool target_of(const Node& n, Target* out);

// The attributes out_dtype, out_scale and out_zero_point.
void set_out(Attributes& a, const Target& t);
// The attributes PREFIX_scale and PREFIX_zero_point.
void set_in(Attributes& a, const std::string& prefix, const Codes& c);

// A walk over a graph in which ops give way to integer ones.
struct Lowering {
  Graph& graph;
  const TargetInfo* target = nullptr;  // or null: every op is taken
  Node* next = nullptr;                // where the walk goes on

  // Replaces n (and the quantize behind it) by `made`, unless the target has no kernel for it: then n keeps the reason,
  // and what was made is dead and dce removes it. Integer convolutions and pools are made channels-last, as targets
  // want them.
  Result<bool> accept(Node* n, const LayoutNode& made, const Target& out);
  Result<bool> accept(Node* n, Node* made, const Target& out) { return accept(n, LayoutNode{made, made}, out); }
};

// Each gives whether `n` gave way.
Result<bool> lower_weighted(Lowering& lowering, Node* n);   // conv and linear
Result<bool> lower_recurrent(Lowering& lowering, Node* n);  // lstm, gru and rnn
Result<bool> lower_embedding(Lowering& lowering, Node* n);  // gather and embedding_bag
// Those whose only reader is a quantize.
Result<bool> lower_binary(Lowering& lowering, Node* n, const Target& out);  // add, mul and matmul
Result<bool> lower_average(Lowering& lowering, Node* n, const Target& out);
Result<bool> lower_concat(Lowering& lowering, Node* n, const Target& out);
Result<bool> lower_move(Lowering& lowering, Node* n, const Target& out);
Result<bool> lower_lookup(Lowering& lowering, Node* n, const Target& out);

// Whether the codes of n's result are codes of its operand.
bool moves_codes(const Node& n);
// Puts the relu that reads an add or mul behind the quantize, where the operands are codes.
Status fuse_relu(Lowering& lowering, Node* n);

}  // namespace aoq::lowering
