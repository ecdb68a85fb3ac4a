// The op table: every op is defined once, by one line in ir/ops.def and one OpDef in ir/ops/<name>.cpp.
//
// Parser, printer, verifier, the .aoq format, constant folding, tests and the op page all read this table; nothing else
// may switch on an Op.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "ir/attribute.h"
#include "ir/status.h"
#include "ir/tensor.h"
#include "ir/type.h"

namespace aoq {

enum class Op : std::uint16_t {
#define AOQ_OP(name) name,
#include "ir/ops.def"
#undef AOQ_OP
};

// The stages a graph goes through; each has rules that the verifier checks.
enum class Stage : std::uint8_t { traced, prepared, quantized, lowered };
const char* stage_name(Stage stage);
std::optional<Stage> stage_from_name(std::string_view name);

// What quantization may do with an op.
enum class QuantRule : std::uint8_t {
  passthrough,    // moves codes without looking at them: output qparams are the input's (reshape, permute, gather)
  same_scale,     // works on codes, all operands and the result share one scale and zero point (max_pool, concat, relu)
  zero_point,     // works on codes but must know the zero point (pad)
  requantize,     // integer arithmetic with a requantizing epilogue (conv, linear, add)
  fixed_qparams,  // the output range is known beforehand (sigmoid, softmax, tanh)
  float_only,     // runs in float
  boundary,       // input, output, constant, quantize, dequantize, observe
};
const char* quant_rule_name(QuantRule rule);

enum class Arity : std::uint8_t { required, optional, variadic };  // variadic: the last input, one or more

struct InputDef {
  const char* name = nullptr;  // null ends the list
  Arity arity = Arity::required;
};

struct AttributeDef {
  const char* name = nullptr;  // null ends the list
  AttributeKind kind = AttributeKind::integer;
  // Text of the default: "0", "1e-05", "true", "[]", "none", a dtype name. Null: required. "absent": may be missing.
  const char* default_text = nullptr;
  const char* doc = "";
};

// Traits, or-ed together.
enum Trait : std::uint32_t {
  kNoTraits = 0,
  kElementwise = 1u << 0,   // each result element depends on the same element of the (broadcast) inputs only
  kCommutative = 1u << 1,   // the first two inputs may be swapped
  kStructural = 1u << 2,    // input, output, constant: never removed, folded or executed
  kLoweredOnly = 1u << 3,   // may appear only from the lowered stage on
  kPreparedOnly = 1u << 4,  // may appear only in the prepared stage
  kView = 1u << 5,          // the result has the same elements in the same order (reshape)
  kDataMovement = 1u << 6,  // result elements are copies of input elements; any dtype
  // Computes on integers with scales of its own: may appear only from the quantized stage on.
  kQuantizedOnly = 1u << 7,
};

// What type inference sees. Absent optional inputs are null.
struct InferContext {
  Op op;
  std::span<const Type* const> inputs;
  const Attributes& attributes;

  bool has(std::size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
  const Type& input(std::size_t i) const { return *inputs[i]; }
};

// What a reference implementation sees: concrete shapes, inputs absent where `data` is null, and outputs allocated with
// the inferred shape. Everything was verified; what can still fail is data (an index out of range).
struct EvalContext {
  Op op;
  std::span<const TensorView> inputs;
  std::span<const MutableTensorView> outputs;
  const Attributes& attributes;  // dimensions are already numbers
  // Types of the inputs, with numbers for dimensions: where a quantized value's scale and zero point are read. Null
  // where an input is absent.
  std::span<const Type* const> types = {};

  bool has(std::size_t i) const { return i < inputs.size() && inputs[i].data != nullptr; }
  // How to read the codes of input i; null when they are plain numbers.
  const Quantization* quantization(std::size_t i) const {
    return i < types.size() && types[i] != nullptr && types[i]->quantization ? &*types[i]->quantization : nullptr;
  }
};

struct OpDef {
  Op op = Op{};
  const char* name = nullptr;
  const char* doc = "";
  std::array<InputDef, 16> inputs = {};
  std::array<AttributeDef, 24> attributes = {};
  int outputs = 1;
  std::uint32_t traits = kNoTraits;
  QuantRule rule = QuantRule::float_only;
  // For fixed_qparams with an unsigned 8-bit result.
  float fixed_scale = 0.0f;
  int fixed_zero_point = 0;
  // The types of the results, or what is wrong with the inputs and attributes (no context: the caller adds the node).
  // Must range-check every attribute: files come from outside.
  Result<std::vector<Type>> (*infer)(const InferContext&) = nullptr;
  // Plain loops; null for structural ops.
  Status (*reference)(const EvalContext&) = nullptr;

  bool has_trait(Trait t) const { return (traits & t) != 0; }
  // Positions by name; -1 when there is none.
  int input_index(std::string_view input_name) const;
  const AttributeDef* attribute(std::string_view attribute_name) const;
};

const OpDef& op_def(Op op);
inline const char* op_name(Op op) {
  return op_def(op).name;
}
std::optional<Op> op_from_name(std::string_view name);
std::span<const OpDef* const> all_ops();
// The closest op name, for "did you mean".
std::string_view nearest_op_name(std::string_view name);

// Fills in the defaults and checks names and kinds of the attributes and the number of inputs.
Status complete_attributes(const OpDef& def, Attributes& attributes);
Status check_arity(const OpDef& def, std::span<const Type* const> inputs);
// The default of an attribute; empty for required or absent ones.
std::optional<Attribute> default_value(const AttributeDef& def);

}  // namespace aoq
