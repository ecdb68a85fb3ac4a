// Rewrites that find ops which exporters spelled out in smaller ones. Each returns whether it changed the graph, and
// leaves the nodes that nobody reads any more to `dce`.
#pragma once

#include "ir/graph.h"

namespace aoq {

Result<bool> recognize_gelu(Graph& graph);
Result<bool> recognize_silu(Graph& graph);
Result<bool> recognize_hardswish(Graph& graph);
Result<bool> recognize_layer_norm(Graph& graph);
Result<bool> recognize_rms_norm(Graph& graph);
Result<bool> recognize_softmax(Graph& graph);
Result<bool> recognize_one_hot(Graph& graph);
Result<bool> recognize_embedding(Graph& graph);

}  // namespace aoq
