#include <algorithm>

#include "ir/ops/fma.h"
#include "ir/ops/linear.h"

namespace aoq {

namespace {

void multiply_floats(const EvalContext& c, const ops::MatmulSizes& s) {
  ops::FloatInput a(c.inputs[0]);
  ops::FloatInput b(c.inputs[1]);
  ops::FloatOutput y(c.outputs[0]);
  for (const ops::MatmulSizes::Batch& at : s.batches) {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      float* out = y.data() + at.y + r * s.columns;
      std::fill(out, out + s.columns, 0.0f);
      for (std::int64_t k = 0; k < s.depth; ++k) {
        ops::fma_accumulate(a[at.a + r * s.depth + k], b.data() + at.b + k * s.columns, out, s.columns);
      }
    }
  }
}

void multiply_integers(const EvalContext& c, const ops::MatmulSizes& s) {
  const TensorView& a = c.inputs[0];
  const TensorView& b = c.inputs[1];
  for (const ops::MatmulSizes::Batch& at : s.batches) {
    for (std::int64_t i = 0; i < s.rows * s.columns; ++i) {
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < s.depth; ++k) {
        std::int64_t x = load_integer(a.dtype, a.data, at.a + i / s.columns * s.depth + k);
        sum = ops::wrap_add(sum, ops::wrap_mul(x, load_integer(b.dtype, b.data, at.b + k * s.columns + i % s.columns)));
      }
      store_integer(c.outputs[0].dtype, c.outputs[0].data, at.y + i, sum);
    }
  }
}

}  // namespace

const OpDef kOpDef_matmul = {
    .op = Op::matmul,
    .name = "matmul",
    .doc =
        "The matrix product as NumPy's matmul, with vectors and broadcast batches. Each sum of floats is one chain of "
        "fused multiply-adds from 0 along the inner dimension; integers wrap.",
    .inputs = {{{"a"}, {"b"}}},
    .rule = QuantRule::requantize,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_number(c.input(0)));
      AOQ_TRY(ops::require_number(c.input(1)));
      AOQ_TRY(ops::require_one_dtype(c));
      AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_matmul_shape(c));
      return ops::one_result(c.input(0).dtype, std::move(shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      if (is_integer(c.inputs[0].dtype)) {
        multiply_integers(c, ops::matmul_sizes(c));
      } else {
        multiply_floats(c, ops::matmul_sizes(c));
      }
      return {};
    },
};

}  // namespace aoq
