#include "tools/narrow_layer.h"

#include "ir/interpreter.h"
#include "ir/narrow_linear.h"

namespace aoq::tools {

namespace {

enum Operand : std::size_t { kInput, kWeight, kScale, kZeroPoint };

bool has_codes(const Node& n) {
  return n.is(Op::linear_weight_only) || n.is(Op::linear_dynamic);
}

// Ops in front of a layer that have its name were made with it.
bool belongs_to(const Node& n, const Node& layer) {
  return n.label() == layer.label() && (n.is(Op::mul) || n.is(Op::fake_quantize) || n.is(Op::cast));
}

// The factors of the layer's input; null without.
const Tensor* pre_scale(const Node& layer) {
  for (const Value* v = layer.input(kInput); belongs_to(*v->def(), layer); v = v->def()->input(0)) {
    if (v->def()->is(Op::mul)) return constant_tensor(v->def()->input(1));
  }
  return nullptr;
}

// [rows, groups] of numbers, read by the column k of a weight.
class PerGroup {
 public:
  PerGroup(const Tensor& numbers, std::int64_t group) : numbers_(numbers), group_(group) {}
  double at(std::int64_t row, std::int64_t k) const {
    return load_as_double(numbers_.dtype(), numbers_.bytes().data(), row * numbers_.shape()[1] + k / group_);
  }

 private:
  const Tensor& numbers_;
  std::int64_t group_;
};

// A weight's numbers, out of their layouts.
struct PlainWeight {
  const Tensor& codes;
  const Tensor& scales;
  const Tensor* zero_points;  // null without
};

std::vector<float> reals_of(const Node& n, const PlainWeight& weight) {
  const Tensor &codes = weight.codes, &scales = weight.scales;
  const std::int64_t rows = codes.shape()[0], depth = codes.shape()[1], group = n.attributes().integer("group");
  const PerGroup scale(scales, group);
  const Tensor* zeros = weight.zero_points;
  const bool has_float_zeros = zeros != nullptr && is_float(zeros->dtype());
  const double centre = code_centre(codes.dtype());
  std::vector<float> out;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < depth; ++k) {
      const double zero = zeros != nullptr ? PerGroup(*zeros, group).at(r, k) : centre;
      const double code = load_as_double(codes.dtype(), codes.bytes().data(), r * depth + k);
      const double real = has_float_zeros ? (code - centre) * scale.at(r, k) + zero : (code - zero) * scale.at(r, k);
      out.push_back(static_cast<float>(real));
    }
  }
  return out;
}

Result<std::optional<NarrowWeight>> from_codebook(const Node& lookup, const Backend& backend) {
  AOQ_ASSIGN(std::optional<Tensor> codes, plain_codes(lookup.input(0), backend));
  const Tensor *entries = constant_tensor(lookup.input(1)), *scales = constant_tensor(lookup.input(2));
  if (!codes || entries == nullptr || scales == nullptr) return std::optional<NarrowWeight>();
  const Tensor inputs[] = {*codes, *entries, *scales};
  AOQ_ASSIGN(const std::vector<Tensor> values, evaluate_node(lookup, inputs));
  const std::span<const float> reals = values[0].as<float>();
  return std::optional(NarrowWeight{std::move(*codes), {reals.begin(), reals.end()}});
}

// What a codebook's linear reads its weight from; null for other nodes.
const Node* codebook_of(const Node& n) {
  if (!n.is(Op::linear)) return nullptr;
  const Node* weight = n.input(kWeight)->def();
  if (weight->is(Op::cast)) weight = weight->input(0)->def();
  return weight->is(Op::dequantize_codebook) ? weight : nullptr;
}

}  // namespace

bool is_narrow_layer(const Node& node) {
  return has_codes(node) || codebook_of(node) != nullptr;
}

const Value* narrow_layer_input(const Node& node) {
  const Value* v = node.input(kInput);
  while (has_codes(node) && belongs_to(*v->def(), node)) v = v->def()->input(0);
  return v;
}

Result<std::optional<Tensor>> plain_codes(const Value* value, const Backend& backend) {
  if (const Tensor* t = constant_tensor(value)) return std::optional<Tensor>(*t);
  if (value == nullptr || !value->def()->is(Op::packed_constant)) return std::optional<Tensor>();
  const Attributes& a = value->def()->attributes();
  AOQ_ASSIGN(Tensor t,
             backend.unpack(a.tensor("value").bytes(), a.dtype("dtype"), a.integers("shape"), a.string("layout")));
  return std::optional<Tensor>(std::move(t));
}

Result<std::optional<NarrowWeight>> narrow_weight(const Node& node, const Backend& backend) {
  if (const Node* lookup = codebook_of(node)) return from_codebook(*lookup, backend);
  AOQ_ASSIGN(std::optional<Tensor> codes, plain_codes(node.input(kWeight), backend));
  AOQ_ASSIGN(const std::optional<Tensor> scales, plain_codes(node.input(kScale), backend));
  AOQ_ASSIGN(const std::optional<Tensor> zeros, plain_codes(node.input(kZeroPoint), backend));
  if (!codes || !scales || (node.input(kZeroPoint) != nullptr && !zeros)) return std::optional<NarrowWeight>();
  NarrowWeight out{std::move(*codes), {}};
  out.values = reals_of(node, {out.codes, *scales, zeros ? &*zeros : nullptr});
  const Tensor* factors = pre_scale(node);
  if (factors == nullptr || factors->dtype() != DType::f32) return std::optional(std::move(out));
  const std::span<const float> f = factors->as<float>();
  for (std::size_t i = 0; i < out.values.size(); ++i) out.values[i] *= f[i % f.size()];
  return std::optional(std::move(out));
}

}  // namespace aoq::tools
