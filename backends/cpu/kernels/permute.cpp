#include "backends/cpu/kernels/permute.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

// Square pieces, so that both sides of a transposition stay in the first-level cache.
constexpr std::int64_t kPiece = 32;

template <typename T>
struct Plane {
  const T* x;
  T* out;
  std::int64_t rows, columns;              // of the output
  std::int64_t row_stride, column_stride;  // in the input
  std::int64_t pitch;                      // of output rows
};

// By vectors; false where there is no such form.
template <typename T>
bool transpose(const Plane<T>& p) {
#if defined(AOQ_KERNELS_AVX2)
  if (p.row_stride != 1 || best_isa() < Isa::avx2) return false;
  if constexpr (sizeof(T) == 1) {
    if (p.columns != 3 || p.pitch != 3) return false;
    interleave_three_avx2(p.x, p.column_stride, p.rows, p.out);
    return true;
  }
  if constexpr (sizeof(T) == 4) {
    transpose_words_avx2(p.x, p.column_stride, p.rows, p.columns, p.out, p.pitch);
    return true;
  }
#endif
  return false;
}

template <typename T>
void copy_plane(const Plane<T>& p) {
  if (p.column_stride == 1) {
    for (std::int64_t row = 0; row < p.rows; ++row) {
      std::memcpy(p.out + row * p.pitch, p.x + row * p.row_stride, static_cast<std::size_t>(p.columns) * sizeof(T));
    }
    return;
  }
  if (transpose(p)) return;
  for (std::int64_t top = 0; top < p.rows; top += kPiece) {
    std::int64_t bottom = std::min(top + kPiece, p.rows);
    for (std::int64_t left = 0; left < p.columns; left += kPiece) {
      std::int64_t right = std::min(left + kPiece, p.columns);
      for (std::int64_t row = top; row < bottom; ++row) {
        const T* from = p.x + row * p.row_stride;
        T* to = p.out + row * p.pitch;
        for (std::int64_t column = left; column < right; ++column) to[column] = from[column * p.column_stride];
      }
    }
  }
}

// The output axis, other than the last, that is contiguous in the input; the last but one if there is none.
int partner_axis(const PermutePlan& plan) {
  for (int axis = 1; axis < plan.rank - 1; ++axis) {
    if (plan.strides[axis] == 1) return axis;
  }
  return plan.rank - 2;
}

// Walks all axes but the last and its partner, and copies a plane at each place.
template <typename T>
void copy_slices(const PermutePlan& plan, const T* x, T* out) {
  std::int64_t out_strides[kMaxPermuteAxes];
  std::int64_t size = 1;
  for (int axis = plan.rank - 1; axis >= 0; --axis) {
    out_strides[axis] = size;
    size *= plan.dims[axis];
  }
  int partner = partner_axis(plan);
  int last = plan.rank - 1;
  std::int64_t index[kMaxPermuteAxes] = {};
  for (;;) {
    const T* from = x;
    T* to = out;
    for (int axis = 0; axis < plan.rank; ++axis) {
      from += index[axis] * plan.strides[axis];
      to += index[axis] * out_strides[axis];
    }
    copy_plane<T>({from, to, plan.dims[partner], plan.dims[last], plan.strides[partner], plan.strides[last],
                   out_strides[partner]});
    int axis = last - 1;
    for (; axis >= 0; --axis) {
      if (axis == partner) continue;
      if (++index[axis] < plan.dims[axis]) break;
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

template <typename T>
void run_typed(const PermutePlan& plan, const void* x, void* out, std::int64_t unit_begin, std::int64_t unit_end) {
  if (unit_begin >= unit_end) return;
  std::int64_t slice = 1;
  for (int axis = 1; axis < plan.rank; ++axis) slice *= plan.dims[axis];
  if (slice == 0) return;
  const T* from = static_cast<const T*>(x) + unit_begin * plan.strides[0];
  T* to = static_cast<T*>(out) + unit_begin * slice;
  PermutePlan piece = plan;
  piece.dims[0] = unit_end - unit_begin;
  if (plan.rank == 1) {
    copy_plane<T>({from, to, 1, piece.dims[0], 0, plan.strides[0], 0});
  } else {
    copy_slices(piece, from, to);
  }
}

}  // namespace

PermutePlan plan_permute(std::span<const std::int64_t> dims, std::span<const int> order, std::int64_t element_bytes) {
  AOQ_CHECK(dims.size() == order.size() && dims.size() <= kMaxPermuteAxes);
  std::int64_t strides[kMaxPermuteAxes];
  std::int64_t size = 1;
  for (std::size_t axis = dims.size(); axis-- > 0;) {
    strides[axis] = size;
    size *= dims[axis];
  }
  PermutePlan plan;
  plan.element_bytes = element_bytes;
  for (int axis : order) {
    std::int64_t dim = dims[static_cast<std::size_t>(axis)];
    if (dim == 1) continue;
    int before = plan.rank - 1;
    if (plan.rank > 0 && plan.strides[before] == strides[axis] * dim) {
      plan.dims[before] *= dim;
      plan.strides[before] = strides[axis];
      continue;
    }
    plan.dims[plan.rank] = dim;
    plan.strides[plan.rank++] = strides[axis];
  }
  if (plan.rank == 0) {
    plan.rank = 1;
    plan.dims[0] = 1;
    plan.strides[0] = 1;
  }
  plan.units = plan.dims[0];
  return plan;
}

void run_permute(const PermutePlan& plan, const void* x, void* out, std::int64_t unit_begin, std::int64_t unit_end) {
  switch (plan.element_bytes) {
    case 1:
      return run_typed<std::uint8_t>(plan, x, out, unit_begin, unit_end);
    case 2:
      return run_typed<std::uint16_t>(plan, x, out, unit_begin, unit_end);
    case 4:
      return run_typed<std::uint32_t>(plan, x, out, unit_begin, unit_end);
    case 8:
      return run_typed<std::uint64_t>(plan, x, out, unit_begin, unit_end);
    default:
      AOQ_CHECK(false);
  }
}

}  // namespace aoq::cpu
