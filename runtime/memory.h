// One aligned block of memory, not cleared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "ir/error_id.h"
#include "ir/status.h"
#include "runtime/arena.h"

namespace aoq {

class MemoryBlock {
 public:
  std::byte* data() const { return data_.get(); }
  std::uint64_t size() const { return size_; }

  // Replaces the block by one of at least `bytes` where it is smaller; the contents are lost. The first call gives a
  // block that is not null, even of 0 bytes.
  Status reserve(std::uint64_t bytes) {
    if (data_ != nullptr && bytes <= size_) return {};
    data_.reset();
    size_ = 0;
    void* memory = ::operator new(bytes > 0 ? bytes : kArenaAlignment, kAlignment, std::nothrow);
    if (memory == nullptr) return error(ErrorId::out_of_memory, "the system has no {} bytes of memory", bytes);
    data_.reset(static_cast<std::byte*>(memory));
    size_ = bytes;
    return {};
  }

 private:
  static constexpr std::align_val_t kAlignment{kArenaAlignment};
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::uint64_t size_ = 0;
};

}  // namespace aoq
