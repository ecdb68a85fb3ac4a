#include "ir/checked.h"
#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_packed_constant = {
    .op = Op::packed_constant,
    .name = "packed_constant",
    .doc =
        "A constant whose bytes are arranged for a kernel class. The result has the logical dtype and shape; only the "
        "backend that owns the layout can read the bytes.",
    .attributes = {{{"value", AttributeKind::tensor, ops::kRequired, "the packed bytes, u8"},
                    {"dtype", AttributeKind::dtype, ops::kRequired, "logical element type"},
                    {"shape", AttributeKind::integers, ops::kRequired, "logical shape"},
                    {"layout", AttributeKind::string, ops::kRequired, "name of the packed layout"}}},
    .traits = kStructural | kLoweredOnly,
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Tensor& value = c.attributes.tensor("value");
      if (value.dtype() != DType::u8 || value.shape().size() != 1) {
        return error(Code::invalid_model, "packed bytes are {}{}, expected one u8 axis", dtype_name(value.dtype()),
                     shape_to_string(value.shape()));
      }
      if (c.attributes.string("layout").empty()) return error(Code::invalid_model, "layout is empty");
      const std::vector<std::int64_t>& shape = c.attributes.integers("shape");
      if (!checked::element_count(shape))
        return error(Code::invalid_model, "shape {} is invalid", shape_to_string(shape));
      return std::vector<Type>{Type{c.attributes.dtype("dtype"), {shape.begin(), shape.end()}, std::nullopt}};
    },
};

}  // namespace aoq
