// What int8 convolutions that go panel by panel over rows of u8 codes share (conv_maddubs.h, conv_vnni256.h,
// conv_vnni.h): the plan.
//
// A sum over codes needs no subtraction of the zero point inside,
//   sum of (x - z) * w = sum of x * w - z * (sum of w),
// so every sum starts at -z * (sum of w); int32 wraps, and the end is exact for K <= 65792. Signed codes are x + 128 as
// u8 with the zero point z + 128. Padding is the code z. Pixels of a 1x1 convolution are read where they are; other
// rows are gathered, a block of pixels at a time. A panel of 16 output channels begins with their 16 int32 sums of w.
#pragma once

#include <cstdint>

#include "backends/cpu/kernels/conv_s8.h"

namespace aoq::cpu {

struct ConvPanelsPlan {
  ConvDims dims;
  EpilogueS8 epilogue;
  DType x_type = DType::u8;
  std::int64_t k = 0;       // products of one output element
  std::int64_t steps = 0;   // words of four codes of K
  std::int64_t rows = 0;    // output pixels of the whole batch
  std::int64_t panels = 0;  // 16-channel panels of one group
  std::int64_t panel_bytes = 0;
  std::int64_t row_block = 0;  // pixels of one unit
  std::int64_t row_blocks = 0;
  std::int64_t panel_block = 0;  // panels of one unit, a multiple of a tile's where there are several units
  std::int64_t panel_blocks = 0;
  bool reads_in_place = false;     // rows are pixels of x
  std::int64_t pitch = 0;          // bytes from row to row, of x or of the gathered block
  std::int64_t units = 0;          // independent pieces of work: pass any [begin, end) of them to run
  std::int64_t scratch_bytes = 0;  // per worker, 64-byte aligned
  std::int64_t tile_offset = 0;    // where a tile's own bytes begin in scratch
};

// What a kernel multiplies at once.
struct PanelShape {
  std::int64_t panel_bytes;
  std::int64_t rows, panels;
  // For rows so many that a first-level cache cannot hold them where they are a multiple of 2 KiB apart: then they are
  // gathered with another pitch.
  bool avoids_aliasing = false;
  std::int64_t least_pitch = 0;  // of rows that are read in place
  std::int64_t tile_bytes = 0;   // of scratch that a tile uses for itself
};

// Needs K <= kMaxExactProducts. Blocks of rows are multiples of the tile's.
ConvPanelsPlan plan_conv_panels(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue, const PanelShape& tile);

}  // namespace aoq::cpu
