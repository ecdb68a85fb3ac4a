#include "ir/bind.h"

#include <algorithm>

namespace aoq {

namespace {

struct Expected {
  std::string name;
  const Type* type;
};

std::string found_text(const InputShape& found) {
  return std::string(dtype_name(found.dtype)) + shape_to_string(found.shape);
}

Status check_signature(const Expected& expected, const InputShape& found) {
  const Type& type = *expected.type;
  if (found.dtype == type.dtype && found.shape.size() == type.shape.size()) return {};
  return error(Code::invalid_data, "input \"{}\" is {}, expected {}", expected.name, found_text(found),
               to_string(type));
}

Status bind_dimension(const Graph& graph, const Expected& expected, const InputShape& found, std::size_t d,
                      SymbolValues& values) {
  const Dim& dim = expected.type->shape[d];
  std::string symbol = dim.to_string();
  std::int64_t size = found.shape[d];
  auto [it, inserted] = values.try_emplace(symbol, size);
  if (!inserted && it->second != size) {
    return error(Code::invalid_data, "input \"{}\" is {}, expected {} with {} = {} as another input has it",
                 expected.name, found_text(found), to_string(*expected.type), symbol, it->second);
  }
  auto declared = graph.symbols.find(symbol);
  SymbolRange range = declared != graph.symbols.end() ? declared->second : SymbolRange{};
  if (size < range.min || size > range.max) {
    return error(Code::invalid_data, "input \"{}\" is {}: {} is {}, expected {} to {}", expected.name,
                 found_text(found), symbol, size, range.min, range.max);
  }
  return {};
}

Status check_dimensions(const Expected& expected, const InputShape& found, const SymbolValues& values) {
  for (std::size_t d = 0; d < found.shape.size(); ++d) {
    AOQ_ASSIGN(std::int64_t size, expected.type->shape[d].evaluate(values));
    if (size != found.shape[d]) {
      return error(Code::invalid_data, "input \"{}\" is {}, expected {}, which has {} in dimension {}", expected.name,
                   found_text(found), to_string(*expected.type), size, d);
    }
  }
  return {};
}

}  // namespace

Result<SymbolValues> bind_symbols(const Graph& graph, std::span<const InputShape> inputs) {
  std::vector<Expected> expected;
  for (const Node* n : graph.input_nodes()) expected.push_back({n->attributes().string("name"), &n->output()->type()});
  if (expected.size() != inputs.size()) {
    return error(Code::invalid_data, "{} inputs are given, expected {}", inputs.size(), expected.size());
  }
  SymbolValues values;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    AOQ_TRY(check_signature(expected[i], inputs[i]));
    for (std::size_t d = 0; d < inputs[i].shape.size(); ++d) {
      if (expected[i].type->shape[d].is_symbol()) AOQ_TRY(bind_dimension(graph, expected[i], inputs[i], d, values));
    }
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) AOQ_TRY(check_dimensions(expected[i], inputs[i], values));
  return values;
}

Result<SymbolValues> bind_symbols(const Graph& graph, std::span<const Tensor> inputs) {
  std::vector<InputShape> shapes;
  for (const Tensor& t : inputs) shapes.push_back({t.dtype(), t.shape()});
  return bind_symbols(graph, shapes);
}

Result<Attributes> substitute(const Attributes& attributes, const SymbolValues& symbols) {
  Attributes out = attributes;
  for (const auto& [name, value] : attributes) {
    const auto* dims = std::get_if<std::vector<Dim>>(&value);
    if (dims == nullptr || all_constant(*dims)) continue;
    std::vector<Dim> numbers;
    for (const Dim& d : *dims) {
      AOQ_ASSIGN(std::int64_t v, d.evaluate(symbols));
      numbers.emplace_back(v);
    }
    out.set(name, std::move(numbers));
  }
  return out;
}

}  // namespace aoq
