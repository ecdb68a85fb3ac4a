#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_where = {
    .op = Op::where,
    .name = "where",
    .doc = "a where the condition is true, b elsewhere, with broadcasting.",
    .inputs = {{{"condition"}, {"a"}, {"b"}}},
    .traits = kElementwise | kDataMovement,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& a = c.input(1);
      const Type& b = c.input(2);
      AOQ_TRY(ops::require(c.input(0).dtype == DType::boolean, c.input(0), "boolean"));
      if (a.dtype != b.dtype || a.quantization != b.quantization) {
        return error(Code::invalid_model, "inputs are {} and {}, expected one element type", to_string(a),
                     to_string(b));
      }
      AOQ_ASSIGN(std::vector<Dim> shape, ops::broadcast_shapes(a.shape, b.shape));
      AOQ_ASSIGN(shape, ops::broadcast_shapes(c.input(0).shape, shape));
      return std::vector<Type>{ops::moved(a, std::move(shape))};
    },
    .reference = [](const EvalContext& c) -> Status {
      const MutableTensorView& y = c.outputs[0];
      ops::BroadcastIndex at(y.shape, c.inputs.first(3));
      for (std::int64_t i = 0, n = y.element_count(); i < n; ++i, at.next()) {
        std::size_t from = load_integer(DType::boolean, c.inputs[0].data, at.index(0)) != 0 ? 1 : 2;
        ops::copy_elements(y.dtype, c.inputs[from].data, at.index(from), y.data, i, 1);
      }
      return {};
    },
};

}  // namespace aoq
