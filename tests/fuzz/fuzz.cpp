#include "tests/fuzz/fuzz.h"

#include <sanitizer/allocator_interface.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace aoq::fuzz {
namespace {

// Single-threaded, as libFuzzer runs a target.
bool is_watching = false;
std::int64_t live = 0;
std::int64_t limit_bytes = 0;

void allocated(const volatile void*, std::size_t size) {
  if (!is_watching) return;
  live += static_cast<std::int64_t>(size);
  if (live <= limit_bytes) return;
  is_watching = false;
  std::fprintf(stderr, "%lld bytes are allocated, more than the %lld promised for this input\n",
               static_cast<long long>(live), static_cast<long long>(limit_bytes));
  std::abort();
}

void freed(const volatile void* p) {
  if (is_watching && p != nullptr) live -= static_cast<std::int64_t>(__sanitizer_get_allocated_size(p));
}

}  // namespace

Input::Input(const std::uint8_t* data, std::size_t size) : size_(size) {
  void* memory = nullptr;
  if (::posix_memalign(&memory, 64, size) != 0) std::abort();
  data_ = static_cast<std::byte*>(memory);
  if (size > 0) std::memcpy(data_, data, size);
}

Input::~Input() {
  std::free(data_);
}

MemoryWatch::MemoryWatch(std::uint64_t limit) {
  static const int hooks = __sanitizer_install_malloc_and_free_hooks(allocated, freed);
  if (hooks == 0) std::abort();
  live = 0;
  limit_bytes = static_cast<std::int64_t>(limit);
  is_watching = true;
}

MemoryWatch::~MemoryWatch() {
  is_watching = false;
}

void require_typed(const Status& status) {
  if (status.code() != Code::internal && status.code() != Code::invalid_argument) return;
  std::fprintf(stderr, "untyped: %s\n", status.message().c_str());
  std::abort();
}

}  // namespace aoq::fuzz
