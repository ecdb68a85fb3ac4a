// Brings lines of a tensor that do not lie in memory one after the other into scratch, as contiguous rows.
#pragma once

#include "backends/cpu/rows/strided_copy.h"

namespace aoq::cpu {

// f32 tensors. With `is_last` the lines are the tensor's own rows and nothing is copied.
struct AxisRows {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool is_last = false;
  std::optional<StridedCopy> gather;   // tensor to rows
  std::optional<StridedCopy> scatter;  // and back
  std::uint64_t scratch_bytes = 0;     // for the rows
};

// The lines along the axes that are set in `along`, in row-major order within a line.
AxisRows rows_along(std::span<const std::int64_t> shape, std::span<const bool> along);
AxisRows rows_along_axis(std::span<const std::int64_t> shape, std::size_t axis);

Split split_rows(const StridedCopy& copy, const PrepareContext& context);
void run_copy(const RunContext& context, const Split& split, const StridedCopy& copy, const std::byte* from,
              std::byte* to);

}  // namespace aoq::cpu
