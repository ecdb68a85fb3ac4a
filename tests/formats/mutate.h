// What every reader must survive: a file cut at every byte, and one with damaged bytes. Shared by the format tests.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ir/status.h"

namespace aoq {

using ReadBytes = std::function<Status(std::span<const std::byte>)>;

inline std::vector<std::byte> to_bytes(std::string_view text) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// A host's mistake or a bug of ours is never what a damaged file may be called.
inline void check_typed(const Status& status) {
  CHECK(status.code() != Code::internal);
  CHECK(status.code() != Code::invalid_argument);
}

// Every proper prefix must be refused. Each is copied to memory of just its size, so that a sanitizer sees an overrun.
inline void refuse_truncations(std::span<const std::byte> file, const ReadBytes& read) {
  for (std::size_t size = 0; size < file.size(); ++size) {
    const std::vector<std::byte> prefix(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    const Status status = read(prefix);
    CAPTURE(size);
    CHECK(!status.ok());
    check_typed(status);
  }
}

// Damages up to four bytes at a time; any typed answer will do.
inline void survive_damage(std::span<const std::byte> file, const ReadBytes& read, int rounds) {
  constexpr int kInteresting[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '[', '-', '9', ',', '/'};
  std::mt19937 random(7);
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::byte> copy(file.begin(), file.end());
    const unsigned changes = 1 + random() % 4;
    for (unsigned i = 0; i < changes; ++i) {
      const unsigned r = random();
      const int value = r % 2 == 0 ? kInteresting[r / 2 % std::size(kInteresting)] : static_cast<int>(r / 2 % 256);
      copy[random() % copy.size()] = static_cast<std::byte>(value);
    }
    check_typed(read(copy));
  }
}

}  // namespace aoq
