#include "ir/bind.h"

namespace aoq {

namespace {

struct Input {
  const std::string& name;
  const Type& type;
  const Tensor& tensor;
};

Status mismatch(const Input& in, std::string_view expected) {
  return error(Code::invalid_data, "input \"{}\" is {}{}, expected {}", in.name, dtype_name(in.tensor.dtype()),
               shape_to_string(in.tensor.shape()), expected);
}

Status solve_bare_symbols(const Input& in, SymbolValues& values) {
  for (std::size_t d = 0; d < in.type.shape.size(); ++d) {
    if (!in.type.shape[d].is_symbol()) continue;
    auto [it, inserted] = values.try_emplace(in.type.shape[d].to_string(), in.tensor.shape()[d]);
    if (inserted || it->second == in.tensor.shape()[d]) continue;
    return mismatch(
        in, fmt::format("{} where {} is {}, as another dimension says", to_string(in.type), it->first, it->second));
  }
  return {};
}

Status check_dimensions(const Input& in, const SymbolValues& values) {
  for (std::size_t d = 0; d < in.type.shape.size(); ++d) {
    Result<std::int64_t> expected = in.type.shape[d].evaluate(values);
    if (!expected.ok()) return std::move(expected).status().with_context(fmt::format("input \"{}\"", in.name));
    if (*expected == in.tensor.shape()[d]) continue;
    return mismatch(in, fmt::format("{}, which has {} in dimension {}", to_string(in.type), *expected, d));
  }
  return {};
}

Status check_ranges(const Graph& graph, const SymbolValues& values) {
  for (const auto& [name, value] : values) {
    auto it = graph.symbols.find(name);
    SymbolRange range = it == graph.symbols.end() ? SymbolRange{} : it->second;
    if (value >= range.min && value <= range.max) continue;
    return error(Code::invalid_data, "dimension {} is {}, expected a value in [{}, {}]", name, value, range.min,
                 range.max);
  }
  return {};
}

}  // namespace

Result<SymbolValues> bind_symbols(const Graph& graph, std::span<const Tensor> inputs) {
  std::vector<Node*> nodes = graph.input_nodes();
  if (nodes.size() != inputs.size()) {
    return error(Code::invalid_data, "{} inputs are given, expected {}", inputs.size(), nodes.size());
  }
  SymbolValues values;
  std::vector<Input> all;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Type& type = nodes[i]->output()->type();
    Input in{nodes[i]->attributes().string("name"), type, inputs[i]};
    bool fits = inputs[i].dtype() == type.dtype && inputs[i].shape().size() == type.shape.size();
    if (!fits) return mismatch(in, to_string(type));
    AOQ_TRY(solve_bare_symbols(in, values));
    all.push_back(in);
  }
  for (const Input& in : all) AOQ_TRY(check_dimensions(in, values));
  AOQ_TRY(check_ranges(graph, values));
  return values;
}

}  // namespace aoq
