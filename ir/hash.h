// XXH64 (Yann Collet's xxHash, 64-bit form): the hash of segments and of constants. Not cryptographic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace aoq {

std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed = 0);

}  // namespace aoq
