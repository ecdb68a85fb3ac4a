#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_tile = {
    .op = Op::tile,
    .name = "tile",
    .doc = "x repeated along each dimension.",
    .inputs = {{{"x"}}},
    .attributes = {{{"repeats", AttributeKind::integers, ops::kRequired, "one per dimension"}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::vector<std::int64_t>& repeats = c.attributes.integers("repeats");
      std::vector<Dim> shape = c.input(0).shape;
      if (repeats.size() != shape.size()) {
        return error(Code::invalid_model, "has {} repeats, expected {}", repeats.size(), shape.size());
      }
      for (std::size_t d = 0; d < shape.size(); ++d) {
        AOQ_TRY(ops::require_range("repeat", repeats[d], 0, std::int64_t{1} << 48));
        shape[d] = shape[d] * Dim(repeats[d]);
      }
      return std::vector<Type>{ops::moved(c.input(0), std::move(shape))};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      // Dimension d becomes the two dimensions repeats[d], x.shape[d].
      ops::Sizes strides = ops::row_major_strides(x.shape);
      ops::StridedCopy copy;
      for (std::size_t d = 0; d < x.shape.size(); ++d) {
        copy.shape.insert(copy.shape.end(), {c.attributes.integers("repeats")[d], x.shape[d]});
        copy.from_strides.insert(copy.from_strides.end(), {0, strides[d]});
      }
      copy.to_strides = ops::row_major_strides(copy.shape);
      ops::copy_strided(x.dtype, x.data, c.outputs[0].data, copy);
      return {};
    },
};

}  // namespace aoq
