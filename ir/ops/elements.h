// Access to whole tensors that reference loops share: floats of any format as f32, and copies of elements of any type.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ir/tensor.h"

namespace aoq::ops {

// The elements of a float (or integer) tensor as f32: in place when they are f32, converted once otherwise.
class FloatInput {
 public:
  explicit FloatInput(const TensorView& tensor);
  FloatInput(const FloatInput&) = delete;
  FloatInput& operator=(const FloatInput&) = delete;
  const float* data() const { return data_; }
  float operator[](std::int64_t i) const { return data_[i]; }

 private:
  std::vector<float> converted_;
  const float* data_;
};

// Where to write a float tensor's elements as f32; they are rounded to its format when this is destroyed.
class FloatOutput {
 public:
  explicit FloatOutput(const MutableTensorView& tensor);
  FloatOutput(const FloatOutput&) = delete;
  FloatOutput& operator=(const FloatOutput&) = delete;
  ~FloatOutput();
  float* data() const { return data_; }
  float& operator[](std::int64_t i) const { return data_[i]; }

 private:
  MutableTensorView tensor_;
  std::vector<float> converted_;
  float* data_;
};

using Sizes = std::vector<std::int64_t>;

Sizes row_major_strides(std::span<const std::int64_t> shape);
// The product of shape[begin, end).
std::int64_t count(std::span<const std::int64_t> shape, std::size_t begin, std::size_t end);
// Steps to the next index in row-major order; the last one goes back to zeros.
void next_index(std::span<std::int64_t> index, std::span<const std::int64_t> shape);

// Copies `n` elements that follow each other.
void copy_elements(DType dtype, const std::byte* from, std::int64_t from_index, std::byte* to, std::int64_t to_index,
                   std::int64_t n);
// Copies a box of elements between two layouts; strides are in elements and may be zero or negative.
struct StridedCopy {
  Sizes shape, from_strides, to_strides;
  std::int64_t from = 0, to = 0;  // the elements of the first index
};
void copy_strided(DType dtype, const std::byte* from, std::byte* to, const StridedCopy& copy);

}  // namespace aoq::ops
