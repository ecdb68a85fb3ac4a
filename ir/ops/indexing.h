// What the gather and scatter ops share.
#pragma once

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

// Index element `i` of a dimension of `size` elements; negative ones count from the end. invalid_data out of range.
Result<std::int64_t> load_index(const TensorView& indices, std::int64_t i, std::int64_t size);
// The same for the `depth` indices of row `row`, as the element of x at which the addressed slice begins, when the
// addressed dimensions of x begin with `first`.
Result<std::int64_t> load_index_row(const TensorView& indices, std::int64_t row, std::span<const std::int64_t> shape,
                                    std::size_t first);

// reduction: none, add, mul, max or min.
Status check_reduction(const InferContext& c);
// Puts update element `from` at element `to` of y.
void scatter_element(const EvalContext& c, std::int64_t from, std::int64_t to);

}  // namespace aoq::ops
