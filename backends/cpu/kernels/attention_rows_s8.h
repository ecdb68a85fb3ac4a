// One row of attention in int8 between its products: scores of sums, their softmax, and weights as codes.
#pragma once

#include <cstdint>

namespace aoq::cpu {

struct WeighRow {
  const std::int32_t* sums;  // [columns]
  const float* scales;       // [columns], of the keys
  float factor;              // of the query
  const float* mask;         // of the first column, or null
  std::int64_t mask_column;  // 1, or 0 for one column
  std::int64_t columns;
  std::int32_t levels;
  float* scores;          // [columns]
  std::int16_t* weights;  // [columns up to a multiple of 8], exp(score - max) * levels as codes, zeros behind them
};

// Returns 1 / sum of the weights. The definition is in attention_s8.cpp.
float weigh_row_avx2(const WeighRow& row);

}  // namespace aoq::cpu
