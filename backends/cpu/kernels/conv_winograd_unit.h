// The units of conv_winograd.h, for translation units of vectors of either width.
//
// A kernel gives a Form with
//   transform(block, patch, tile)         V of one tile of the block, all channels
//   transform_weights(block, panel)       U of a packed panel
//   multiply(block, panel, tile, tiles)   M of these tiles of the block and this panel, all parts
//   finish(block, panel, tile, tiles)     M to output elements
#pragma once

#include "backends/cpu/kernels/bytes_avx2.h"
#include "backends/cpu/kernels/conv_winograd.h"

#define AOQ_INLINE inline __attribute__((always_inline))

namespace aoq::cpu {
namespace {

constexpr int kOutputs = 4;  // of a tile, in each direction
constexpr int kPoints = 6;   // of a patch, in each direction
constexpr int kPlaces = kPoints * kPoints;
constexpr int kCenter = 7;  // place (1, 1), where V has 36 o: elsewhere o cancels

// c_i = 3 * 2^kShift[i].
constexpr int kShift[kOutputs] = {3, 2, 1, 1};
constexpr std::uint32_t kInverseOf9 = 0x38e38e39;
static_assert(9 * kInverseOf9 == 1);

// G of three vectors of unsigned lanes, which wrap. `six`: in each lane, and no constant, as three shifts and additions
// would take longer than a product.
template <typename Vector>
AOQ_INLINE void transform_taps(const Vector (&w)[3], Vector six, Vector (&u)[kPoints]) {
  const Vector outer = w[0] + w[2], far_outer = w[0] + (w[2] << 2), twice = w[1] + w[1];
  u[0] = w[0] * six;
  u[1] = outer + w[1];
  u[2] = outer - w[1];
  u[3] = far_outer + twice;
  u[4] = far_outer - twice;
  u[5] = w[2] * six;
}

// B^T of six vectors of unsigned lanes, which wrap.
template <typename Vector>
AOQ_INLINE void transform_pixels(const Vector (&x)[kPoints], Vector (&v)[kPoints]) {
  const Vector even = (x[2] << 2) - x[4], odd = (x[1] << 2) - x[3];
  const Vector outer = x[4] - x[2], inner = x[3] - x[1], twice = inner + inner;
  v[0] = ((x[0] - x[2]) << 2) + outer;
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = outer + twice;
  v[4] = outer - twice;
  v[5] = (x[5] - x[3]) - (twice + twice);
}

// A of six vectors of unsigned lanes, which wrap.
template <typename Vector>
AOQ_INLINE void transform_sums(const Vector (&m)[kPoints], Vector (&y)[kOutputs]) {
  const Vector even = m[1] + m[2], odd = m[1] - m[2];
  const Vector far_even = m[3] + m[4], far_odd = m[3] - m[4];
  y[0] = (m[0] + far_even) + (even << 2);
  y[1] = (odd + odd) + far_odd;
  y[2] = even + far_even;
  y[3] = (odd + m[5]) + (far_odd + far_odd);
}

// V of one vector of codes: `load` gives it at pixel (i, j), `store` takes V at place (i, j).
template <typename Vector, typename Load, typename Store>
AOQ_INLINE void transform_patch_both_ways(bool is_signed, Load load, Store store) {
  const auto correction = static_cast<std::uint16_t>(is_signed ? 0 : 36 * 128);
  Vector rows[kPoints][kPoints];
#pragma GCC unroll 6
  for (int j = 0; j < kPoints; ++j) {
    Vector x[kPoints], v[kPoints];
#pragma GCC unroll 6
    for (int i = 0; i < kPoints; ++i) x[i] = load(i, j);
    transform_pixels(x, v);
#pragma GCC unroll 6
    for (int i = 0; i < kPoints; ++i) rows[i][j] = v[i];
  }
#pragma GCC unroll 1
  for (int i = 0; i < kPoints; ++i) {
    Vector v[kPoints];
    transform_pixels(rows[i], v);
    if (i == kCenter / kPoints) v[kCenter % kPoints] -= correction;
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) store(i, j, v[j]);
  }
}

// U of one vector of weights: `load` gives it at tap (i, j), `store` takes U at place (i, j).
template <typename Vector, typename Load, typename Store>
AOQ_INLINE void transform_taps_both_ways(Vector six, Load load, Store store) {
  Vector rows[kPoints][3];
#pragma GCC unroll 3
  for (int j = 0; j < 3; ++j) {
    Vector w[3], u[kPoints];
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) w[i] = load(i, j);
    transform_taps(w, six, u);
#pragma GCC unroll 6
    for (int i = 0; i < kPoints; ++i) rows[i][j] = u[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < kPoints; ++i) {
    Vector u[kPoints];
    transform_taps(rows[i], six, u);
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) store(i, j, u[j]);
  }
}

// Where the 36 pixels of a patch lie; the padding outside the image.
struct Patch {
  const std::uint8_t* pixels[kPoints][kPoints];
};

// Where transformed values go: the first, and the elements from one place, or row of places, to the next.
struct PlacesAt {
  std::int16_t* out;
  std::int64_t pitch;
};

// The tiles at work, and where their intermediate values are, each kernel's in an order of its own.
struct WinogradBlock {
  const ConvWinogradPlan& plan;
  const ConvS8Args& args;
  std::int64_t tile_begin, tiles;
  std::int16_t* patches;  // V
  std::int16_t* weights;  // U
  std::int32_t* sums;     // M
};

// Words of four codes of the input channels.
inline std::int64_t words_of(const ConvWinogradPlan& plan) {
  return plan.dims.in_c / 4;
}

// A packed panel: the sums of its weights, then [9][words][16][4] bytes.
inline const std::byte* panel_at(const WinogradBlock& block, std::int64_t panel) {
  return block.args.weights + panel * block.plan.panel_bytes;
}

// o - z of conv_winograd.h.
inline std::int32_t offset_of(const WinogradBlock& block) {
  return (block.plan.x_type == DType::i8 ? 0 : 128) - block.args.x_zero_point;
}

struct TilePlace {
  std::int64_t image, oy, ox;
};

inline TilePlace place_of(const ConvWinogradPlan& plan, std::int64_t tile) {
  const std::int64_t rows = tile / plan.tiles_w;
  return {rows / plan.tiles_h, rows % plan.tiles_h * kOutputs, tile % plan.tiles_w * kOutputs};
}

// What of a tile lies inside the image.
struct TileOutput {
  std::int64_t index;  // of its first pixel's first channel
  std::int64_t row_pitch;
  std::int64_t rows, columns;
};

inline TileOutput output_of(const ConvWinogradPlan& plan, std::int64_t tile) {
  const ConvDims& d = plan.dims;
  const TilePlace at = place_of(plan, tile);
  return {((at.image * d.out_h + at.oy) * d.out_w + at.ox) * d.out_c, d.out_w * d.out_c, min_of(d.out_h - at.oy, 4),
          min_of(d.out_w - at.ox, 4)};
}

inline Patch find_patch(const ConvWinogradPlan& plan, const std::uint8_t* x, const std::uint8_t* padding,
                        std::int64_t tile) {
  const ConvDims& d = plan.dims;
  Patch patch;
  const TilePlace at = place_of(plan, tile);
  const std::int64_t left = at.ox - d.pad_left;
  const bool is_inside = left >= 0 && left + kPoints <= d.in_w;
  for (std::int64_t i = 0; i < kPoints; ++i) {
    const std::int64_t iy = at.oy - d.pad_top + i;
    const bool has_row = iy >= 0 && iy < d.in_h;
    const std::uint8_t* row = x + ((at.image * d.in_h + iy) * d.in_w + left) * d.in_c;
    for (std::int64_t j = 0; j < kPoints; ++j) {
      const bool has_pixel = has_row && (is_inside || (left + j >= 0 && left + j < d.in_w));
      patch.pixels[i][j] = has_pixel ? row + j * d.in_c : padding;
    }
  }
  return patch;
}

template <typename Form>
void run_winograd(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                  std::byte* scratch) {
  auto* patches = reinterpret_cast<std::int16_t*>(scratch);
  std::int16_t* weights = patches + plan.patch_elements;
  auto* sums = reinterpret_cast<std::int32_t*>(weights + plan.weight_elements);
  auto* padding = reinterpret_cast<std::uint8_t*>(sums + plan.sum_elements);
  __builtin_memset(padding, static_cast<std::uint8_t>(args.x_zero_point), static_cast<std::size_t>(plan.dims.in_c));
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  std::int64_t held = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const std::int64_t number = unit / plan.panel_blocks, first = unit % plan.panel_blocks * plan.panel_block;
    const std::int64_t begin = number * plan.tile_block, tiles = min_of(plan.tile_block, plan.tiles - begin);
    const WinogradBlock block = {plan, args, begin, tiles, patches, weights, sums};
    for (std::int64_t tile = 0; held != number && tile < tiles; ++tile) {
      Form::transform(block, find_patch(plan, x, padding, begin + tile), tile);
    }
    held = number;
    for (std::int64_t panel = first; panel < min_of(first + plan.panel_block, plan.panels); ++panel) {
      Form::transform_weights(block, panel);
      for (std::int64_t tile = 0; tile < tiles; tile += plan.sum_tiles) {
        const std::int64_t count = min_of(plan.sum_tiles, tiles - tile);
        Form::multiply(block, panel, tile, count);
        Form::finish(block, panel, tile, count);
      }
    }
  }
}

}  // namespace
}  // namespace aoq::cpu
