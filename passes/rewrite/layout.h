// Making nodes in the channels-last layout in a channels-first graph.
#pragma once

#include "ir/graph.h"

namespace aoq::rewrite {

struct LayoutNode {
  Node* node = nullptr;    // the op itself
  Node* result = nullptr;  // what stands for its channels-first result: a permute, or the op itself
};

// True when the op has the attribute channels_last, unset, and an operand with a channel dimension to move.
bool is_channels_first(const OpDef& def, const std::vector<Value*>& inputs, const Attributes& attributes);

// Makes `op` on channels-first operands as permute - op {channels_last} - permute; as it is where the op has no layout.
Result<LayoutNode> create_channels_last(Graph& graph, Node* like, Op op, std::vector<Value*> inputs,
                                        Attributes attributes);

}  // namespace aoq::rewrite
