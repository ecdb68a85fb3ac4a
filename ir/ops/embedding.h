// What embedding_bag, qembedding and dequantize_rows share.
//
// Bags: with indices [B, L] each row is a bag; with indices [n] bag b begins at offsets[b] and ends where the next one
// begins (the last at n). With include_last_offset there is one offset more, the end of the last bag.
//
// Quantized rows: a row of the table has codes c, a scale and a bias, and the values fma(c, scale, bias). Codes of 4
// bits lie two in a byte, the even element low.
#pragma once

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq::ops {

inline constexpr AttributeDef kIncludeLastOffset = {"include_last_offset", AttributeKind::boolean, "false",
                                                    "the last offset is the end of the last bag"};
inline constexpr AttributeDef kBits = {"bits", AttributeKind::integer, "8", "of a code: 8 or 4"};
inline constexpr AttributeDef kNarrowGroup = {
    "group", AttributeKind::integer, "0",
    "of a table of narrow codes: codes of a row that share a scale; 0: a table of bytes with a scale and a bias"};
inline constexpr AttributeDef kColumns = {"columns", AttributeKind::integer, kRequired, "codes in a row"};

// The number of bags; inputs `indices` and `indices` + 1 (offsets) are checked.
Result<Dim> infer_bags(const InferContext& c, std::size_t indices);
// Where bags begin, and the end of the last one: B + 1 numbers that rise in [0, number of indices].
Result<std::vector<std::int64_t>> read_bags(const EvalContext& c, std::size_t indices);

// Inputs 0 to 2: codes [N, bytes of a row] u8, scale [N] and bias [N] f32.
Status check_rows(const InferContext& c);
// acc[i] = fma(code i of the row, scale, acc[i] + bias) for the columns of a row.
struct QuantizedRows {
  const std::byte* codes = nullptr;
  const float* scale = nullptr;
  const float* bias = nullptr;
  std::int64_t rows = 0, columns = 0, row_bytes = 0;
  int bits = 8;

  explicit QuantizedRows(const EvalContext& c);
  void accumulate(std::int64_t row, float* values, float* acc) const;  // values: columns of spare room
};

}  // namespace aoq::ops
