// JSON text to values and back: the one place that includes nlohmann/json; others include this header.
//
// Reading is strict: UTF-8, one document, no comments, no duplicate keys, limited depth and size, finite numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/status.h"
#include "ir/type.h"

namespace aoq {

// What makes Json a type of its own, so that std::allocator<Json> is ours to write.
template <class T>
struct JsonAllocator {
  using value_type = T;
  JsonAllocator() = default;
  template <class U>
  JsonAllocator(const JsonAllocator<U>&) {}  // NOLINT(google-explicit-constructor): an allocator converts
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T))); }
  void deallocate(T* p, std::size_t) { ::operator delete(p); }
  friend bool operator==(const JsonAllocator&, const JsonAllocator&) { return true; }
};

// Objects keep their keys sorted, so equal values have equal text.
using Json =
    nlohmann::basic_json<std::map, std::vector, std::string, bool, std::int64_t, std::uint64_t, double, JsonAllocator>;

// Memory for `bytes`, also when the heap has none left: then whole pages of the system. Throws std::bad_alloc when that
// has none either.
void* allocate_for_json_teardown(std::size_t bytes);
void free_of_json_teardown(void* p);

}  // namespace aoq

// A Json that is destroyed first moves its parts to a std::vector<Json>, in a destructor, where running out of memory
// would end the process.
template <>
struct std::allocator<aoq::Json> {
  using value_type = aoq::Json;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using propagate_on_container_move_assignment = std::true_type;
  constexpr allocator() noexcept = default;
  template <class U>
  constexpr allocator(const std::allocator<U>&) noexcept {}  // NOLINT(google-explicit-constructor)
  aoq::Json* allocate(std::size_t n) {
    return static_cast<aoq::Json*>(aoq::allocate_for_json_teardown(n * sizeof(value_type)));
  }
  void deallocate(aoq::Json* p, std::size_t) { aoq::free_of_json_teardown(p); }
  friend bool operator==(const allocator&, const allocator&) { return true; }
};

// Its code is compiled once, in json.cpp.
extern template class nlohmann::basic_json<std::map, std::vector, std::string, bool, std::int64_t, std::uint64_t,
                                           double, aoq::JsonAllocator>;

namespace aoq {

struct JsonLimits {
  std::size_t bytes = 100'000'000;
  int depth = 64;
};

// invalid_data for text that is no JSON or breaks a rule above; resource_limit for size and depth.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});
Result<Json> parse_json(std::span<const std::byte> bytes, const JsonLimits& limits = {});

// One line without blanks, and indented by one blank per level. Strings that are no UTF-8 get replacement characters.
std::string dump_json(const Json& value);
std::string dump_json_indented(const Json& value);

// The member of an object; null when `object` is none or has no such key.
const Json* json_find(const Json& object, std::string_view key);
// Members that must be there and have a type; invalid_data says which is not. An integer may not be a float.
Result<std::string> json_string(const Json& object, std::string_view key);
Result<std::int64_t> json_integer(const Json& object, std::string_view key);
Result<double> json_number(const Json& object, std::string_view key);
Result<bool> json_bool(const Json& object, std::string_view key);

// Reads what hex_float (ir/type.h) writes: C hexadecimal notation such as "0x1.8p+1", or "inf", "-inf", "nan".
Result<double> parse_hex_float(std::string_view text);

}  // namespace aoq
