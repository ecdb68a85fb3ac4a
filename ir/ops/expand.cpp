#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_expand = {
    .op = Op::expand,
    .name = "expand",
    .doc = "x broadcast to exactly this shape.",
    .inputs = {{{"x"}}},
    .attributes = {{{"shape", AttributeKind::dims, ops::kRequired, "of the result"}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::vector<Dim>& shape = c.attributes.dims("shape");
      AOQ_ASSIGN(std::vector<Dim> broadcast, ops::broadcast_shapes(c.input(0).shape, shape));
      AOQ_TRY(ops::require_shape("x broadcast", Type{c.input(0).dtype, broadcast, std::nullopt}, shape));
      return std::vector<Type>{ops::moved(c.input(0), shape)};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const MutableTensorView& y = c.outputs[0];
      ops::Sizes strides = ops::row_major_strides(x.shape);
      ops::StridedCopy copy{
          {y.shape.begin(), y.shape.end()}, ops::Sizes(y.shape.size()), ops::row_major_strides(y.shape)};
      std::size_t leading = y.shape.size() - x.shape.size();
      for (std::size_t d = 0; d < x.shape.size(); ++d)
        copy.from_strides[leading + d] = x.shape[d] == 1 ? 0 : strides[d];
      ops::copy_strided(x.dtype, x.data, y.data, copy);
      return {};
    },
};

}  // namespace aoq
