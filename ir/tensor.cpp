#include "ir/tensor.h"

#include <atomic>
#include <cstring>
#include <limits>
#include <new>

#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/type.h"

namespace aoq {
namespace {

constexpr std::align_val_t kAlignment{64};

// Null where memory ends. Never empty, so that data() of a tensor without elements is a valid pointer too.
std::shared_ptr<std::byte> allocate(std::int64_t size) {
  void* memory = ::operator new(static_cast<std::size_t>(size > 0 ? size : 1), kAlignment, std::nothrow);
  if (memory == nullptr) return nullptr;
  return {static_cast<std::byte*>(memory), [](std::byte* p) { ::operator delete(p, kAlignment); }};
}

std::int64_t count_or_zero(std::span<const std::int64_t> shape) {
  return checked::element_count(shape).value_or(0);
}

}  // namespace

std::int64_t TensorView::element_count() const {
  return count_or_zero(shape);
}
std::int64_t MutableTensorView::element_count() const {
  return count_or_zero(shape);
}

Result<Tensor> Tensor::sized(DType dtype, std::vector<std::int64_t> shape) {
  if (shape.size() > kMaxRank) return error(Code::invalid_argument, "rank {} is above {}", shape.size(), kMaxRank);
  const std::optional<std::int64_t> count = checked::element_count(shape);
  if (!count) return error(Code::invalid_argument, "shape {} is negative or too large", shape_to_string(shape));
  const std::optional<std::uint64_t> bytes =
      checked::packed_bytes(static_cast<std::uint64_t>(*count), static_cast<std::uint64_t>(dtype_info(dtype).bits));
  if (!bytes || *bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return error(Code::invalid_argument, "{} of shape {} is too large", dtype_name(dtype), shape_to_string(shape));
  }
  return Tensor(dtype, std::move(shape), *count, static_cast<std::int64_t>(*bytes));
}

Result<Tensor> Tensor::make(DType dtype, std::vector<std::int64_t> shape) {
  AOQ_ASSIGN(Tensor tensor, sized(dtype, std::move(shape)));
  tensor.buffer_ = allocate(tensor.byte_size_);
  if (!tensor.buffer_) return error(ErrorId::out_of_memory, "no memory for a tensor of {} bytes", tensor.byte_size_);
  std::memset(tensor.buffer_.get(), 0, static_cast<std::size_t>(tensor.byte_size_));
  tensor.data_ = tensor.buffer_.get();
  return tensor;
}

Result<Tensor> Tensor::copy_of(DType dtype, std::vector<std::int64_t> shape, std::span<const std::byte> bytes) {
  AOQ_ASSIGN(Tensor tensor, sized(dtype, std::move(shape)));
  if (static_cast<std::uint64_t>(tensor.byte_size_) != bytes.size()) {
    return error(Code::invalid_argument, "{} of shape {} takes {} bytes, found {}", dtype_name(dtype),
                 shape_to_string(tensor.shape_), tensor.byte_size_, bytes.size());
  }
  tensor.buffer_ = allocate(tensor.byte_size_);
  if (!tensor.buffer_) return error(ErrorId::out_of_memory, "no memory for a tensor of {} bytes", tensor.byte_size_);
  if (!bytes.empty()) std::memcpy(tensor.buffer_.get(), bytes.data(), bytes.size());
  tensor.data_ = tensor.buffer_.get();
  return tensor;
}

Result<Tensor> Tensor::borrow(DType dtype, std::vector<std::int64_t> shape, const std::byte* data,
                              std::shared_ptr<const void> owner) {
  AOQ_ASSIGN(Tensor tensor, sized(dtype, std::move(shape)));
  tensor.data_ = data;
  tensor.borrowed_from_ = std::move(owner);
  return tensor;
}

std::span<std::byte> Tensor::mutable_bytes() {
  const std::size_t size = static_cast<std::size_t>(byte_size_);
  if (!buffer_ || buffer_.use_count() > 1) {
    std::shared_ptr<std::byte> own = allocate(byte_size_);
    if (!own) throw std::bad_alloc();
    if (size > 0) std::memcpy(own.get(), data_, size);
    buffer_ = std::move(own);
    borrowed_from_ = nullptr;
    data_ = buffer_.get();
  } else {
    // Pairs with the release of the last other owner, whose reads must come before our writes.
    std::atomic_thread_fence(std::memory_order_acquire);
  }
  return {buffer_.get(), size};
}

Result<Tensor> Tensor::reshaped(std::vector<std::int64_t> shape) const {
  const std::optional<std::int64_t> count = checked::element_count(shape);
  if (!count || *count != element_count_) {
    return error(Code::invalid_argument, "shape {} does not hold the elements of {}", shape_to_string(shape),
                 shape_to_string(shape_));
  }
  Tensor result = *this;
  result.shape_ = std::move(shape);
  return result;
}

std::string shape_to_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace aoq
