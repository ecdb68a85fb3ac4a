#include "ir/ops/qbinary.h"

namespace aoq::ops {

InferResult infer_qbinary(const InferContext& c) {
  AOQ_TRY(check_codes(c, 0, "a"));
  AOQ_TRY(check_codes(c, 1, "b"));
  AOQ_TRY(check_output(c));
  AOQ_ASSIGN(Activation activation, read_activation(c.attributes));
  if (!activation.is_clamp_like()) {
    return error(Code::invalid_model, "activation is \"{}\", expected none, relu or clamp",
                 c.attributes.string("activation"));
  }
  AOQ_ASSIGN(std::vector<Dim> shape, broadcast_shapes(c.input(0).shape, c.input(1).shape));
  return one_result(output_dtype(c), std::move(shape));
}

}  // namespace aoq::ops
