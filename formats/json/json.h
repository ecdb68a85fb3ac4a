// JSON text to values and back: the one place that includes nlohmann/json; others include this header.
//
// Reading is strict: UTF-8, one document, no comments, no duplicate keys, limited depth and size, finite numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "ir/status.h"
#include "ir/type.h"

// Its code is compiled once, in json.cpp.
extern template class nlohmann::basic_json<>;

namespace aoq {

// Objects keep their keys sorted, so equal values have equal text.
using Json = nlohmann::json;

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
