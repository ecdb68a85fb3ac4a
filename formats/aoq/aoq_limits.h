// What a `.aoq` file may ask for. Enforced before anything is allocated; the host may set them.
#pragma once

#include <cstdint>

namespace aoq {

struct AoqLimits {
  std::uint64_t metadata_bytes = 100'000'000;
  std::uint64_t nodes = 1'000'000;
  std::uint64_t values = 1'000'000;
  std::uint64_t segments = 1'000'000;
  std::uint64_t name_bytes = 1024;  // names, dimensions, labels; free text is bounded by metadata_bytes
};

}  // namespace aoq
