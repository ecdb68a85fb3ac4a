#include "runtime/inputs.h"

#include "ir/checked.h"

namespace aoq {
namespace {

Status check_rank(const Port& port, std::span<const std::int64_t> shape) {
  if (shape.size() == port.type.shape.size()) return {};
  return error(Code::invalid_data, "input \"{}\" has shape {} of rank {}, expected rank {}: {}", port.name,
               shape_to_string(shape), shape.size(), port.type.shape.size(), to_string(port.type.shape));
}

Status check_range(const Graph& graph, const std::string& symbol, std::int64_t value, const Port& port, std::size_t axis) {
  auto it = graph.symbols.find(symbol);
  const SymbolRange range = it == graph.symbols.end() ? SymbolRange{} : it->second;
  if (value >= range.min && value <= range.max) return {};
  return error(Code::invalid_data, "input \"{}\": dimension {} ({}) is {}, expected {} to {}", port.name, axis, symbol,
               value, range.min, range.max);
}

Status bind_symbols_of(const Model& model, const Port& port, std::span<const std::int64_t> shape, SymbolValues& values) {
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const Dim& dim = port.type.shape[axis];
    if (!dim.is_symbol()) continue;
    const std::string symbol = dim.to_string();
    if (!values.try_emplace(symbol, shape[axis]).second) continue;
    AOQ_TRY(check_range(model.graph(), symbol, shape[axis], port, axis));
  }
  return {};
}

Status check_dimensions(const Port& port, std::span<const std::int64_t> shape, const SymbolValues& values) {
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const Dim& dim = port.type.shape[axis];
    Result<std::int64_t> expected = dim.evaluate(values);
    if (!expected.ok()) return std::move(expected).status().with_context("input \"" + port.name + "\"");
    if (*expected == shape[axis]) continue;
    const std::string why = dim.is_constant() ? "" : " (" + dim.to_string() + ")";
    return error(Code::invalid_data, "input \"{}\" has shape {}: dimension {} is {}, expected {}{}", port.name,
                 shape_to_string(shape), axis, shape[axis], *expected, why);
  }
  return {};
}

}  // namespace

std::string list_names(std::span<const Port> ports) {
  std::string text;
  for (const Port& p : ports) text += (text.empty() ? "\"" : ", \"") + p.name + "\"";
  return text;
}

Status check_inputs(const Model& model, std::span<const TensorView> inputs) {
  const std::vector<Port>& ports = model.inputs();
  if (inputs.size() != ports.size()) {
    return error(Code::invalid_data, "found {} inputs, expected {}: {}", inputs.size(), ports.size(), list_names(ports));
  }
  for (std::size_t i = 0; i < ports.size(); ++i) {
    if (inputs[i].dtype != ports[i].type.dtype) {
      return error(Code::invalid_data, "input \"{}\" is {}, expected {}", ports[i].name, dtype_name(inputs[i].dtype),
                   dtype_name(ports[i].type.dtype));
    }
    AOQ_TRY(check_rank(ports[i], inputs[i].shape));
    if (!checked::element_count(inputs[i].shape)) {
      return error(Code::invalid_data, "input \"{}\" has shape {}, which is negative or too large", ports[i].name,
                   shape_to_string(inputs[i].shape));
    }
    if (inputs[i].data == nullptr && inputs[i].element_count() > 0) {
      return error(Code::invalid_data, "input \"{}\" has no data", ports[i].name);
    }
  }
  return {};
}

Result<SymbolValues> bind_input_shapes(const Model& model, const std::vector<std::vector<std::int64_t>>& shapes) {
  const std::vector<Port>& ports = model.inputs();
  if (shapes.size() != ports.size()) {
    return error(Code::invalid_data, "found {} input shapes, expected {}: {}", shapes.size(), ports.size(),
                 list_names(ports));
  }
  SymbolValues values;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    AOQ_TRY(check_rank(ports[i], shapes[i]));
    AOQ_TRY(bind_symbols_of(model, ports[i], shapes[i], values));
  }
  for (std::size_t i = 0; i < ports.size(); ++i) AOQ_TRY(check_dimensions(ports[i], shapes[i], values));
  return values;
}

}  // namespace aoq
