#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_flip = {
    .op = Op::flip,
    .name = "flip",
    .doc = "x with the given axes in reverse order.",
    .inputs = {{{"x"}}},
    .attributes = {{{"axes", AttributeKind::integers, ops::kRequired, ""}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::vector<std::int64_t>& axes = c.attributes.integers("axes");
      if (!axes.empty()) AOQ_TRY(ops::normalize_axes(axes, c.input(0).rank()).status());
      return std::vector<Type>{ops::moved(c.input(0), c.input(0).shape)};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      ops::Sizes strides = ops::row_major_strides(x.shape);
      ops::StridedCopy copy{{x.shape.begin(), x.shape.end()}, strides, strides};
      for (std::int64_t a : c.attributes.integers("axes")) {
        AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(a, static_cast<std::int64_t>(x.shape.size())));
        auto d = static_cast<std::size_t>(axis);
        copy.from += strides[d] * (x.shape[d] - 1);
        copy.from_strides[d] = -strides[d];
      }
      ops::copy_strided(x.dtype, x.data, c.outputs[0].data, copy);
      return {};
    },
};

}  // namespace aoq
