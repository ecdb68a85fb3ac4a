#include "backends/cpu/rows/strided_copy.h"

#include <cstring>

namespace aoq::cpu {
namespace {

struct Line {
  const std::byte* from;
  std::byte* to;
  std::int64_t size, from_stride, to_stride;
};

template <typename T>
void copy_line(const Line& line) {
  const T* from = reinterpret_cast<const T*>(line.from);
  T* to = reinterpret_cast<T*>(line.to);
  if (line.from_stride == 0 && line.to_stride == 1) {
    std::fill_n(to, line.size, *from);
    return;
  }
  for (std::int64_t i = 0; i < line.size; ++i) to[i * line.to_stride] = from[i * line.from_stride];
}

void copy_line(const Line& line, std::int64_t element_bytes) {
  if (line.from_stride == 1 && line.to_stride == 1) {
    std::memcpy(line.to, line.from, static_cast<std::size_t>(line.size * element_bytes));
  } else if (element_bytes == 1) {
    copy_line<std::uint8_t>(line);
  } else if (element_bytes == 2) {
    copy_line<std::uint16_t>(line);
  } else if (element_bytes == 4) {
    copy_line<std::uint32_t>(line);
  } else {
    copy_line<std::uint64_t>(line);
  }
}

}  // namespace

StridedCopy::StridedCopy(std::span<const CopyAxis> axes, std::int64_t from, std::int64_t to, std::int64_t element_bytes)
    : from_(from), to_(to), element_bytes_(element_bytes) {
  AOQ_CHECK(axes.size() <= kMaxCopyAxes);
  std::int64_t total = 1;
  for (const CopyAxis& axis : axes) {
    total *= axis.size;
    if (axis.size == 1) continue;
    CopyAxis* previous = outer_count_ > 0 ? &outer_[outer_count_ - 1] : nullptr;
    if (previous != nullptr && previous->from_stride == axis.from_stride * axis.size &&
        previous->to_stride == axis.to_stride * axis.size) {
      *previous = {previous->size * axis.size, axis.from_stride, axis.to_stride};
    } else {
      outer_[outer_count_++] = axis;
    }
  }
  if (outer_count_ > 0) last_ = outer_[--outer_count_];
  // One long run is cut so that several workers can share it.
  constexpr std::int64_t kRun = 16 * 1024;
  if (outer_count_ == 0 && last_.size > kRun && last_.size % kRun == 0) {
    outer_[outer_count_++] = {last_.size / kRun, last_.from_stride * kRun, last_.to_stride * kRun};
    last_.size = kRun;
  }
  rows_ = total == 0 ? 0 : total / last_.size;
}

void StridedCopy::run(const std::byte* from, std::byte* to, std::int64_t row_begin, std::int64_t row_end) const {
  std::int64_t index[kMaxCopyAxes];
  std::int64_t at_from = from_, at_to = to_;
  std::int64_t rest = row_begin;
  for (std::size_t d = outer_count_; d-- > 0;) {
    index[d] = rest % outer_[d].size;
    rest /= outer_[d].size;
    at_from += index[d] * outer_[d].from_stride;
    at_to += index[d] * outer_[d].to_stride;
  }
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    copy_line(
        {from + at_from * element_bytes_, to + at_to * element_bytes_, last_.size, last_.from_stride, last_.to_stride},
        element_bytes_);
    for (std::size_t d = outer_count_; d-- > 0;) {
      at_from += outer_[d].from_stride;
      at_to += outer_[d].to_stride;
      if (++index[d] < outer_[d].size) break;
      at_from -= outer_[d].from_stride * outer_[d].size;
      at_to -= outer_[d].to_stride * outer_[d].size;
      index[d] = 0;
    }
  }
}

KernelResult make_copy_kernel(const StridedCopy& copy, const PrepareContext& context) {
  Split split = split_work(copy.rows(), copy.row_bytes() / 4 + 8, context);
  return make_kernel([copy, split](const RunContext& c) -> Status {
    run_split(c, split,
              [&](int, std::int64_t begin, std::int64_t end) { copy.run(c.inputs[0], c.outputs[0], begin, end); });
    return {};
  });
}

std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= shape[d];
  }
  return strides;
}

}  // namespace aoq::cpu
