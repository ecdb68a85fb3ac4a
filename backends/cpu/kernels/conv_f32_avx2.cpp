// AVX2 f32 convolution: for a block of output pixels, panel by panel, block of K by block of K.
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/tile_f32_avx2.h"

namespace aoq::cpu {
namespace {

struct Scratch {
  float* acc;                // [row_block][16]
  const float** rows;        // [tile][run][6]
  float* zeros;              // one run of padding
  const float** image_rows;  // [kernel_h], only with joins_taps
  float* copies;             // [row_block][k], only with joins_taps
};

std::int64_t align_64(std::int64_t n) {
  return (n + 63) / 64 * 64;
}

Scratch lay_out(const ConvF32Plan& plan, std::byte* memory) {
  std::int64_t tiles = (plan.row_block + kTileRows - 1) / kTileRows;
  std::int64_t run = plan.k / plan.runs;
  Scratch s;
  s.acc = reinterpret_cast<float*>(memory);
  memory += tiles * kTileRows * 16 * 4;
  s.rows = reinterpret_cast<const float**>(memory);
  memory += align_64(tiles * plan.runs * kTileRows * 8);
  s.zeros = reinterpret_cast<float*>(memory);
  memory += align_64(run * 4);
  s.image_rows = reinterpret_cast<const float**>(memory);
  if (plan.joins_taps) memory += align_64(plan.dims.kernel_h * 8);
  s.copies = reinterpret_cast<float*>(memory);
  zero_floats(s.zeros, run);
  return s;
}

struct Pixel {
  std::int64_t ox, oy, image;
};

Pixel pixel_of(const ConvDims& d, std::int64_t row) {
  return {row % d.out_w, row / d.out_w % d.out_h, row / d.out_w / d.out_h};
}

void next_pixel(const ConvDims& d, Pixel* p) {
  if (++p->ox < d.out_w) return;
  p->ox = 0;
  if (++p->oy < d.out_h) return;
  p->oy = 0;
  ++p->image;
}

// The taps of an output pixel, in the image or the zeros.
void find_taps(const ConvDims& d, const float* x, const Pixel& p, const float* zeros, const float** to) {
  std::int64_t iy = p.oy * d.stride_h - d.pad_top;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
    bool row_inside = iy >= 0 && iy < d.in_h;
    std::int64_t ix = p.ox * d.stride_w - d.pad_left;
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w, to += kTileRows) {
      bool inside = row_inside && ix >= 0 && ix < d.in_w;
      *to = inside ? x + ((p.image * d.in_h + iy) * d.in_w + ix) * d.in_c : zeros;
    }
  }
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

// The runs of a pixel where a kernel row is one run: in the image where the whole row is, otherwise put together in
// `copy`, or the zeros.
void find_joined_runs(const ConvF32Plan& plan, const Scratch& s, std::int64_t ix, float* copy, const float** to) {
  const ConvDims& d = plan.dims;
  bool is_joined = d.groups == 1 && d.dilation_w == 1 && ix >= 0 && ix + d.kernel_w <= d.in_w;
  std::int64_t run = plan.k / plan.runs;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, to += kTileRows) {
    const float* image_row = s.image_rows[kh];
    if (image_row == nullptr) {
      *to = s.zeros;
    } else if (is_joined) {
      *to = image_row + ix * d.in_c;
    } else {
      *to = copy + kh * run;
      copy_run(d, image_row, ix, copy + kh * run);
    }
  }
}

// Fills the pointer table of rows [begin, end), and the copies it points to.
void find_rows(const ConvF32Plan& plan, const float* x, std::int64_t begin, std::int64_t end, const Scratch& s) {
  const ConvDims& d = plan.dims;
  Pixel p = pixel_of(d, begin);
  for (std::int64_t row = begin; row < end; ++row, next_pixel(d, &p)) {
    std::int64_t local = row - begin;
    const float** to = s.rows + local / kTileRows * plan.runs * kTileRows + local % kTileRows;
    if (plan.x_is_matrix) {
      *to = x + row * d.in_c;
    } else if (plan.joins_taps) {
      if (row == begin || p.ox == 0) find_image_rows(d, x, p, s.image_rows);
      find_joined_runs(plan, s, p.ox * d.stride_w - d.pad_left, s.copies + local * plan.k, to);
    } else {
      find_taps(d, x, p, s.zeros, to);
    }
  }
}

struct Block {
  std::int64_t table_begin;  // row of the pointer table's first entry
  std::int64_t row_begin, row_end;
  std::int64_t group;
  std::int64_t panel;
};

// All of K for one panel of one row block.
void multiply_panel(const ConvF32Plan& plan, const ConvF32Args& args, const Block& block, const Scratch& s) {
  std::int64_t run = plan.k / plan.runs;
  std::int64_t runs_per_block = max_of(kBlockK / max_of(run, 1), 1);
  std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  std::int64_t columns = min_of(group_out - block.panel * 16, 16);
  std::int64_t channel = block.group * group_out + block.panel * 16;
  std::int64_t at = block.row_begin * plan.dims.out_c + channel;
  TargetF32 target = {
      .rows = block.row_end - block.row_begin,
      .columns = columns,
      .pitch = plan.dims.out_c,
      .bias = plan.epilogue.has_bias ? args.bias + (block.group * plan.panels + block.panel) * 16 : nullptr,
      .residual = plan.epilogue.has_residual ? args.residual + at : nullptr,
      .out = args.out + at};
  bool is_direct = is_clamped(plan.epilogue, columns);
  const float* weights =
      reinterpret_cast<const float*>(args.weights) + (block.group * plan.panels + block.panel) * plan.k * 16;
  for (std::int64_t first = 0; first < plan.runs; first += runs_per_block) {
    std::int64_t offset = 0;
    do {  // once even for an empty run: its sums are zeros
      TileRows x;
      x.taps = min_of(plan.runs - first, runs_per_block);
      x.offset = offset;
      x.length = min_of(run - offset, kBlockK);
      x.is_first = first == 0 && offset == 0;
      bool is_last = first + x.taps == plan.runs && offset + x.length == run;
      for (std::int64_t row = 0; row < target.rows; row += kTileRows) {
        std::int64_t tile = (block.row_begin + row - block.table_begin) / kTileRows;
        x.rows = s.rows + (tile * plan.runs + first) * kTileRows;
        ClampedTarget clamped = clamped_target(plan.epilogue, target, row);
        MultiplyTileF32 multiply = tile_f32_of(min_of(target.rows - row, kTileRows), columns);
        multiply(x, weights + (first * run + offset) * 16, s.acc + row * 16, is_direct && is_last ? &clamped : nullptr);
      }
      offset += kBlockK;
    } while (offset < run);
  }
  if (!is_direct) store_tile_f32(plan.epilogue, target, s.acc);
}

// Rows that one panel handles before the next panel has its turn. Many, so that a panel's weights are near; but few
// when all weights are near anyway: then the output is written almost in order.
std::int64_t rows_per_turn(const ConvF32Plan& plan) {
  constexpr std::int64_t kNearBytes = 64 * 1024;
  return plan.panels * plan.k * 64 <= kNearBytes ? 2 * kTileRows : plan.row_block;
}

}  // namespace

void run_conv_f32_avx2(const ConvF32Plan& plan, const ConvF32Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                       std::byte* scratch) {
  const ConvDims& d = plan.dims;
  Scratch s = lay_out(plan, scratch);
  std::int64_t turn = rows_per_turn(plan);
  std::int64_t found = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    std::int64_t panel_begin = unit % plan.panel_blocks * plan.panel_block;
    std::int64_t panel_end = min_of(panel_begin + plan.panel_block, plan.panels);
    std::int64_t row_unit = unit / plan.panel_blocks;
    Block block;
    block.group = row_unit % d.groups;
    block.row_begin = row_unit / d.groups * plan.row_block;
    block.row_end = min_of(block.row_begin + plan.row_block, plan.rows);
    block.table_begin = block.row_begin;
    if (found != row_unit) {
      find_rows(plan, args.x + block.group * (d.in_c / d.groups), block.row_begin, block.row_end, s);
      found = row_unit;
    }
    std::int64_t row_end = block.row_end;
    for (; block.row_begin < row_end; block.row_begin = block.row_end) {
      block.row_end = min_of(block.row_begin + turn, row_end);
      for (block.panel = panel_begin; block.panel < panel_end; ++block.panel) multiply_panel(plan, args, block, s);
    }
  }
}

}  // namespace aoq::cpu
