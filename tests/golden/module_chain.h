// Models of the golden vectors that were not exported: chains of modules, built from the state dict and the list of the
// converted model's modules.
//
// What the files do not say is found from the recorded inputs and results of the layers: how one layer's input comes
// from the result before it (all of it, its last step, a mean, ...), and a recurrent layer's order of axes.
#pragma once

#include <optional>

#include "ir/graph.h"
#include "tests/golden/golden.h"

namespace aoq::golden {

// A module of modules_converted.txt.
struct ChainModule {
  std::string name;
  std::string type;         // "LSTM", "GRUCell", "Linear", "ReLU", ...
  bool is_dynamic = false;  // a module of torch.ao.nn.quantized.dynamic
  bool is_float16 = false;
};

// Input and result as the case recorded them.
struct RecordedLayer {
  Tensor input, output;
};
std::optional<RecordedLayer> recorded_layer(const Case& c, const std::string& name);

// The modules in the order of the file; unsupported where one has no form here.
Result<std::vector<ChainModule>> read_chain(const Case& c);
// A graph of the module alone, with the recorded input's shape.
Result<Graph> layer_graph(const Case& c, const ChainModule& module, const RecordedLayer& recorded);
// The whole model.
Result<Graph> chain_graph(const Case& c, const std::vector<ChainModule>& modules);

}  // namespace aoq::golden
