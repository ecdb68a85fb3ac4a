#include <cmath>
#include <optional>

#include "ir/epilogue.h"
#include "ir/interpreter.h"
#include "passes/quantize/lowering.h"
#include "passes/quantize/scalar_qparams.h"
#include "passes/rewrite/common.h"

namespace aoq::lowering {
namespace {

using namespace rewrite;

// The table that gives these codes; null where they come from elsewhere.
const Tensor* table_of(const Value* codes) {
  return codes->def()->is(Op::lookup) ? constant_tensor(codes->def()->input(1)) : nullptr;
}

// The table of one function after another.
Result<Tensor> composed(const Tensor& first, const Tensor& second) {
  AOQ_ASSIGN(Tensor table, Tensor::make(second.dtype(), {256}));
  const std::int64_t offset = first.dtype() == DType::i8 ? 128 : 0;
  for (std::int64_t i = 0; i < 256; ++i) {
    const std::int64_t at = load_integer(first.dtype(), first.bytes().data(), i) + offset;
    store_integer(second.dtype(), table.mutable_bytes().data(), i,
                  load_integer(second.dtype(), second.bytes().data(), at));
  }
  return table;
}

// The node's function on 256 numbers in place of input `varying`.
Result<Tensor> evaluate_on(const Node& n, std::size_t varying, std::vector<Tensor> inputs) {
  Graph one;
  std::vector<Value*> operands;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (i != varying && inputs[i].shape().size() > 1) {
      AOQ_ASSIGN(inputs[i], inputs[i].reshaped({1}));
    }
    operands.push_back(one.constant(inputs[i]));
  }
  AOQ_ASSIGN(Node * made, one.create(n.op(), operands, n.attributes()));
  AOQ_ASSIGN(std::vector<Tensor> results, evaluate_node(*made, inputs));
  return std::move(results[0]);
}

struct AddedSteps {
  std::int64_t steps = 0;
  float multiplier = 1.0f;  // from steps of x to steps of the result
};

// How many steps of x's scale `n` adds, when n is an addition of a scalar as FX converts it.
std::optional<AddedSteps> added_steps(const Node& n, std::size_t varying, const Codes& x, const Target& out) {
  if (!n.is(Op::add) || x.dtype != out.dtype) return std::nullopt;
  double scalar = 0;
  if (!scalar_constant(n.input(1 - varying), &scalar)) return std::nullopt;
  const QRange range{static_cast<std::int64_t>(dtype_info(x.dtype).min),
                     static_cast<std::int64_t>(dtype_info(x.dtype).max)};
  const TensorQParams derived = add_scalar_qparams({static_cast<double>(x.scale), x.zero_point}, scalar, range);
  // The scale was derived in double from a scale in double; both are floats here.
  const double relative = std::fabs(derived.scale / static_cast<double>(out.scale) - 1.0);
  if (relative > 0x1p-22 || derived.zero_point != out.zero_point) return std::nullopt;
  const double scale = static_cast<double>(x.scale);
  return AddedSteps{scalar_steps(scale, scalar), static_cast<float>(scale / derived.scale)};
}

// The only operand of `n` that is no constant number, where that holds codes and gives the result's shape; else as many
// as there are operands.
std::size_t varying_operand(const Node& n, Codes* x) {
  const std::size_t none = n.inputs().size();
  std::size_t varying = none;
  for (std::size_t i = 0; i < n.inputs().size(); ++i) {
    if (is_scalar_constant(n.input(i))) continue;
    if (varying < none || !codes_of(n.input(i), x)) return none;
    varying = i;
  }
  if (varying == none) return none;
  const Type &from = n.input(varying)->type(), &to = n.output()->type();
  return from.dtype == DType::f32 && to.dtype == DType::f32 && to.shape == from.shape ? varying : none;
}

// The function's results for all codes of x, in steps of 1 / *multiplier.
Result<Tensor> results_of_codes(const Node& n, std::size_t varying, const Codes& x, const Target& out,
                                float* multiplier) {
  // PyTorch adds a scalar as a whole number of steps, where the result's scale follows from the input's.
  const std::optional<AddedSteps> added = added_steps(n, varying, x, out);
  *multiplier = added ? added->multiplier : 1.0f / out.scale;
  const float unit = added ? 1.0f : x.scale;
  const std::int64_t lowest = x.dtype == DType::u8 ? 0 : -128;
  AOQ_ASSIGN(Tensor values, Tensor::make(DType::f32, {256}));
  std::span<float> reals = values.mutable_as<float>();
  for (std::int64_t i = 0; i < 256; ++i) {
    const std::int64_t steps = i + lowest - x.zero_point + (added ? added->steps : 0);
    reals[static_cast<std::size_t>(i)] = static_cast<float>(steps) * unit;
  }
  if (added) return values;
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < n.inputs().size(); ++i) {
    inputs.push_back(i == varying ? values : *constant_tensor(n.input(i)));
  }
  return evaluate_on(n, varying, std::move(inputs));
}

// Numbers as codes of the result.
Result<Tensor> table_from(const Tensor& values, const Target& out, float multiplier) {
  AOQ_ASSIGN(Tensor table, Tensor::make(out.dtype, {256}));
  const auto low = static_cast<std::int32_t>(dtype_info(out.dtype).min),
             high = static_cast<std::int32_t>(dtype_info(out.dtype).max);
  for (std::int64_t i = 0; i < 256; ++i) {
    const float value = values.as<float>()[static_cast<std::size_t>(i)];
    store_integer(out.dtype, table.mutable_bytes().data(), i,
                  quantize_value(value, multiplier, static_cast<std::int32_t>(out.zero_point), low, high));
  }
  return table;
}

}  // namespace

// Any function of one element is a table over its 256 codes; scalar constants are part of the function.
Result<bool> lower_lookup(Lowering& lowering, Node* n, const Target& out) {
  Codes x;
  const std::size_t varying = varying_operand(*n, &x);
  if (varying == n->inputs().size()) return false;
  float multiplier = 1.0f;
  AOQ_ASSIGN(Tensor values, results_of_codes(*n, varying, x, out, &multiplier));
  AOQ_ASSIGN(Tensor table, table_from(values, out, multiplier));
  Value* source = x.value;
  while (const Tensor* first = table_of(source)) {
    AOQ_ASSIGN(table, composed(*first, table));
    merge_origins(n, source->def());
    source = source->def()->input(0);
  }
  Value* constant = lowering.graph.constant(std::move(table), n, n->label() + ".table");
  AOQ_ASSIGN(Node * made, lowering.graph.create_like(*n, Op::lookup, {source, constant}, {}, n));
  return lowering.accept(n, made, out);
}

}  // namespace aoq::lowering
