#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_reshape = {
    .op = Op::reshape,
    .name = "reshape",
    .doc = "The same elements in the same order under another shape.",
    .inputs = {{{"x"}}},
    .attributes = {{{"shape", AttributeKind::dims, ops::kRequired, "of the result, every dimension given"}}},
    .traits = kView | kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::vector<Dim>& shape = c.attributes.dims("shape");
      // Expressions that cannot be compared are checked when their symbols have values.
      if (!ops::may_equal(product(c.input(0).shape), product(shape))) {
        return error(Code::invalid_model, "shape {} does not have the elements of {}", to_string(shape),
                     to_string(c.input(0)));
      }
      return std::vector<Type>{ops::moved(c.input(0), shape)};
    },
    .reference = [](const EvalContext& c) -> Status {
      std::int64_t n = c.outputs[0].element_count();
      ops::copy_elements(c.inputs[0].dtype, c.inputs[0].data, 0, c.outputs[0].data, 0, n);
      return {};
    },
};

}  // namespace aoq
