#include "tests/support/count_allocations.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<bool> is_counting{false};
std::atomic<std::int64_t> allocations{0};

thread_local bool is_failing = false;
thread_local bool has_failed = false;
thread_local std::int64_t until_failure = 0;
thread_local aoq::test::Failing how_failing{};

bool must_fail() noexcept {
  if (!is_failing || until_failure-- > 0) return false;
  has_failed = true;
  is_failing = how_failing == aoq::test::Failing::from_then_on;
  return true;
}

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  if (is_counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
  if (must_fail()) return nullptr;
  return std::aligned_alloc(alignment, (std::max<std::size_t>(size, 1) + alignment - 1) / alignment * alignment);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  if (void* p = allocate(size, alignment)) return p;
  throw std::bad_alloc();
}

constexpr std::size_t kDefault = alignof(std::max_align_t);
std::size_t bytes_of(std::align_val_t a) {
  return static_cast<std::size_t>(a);
}

}  // namespace

void* operator new(std::size_t n) {
  return allocate_or_throw(n, kDefault);
}
void* operator new[](std::size_t n) {
  return allocate_or_throw(n, kDefault);
}
void* operator new(std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, bytes_of(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, bytes_of(a));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
  return allocate(n, kDefault);
}
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
  return allocate(n, kDefault);
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, bytes_of(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, bytes_of(a));
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace aoq::test {

void start_counting_allocations() {
  allocations = 0;
  is_counting = true;
}

std::int64_t stop_counting_allocations() {
  is_counting = false;
  return allocations;
}

void fail_allocation(std::int64_t n, Failing failing) {
  has_failed = false;
  until_failure = n;
  how_failing = failing;
  is_failing = true;
}

bool stop_failing_allocations() {
  is_failing = false;
  return has_failed;
}

}  // namespace aoq::test
