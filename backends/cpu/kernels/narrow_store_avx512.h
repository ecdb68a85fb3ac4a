// The end of a tile of a linear with narrow weights, for AVX-512 translation units only.
#pragma once

#include <immintrin.h>

#include "backends/cpu/kernels/narrow_linear.h"

namespace aoq::cpu {
namespace {

// y is [rows][panels][16], 64-byte aligned.
inline void store_panels(const PanelTarget& to, int rows, int panels, const float* y) {
  const std::int64_t all = to.plan->columns;
  for (int p = 0; p < panels; ++p) {
    const std::int64_t column = (to.panel + p * to.panel_step) * 16, left = all - column;
    const __mmask16 mask = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
    for (int r = 0; r < rows; ++r) {
      __m512 value = _mm512_load_ps(y + (r * panels + p) * 16);
      if (to.x_scales != nullptr) value = _mm512_mul_ps(value, _mm512_set1_ps(to.x_scales[to.row + r]));
      if (to.bias != nullptr) value = _mm512_add_ps(value, _mm512_loadu_ps(to.bias + column));
      _mm512_mask_storeu_ps(to.out + (to.row + r) * all + column, mask, value);
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
