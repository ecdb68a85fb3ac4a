// How the f32 micro-kernels cut a block's rows. For the translation units of vector instructions only.
#pragma once

#include <cstdint>

#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

// Rows of one micro-kernel call at most; the pointers of a tile lie together, run after run.
constexpr std::int64_t kRowsPerTile = 6;

// Rows cut into tiles of at most six, all about as high: a tile of one row would take almost as long as one of four.
struct RowTiles {
  explicit RowTiles(std::int64_t n)
      : count((n + kRowsPerTile - 1) / kRowsPerTile), least(n / max_of(count, 1)), higher(n - least * count) {}
  std::int64_t begin(std::int64_t tile) const { return tile * least + min_of(tile, higher); }
  std::int64_t rows(std::int64_t tile) const { return tile < higher ? least + 1 : least; }
  std::int64_t count;
  std::int64_t least;   // rows of a tile
  std::int64_t higher;  // the first tiles, which have one row more
};

}  // namespace
}  // namespace aoq::cpu
