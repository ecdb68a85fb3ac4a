// Shapes of linear and matmul, shared with their lowered forms.
#pragma once

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

// The result shape for x [..., K], weight [N, K] and an optional bias [N].
Result<std::vector<Dim>> infer_linear_shape(const InferContext& c);
// The result shape of NumPy's matmul for the first two inputs.
Result<std::vector<Dim>> infer_matmul_shape(const InferContext& c);

// Concrete sizes, and for each matrix of the broadcast batch where its elements begin in a, b and the result.
struct MatmulSizes {
  struct Batch {
    std::int64_t a, b, y;
  };
  std::int64_t rows, depth, columns;
  std::vector<Batch> batches;
};
MatmulSizes matmul_sizes(const EvalContext& c);

}  // namespace aoq::ops
