#include <algorithm>

#include "ir/ops/common.h"

namespace aoq {

const OpDef kOpDef_output = {
    .op = Op::output,
    .name = "output",
    .doc = "The results of the graph. There is one, the last node, and it has no result itself.",
    .inputs = {{{"values", Arity::variadic}}},
    .attributes = {{{"names", AttributeKind::strings, ops::kRequired, "one distinct name per value"}}},
    .outputs = 0,
    .traits = kStructural,
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      auto names = c.attributes.get<std::vector<std::string>>("names");
      if (names.size() != c.inputs.size()) {
        return error(Code::invalid_model, "has {} names for {} values", names.size(), c.inputs.size());
      }
      std::sort(names.begin(), names.end());
      auto twice = std::adjacent_find(names.begin(), names.end());
      if (twice != names.end()) return error(Code::invalid_model, "name \"{}\" is given twice", *twice);
      return std::vector<Type>{};
    },
};

}  // namespace aoq
