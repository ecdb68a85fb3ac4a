#include "formats/json/json.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/formats/mutate.h"

namespace aoq {
namespace {

Code code_of(std::string_view text) {
  return parse_json(text).status().code();
}

TEST_CASE("a document reads and prints back") {
  const std::string text = R"({"a":[1,-2,2.5,null,true],"b":{"c":"\u00e9"},"z":18446744073709551615})";
  Result<Json> value = parse_json(text);
  REQUIRE(value.ok());
  CHECK((*value)["a"][2] == 2.5);
  CHECK((*value)["z"].get<std::uint64_t>() == 18446744073709551615u);
  Result<Json> again = parse_json(dump_json(*value));
  REQUIRE(again.ok());
  CHECK(*again == *value);
  CHECK(parse_json("7").ok());
}

TEST_CASE("[class 13] what a strict reader refuses") {
  CHECK(code_of(R"({"a":1,"a":1})") == Code::invalid_data);
  CHECK(code_of(R"([{"b":{"a":1,"c":2,"a":3}}])") == Code::invalid_data);
  CHECK(code_of("") == Code::invalid_data);
  CHECK(code_of("[1,]") == Code::invalid_data);
  CHECK(code_of("[1] 2") == Code::invalid_data);
  CHECK(code_of("[NaN]") == Code::invalid_data);
  CHECK(code_of("[1e999]") == Code::invalid_data);
  CHECK(code_of("// c\n1") == Code::invalid_data);
  CHECK(code_of("\"\xff\"") == Code::invalid_data);
  CHECK(code_of("\"\x01\"") == Code::invalid_data);
}

TEST_CASE("[class 8] depth and size are limited") {
  CHECK(parse_json(std::string(64, '[') + std::string(64, ']')).ok());
  CHECK(code_of(std::string(65, '[') + std::string(65, ']')) == Code::resource_limit);
  CHECK(code_of(std::string(1'000'000, '[')) == Code::resource_limit);
  CHECK(parse_json("[1]", {.bytes = 2}).status().code() == Code::resource_limit);
}

TEST_CASE("typed members") {
  const Json object = *parse_json(R"({"s":"x","i":-3,"f":1.5,"b":false,"big":18446744073709551615})");
  CHECK(*json_string(object, "s") == "x");
  CHECK(*json_integer(object, "i") == -3);
  CHECK(*json_number(object, "i") == -3.0);
  CHECK(*json_bool(object, "b") == false);
  CHECK(json_integer(object, "f").status().code() == Code::invalid_data);
  CHECK(json_integer(object, "big").status().code() == Code::invalid_data);
  CHECK(json_string(object, "none").status().code() == Code::invalid_data);
  CHECK(json_bool(Json::array(), "b").status().code() == Code::invalid_data);
}

TEST_CASE("hexadecimal floats are exact") {
  for (double v : {0.0, -0.0, 1.0, -1.5, 0.1, 1e300, 5e-324, std::numeric_limits<double>::infinity()}) {
    Result<double> back = parse_hex_float(hex_float(v));
    REQUIRE(back.ok());
    CHECK(*back == v);
    CHECK(std::signbit(*back) == std::signbit(v));
  }
  CHECK(std::isnan(*parse_hex_float("nan")));
  CHECK(*parse_hex_float("-inf") < 0);
  for (const char* bad : {"", "1.0", "0x", "0x1p", "-0x-1p0", "0x1p0 ", "0xinf", "--0x1p0", "0x1p99999"}) {
    CAPTURE(bad);
    CHECK(!parse_hex_float(bad).ok());
  }
}

TEST_CASE("truncated and damaged documents") {
  const std::vector<std::byte> file = to_bytes(R"({"a":[1,-2,2.5e3,null,{"k":"v\n"}],"b":{"c":"d"}})");
  const ReadBytes read = [](std::span<const std::byte> bytes) { return parse_json(bytes).status(); };
  refuse_truncations(file, read);
  survive_damage(file, read, 20000);
}

}  // namespace
}  // namespace aoq
