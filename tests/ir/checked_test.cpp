#include "ir/checked.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace aoq::checked {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST_CASE("[class 1] add and mul report overflow and nothing else") {
  CHECK(add(kMax, 0) == kMax);
  CHECK(add(1, 2) == 3u);
  CHECK(!add(kMax, 1));
  CHECK(mul(std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1) == 0xffffffff00000000u);
  CHECK(mul(kMax, 0) == 0u);
  CHECK(!mul(std::uint64_t{1} << 32, std::uint64_t{1} << 32));
}

TEST_CASE("[class 1] align_up rounds up and refuses to wrap") {
  CHECK(align_up(0, 64) == 0u);
  CHECK(align_up(1, 64) == 64u);
  CHECK(align_up(64, 64) == 64u);
  CHECK(align_up(kMax - 63, 64) == kMax - 63);
  CHECK(!align_up(kMax - 62, 64));
  CHECK(align_up(kMax, 1) == kMax);
}

TEST_CASE("[class 1] element_count: dimensions at every edge") {
  const std::int64_t big = std::int64_t{1} << 31;
  CHECK(element_count(std::vector<std::int64_t>{}) == 1);
  CHECK(element_count(std::vector<std::int64_t>{2, 3, 4}) == 24);
  CHECK(element_count(std::vector<std::int64_t>{big, big}) == std::int64_t{1} << 62);
  CHECK(!element_count(std::vector<std::int64_t>{big, big, 2}));
  CHECK(!element_count(std::vector<std::int64_t>{std::int64_t{1} << 62, std::int64_t{1} << 62}));
  CHECK(!element_count(std::vector<std::int64_t>{(std::int64_t{1} << 62) + 1}));
  CHECK(element_count(std::vector<std::int64_t>{kMaxDimension, 2}) == 2 * kMaxDimension);
  CHECK(!element_count(std::vector<std::int64_t>{kMaxDimension + 1}));
  CHECK(!element_count(std::vector<std::int64_t>{3, -1}));
  CHECK(!element_count(std::vector<std::int64_t>{0, -1}));
  CHECK(element_count(std::vector<std::int64_t>{0, 7}) == 0);
}

TEST_CASE("[class 1] element_count: a zero dimension does not hide an overflow") {
  CHECK(!element_count(std::vector<std::int64_t>{0, kMaxDimension, kMaxDimension}));
}

TEST_CASE("[class 1] packed_bytes rounds up to bytes and reports overflow") {
  CHECK(packed_bytes(0, 3) == 0u);
  CHECK(packed_bytes(3, 3) == 2u);
  CHECK(packed_bytes(8, 3) == 3u);
  CHECK(packed_bytes(5, 32) == 20u);
  CHECK(!packed_bytes(std::uint64_t{1} << 62, 8));
  CHECK(!packed_bytes(kMax, 1));
  CHECK(packed_bytes(kMax - 7, 1) == (kMax - 7) / 8);
}

TEST_CASE("[class 2] fits agrees with 128-bit arithmetic") {
  std::mt19937_64 random(1);
  const std::array<std::uint64_t, 9> edges{0, 1, 7, 64, 0x7fffffffu, 0x80000000u, kMax / 2, kMax - 1, kMax};
  auto pick = [&] {
    const std::uint64_t r = random();
    if (r % 3 == 0) return edges[r / 3 % edges.size()];
    return random() >> (r / 3 % 64);
  };
  for (int i = 0; i < 200000; ++i) {
    const std::uint64_t offset = pick(), length = pick();
    std::uint64_t total = pick();
    if (i % 4 == 0) total = offset + length + static_cast<std::uint64_t>(i / 4 % 3) - 1;
    __extension__ using Wide = unsigned __int128;
    const bool expected = static_cast<Wide>(offset) + length <= static_cast<Wide>(total);
    REQUIRE(fits(offset, length, total) == expected);
  }
}

}  // namespace
}  // namespace aoq::checked
