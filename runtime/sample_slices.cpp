#include "runtime/sample_slices.h"

#include <algorithm>

#include "ir/checked.h"
#include "ir/samples.h"

namespace aoq {
namespace {

constexpr std::size_t kMaxSliceCounts = 4;
// Of a slice. The batch may be any number, a prime one as well, and is not tried to its end.
constexpr std::int64_t kMaxSamples = 4096;

// The type with `samples` for the batch, where a slice takes whole bytes.
bool cut(ConcreteType& type, std::int64_t samples) {
  const std::int64_t batch = type.shape[0];
  const Result<std::uint64_t> all = byte_size(type);
  type.shape[0] = samples;
  const Result<std::uint64_t> part = byte_size(type);
  return all.ok() && part.ok() && *part * static_cast<std::uint64_t>(batch / samples) == *all;
}

}  // namespace

Result<std::uint64_t> byte_size(const ConcreteType& type) {
  const std::optional<std::int64_t> count = checked::element_count(type.shape);
  const std::optional<std::uint64_t> bytes =
      count ? checked::packed_bytes(static_cast<std::uint64_t>(*count),
                                    static_cast<std::uint64_t>(dtype_info(type.dtype).bits))
            : std::nullopt;
  if (!bytes || *bytes > (std::uint64_t{1} << 62)) {
    return error(Code::resource_limit, "{}{} is too large", dtype_name(type.dtype), shape_to_string(type.shape));
  }
  return *bytes;
}

Result<std::vector<Type>> infer_at(const Node& node, std::span<const ConcreteType> inputs,
                                   const Attributes& attributes) {
  std::vector<Type> types;
  types.reserve(inputs.size());
  std::vector<const Type*> pointers;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Value* v = node.input(i);
    const std::vector<std::int64_t>& shape = inputs[i].shape;
    types.push_back({inputs[i].dtype, {shape.begin(), shape.end()}, v ? v->type().quantization : std::nullopt});
    pointers.push_back(v != nullptr ? &types.back() : nullptr);
  }
  return node.def().infer(InferContext{node.op(), pointers, attributes});
}

ConcreteType concrete(const Type& type) {
  ConcreteType out{type.dtype, {}};
  for (const Dim& d : type.shape) out.shape.push_back(d.constant());
  return out;
}

SampleSlices::SampleSlices(const Graph& graph, const SymbolValues& symbols, const ConcreteTypes& types)
    : symbols_(symbols), types_(types) {
  const auto inputs = graph.input_nodes();
  if (inputs.empty()) return;
  const Type& first = (*inputs.begin())->output()->type();
  if (first.shape.empty()) return;
  const std::vector<std::int64_t>& shape = types.at((*inputs.begin())->output()).shape;
  // Samples without elements may be so many that a loop over them would not end.
  if (checked::element_count(shape).value_or(0) == 0) return;
  batch_ = shape[0];
  if (first.shape[0].is_symbol()) symbol_ = first.shape[0].to_string();
}

std::vector<std::int64_t> SampleSlices::slice_counts() const {
  std::vector<std::int64_t> counts;
  const std::int64_t most = std::min(batch_ / 2, kMaxSamples);
  for (std::int64_t samples = 1; samples <= most && counts.size() < kMaxSliceCounts; ++samples) {
    if (batch_ % samples == 0) counts.push_back(batch_ / samples);
  }
  return counts;
}

std::optional<SlicedNode> SampleSlices::slice(const Node& node, std::int64_t samples) const {
  SlicedNode sliced;
  std::vector<std::vector<std::int64_t>> shapes;
  for (const Value* v : node.inputs()) {
    sliced.inputs.push_back(v != nullptr ? types_.at(v) : ConcreteType{});
    shapes.push_back(sliced.inputs.back().shape);
  }
  for (std::size_t i = 0; i < node.output_count(); ++i) {
    sliced.outputs.push_back(types_.at(node.output(i)));
    const std::vector<std::int64_t>& shape = sliced.outputs.back().shape;
    if (shape.empty() || shape[0] != batch_) return std::nullopt;
  }
  if (sliced.outputs.empty()) return std::nullopt;
  Result<Attributes> whole = substitute(node.attributes(), symbols_);
  SymbolValues symbols = symbols_;
  if (!symbol_.empty()) symbols[symbol_] = samples;
  Result<Attributes> attributes = substitute(node.attributes(), symbols);
  if (!whole.ok() || !attributes.ok()) return std::nullopt;
  sliced.cut = sample_inputs({node.def(), *whole, shapes, sliced.outputs[0].shape});
  bool is_any_cut = false;
  for (std::size_t i = 0; i < sliced.cut.size(); ++i) {
    if (!sliced.cut[i]) continue;
    is_any_cut = true;
    if (!cut(sliced.inputs[i], samples)) return std::nullopt;
  }
  for (ConcreteType& type : sliced.outputs) {
    if (!cut(type, samples)) return std::nullopt;
  }
  if (!is_any_cut) return std::nullopt;
  // Inference has the last word: a shape in an attribute may not follow the batch.
  const Result<std::vector<Type>> inferred = infer_at(node, sliced.inputs, *attributes);
  if (!inferred.ok() || inferred->size() != sliced.outputs.size()) return std::nullopt;
  for (std::size_t i = 0; i < sliced.outputs.size(); ++i) {
    const Type& type = (*inferred)[i];
    const std::vector<std::int64_t>& shape = sliced.outputs[i].shape;
    if (type.dtype != sliced.outputs[i].dtype || type.shape != std::vector<Dim>(shape.begin(), shape.end())) {
      return std::nullopt;
    }
  }
  sliced.attributes = std::move(*attributes);
  return sliced;
}

}  // namespace aoq
