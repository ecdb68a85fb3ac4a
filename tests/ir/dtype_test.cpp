#include "ir/dtype.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ir/checked.h"
#include "ir/float_format.h"
#include "ir/tensor.h"

namespace aoq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<DType> every_dtype() {
  std::vector<DType> result;
  for (std::size_t i = 0; i < all_dtypes().size(); ++i) result.push_back(static_cast<DType>(i));
  return result;
}

// A buffer of all codes 0, 1, 2, … of a type of at most 16 bits, in order, packed.
std::vector<std::byte> all_codes(DType d) {
  const int bits = dtype_info(d).bits;
  const std::int64_t count = std::int64_t{1} << bits;
  std::vector<std::byte> buffer(
      *checked::packed_bytes(static_cast<std::uint64_t>(count), static_cast<std::uint64_t>(bits)));
  for (std::int64_t code = 0; code < count; ++code) {
    for (int b = 0; b < bits; ++b) {
      const std::int64_t at = code * bits + b;
      if (code >> b & 1) buffer[at / 8] |= static_cast<std::byte>(1 << at % 8);
    }
  }
  return buffer;
}

float convert(DType d, float value) {
  std::byte buffer[8] = {};
  dtype_info(d).from_float({&value, 1}, buffer, 0);
  float out;
  dtype_info(d).to_float(buffer, 0, {&out, 1});
  return out;
}

TEST_CASE("every name finds its own row") {
  for (DType d : every_dtype()) CHECK(dtype_from_name(dtype_name(d)) == d);
  CHECK(!dtype_from_name("float"));
  CHECK(!dtype_from_name(""));
  CHECK(dtype_info(DType::f6_e3m2).bits == 6);
  CHECK(is_integer(DType::u3));
  CHECK(!is_integer(DType::boolean));
  CHECK(is_signed_integer(DType::i1));
  CHECK(is_float(DType::bf16));
  CHECK(!is_float(DType::f8_e8m0));
}

TEST_CASE("all codes of all types of up to 16 bits survive a round trip") {
  for (DType d : every_dtype()) {
    const DTypeInfo& info = dtype_info(d);
    if (info.bits > 16 || d == DType::boolean) continue;
    CAPTURE(info.name);
    const std::vector<std::byte> codes = all_codes(d);
    std::vector<float> values(std::size_t{1} << info.bits);
    info.to_float(codes.data(), 0, values);
    std::vector<std::byte> back(codes.size());
    info.from_float(values, back.data(), 0);
    std::vector<float> again(values.size());
    info.to_float(back.data(), 0, again);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double as_double = load_as_double(d, codes.data(), static_cast<std::int64_t>(i));
      REQUIRE((std::isnan(values[i]) ? std::isnan(as_double) : as_double == values[i]));
      REQUIRE((std::isnan(values[i]) ? std::isnan(again[i]) : again[i] == values[i]));
      if (!std::isnan(values[i])) REQUIRE(std::signbit(again[i]) == std::signbit(values[i]));
      if (std::isfinite(values[i])) REQUIRE((values[i] >= info.min && values[i] <= info.max));
    }
    const bool has_nan = std::any_of(values.begin(), values.end(), [](float v) { return std::isnan(v); });
    if (!has_nan) CHECK(back == codes);
  }
}

TEST_CASE("values rise with their codes, min and max are the table's, halves go to the even code") {
  for (DType d : every_dtype()) {
    const DTypeInfo& info = dtype_info(d);
    if (info.bits > 16 || d == DType::boolean) continue;
    CAPTURE(info.name);
    const std::vector<std::byte> codes = all_codes(d);
    std::vector<std::pair<double, std::int64_t>> finite;
    for (std::int64_t i = 0; i < std::int64_t{1} << info.bits; ++i) {
      const double v = load_as_double(d, codes.data(), i);
      if (std::isfinite(v) && !(v == 0 && std::signbit(v))) finite.emplace_back(v, i);
    }
    std::sort(finite.begin(), finite.end());
    CHECK(finite.front().first == info.min);
    CHECK(finite.back().first == info.max);
    for (std::size_t i = 1; i < finite.size(); ++i) {
      const auto [a, code_a] = finite[i - 1];
      const auto [b, code_b] = finite[i];
      REQUIRE(a < b);
      const double middle = a + (b - a) / 2;
      // Among negative integers the even value is the even code too; e8m0 rounds its significand, always up.
      const double even = info.kind == DTypeKind::scale ? b : (code_a % 2 == 0 ? a : b);
      std::byte buffer[2] = {};
      store_from_double(d, buffer, 0, middle);
      REQUIRE(load_as_double(d, buffer, 0) == even);
      store_from_double(d, buffer, 0, std::nextafter(middle, -1e300));
      REQUIRE(load_as_double(d, buffer, 0) == a);
      store_from_double(d, buffer, 0, std::nextafter(middle, 1e300));
      REQUIRE(load_as_double(d, buffer, 0) == b);
      if (static_cast<float>(middle) == middle) REQUIRE(convert(d, static_cast<float>(middle)) == even);
    }
  }
}

TEST_CASE("the short ways of f16 and bf16 equal the general codec") {
  const FloatFormat half{5, 10, FloatSpecials::ieee}, brain{8, 7, FloatSpecials::ieee};
  std::mt19937 random(2);
  for (int i = 0; i < 400000; ++i) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(x)) continue;
    const float y = std::ldexp(x, i % 2 == 0 ? 0 : -static_cast<int>(std::ilogb(x == 0 ? 1.0f : x)) - i % 40 + 16);
    REQUIRE(convert(DType::f16, y) == decode_float(half, encode_float(half, y, FloatOverflow::non_finite)));
    REQUIRE(convert(DType::bf16, y) == decode_float(brain, encode_float(brain, y, FloatOverflow::non_finite)));
  }
}

TEST_CASE("overflow saturates or becomes infinity by type") {
  for (DType d : {DType::f8_e4m3fn, DType::f6_e2m3, DType::f6_e3m2, DType::f5_e2m2, DType::f5_e3m1, DType::f4_e2m1,
                  DType::f4_e3m0, DType::f3_e2m0, DType::f8_e4m3fnuz, DType::f8_e5m2fnuz}) {
    CAPTURE(dtype_name(d));
    for (float x : {1e30f, kInfinity}) {
      CHECK(convert(d, x) == dtype_info(d).max);
      CHECK(convert(d, -x) == dtype_info(d).min);
    }
  }
  for (DType d : {DType::f8_e5m2, DType::f16, DType::bf16}) {
    CAPTURE(dtype_name(d));
    CHECK(convert(d, kInfinity) == kInfinity);
    CHECK(convert(d, -kInfinity) == -kInfinity);
    CHECK(convert(d, std::numeric_limits<float>::max()) == kInfinity);
  }
  CHECK(convert(DType::f16, 65519.99f) == 65504.0f);
  CHECK(convert(DType::f16, 65520.0f) == kInfinity);
  CHECK(convert(DType::f8_e4m3fn, 464.0f) == 448.0f);
}

TEST_CASE("NaN by type") {
  for (DType d : every_dtype()) {
    CAPTURE(dtype_name(d));
    const DTypeInfo& info = dtype_info(d);
    const float y = convert(d, kNan);
    if (is_integer(d)) CHECK(y == 0);
    if (is_float(d) && info.bits < 8) CHECK(y == info.max);
    if (info.bits >= 8 && (is_float(d) || d == DType::f8_e8m0)) CHECK(std::isnan(y));
  }
}

TEST_CASE("e8m0 is a power of two, 255 is NaN") {
  const std::byte codes[] = {std::byte{0}, std::byte{127}, std::byte{254}, std::byte{255}};
  CHECK(load_as_double(DType::f8_e8m0, codes, 0) == std::ldexp(1.0, -127));
  CHECK(load_as_double(DType::f8_e8m0, codes, 1) == 1.0);
  CHECK(load_as_double(DType::f8_e8m0, codes, 2) == std::ldexp(1.0, 127));
  CHECK(std::isnan(load_as_double(DType::f8_e8m0, codes, 3)));
  CHECK(convert(DType::f8_e8m0, 0.0f) == std::ldexp(1.0f, -127));
  CHECK(convert(DType::f8_e8m0, 1.5f) == 2.0f);
  CHECK(convert(DType::f8_e8m0, 1.49f) == 1.0f);
  CHECK(convert(DType::f8_e8m0, 3e38f) == std::ldexp(1.0f, 127));
  CHECK(std::isnan(convert(DType::f8_e8m0, -1.0f)));
  CHECK(std::isnan(convert(DType::f8_e8m0, kInfinity)));
}

TEST_CASE("integers round half to even and saturate") {
  CHECK(convert(DType::i8, 2.5f) == 2.0f);
  CHECK(convert(DType::i8, -3.5f) == -4.0f);
  CHECK(convert(DType::u8, 0.5f) == 0.0f);
  CHECK(convert(DType::u8, 254.5f) == 254.0f);
  CHECK(convert(DType::u8, 255.5f) == 255.0f);
  CHECK(convert(DType::u8, -7.0f) == 0.0f);
  CHECK(convert(DType::u4, 99.0f) == 15.0f);
  CHECK(convert(DType::i1, 1.0f) == 0.0f);
  CHECK(convert(DType::boolean, 0.25f) == 1.0f);
  std::byte buffer[8] = {};
  for (double x : {1e300, 9223372036854775808.0}) {
    store_from_double(DType::i64, buffer, 0, x);
    CHECK(load_integer(DType::i64, buffer, 0) == std::numeric_limits<std::int64_t>::max());
  }
  store_from_double(DType::i64, buffer, 0, -1e300);
  CHECK(load_integer(DType::i64, buffer, 0) == std::numeric_limits<std::int64_t>::min());
  store_from_double(DType::u64, buffer, 0, 1e300);
  CHECK(load_integer(DType::u64, buffer, 0) == -1);
  CHECK(load_as_double(DType::u64, buffer, 0) == 18446744073709551615.0);
  store_from_double(DType::u32, buffer, 0, 4294967295.0);
  CHECK(load_integer(DType::u32, buffer, 0) == 4294967295);
}

TEST_CASE("packed elements at odd offsets do not disturb their neighbours") {
  std::mt19937 random(3);
  for (DType d : every_dtype()) {
    const DTypeInfo& info = dtype_info(d);
    if (info.bits > 8 || !is_integer(d)) continue;
    CAPTURE(info.name);
    const std::int64_t count = 77;
    std::vector<std::byte> buffer(*checked::packed_bytes(count, static_cast<std::uint64_t>(info.bits)));
    std::vector<std::int64_t> model(count);
    for (std::int64_t i = 0; i < count; ++i) model[i] = load_integer(d, buffer.data(), i);
    for (int step = 0; step < 2000; ++step) {
      const std::int64_t at = random() % count;
      const std::int64_t value = static_cast<std::int64_t>(info.min) + random() % (std::int64_t{1} << info.bits);
      model[at] = value;
      store_integer(d, buffer.data(), at, value);
      for (std::int64_t i = 0; i < count; ++i) REQUIRE(load_integer(d, buffer.data(), i) == model[i]);
    }
    for (std::int64_t begin = 0; begin < 17; ++begin) {
      std::vector<float> values(9);
      info.to_float(buffer.data(), begin, values);
      for (int i = 0; i < 9; ++i) REQUIRE(values[i] == model[begin + i]);
      std::vector<std::byte> copy = buffer;
      info.from_float(values, copy.data(), begin);
      REQUIRE(copy == buffer);
    }
  }
}

TEST_CASE("element 0 lies in the least significant bits") {
  std::byte buffer[2] = {};
  store_integer(DType::u4, buffer, 0, 1);
  store_integer(DType::u4, buffer, 1, 2);
  CHECK(buffer[0] == std::byte{0x21});
  std::byte three[2] = {};
  store_integer(DType::u3, three, 2, 7);  // bits 6, 7 and 8
  CHECK(three[0] == std::byte{0xc0});
  CHECK(three[1] == std::byte{0x01});
}

TEST_CASE("formats without mantissa bits are powers of two, beside zero") {
  const std::byte three[] = {std::byte{0x88}, std::byte{0xc6}, std::byte{0xfa}};  // codes 0 to 7, three bits each
  std::vector<float> values(8);
  dtype_info(DType::f3_e2m0).to_float(three, 0, values);
  CHECK(values == std::vector<float>{0, 1, 2, 4, 0, -1, -2, -4});
  CHECK(std::signbit(values[4]));
  const float e3m0[] = {0, 0.25f, 0.5f, 1, 2, 4, 8, 16};
  for (int code = 0; code < 8; ++code) {
    const std::byte packed = static_cast<std::byte>(code | (code | 8) << 4);
    CHECK(load_as_double(DType::f4_e3m0, &packed, 0) == e3m0[code]);
    CHECK(load_as_double(DType::f4_e3m0, &packed, 1) == -e3m0[code]);
  }
  // Between 2 (code 2) and 4 (code 3) the tie goes to the even code.
  CHECK(convert(DType::f3_e2m0, 3.0f) == 2.0f);
  CHECK(convert(DType::f3_e2m0, 1.5f) == 2.0f);
  CHECK(convert(DType::f3_e2m0, 0.5f) == 0.0f);
}

TEST_CASE("the buffer of n elements has ceil(n * bits / 8) bytes") {
  for (DType d : every_dtype()) {
    CAPTURE(dtype_name(d));
    const std::int64_t bits = dtype_info(d).bits;
    for (std::int64_t n : {0, 1, 2, 3, 5, 8, 13, 64}) {
      const Result<Tensor> t = Tensor::make(d, {n});
      REQUIRE(t.ok());
      CHECK(t->byte_size() == (n * bits + 7) / 8);
    }
  }
}

TEST_CASE("packed floats at odd offsets do not disturb their neighbours") {
  std::mt19937 random(4);
  for (DType d : every_dtype()) {
    const DTypeInfo& info = dtype_info(d);
    if (info.bits > 8 || !is_float(d)) continue;
    CAPTURE(info.name);
    const std::int64_t count = 41;
    std::vector<std::byte> buffer(*checked::packed_bytes(count, static_cast<std::uint64_t>(info.bits)));
    std::vector<float> model(count, 0.0f);
    const std::vector<std::byte> codes = all_codes(d);
    for (int step = 0; step < 1000; ++step) {
      const std::int64_t at = random() % count;
      const double value = load_as_double(d, codes.data(), random() % (std::int64_t{1} << info.bits));
      if (std::isnan(value)) continue;
      model[at] = static_cast<float>(value);
      store_from_double(d, buffer.data(), at, value);
      std::vector<float> values(count);
      info.to_float(buffer.data(), 0, values);
      REQUIRE(values == model);
    }
  }
}

TEST_CASE("the overflow of a format without infinity can be asked to be NaN") {
  const FloatFormat e4m3fn{4, 3, FloatSpecials::nan_only};
  CHECK(encode_float(e4m3fn, 464.0, FloatOverflow::non_finite) == 0x7e);
  CHECK(encode_float(e4m3fn, 465.0, FloatOverflow::non_finite) == 0x7f);
  CHECK(encode_float(e4m3fn, -1e9, FloatOverflow::non_finite) == 0xff);
  const FloatFormat fnuz{4, 3, FloatSpecials::negative_zero_is_nan};
  CHECK(encode_float(fnuz, -1e9, FloatOverflow::non_finite) == 0x80);
  CHECK(encode_float(fnuz, -0.0, FloatOverflow::saturate) == 0x00);
  CHECK(encode_float(fnuz, -1e-30, FloatOverflow::saturate) == 0x00);
}

}  // namespace
}  // namespace aoq
