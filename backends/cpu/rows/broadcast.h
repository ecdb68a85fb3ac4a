// Walks the result of an elementwise op with broadcasting, piece by piece, without allocating.
//
// Axes of one result that behave alike for every operand become one. The last two axes that remain are the rows and
// columns of a piece; an operand's column stride is then 0 or 1.
#pragma once

#include <array>

#include "backends/cpu/rows/row.h"
#include "ir/type.h"

namespace aoq::cpu {

inline constexpr std::size_t kMaxBroadcastInputs = 3;

struct BroadcastPiece {
  std::int64_t rows, columns;
  std::int64_t out;  // first element of the result; its rows are out_row apart
  std::int64_t out_row;
  std::array<std::int64_t, kMaxBroadcastInputs> offset, row, column;  // of the operands
};

class BroadcastPlan {
 public:
  // All inputs must broadcast to the shape.
  BroadcastPlan(std::span<const std::int64_t> out_shape, std::span<const ConcreteType> inputs);

  std::int64_t units() const { return units_; }
  std::int64_t unit_elements() const { return column_block_; }
  bool same_shape(std::size_t input) const { return same_shape_[input]; }

  // Calls body(const BroadcastPiece&) for the pieces of units [begin, end).
  template <typename Body>
  void run(std::int64_t begin, std::int64_t end, Body&& body) const {
    while (begin < end) {
      BroadcastPiece piece = piece_at(begin, end, &begin);
      body(piece);
    }
  }

 private:
  struct Axis {
    std::int64_t size;
    std::array<std::int64_t, kMaxBroadcastInputs> stride;
  };
  BroadcastPiece piece_at(std::int64_t unit, std::int64_t end, std::int64_t* next) const;

  std::array<Axis, kMaxRank> axes_ = {};  // the outer ones, then rows, then columns
  std::size_t count_ = 0;
  std::size_t inputs_ = 0;
  std::int64_t column_block_ = 1;
  std::int64_t column_blocks_ = 1;
  std::int64_t units_ = 0;
  std::array<bool, kMaxBroadcastInputs> same_shape_ = {};
};

}  // namespace aoq::cpu
