// Blocks of pixels as channels and back.
#pragma once

#include "ir/ops/common.h"

namespace aoq::ops {

enum class BlockOrder { depth_first, column_first };  // of the channels: [b, b, C] or [C, b, b]

InferResult infer_depth_to_space(const InferContext& c);
InferResult infer_space_to_depth(const InferContext& c);
// Copies between the shallow form [N, C, H*b, W*b] and the deep form [N, C*b*b, H, W].
enum class Direction { to_space, to_depth };
void move_blocks(const EvalContext& c, Direction direction, BlockOrder order);

}  // namespace aoq::ops
