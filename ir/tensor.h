// A dense tensor and borrowed views of one. Row-major; sub-byte types are bit-packed over the whole tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/dtype.h"
#include "ir/status.h"

namespace aoq {

// Borrowed and read-only. Whoever makes one answers for shape, data and size until it is gone.
struct TensorView {
  DType dtype = DType::f32;
  std::span<const std::int64_t> shape;
  const std::byte* data = nullptr;

  std::int64_t element_count() const;
};

struct MutableTensorView {
  DType dtype = DType::f32;
  std::span<const std::int64_t> shape;
  std::byte* data = nullptr;

  std::int64_t element_count() const;
};

// Cheap to copy: copies share one buffer until one of them is written to. Different Tensor objects may be used from
// different threads, even when they share a buffer; one object is used by one thread at a time.
class Tensor {
 public:
  // No elements: f32 of shape [0].
  Tensor() : shape_{0} {}

  // Zeroed, 64-byte aligned. invalid_argument for a negative dimension or a size that overflows, resource_limit where
  // memory ends.
  static Result<Tensor> make(DType dtype, std::vector<std::int64_t> shape);
  // A copy of `bytes`, whose size must be the shape's.
  static Result<Tensor> copy_of(DType dtype, std::vector<std::int64_t> shape, std::span<const std::byte> bytes);
  // Reads `data` in place; `owner` keeps it alive and may be null for static data. Writing makes a copy first.
  static Result<Tensor> borrow(DType dtype, std::vector<std::int64_t> shape, const std::byte* data,
                               std::shared_ptr<const void> owner);
  template <class T>
  static Result<Tensor> from_values(DType dtype, std::vector<std::int64_t> shape, std::span<const T> values) {
    return copy_of(dtype, std::move(shape), std::as_bytes(values));
  }

  DType dtype() const { return dtype_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  std::int64_t element_count() const { return element_count_; }
  std::int64_t byte_size() const { return byte_size_; }

  std::span<const std::byte> bytes() const { return {data_, static_cast<std::size_t>(byte_size_)}; }
  // Makes the buffer this tensor's own first, so earlier spans and views of it may no longer be of this tensor.
  std::span<std::byte> mutable_bytes();

  // The elements as T, whose size must be the element's; integer signedness is the caller's affair.
  template <class T>
  std::span<const T> as() const {
    AOQ_CHECK(static_cast<int>(sizeof(T)) * 8 == dtype_info(dtype_).bits);
    return {reinterpret_cast<const T*>(data_), static_cast<std::size_t>(element_count_)};
  }
  template <class T>
  std::span<T> mutable_as() {
    AOQ_CHECK(static_cast<int>(sizeof(T)) * 8 == dtype_info(dtype_).bits);
    return {reinterpret_cast<T*>(mutable_bytes().data()), static_cast<std::size_t>(element_count_)};
  }

  // Valid while this tensor lives and is neither assigned to nor written to.
  TensorView view() const { return {dtype_, shape_, data_}; }
  MutableTensorView mutable_view() {
    std::byte* data = mutable_bytes().data();
    return {dtype_, shape_, data};
  }

  // The same elements under another shape; invalid_argument when their number differs.
  Result<Tensor> reshaped(std::vector<std::int64_t> shape) const;

 private:
  Tensor(DType dtype, std::vector<std::int64_t> shape, std::int64_t element_count, std::int64_t byte_size)
      : dtype_(dtype), shape_(std::move(shape)), element_count_(element_count), byte_size_(byte_size) {}
  static Result<Tensor> sized(DType dtype, std::vector<std::int64_t> shape);

  DType dtype_ = DType::f32;
  std::vector<std::int64_t> shape_;
  std::int64_t element_count_ = 0;
  std::int64_t byte_size_ = 0;
  const std::byte* data_ = nullptr;
  // Owners: every Tensor copied from this one and not written to since. Null when the bytes are borrowed.
  std::shared_ptr<std::byte> buffer_;
  // Owners: the tensors that borrow the bytes, and the mapping or archive they were borrowed from.
  std::shared_ptr<const void> borrowed_from_;
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

// "[2, 3]", for messages.
std::string shape_to_string(std::span<const std::int64_t> shape);

}  // namespace aoq
