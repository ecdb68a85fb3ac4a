// One 8-bit code, u8 or i8, as an integer. Not for AVX2 translation units.
#pragma once

#include <cstdint>

#include "ir/dtype.h"

namespace aoq::cpu {

inline std::int32_t load_code(const void* data, DType type, std::int64_t index) {
  return type == DType::i8 ? static_cast<const std::int8_t*>(data)[index]
                           : static_cast<const std::uint8_t*>(data)[index];
}

inline void store_code(void* data, DType type, std::int64_t index, std::int32_t value) {
  if (type == DType::i8) {
    static_cast<std::int8_t*>(data)[index] = static_cast<std::int8_t>(value);
  } else {
    static_cast<std::uint8_t*>(data)[index] = static_cast<std::uint8_t>(value);
  }
}

}  // namespace aoq::cpu
