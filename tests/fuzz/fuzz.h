// What every fuzz target shares: a promise about memory, kept by hooks of the sanitizer's allocator, and about errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ir/status.h"

namespace aoq::fuzz {

// The input, copied to memory of just its size at a multiple of 64 bytes, so that an overrun is seen.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size);
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input();
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_;
};

// Watches the heap while it lives: aborts when more than `limit` bytes were allocated at once. One at a time.
class MemoryWatch {
 public:
  explicit MemoryWatch(std::uint64_t limit);
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;
  ~MemoryWatch();
};

inline constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;

// Aborts when a file is called a bug of ours, or a host's mistake.
void require_typed(const Status& status);

}  // namespace aoq::fuzz
