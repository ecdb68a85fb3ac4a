#include "ir/ops/space.h"

namespace aoq {

const OpDef kOpDef_space_to_depth = {
    .op = Op::space_to_depth,
    .name = "space_to_depth",
    .doc = "Blocks of pixels as channels: [N, C, H*b, W*b] to [N, b*b*C, H, W], the block position outermost.",
    .inputs = {{{"x"}}},
    .attributes = {{{"block", AttributeKind::integer, ops::kRequired, "the side b of a block"}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = ops::infer_space_to_depth,
    .reference = [](const EvalContext& c) -> Status {
      ops::move_blocks(c, ops::Direction::to_depth, ops::BlockOrder::depth_first);
      return {};
    },
};

}  // namespace aoq
