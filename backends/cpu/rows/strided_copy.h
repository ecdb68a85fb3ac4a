// Copies a box of elements between two layouts: what slice, expand, tile, flip, permute and pad come down to.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "backends/cpu/rows/row.h"

namespace aoq::cpu {

inline constexpr std::size_t kMaxCopyAxes = 16;

struct CopyAxis {
  std::int64_t size;
  std::int64_t from_stride;  // in elements; may be zero or negative
  std::int64_t to_stride;
};

// Axes of size 1 are gone and axes that follow each other in both layouts are one.
class StridedCopy {
 public:
  // At most kMaxCopyAxes axes; `from` and `to` are the elements of the first index.
  StridedCopy(std::span<const CopyAxis> axes, std::int64_t from, std::int64_t to, std::int64_t element_bytes);

  // Rows along the last axis: any piece of them may be copied by itself.
  std::int64_t rows() const { return rows_; }
  std::int64_t row_bytes() const { return last_.size * element_bytes_; }
  void run(const std::byte* from, std::byte* to, std::int64_t row_begin, std::int64_t row_end) const;

 private:
  std::array<CopyAxis, kMaxCopyAxes> outer_ = {};
  std::size_t outer_count_ = 0;
  CopyAxis last_ = {1, 1, 1};
  std::int64_t from_, to_, element_bytes_;
  std::int64_t rows_ = 0;
};

// A kernel that copies input 0 to the result.
KernelResult make_copy_kernel(const StridedCopy& copy, const PrepareContext& context);
std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape);

}  // namespace aoq::cpu
