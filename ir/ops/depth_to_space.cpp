#include "ir/ops/space.h"

namespace aoq {

const OpDef kOpDef_depth_to_space = {
    .op = Op::depth_to_space,
    .name = "depth_to_space",
    .doc = "Channels as blocks of pixels: [N, C*b*b, H, W] to [N, C, H*b, W*b].",
    .inputs = {{{"x"}}},
    .attributes = {{{"block", AttributeKind::integer, ops::kRequired, "the side b of a block"},
                    {"mode", AttributeKind::string, "DCR",
                     "the order of the channels: DCR is [b, b, C], CRD [C, b, b]"}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = ops::infer_depth_to_space,
    .reference = [](const EvalContext& c) -> Status {
      bool dcr = c.attributes.string("mode") == "DCR";
      ops::move_blocks(c, ops::Direction::to_space, dcr ? ops::BlockOrder::depth_first : ops::BlockOrder::column_first);
      return {};
    },
};

}  // namespace aoq
