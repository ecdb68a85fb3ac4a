#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_iota = {
    .op = Op::iota,
    .name = "iota",
    .doc = "start, start + step, start + 2 * step, ...",
    .attributes = {{{"length", AttributeKind::dims, ops::kRequired, "one dimension"},
                    {"start", AttributeKind::integer, "0", ""},
                    {"step", AttributeKind::integer, "1", ""},
                    {"dtype", AttributeKind::dtype, "i64", "a number type"}}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const std::vector<Dim>& length = c.attributes.dims("length");
      DType dtype = c.attributes.dtype("dtype");
      if (length.size() != 1) return error(Code::invalid_model, "length has {} dimensions, expected 1", length.size());
      if (!ops::is_number(dtype))
        return error(Code::invalid_model, "dtype is {}, expected a number", dtype_name(dtype));
      return ops::one_result(dtype, length);
    },
    .reference = [](const EvalContext& c) -> Status {
      const MutableTensorView& y = c.outputs[0];
      std::int64_t v = c.attributes.integer("start");
      for (std::int64_t i = 0, n = y.element_count(); i < n; ++i, v = ops::wrap_add(v, c.attributes.integer("step"))) {
        if (is_integer(y.dtype)) {
          store_integer(y.dtype, y.data, i, v);
        } else {
          store_from_double(y.dtype, y.data, i, static_cast<double>(v));
        }
      }
      return {};
    },
};

}  // namespace aoq
