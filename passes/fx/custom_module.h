// Custom modules: a region's class in its float, observed and quantized form (ir/region.h; pytorch-semantics B.5).
//
// A recipe says which observed class takes the place of a float one when a graph is prepared, and which quantized class
// takes the observed one's place when it is converted. The classes are regions of the program; what turns one into the
// next is registered here.
//
//   observed form   float in; its first result is the float form's, every further one is a value that it wants observed
//   quantized form  static: codes in, codes out (their scale is in the type); dynamic, weight-only: float in, float out
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "ir/tensor.h"
#include "passes/quantize/qparams.h"
#include "passes/quantize/recipe.h"

namespace aoq::fx {

// A region without its place in a graph: settings, and its constant inputs in order.
struct RegionState {
  std::string settings;
  std::vector<NamedTensor> constants;
};

struct ObservedForm {
  std::string name;  // of a registered region class
  struct Made {
    RegionState state;
    std::vector<ObserverSpec> observers;  // one for each further result
  };
  // What the float form becomes. The qconfig is the module's.
  Result<Made> (*from_float)(const RegionState& float_form, const QConfig& qconfig) = nullptr;
};

struct QuantizedForm {
  std::string name;
  struct Learnt {
    const QConfig& qconfig;
    std::span<const QParams> observers;  // the observed form's own, in its order
    const QParams* input = nullptr;      // static: of the codes that come in, one per data input
    const QParams* output = nullptr;     // static: of the observer behind the module
  };
  Result<RegionState> (*from_observed)(const RegionState& observed_form, const Learnt& learnt) = nullptr;
};

// invalid_argument when the name is taken or the function is missing. Thread-safe; forms stay until the process ends.
Status register_observed_form(ObservedForm form);
Status register_quantized_form(QuantizedForm form);
// Null when there is none. Thread-safe.
const ObservedForm* find_observed_form(std::string_view name);
const QuantizedForm* find_quantized_form(std::string_view name);

// Puts the observed form in the place of every float one that has a qconfig, with observers on its further results.
// Errors name the module: a class without a registered form, a qconfig of another mode.
Status observe_custom_modules(Graph& graph, const Recipe& recipe);
// Puts the quantized form in the place of an observed one, whose inputs are stubs already; returns the new node. The
// observers' qparams come by name.
using QParamsOf = std::function<Result<QParams>(const std::string& observer)>;
Result<Node*> quantize_custom_module(Graph& graph, Node* node, const Recipe& recipe, const QParamsOf& qparams_of);
// Whether the recipe has the class of an LSTM or GRU module, made of our own ops, as a static custom module: its forms
// are passes/quantize/static_recurrent.h's, named quantizable.LSTM and quantized.LSTM; other names are an error.
Result<bool> is_recurrent_custom_module(const Recipe& recipe, const Node& node);
bool is_observed_custom_module(const Recipe& recipe, const Node& node);

}  // namespace aoq::fx
