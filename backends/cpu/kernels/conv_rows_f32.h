// Where the rows of an f32 convolution's implicit matrix lie: a pointer per output pixel and run of values, so that no
// im2col copy is needed. For the translation units of vector instructions only, like the headers it goes with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/row_tiles_f32.h"
#include "backends/cpu/kernels/simd_avx2.h"

namespace aoq::cpu {
namespace {

// Some rows of a row block, one call of the micro-kernel. Runs outside [run_begin, run_end) are padding above or below
// the image, which no product is made of.
struct RowTile {
  std::int64_t row;  // of the block
  std::int64_t rows;
  std::int64_t run_begin, run_end;
};

struct Scratch {
  float* acc;                // [row_block][acc_columns]
  RowTile* tiles;            // of the row block
  const float** rows;        // [tile][run][6]
  float* zeros;              // one run of padding
  const float** image_rows;  // [kernel_h]
  float* copies;             // [row_block][k], only with joins_taps
};

inline std::int64_t align_64(std::int64_t n) {
  return (n + 63) / 64 * 64;
}

inline Scratch lay_out(const ConvF32Plan& plan, std::byte* memory) {
  std::int64_t run = plan.k / plan.runs;
  Scratch s;
  s.acc = reinterpret_cast<float*>(memory);
  memory += align_64(plan.row_block * plan.acc_columns * 4);
  s.tiles = reinterpret_cast<RowTile*>(memory);
  memory += align_64(plan.tiles * kRowTileBytes);
  s.rows = reinterpret_cast<const float**>(memory);
  memory += align_64(plan.tiles * plan.runs * kRowsPerTile * 8);
  s.zeros = reinterpret_cast<float*>(memory);
  memory += align_64(run * 4);
  s.image_rows = reinterpret_cast<const float**>(memory);
  memory += align_64(plan.dims.kernel_h * 8);
  s.copies = reinterpret_cast<float*>(memory);
  zero_floats(s.zeros, run);
  return s;
}
static_assert(sizeof(RowTile) == kRowTileBytes);

// Runs of a block of K that a tile has products of.
struct RunPart {
  std::int64_t begin, count;
  bool is_first, is_last;  // of all the tile's runs
  bool is_none;            // the tile has no part in the block
};

// Of runs [begin, end). A tile all in the padding has its sums, zeros, from the first block.
inline RunPart part_of(const RowTile& tile, std::int64_t begin, std::int64_t end) {
  if (tile.run_begin >= tile.run_end) return {begin, 0, true, true, begin > 0};
  std::int64_t first = max_of(begin, tile.run_begin);
  std::int64_t last = min_of(end, tile.run_end);
  return {first, last - first, first == tile.run_begin, last == tile.run_end, last <= first};
}

struct Pixel {
  std::int64_t ox, oy, image;
};

Pixel pixel_of(const ConvDims& d, std::int64_t row) {
  return {row % d.out_w, row / d.out_w % d.out_h, row / d.out_w / d.out_h};
}

// The place `n` pixels on, in the same output row or at the start of the next.
inline void advance(const ConvDims& d, std::int64_t n, Pixel* p) {
  p->ox += n;
  if (p->ox < d.out_w) return;
  p->ox = 0;
  if (++p->oy < d.out_h) return;
  p->oy = 0;
  ++p->image;
}

// Where the image's rows start that the output pixels of one row read; null is padding.
void find_image_rows(const ConvDims& d, const float* x, const Pixel& p, const float** image_rows) {
  std::int64_t iy = p.oy * d.stride_h - d.pad_top;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
    bool inside = iy >= 0 && iy < d.in_h;
    image_rows[kh] = inside ? x + (p.image * d.in_h + iy) * d.in_w * d.in_c : nullptr;
  }
}

// One kernel row's values of one group's channels, from image column `ix` on.
void copy_run(const ConvDims& d, const float* image_row, std::int64_t ix, float* copy) {
  std::int64_t group_in = d.in_c / d.groups;
  for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w) {
    bool inside = ix >= 0 && ix < d.in_w;
    for (std::int64_t c = 0; c < group_in; ++c) *copy++ = inside ? image_row[ix * d.in_c + c] : 0.0f;
  }
}

// Neighbouring output pixels of one output row, at most a tile of them.
struct Neighbours {
  std::int64_t count;
  std::int64_t ix;  // first image column of the first one's kernel, which may be in the padding
};

inline void point_at(const float* first, std::int64_t pitch, std::int64_t count, const float** to) {
#pragma GCC unroll 1
  for (std::int64_t i = 0; i < count; ++i, first += pitch) to[i] = first;
}

// The runs of some pixels where a kernel row is one run: in the image where all the rows are, otherwise put together in
// `copies`, or the zeros.
inline void find_joined_runs(const ConvF32Plan& plan, const Scratch& s, const Neighbours& n, float* copies,
                             const float** to) {
  const ConvDims& d = plan.dims;
  bool is_inside = n.ix >= 0 && n.ix + (n.count - 1) * d.stride_w + d.kernel_w <= d.in_w;
  bool is_joined = d.groups == 1 && d.dilation_w == 1 && is_inside;
  std::int64_t run = plan.k / plan.runs;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, to += kRowsPerTile) {
    const float* image_row = s.image_rows[kh];
    if (image_row == nullptr || is_joined) {
      bool is_padding = image_row == nullptr;
      point_at(is_padding ? s.zeros : image_row + n.ix * d.in_c, is_padding ? 0 : d.stride_w * d.in_c, n.count, to);
      continue;
    }
    for (std::int64_t i = 0; i < n.count; ++i) {
      float* copy = copies + i * plan.k + kh * run;
      to[i] = copy;
      copy_run(d, image_row, n.ix + i * d.stride_w, copy);
    }
  }
}

// The taps of some pixels, in the image or the zeros.
inline void find_taps(const ConvDims& d, const Scratch& s, const Neighbours& n, const float** to) {
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh) {
    const float* image_row = s.image_rows[kh];
    for (std::int64_t kw = 0, first = n.ix; kw < d.kernel_w; ++kw, first += d.dilation_w, to += kRowsPerTile) {
      for (std::int64_t i = 0, column = first; i < n.count; ++i, column += d.stride_w) {
        bool inside = image_row != nullptr && column >= 0 && column < d.in_w;
        to[i] = inside ? image_row + column * d.in_c : s.zeros;
      }
    }
  }
}

// The kernel rows of an output pixel that are in the image.
struct KernelRows {
  std::int64_t begin, end;
};

inline KernelRows kernel_rows_of(const ConvDims& d, std::int64_t oy) {
  std::int64_t iy = oy * d.stride_h - d.pad_top;
  KernelRows rows = {0, d.kernel_h};
  while (rows.begin < d.kernel_h && iy + rows.begin * d.dilation_h < 0) ++rows.begin;
  while (rows.end > rows.begin && iy + (rows.end - 1) * d.dilation_h >= d.in_h) --rows.end;
  return rows;
}

// Rows from `begin` on, at most to `end`, whose kernel rows in the image are those of the first.
struct Stretch {
  std::int64_t rows;
  KernelRows kernel_rows;
};

inline Stretch stretch_of(const ConvDims& d, std::int64_t begin, std::int64_t end) {
  Pixel p = pixel_of(d, begin);
  Stretch stretch = {d.out_w - p.ox, kernel_rows_of(d, p.oy)};
  for (std::int64_t oy = p.oy + 1; oy < d.out_h && begin + stretch.rows < end; ++oy, stretch.rows += d.out_w) {
    KernelRows next = kernel_rows_of(d, oy);
    if (next.begin != stretch.kernel_rows.begin || next.end != stretch.kernel_rows.end) break;
  }
  stretch.rows = min_of(stretch.rows, end - begin);
  return stretch;
}

// Cuts rows [begin, end) into tiles; returns how many.
inline std::int64_t cut_rows(const ConvF32Plan& plan, std::int64_t begin, std::int64_t end, RowTile* to) {
  std::int64_t runs_per_row = plan.runs / plan.dims.kernel_h;
  std::int64_t count = 0;
  for (std::int64_t row = begin; row < end;) {
    Stretch stretch = plan.x_is_matrix ? Stretch{end - begin, {0, 1}} : stretch_of(plan.dims, row, end);
    RowTiles tiles(stretch.rows);
    for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
      to[count++] = {row - begin + tiles.begin(tile), tiles.rows(tile), stretch.kernel_rows.begin * runs_per_row,
                     stretch.kernel_rows.end * runs_per_row};
    }
    row += stretch.rows;
  }
  return count;
}

inline void find_matrix_rows(const ConvDims& d, const float* x, std::int64_t tiles, const Scratch& s) {
  const float** to = s.rows;
  for (std::int64_t tile = 0; tile < tiles; ++tile, to += kRowsPerTile) {
    for (std::int64_t r = 0; r < s.tiles[tile].rows; ++r, x += d.in_c) to[r] = x;
  }
}

// Cuts rows [begin, end) into tiles, and fills their pointer table and the copies it points to. Returns how many.
inline std::int64_t find_rows(const ConvF32Plan& plan, const float* x, std::int64_t begin, std::int64_t end,
                              const Scratch& s) {
  const ConvDims& d = plan.dims;
  std::int64_t tiles = cut_rows(plan, begin, end, s.tiles);
  if (plan.x_is_matrix) {
    find_matrix_rows(d, x + begin * d.in_c, tiles, s);
    return tiles;
  }
  Pixel p = pixel_of(d, begin);
  find_image_rows(d, x, p, s.image_rows);
  float* copies = s.copies;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const float** to = s.rows + tile * plan.runs * kRowsPerTile;
    Neighbours n;
    for (std::int64_t left = s.tiles[tile].rows; left > 0; left -= n.count, to += n.count) {
      n = {min_of(left, d.out_w - p.ox), p.ox * d.stride_w - d.pad_left};
      if (plan.joins_taps) {
        find_joined_runs(plan, s, n, copies, to);
        copies += n.count * plan.k;
      } else {
        find_taps(d, s, n, to);
      }
      advance(d, n.count, &p);
      if (p.ox == 0 && p.image < d.batch) find_image_rows(d, x, p, s.image_rows);
    }
  }
  return tiles;
}

}  // namespace
}  // namespace aoq::cpu
