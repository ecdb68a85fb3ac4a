#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

const OpDef kOpDef_observe = {
    .op = Op::observe,
    .name = "observe",
    .doc = "x itself; calibration watches it with the named observer.",
    .inputs = {{{"x"}}},
    .attributes = {{{"observer", AttributeKind::string, ops::kRequired, "name of the observer; equal names share one"},
                    {"spec", AttributeKind::string, "", "the observer's kind and options as JSON"},
                    {"leading", AttributeKind::integer, "0",
                     "axes at the front whose every index is an observation of its own, in order"}}},
    .traits = kPreparedOnly,
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_range("leading", c.attributes.integer("leading"), 0, c.input(0).rank()));
      return std::vector<Type>{c.input(0)};
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::copy_elements(c.inputs[0].dtype, c.inputs[0].data, 0, c.outputs[0].data, 0, c.inputs[0].element_count());
      return {};
    },
};

}  // namespace aoq
