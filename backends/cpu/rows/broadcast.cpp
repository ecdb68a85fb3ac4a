#include "backends/cpu/rows/broadcast.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kColumnBlock = 4096;

}  // namespace

BroadcastPlan::BroadcastPlan(std::span<const std::int64_t> out_shape, std::span<const ConcreteType> inputs)
    : inputs_(inputs.size()) {
  AOQ_CHECK(inputs.size() <= kMaxBroadcastInputs && out_shape.size() <= kMaxRank);
  std::array<std::int64_t, kMaxBroadcastInputs> running;
  running.fill(1);
  std::array<Axis, kMaxRank> plain = {};
  for (std::size_t d = out_shape.size(); d-- > 0;) {
    plain[d] = {out_shape[d], {}};
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::vector<std::int64_t>& shape = inputs[i].shape;
      std::size_t back = out_shape.size() - d;
      std::int64_t size = back <= shape.size() ? shape[shape.size() - back] : 1;
      plain[d].stride[i] = size == 1 ? 0 : running[i];
      running[i] *= size;
    }
  }
  std::int64_t total = element_count(out_shape);
  for (std::size_t i = 0; i < inputs.size(); ++i) same_shape_[i] = element_count(inputs[i]) == total;
  for (std::size_t d = 0; d < out_shape.size(); ++d) {
    if (plain[d].size == 1) continue;
    bool merges = count_ > 0;
    for (std::size_t i = 0; i < inputs_ && merges; ++i) {
      merges = axes_[count_ - 1].stride[i] == plain[d].stride[i] * plain[d].size;
    }
    if (merges) {
      axes_[count_ - 1] = {axes_[count_ - 1].size * plain[d].size, plain[d].stride};
    } else {
      axes_[count_++] = plain[d];
    }
  }
  if (count_ == 0) axes_[count_++] = {1, {}};
  std::int64_t columns = axes_[count_ - 1].size;
  column_block_ = std::min(std::max<std::int64_t>(columns, 1), kColumnBlock);
  column_blocks_ = (columns + column_block_ - 1) / column_block_;
  units_ = total == 0 ? 0 : total / columns * column_blocks_;
}

BroadcastPiece BroadcastPlan::piece_at(std::int64_t unit, std::int64_t end, std::int64_t* next) const {
  const Axis& columns = axes_[count_ - 1];
  std::int64_t row_unit = unit / column_blocks_;
  std::int64_t first_column = unit % column_blocks_ * column_block_;
  BroadcastPiece piece = {};
  piece.columns = std::min(column_block_, columns.size - first_column);
  piece.rows = 1;
  piece.out_row = columns.size;
  piece.out = row_unit * columns.size + first_column;
  *next = unit + 1;
  if (column_blocks_ == 1 && count_ >= 2) {
    std::int64_t rows = axes_[count_ - 2].size;
    piece.rows = std::min(rows - row_unit % rows, end - unit);
    *next = unit + piece.rows;
  }
  for (std::size_t i = 0; i < inputs_; ++i) {
    piece.offset[i] = first_column * columns.stride[i];
    piece.column[i] = columns.stride[i];
    piece.row[i] = count_ >= 2 ? axes_[count_ - 2].stride[i] : 0;
  }
  std::int64_t rest = row_unit;
  for (std::size_t d = count_ - 1; d-- > 0;) {
    std::int64_t index = rest % axes_[d].size;
    rest /= axes_[d].size;
    for (std::size_t i = 0; i < inputs_; ++i) piece.offset[i] += index * axes_[d].stride[i];
  }
  return piece;
}

}  // namespace aoq::cpu
