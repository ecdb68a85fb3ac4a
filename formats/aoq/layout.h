// The header and the tiling of a `.aoq` file, shared by its reader and its writer.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <span>

#include "formats/aoq/aoq.h"
#include "ir/checked.h"
#include "ir/hash.h"

namespace aoq::aoq_layout {

static_assert(std::endian::native == std::endian::little, "the file is read in place");

inline constexpr std::uint64_t kAlignment = 64;
inline constexpr std::uint64_t kKnownFeatures = 0;
inline constexpr std::array<unsigned char, 8> kMagic = {0x89, 'A', 'O', 'Q', 0x0d, 0x0a, 0x1a, 0x0a};

struct Header {
  std::array<unsigned char, 8> magic = kMagic;
  std::uint32_t version = kAoqVersion;
  std::uint32_t header_size = 64;
  std::uint64_t features = 0;
  std::uint64_t metadata_offset = 64;
  std::uint64_t metadata_size = 0;
  std::uint64_t metadata_hash = 0;
  std::uint64_t file_size = 0;
  std::uint64_t header_hash = 0;
};
static_assert(sizeof(Header) == 64);

inline std::uint64_t hash_of(const Header& header) {
  return xxh64(std::as_bytes(std::span(&header, 1)).first(sizeof(Header) - sizeof(header.header_hash)));
}

// Fills in the offsets; the result is the size of the file, empty when it overflows.
inline std::optional<std::uint64_t> tile(std::uint64_t metadata_size, std::span<AoqSegment> segments) {
  std::optional<std::uint64_t> end = checked::add(sizeof(Header), metadata_size);
  for (AoqSegment& s : segments) {
    if (!end) return end;
    std::optional<std::uint64_t> begin = checked::align_up(*end, kAlignment);
    if (!begin) return begin;
    s.offset = *begin;
    end = checked::add(*begin, s.size);
  }
  return end;
}

}  // namespace aoq::aoq_layout
