// The end of a tile of a linear with narrow weights, for AVX2 translation units only.
#pragma once

#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

// y is [rows][halves][8], 32-byte aligned: half panels that follow each other.
inline void store_halves(const PanelTarget& to, int rows, int halves, const float* y) {
  const std::int64_t all = to.plan->columns;
  for (int r = 0; r < rows; ++r) {
    for (int h = 0; h < halves; ++h) {
      const std::int64_t column = to.panel * 16 + h * 8;
      if (column >= all) continue;
      F32x8 value = load(y + (r * halves + h) * 8);
      if (to.x_scales != nullptr) value = value * F32x8(to.x_scales[to.row + r]);
      if (to.bias != nullptr) value = value + load(to.bias + column);
      store_first(to.out + (to.row + r) * all + column, value, all - column);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
