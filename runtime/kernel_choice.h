// Kernel rows that were chosen by measuring when a model was compiled. They are entries of the graph's metadata, so
// that they travel in every form of a model: "aoq.kernel.conv.stem/Conv" = "conv_f32".
#pragma once

#include <string>
#include <string_view>

#include "ir/graph.h"

namespace aoq {

inline constexpr std::string_view kKernelChoicePrefix = "aoq.kernel.";

// By op and label: nodes that share both share the choice.
std::string kernel_choice_key(const Node& node);
// The row to try first for the node of this graph; empty where none was chosen. The name may mean nothing to a backend.
std::string_view chosen_row(const Graph& graph, const Node& node);

}  // namespace aoq
