#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_concat = {
    .op = Op::concat,
    .name = "concat",
    .doc = "The inputs one after the other along an axis; quantized ones share scale and zero point.",
    .inputs = {{{"xs", Arity::variadic}}},
    .attributes = {{{"axis", AttributeKind::integer, ops::kRequired, ""}}},
    .traits = kDataMovement,
    .rule = QuantRule::same_scale,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& first = c.input(0);
      AOQ_TRY(ops::require_one_dtype(c));
      AOQ_ASSIGN(std::optional<Quantization> quantization, ops::moved_quantization(c));
      AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(c.attributes.integer("axis"), first.rank()));
      Dim length;
      for (const Type* t : c.inputs) {
        AOQ_TRY(ops::require_rank(*t, first.rank(), first.rank()));
        std::vector<Dim> expected = first.shape;
        expected[static_cast<std::size_t>(axis)] = t->shape[static_cast<std::size_t>(axis)];
        AOQ_TRY(ops::require_shape("an input", *t, expected));
        length = length + t->shape[static_cast<std::size_t>(axis)];
      }
      std::vector<Dim> shape = first.shape;
      shape[static_cast<std::size_t>(axis)] = length;
      return std::vector<Type>{Type{first.dtype, std::move(shape), quantization}};
    },
    .reference = [](const EvalContext& c) -> Status {
      const MutableTensorView& y = c.outputs[0];
      std::size_t axis = ops::checked_axis(c, y.shape.size());
      std::int64_t outer = ops::count(y.shape, 0, axis);
      std::int64_t row = ops::count(y.shape, axis, y.shape.size());
      std::int64_t at = 0;
      for (const TensorView& x : c.inputs) {
        std::int64_t n = ops::count(x.shape, axis, x.shape.size());
        for (std::int64_t o = 0; o < outer; ++o) ops::copy_elements(y.dtype, x.data, o * n, y.data, o * row + at, n);
        at += n;
      }
      return {};
    },
};

}  // namespace aoq
