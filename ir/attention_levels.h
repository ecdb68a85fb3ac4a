// How fine the weights of attention in int8 are.
#pragma once

#include <algorithm>
#include <cstdint>

namespace aoq {

// The code of the weight 1: as large as keeps the sum of `columns` products with codes to 127 in an int32, and the code
// itself in an int16.
inline std::int32_t attention_levels(std::int64_t columns) {
  const std::int64_t most = INT32_MAX / (127 * std::max<std::int64_t>(columns, 1));
  return static_cast<std::int32_t>(std::min<std::int64_t>(most, INT16_MAX));
}

}  // namespace aoq
