// What attention in int8 does around its products, with AVX2; attention_s8.cpp has the definitions. Call it only where
// the processor has that.
#pragma once

#include <cstdint>

namespace aoq::cpu {

// `count` numbers `pitch` apart, less their mean where there is one.
struct CodeLine {
  const float* x;
  std::int64_t pitch;
  const float* mean;  // or null
  std::int64_t count;
};
// Codes from -127 to 127, and zeros up to a multiple of 8. The pitch must be 1. Returns their step.
float line_codes_avx2(const CodeLine& line, std::int16_t* codes);

// Columns of rows [rows][columns], `pitch` apart, as codes in panels [columns / 32][pairs][32][2] that hold zeros.
struct PackColumns {
  const float* x;
  std::int64_t pitch;
  std::int64_t rows;
  std::int64_t columns;
  float* steps;  // [columns]
  std::int16_t* panels;
  std::int64_t pairs;
};
void pack_columns_s16_avx2(const PackColumns& pack);

// One row between the products: scores of sums, their softmax, and weights as codes.
struct WeighRow {
  const std::int32_t* sums;  // [columns / 32][32], of the first panel
  std::int64_t panel_pitch;  // sums from panel to panel
  const float* scales;       // [columns], of the keys
  float factor;              // of the query
  const float* mask;         // of the first column, or null
  std::int64_t mask_column;  // 1, or 0 for one column
  std::int64_t columns;
  std::int32_t levels;
  float* scores;          // [columns]
  std::int16_t* weights;  // [columns up to a multiple of 8], exp(score - max) * levels as codes, zeros behind them
};

// Returns 1 / sum of the weights.
float weigh_row_avx2(const WeighRow& row);

}  // namespace aoq::cpu
