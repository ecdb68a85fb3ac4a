#include "ir/ops/elements.h"

#include <algorithm>
#include <cstring>

namespace aoq::ops {

FloatInput::FloatInput(const TensorView& tensor) : data_(reinterpret_cast<const float*>(tensor.data)) {
  if (tensor.dtype == DType::f32) return;
  converted_.resize(static_cast<std::size_t>(tensor.element_count()));
  dtype_info(tensor.dtype).to_float(tensor.data, 0, converted_);
  data_ = converted_.data();
}

FloatOutput::FloatOutput(const MutableTensorView& tensor)
    : tensor_(tensor), data_(reinterpret_cast<float*>(tensor.data)) {
  if (tensor.dtype == DType::f32) return;
  converted_.resize(static_cast<std::size_t>(tensor.element_count()));
  data_ = converted_.data();
}

FloatOutput::~FloatOutput() {
  if (tensor_.dtype != DType::f32) dtype_info(tensor_.dtype).from_float(converted_, tensor_.data, 0);
}

Sizes row_major_strides(std::span<const std::int64_t> shape) {
  Sizes strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= shape[d];
  }
  return strides;
}

std::int64_t count(std::span<const std::int64_t> shape, std::size_t begin, std::size_t end) {
  std::int64_t n = 1;
  for (std::size_t d = begin; d < end; ++d) n *= shape[d];
  return n;
}

void next_index(std::span<std::int64_t> index, std::span<const std::int64_t> shape) {
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (++index[d] < shape[d]) return;
    index[d] = 0;
  }
}

namespace {

struct Run {
  std::int64_t from, from_stride, to, to_stride, n;
};

void copy_run(DType dtype, const std::byte* from, std::byte* to, const Run& run) {
  auto bits = static_cast<std::int64_t>(dtype_info(dtype).bits);
  if (bits % 8 != 0) {
    for (std::int64_t i = 0; i < run.n; ++i) {
      store_integer(dtype, to, run.to + i * run.to_stride, load_integer(dtype, from, run.from + i * run.from_stride));
    }
    return;
  }
  std::int64_t size = bits / 8;
  if (run.from_stride == 1 && run.to_stride == 1) {
    std::memcpy(to + run.to * size, from + run.from * size, static_cast<std::size_t>(run.n * size));
    return;
  }
  for (std::int64_t i = 0; i < run.n; ++i) {
    std::memcpy(to + (run.to + i * run.to_stride) * size, from + (run.from + i * run.from_stride) * size,
                static_cast<std::size_t>(size));
  }
}

}  // namespace

void copy_elements(DType dtype, const std::byte* from, std::int64_t from_index, std::byte* to, std::int64_t to_index,
                   std::int64_t n) {
  if (n > 0) copy_run(dtype, from, to, {from_index, 1, to_index, 1, n});
}

void copy_strided(DType dtype, const std::byte* from, std::byte* to, const StridedCopy& copy) {
  std::size_t rank = copy.shape.size();
  std::int64_t total = count(copy.shape, 0, rank);
  if (total == 0) return;
  Run run{copy.from, 0, copy.to, 0, 1};
  if (rank == 0) return copy_run(dtype, from, to, run);
  run = {copy.from, copy.from_strides[rank - 1], copy.to, copy.to_strides[rank - 1], copy.shape[rank - 1]};
  Sizes index(rank - 1);
  for (std::int64_t r = 0, runs = total / run.n; r < runs; ++r) {
    copy_run(dtype, from, to, run);
    for (std::size_t d = rank - 1; d-- > 0;) {
      run.from += copy.from_strides[d];
      run.to += copy.to_strides[d];
      if (++index[d] < copy.shape[d]) break;
      run.from -= copy.from_strides[d] * copy.shape[d];
      run.to -= copy.to_strides[d] * copy.shape[d];
      index[d] = 0;
    }
  }
}

}  // namespace aoq::ops
