// PyTorch FX's graph mode quantization, step by step (pytorch-semantics B.3 and B.5).
//
//   fuse_fx      conv - batch_norm - relu becomes one module
//   prepare_fx   observers where the recipe and the backend configuration want them
//   (calibrate)
//   convert      observers become quantize and dequantize: the reference-quantized graph; then lower
//
// The passes "prepare" and "convert" do this for recipes that name a backend. print_fx shows a graph of any of these
// stages in FX's terms.
#pragma once

#include <string>

#include "ir/graph.h"
#include "passes/fx/backend_config.h"
#include "passes/quantize/recipe.h"

namespace aoq::fx {

// The backend configuration that a recipe names or holds.
Result<BackendConfig> backend_of(const Recipe& recipe);

// Fuses the patterns with a `fused_module`, folding batch norms. A pattern whose members have different object_type
// qconfigs is an error that names them.
Status fuse_fx(Graph& graph, const Recipe& recipe);
// From traced to prepared. Errors name the module.
Status prepare_fx(Graph& graph, const Recipe& recipe);

// Of a converted graph: biases as QNNPACK keeps them, in whole steps.
Status round_biases(Graph& graph);

// A line for each node as FX has it: "call_function | cat | cat | ([l1, l2], 1)". Arguments are nodes, and what a node
// still says of the others: dtypes and axes of quantization, numbers beside tensors, axes of cat, mean,
// permute and flatten. Other numbers and keywords are left out. Standalone modules follow, each
// behind a line "standalone <path>:".
std::string print_fx(const Graph& graph);

}  // namespace aoq::fx
