// The transforms and products of conv_winograd.h.
#include "backends/cpu/kernels/conv_winograd.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kPlaces = 16;
constexpr int kTileRows = 6;

// Where the 16 pixels of a patch lie; the padding outside the image.
struct Patch {
  const std::uint8_t* pixels[4][4];
};

struct TilePlace {
  std::int64_t image, oy, ox;
};

TilePlace place_of(const ConvWinogradPlan& plan, std::int64_t tile) {
  const std::int64_t rows = tile / plan.tiles_w;
  return {rows / plan.tiles_h, rows % plan.tiles_h * 2, tile % plan.tiles_w * 2};
}

Patch find_patch(const ConvWinogradPlan& plan, const std::uint8_t* x, const std::uint8_t* padding, std::int64_t tile) {
  const ConvDims& d = plan.dims;
  const TilePlace at = place_of(plan, tile);
  Patch patch;
  for (std::int64_t i = 0; i < 4; ++i) {
    const std::int64_t iy = at.oy - d.pad_top + i;
    const bool row_inside = iy >= 0 && iy < d.in_h;
    for (std::int64_t j = 0; j < 4; ++j) {
      const std::int64_t ix = at.ox - d.pad_left + j;
      const bool inside = row_inside && ix >= 0 && ix < d.in_w;
      patch.pixels[i][j] = inside ? x + ((at.image * d.in_h + iy) * d.in_w + ix) * d.in_c : padding;
    }
  }
  return patch;
}

inline void store_s16(std::int16_t* to, __m256i v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v);
}

// A row of B^T x times B, at four places.
inline void store_places(std::int16_t* to, std::int64_t stride, const __m256i (&b)[4], __m256i correction) {
  store_s16(to, _mm256_sub_epi16(b[0], b[2]));
  store_s16(to + stride, _mm256_sub_epi16(_mm256_add_epi16(b[1], b[2]), correction));
  store_s16(to + 2 * stride, _mm256_sub_epi16(b[2], b[1]));
  store_s16(to + 3 * stride, _mm256_sub_epi16(b[1], b[3]));
}

// The zero point cancels at all places but the one where four pixels are added.
template <bool kSigned>
void transform_patch(const Patch& patch, std::int64_t channels, std::int32_t zero_point, std::int16_t* out,
                     std::int64_t stride) {
  const __m256i none = _mm256_setzero_si256(), four = _mm256_set1_epi16(static_cast<short>(4 * zero_point));
  for (std::int64_t c = 0; c < channels; c += 16, out += 16) {
    auto pixel = [&](int i, int j) { return widen_to_s16<kSigned>(load_bytes(patch.pixels[i][j] + c)); };
    __m256i second[4], third[4], b[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      second[j] = pixel(1, j);
      third[j] = pixel(2, j);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) b[j] = _mm256_add_epi16(second[j], third[j]);
    store_places(out + 4 * stride, stride, b, four);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) b[j] = _mm256_sub_epi16(third[j], second[j]);
    store_places(out + 8 * stride, stride, b, none);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) b[j] = _mm256_sub_epi16(pixel(0, j), third[j]);
    store_places(out, stride, b, none);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) b[j] = _mm256_sub_epi16(second[j], pixel(3, j));
    store_places(out + 12 * stride, stride, b, none);
  }
}

// One place: R rows of `pairs` channel pairs times a panel of 16 columns, to [R][16] sums.
template <int R>
void multiply_rows(const std::int16_t* a, const std::int16_t* weights, std::int64_t pairs, std::int32_t* out) {
  __m256i sum[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  const std::int64_t pitch = 2 * pairs;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const auto* from = reinterpret_cast<const __m256i*>(weights + 32 * pair);
    const __m256i low = _mm256_load_si256(from), high = _mm256_load_si256(from + 1);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256i x = _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(a + r * pitch + 2 * pair));
      add_s32_in_place(sum[r][0], _mm256_madd_epi16(x, low));
      add_s32_in_place(sum[r][1], _mm256_madd_epi16(x, high));
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + 16 * r), sum[r][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + 16 * r + 8), sum[r][1]);
  }
}

// All rows, in pieces of nearly the same height.
void multiply_place(const std::int16_t* a, const std::int16_t* weights, std::int64_t rows, std::int64_t pairs,
                    std::int32_t* out) {
  constexpr void (*kRows[])(const std::int16_t*, const std::int16_t*, std::int64_t, std::int32_t*) = {
      multiply_rows<1>, multiply_rows<2>, multiply_rows<3>, multiply_rows<4>, multiply_rows<5>, multiply_rows<6>};
  for (std::int64_t pieces = (rows + kTileRows - 1) / kTileRows; pieces > 0; --pieces) {
    const std::int64_t count = (rows + pieces - 1) / pieces;
    kRows[count - 1](a, weights, pairs, out);
    a += count * 2 * pairs;
    out += count * 16;
    rows -= count;
  }
}

// A^T M A / 4 of eight columns: the output tile's pixels (0, 0), (0, 1), (1, 0), (1, 1).
inline void transform_back(const std::int32_t* m, std::int64_t stride, __m256i (&y)[4]) {
  __m256i upper[4], lower[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    auto place = [&](int i) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(m + (4 * i + j) * stride)); };
    const __m256i m1 = place(1), m2 = place(2);
    upper[j] = _mm256_add_epi32(place(0), _mm256_add_epi32(m1, m2));
    lower[j] = _mm256_sub_epi32(_mm256_sub_epi32(m1, m2), place(3));
  }
  y[0] = _mm256_add_epi32(upper[0], _mm256_add_epi32(upper[1], upper[2]));
  y[1] = _mm256_sub_epi32(_mm256_sub_epi32(upper[1], upper[2]), upper[3]);
  y[2] = _mm256_add_epi32(lower[0], _mm256_add_epi32(lower[1], lower[2]));
  y[3] = _mm256_sub_epi32(_mm256_sub_epi32(lower[1], lower[2]), lower[3]);
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p) y[p] = _mm256_srai_epi32(y[p], 2);
}

// Two pixels of 16 whole channels to codes.
using ToCodes = __m256i (*)(const PlainEpilogue&, const __m256i (&)[2], const __m256i (&)[2], const std::uint8_t*,
                            const std::uint8_t*);

template <bool kSigned>
ToCodes to_codes_of(Addend addend) {
  if (addend == Addend::none) return plain_rows<kSigned, Addend::none>;
  return addend == Addend::u8 ? plain_rows<kSigned, Addend::u8> : plain_rows<kSigned, Addend::i8>;
}

// A panel's sums [place][tile][16] to output pixels.
void finish_panel(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t panel, std::int64_t tile_begin,
                  std::int64_t tile_end, const std::int32_t* sums) {
  const ConvDims& d = plan.dims;
  const std::int64_t stride = (tile_end - tile_begin) * 16;
  const PlainEpilogue plain = plain_epilogue(plan.epilogue, args.epilogue, panel * 16);
  TileTarget target = {
      .rows = 0, .columns = min_of(d.out_c - panel * 16, 16), .index = 0, .pitch = d.out_c, .channel = panel * 16};
  const bool is_plain =
      target.columns == 16 && has_plain_epilogue(plan.epilogue, args.epilogue, 9 * d.in_c, panel * 16, target.columns);
  const Addend addend = addend_of(plan.epilogue);
  const ToCodes to_codes = plan.epilogue.out_type == DType::i8 ? to_codes_of<true>(addend) : to_codes_of<false>(addend);
  const auto* residual = static_cast<const std::uint8_t*>(args.epilogue.residual);
  auto* out = static_cast<std::uint8_t*>(args.epilogue.out);
  for (std::int64_t tile = tile_begin; tile < tile_end; ++tile, sums += 16) {
    __m256i low[4], high[4];
    transform_back(sums, stride, low);
    transform_back(sums + 8, stride, high);
    const TilePlace at = place_of(plan, tile);
    target.rows = min_of(d.out_w - at.ox, 2);
    for (std::int64_t row = 0; row < min_of(d.out_h - at.oy, 2); ++row) {
      const __m256i* l = low + 2 * row;
      const __m256i* h = high + 2 * row;
      target.index = ((at.image * d.out_h + at.oy + row) * d.out_w + at.ox) * d.out_c + panel * 16;
      if (is_plain) {
        const __m256i first[2] = {l[0], h[0]}, second[2] = {l[1], h[1]};
        const std::uint8_t* from = addend == Addend::none ? nullptr : residual + target.index;
        const std::uint8_t* next = addend == Addend::none || target.rows == 1 ? from : from + d.out_c;
        const __m256i bytes = to_codes(plain, first, second, from, next);
        store_bytes(out + target.index, _mm256_castsi256_si128(bytes));
        if (target.rows == 2) store_bytes(out + target.index + d.out_c, _mm256_extracti128_si256(bytes, 1));
      } else {
        alignas(32) std::int32_t acc[32];
        auto* to = reinterpret_cast<__m256i*>(acc);
        _mm256_store_si256(to, l[0]);
        _mm256_store_si256(to + 1, h[0]);
        _mm256_store_si256(to + 2, l[1]);
        _mm256_store_si256(to + 3, h[1]);
        store_tile(plan.epilogue, args.epilogue, target, acc);
      }
    }
  }
}

}  // namespace

void run_conv_winograd_avx2(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                            std::int64_t unit_end, std::byte* scratch) {
  const std::int64_t channels = plan.dims.in_c;
  auto* patches = reinterpret_cast<std::int16_t*>(scratch);
  auto* sums = reinterpret_cast<std::int32_t*>(patches + kPlaces * plan.tile_block * channels);
  auto* padding = reinterpret_cast<std::uint8_t*>(sums + kPlaces * plan.tile_block * 16);
  __builtin_memset(padding, static_cast<std::uint8_t>(args.x_zero_point), static_cast<std::size_t>(channels));
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  const auto* weights = reinterpret_cast<const std::int16_t*>(args.weights);
  const auto transform = plan.x_type == DType::i8 ? transform_patch<true> : transform_patch<false>;
  std::int64_t held = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const std::int64_t block = unit / plan.panel_blocks, first = unit % plan.panel_blocks * plan.panel_block;
    const std::int64_t begin = block * plan.tile_block, end = min_of(begin + plan.tile_block, plan.tiles);
    const std::int64_t stride = (end - begin) * channels;
    for (std::int64_t tile = begin; held != block && tile < end; ++tile) {
      transform(find_patch(plan, x, padding, tile), channels, args.x_zero_point, patches + (tile - begin) * channels,
                stride);
    }
    held = block;
    for (std::int64_t panel = first; panel < min_of(first + plan.panel_block, plan.panels); ++panel) {
      for (std::int64_t place = 0; place < kPlaces; ++place) {
        multiply_place(patches + place * stride, weights + (panel * kPlaces + place) * channels * 16, end - begin,
                       channels / 2, sums + place * (end - begin) * 16);
      }
      finish_panel(plan, args, panel, begin, end, sums);
    }
  }
}

}  // namespace aoq::cpu
