// AVX2 f32 convolution: for a block of output pixels, panel by panel, block of K by block of K.
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/tile_f32_avx2.h"

namespace aoq::cpu {
namespace {

struct Scratch {
  float* acc;          // [row_block][16]
  const float** rows;  // [tile][tap][6]
  float* zeros;        // one pixel of padding
  float* copies;       // [row_block][k], only with copies_rows
};

std::int64_t taps_of(const ConvF32Plan& plan) {
  return plan.x_is_matrix || plan.copies_rows ? 1 : plan.dims.kernel_h * plan.dims.kernel_w;
}

std::int64_t align_64(std::int64_t n) {
  return (n + 63) / 64 * 64;
}

Scratch lay_out(const ConvF32Plan& plan, std::byte* memory) {
  std::int64_t tiles = (plan.row_block + kTileRows - 1) / kTileRows;
  std::int64_t group_in = plan.dims.in_c / plan.dims.groups;
  Scratch s;
  s.acc = reinterpret_cast<float*>(memory);
  memory += tiles * kTileRows * 16 * 4;
  s.rows = reinterpret_cast<const float**>(memory);
  memory += align_64(tiles * taps_of(plan) * kTileRows * 8);
  s.zeros = reinterpret_cast<float*>(memory);
  memory += align_64(group_in * 4);
  s.copies = reinterpret_cast<float*>(memory);
  zero_floats(s.zeros, group_in);
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

// Calls visit(tap, pointer or null) for every tap of an output pixel; null is padding.
template <typename Visit>
void for_each_tap(const ConvDims& d, const float* x, const Pixel& p, Visit visit) {
  std::int64_t iy = p.oy * d.stride_h - d.pad_top;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
    bool row_inside = iy >= 0 && iy < d.in_h;
    std::int64_t ix = p.ox * d.stride_w - d.pad_left;
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w) {
      bool inside = row_inside && ix >= 0 && ix < d.in_w;
      visit(kh * d.kernel_w + kw, inside ? x + ((p.image * d.in_h + iy) * d.in_w + ix) * d.in_c : nullptr);
    }
  }
}

// One im2col row. Kernel rows inside the image are one run where taps are neighbours; runs are written as whole
// vectors, and what is too much the next run or row overwrites.
void copy_row(const ConvDims& d, const float* x, const Pixel& p, float* out) {
  std::int64_t group_in = d.in_c / d.groups;
  std::int64_t iy = p.oy * d.stride_h - d.pad_top;
  std::int64_t ix = p.ox * d.stride_w - d.pad_left;
  bool inside = iy >= 0 && iy + (d.kernel_h - 1) * d.dilation_h < d.in_h && ix >= 0 && ix + d.kernel_w <= d.in_w;
  if (!inside || d.dilation_w != 1 || d.groups != 1) {
    for_each_tap(d, x, p, [&](std::int64_t, const float* from) {
      for (std::int64_t c = 0; c < group_in; ++c) *out++ = from == nullptr ? 0.0f : from[c];
    });
    return;
  }
  std::int64_t run = d.kernel_w * d.in_c;
  const float* from = x + ((p.image * d.in_h + iy) * d.in_w + ix) * d.in_c;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, from += d.dilation_h * d.in_w * d.in_c, out += run) {
    std::int64_t i = 0;
    for (; i + 8 <= run; i += 8) store(out + i, load(from + i));
    if (i < run) store(out + i, load_first(from + i, run - i));
  }
}

// Fills the pointer table of rows [begin, end), and the copies it points to if the plan copies.
void find_rows(const ConvF32Plan& plan, const float* x, std::int64_t begin, std::int64_t end, const Scratch& s) {
  const ConvDims& d = plan.dims;
  std::int64_t taps = taps_of(plan);
  Pixel p = pixel_of(d, begin);
  for (std::int64_t row = begin; row < end; ++row, next_pixel(d, &p)) {
    std::int64_t local = row - begin;
    const float** to = s.rows + local / kTileRows * taps * kTileRows + local % kTileRows;
    if (plan.x_is_matrix) {
      *to = x + row * d.in_c;
    } else if (plan.copies_rows) {
      *to = s.copies + local * plan.k;
      copy_row(d, x, p, s.copies + local * plan.k);
    } else {
      for_each_tap(d, x, p, [&](std::int64_t tap, const float* from) {
        to[tap * kTileRows] = from == nullptr ? s.zeros : from;
      });
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
  std::int64_t taps = taps_of(plan);
  std::int64_t run = plan.k / taps;
  std::int64_t taps_per_block = max_of(kBlockK / max_of(run, 1), 1);
  std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  std::int64_t columns = min_of(group_out - block.panel * 16, 16);
  const float* weights =
      reinterpret_cast<const float*>(args.weights) + (block.group * plan.panels + block.panel) * plan.k * 16;
  for (std::int64_t tap = 0; tap < taps; tap += taps_per_block) {
    for (std::int64_t offset = 0; offset < run; offset += kBlockK) {
      TileRows x;
      x.taps = min_of(taps - tap, taps_per_block);
      x.offset = offset;
      x.length = min_of(run - offset, kBlockK);
      x.is_first = tap == 0 && offset == 0;
      for (std::int64_t row = block.row_begin; row < block.row_end; row += kTileRows) {
        std::int64_t local = row - block.row_begin;
        x.rows = s.rows + ((row - block.table_begin) / kTileRows * taps + tap) * kTileRows;
        MultiplyTileF32 multiply = tile_f32_of(min_of(block.row_end - row, kTileRows), columns);
        multiply(x, weights + (tap * run + offset) * 16, s.acc + local * 16);
      }
    }
  }
  std::int64_t channel = block.group * group_out + block.panel * 16;
  std::int64_t at = block.row_begin * plan.dims.out_c + channel;
  TargetF32 target = {
      .rows = block.row_end - block.row_begin,
      .columns = columns,
      .pitch = plan.dims.out_c,
      .bias = plan.epilogue.has_bias ? args.bias + (block.group * plan.panels + block.panel) * 16 : nullptr,
      .residual = plan.epilogue.has_residual ? args.residual + at : nullptr,
      .out = args.out + at};
  store_tile_f32(plan.epilogue, target, s.acc);
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
