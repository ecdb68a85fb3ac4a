// The transforms and products of conv_winograd.h with 512 bits: 4 tiles x 16 channels of six places at a time, whose
// sums are transformed back in one direction while they are in registers.
//
// V is [row of places][4 tiles][32 channels][place][tile][channel], U [row of places][pair of channels][place][16][2]
// and M [part][tile][row of places][4][16]. Every 64 channels come as 16 pairs of those with even numbers and 16 of the
// others.
#include "backends/cpu/kernels/conv_winograd.h"
#include "backends/cpu/kernels/conv_winograd_unit.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/tile_end_avx512.h"

namespace aoq::cpu {
namespace {

constexpr int kTogether = 4;  // tiles
constexpr std::int64_t kStripElements = kPoints * kTogether * 32;
constexpr std::int64_t kTileElements = kPoints * kOutputs * 16;

typedef std::uint16_t Vector16 __attribute__((vector_size(64)));
typedef std::uint32_t Vector32 __attribute__((vector_size(64)));

// Words of four codes whose pairs stand together.
constexpr std::int64_t kWords = 16;

std::int64_t strips_of(const ConvWinogradPlan& plan) {
  return (plan.dims.in_c + 63) / 64 * 2;
}
// Of V and U, a row of places.
std::int64_t patch_row_elements(const ConvWinogradPlan& plan) {
  return plan.tile_block / kTogether * strips_of(plan) * kStripElements;
}
std::int64_t weight_row_elements(const ConvWinogradPlan& plan) {
  return plan.dims.in_c / 2 * kPoints * 32;
}

// The codes with even numbers, or the others, as s16.
template <bool kSigned, bool kIsOdd>
AOQ_INLINE Vector16 half_of(__m512i bytes) {
  if constexpr (!kSigned) {
    const __m512i low = _mm512_and_si512(bytes, _mm512_set1_epi16(255));
    return reinterpret_cast<Vector16>(kIsOdd ? _mm512_srli_epi16(bytes, 8) : low);
  }
  return reinterpret_cast<Vector16>(_mm512_srai_epi16(kIsOdd ? bytes : _mm512_slli_epi16(bytes, 8), 8));
}

// The codes of each pixel from `c` on that `mask` has.
template <bool kSigned, bool kIsOdd>
__attribute__((noinline)) void transform_codes(const Patch& patch, std::int64_t c, __mmask64 mask, PlacesAt to) {
  transform_patch_both_ways<Vector16>(
      kSigned,
      [&](int i, int j) { return half_of<kSigned, kIsOdd>(_mm512_maskz_loadu_epi8(mask, patch.pixels[i][j] + c)); },
      [&](int i, int j, Vector16 v) {
        _mm512_store_si512(to.out + i * to.pitch + j * kTogether * 32, reinterpret_cast<__m512i>(v));
      });
}

template <bool kSigned>
void transform_patch(const Patch& patch, std::int64_t channels, PlacesAt to) {
  for (std::int64_t c = 0; c < channels; c += 64, to.out += 2 * kStripElements) {
    const __mmask64 mask = ~std::uint64_t{0} >> (64 - min_of(channels - c, 64));
    transform_codes<kSigned, false>(patch, c, mask, to);
    transform_codes<kSigned, true>(patch, c, mask, {to.out + kStripElements, to.pitch});
  }
}

// U of one word of a packed panel, those with even or odd numbers of its four channels.
template <bool kIsOdd>
__attribute__((noinline)) void transform_word(const std::byte* word, std::int64_t tap_bytes, PlacesAt to) {
  __m512i six = _mm512_set1_epi16(6);
  asm("" : "+v"(six));
  transform_taps_both_ways(
      reinterpret_cast<Vector16>(six),
      [&](int i, int j) { return half_of<true, kIsOdd>(_mm512_load_si512(word + (3 * i + j) * tap_bytes)); },
      [&](int i, int j, Vector16 u) {
        _mm512_store_si512(to.out + i * to.pitch + 32 * j, reinterpret_cast<__m512i>(u));
      });
}

// A row of places of up to four tiles, some strips of channels.
struct Product {
  const std::int16_t* patches;  // [strip][place][tile][32]
  const std::int16_t* weights;  // [pair][place][16][2]
  std::int64_t strip, strips;   // the first's number
  std::int64_t words;           // of all channels
  // What is read next is fetched meanwhile, some lines with every strip of up to four tiles.
  const std::byte* ahead;
  std::int64_t ahead_lines;
};

std::int64_t pairs_of(std::int64_t words, std::int64_t strip) {
  return min_of(words - strip / 2 * kWords, kWords);
}

template <int R>
void multiply_row(const Product& p, std::int32_t* out) {
  __m512i sum[R][kPoints];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) sum[r][j] = _mm512_setzero_si512();
  }
  const std::int16_t* weights = p.weights;
  const std::int16_t* strip = p.patches;
  const std::byte* ahead = p.ahead;
  for (std::int64_t i = p.strip; i < p.strip + p.strips; ++i, strip += kStripElements) {
    for (std::int64_t line = 0; line < p.ahead_lines; ++line, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T1);
    const std::int16_t* patches = strip;
    for (std::int64_t pair = pairs_of(p.words, i); pair > 0; --pair, patches += 2, weights += 32 * kPoints) {
#pragma GCC unroll 6
      for (int j = 0; j < kPoints; ++j) {
        const __m512i w = _mm512_load_si512(weights + 32 * j);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const auto* x = reinterpret_cast<const AnyInt32*>(patches + (j * kTogether + r) * 32);
          sum[r][j] = _mm512_dpwssd_epi32(sum[r][j], w, _mm512_set1_epi32(*x));
          asm volatile("" : "+v"(sum[r][j]));
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    Vector32 m[kPoints], back[kOutputs];
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) m[j] = reinterpret_cast<Vector32>(sum[r][j]);
    transform_sums(m, back);
#pragma GCC unroll 4
    for (int j = 0; j < kOutputs; ++j) {
      _mm512_store_si512(out + r * kTileElements + 16 * j, reinterpret_cast<__m512i>(back[j]));
    }
  }
}

// All of some tiles, the first of them a multiple of four. Returns how far `ahead` came.
const std::byte* multiply_tiles(const ConvWinogradPlan& plan, Product p, std::int64_t tiles, std::int32_t* out) {
  constexpr void (*kRows[])(const Product&, std::int32_t*) = {multiply_row<1>, multiply_row<2>, multiply_row<3>,
                                                              multiply_row<4>};
  const std::int64_t group_elements = strips_of(plan) * kStripElements;
  for (; tiles > 0; tiles -= kTogether, p.patches += group_elements, out += kTogether * kTileElements) {
    kRows[min_of(tiles, kTogether) - 1](p, out);
    p.ahead += 64 * p.ahead_lines * p.strips;
  }
  return p.ahead;
}

// Exact sums of a tile whose sums are held: y = start + those of all parts.
AOQ_INLINE void sum_parts(const WinogradBlock& block, std::int64_t tile, __m512i start,
                          __m512i (&y)[kOutputs][kOutputs]) {
#pragma GCC unroll 4
  for (int i = 0; i < kOutputs; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kOutputs; ++j) y[i][j] = start;
  }
  const __m512i inverse = _mm512_set1_epi32(static_cast<int>(kInverseOf9));
  const std::int32_t* sums = block.sums + tile * kTileElements;
  for (std::int64_t part = 0; part < block.plan.parts; ++part, sums += block.plan.sum_tiles * kTileElements) {
#pragma GCC unroll 4
    for (int j = 0; j < kOutputs; ++j) {
      Vector32 m[kPoints], back[kOutputs];
#pragma GCC unroll 6
      for (int i = 0; i < kPoints; ++i) {
        m[i] = reinterpret_cast<Vector32>(_mm512_load_si512(sums + (i * kOutputs + j) * 16));
      }
      transform_sums(m, back);
#pragma GCC unroll 4
      for (int i = 0; i < kOutputs; ++i) {
        const __m512i scaled = _mm512_mullo_epi32(reinterpret_cast<__m512i>(back[i]), inverse);
        y[i][j] = _mm512_add_epi32(y[i][j], _mm512_srai_epi32(scaled, kShift[i] + kShift[j]));
      }
    }
  }
}

// The end of a panel's tiles in registers. It points at the panel's first channel of the first pixel.
struct CodesEnd {
  TileEnd end;
  Codes to;
  Scale scale;
};

// Pixels next to each other, 1 to 4 of one panel, to codes.
template <End kEnd>
AOQ_INLINE void store_pixels(const CodesEnd& codes_end, std::int64_t index, std::int64_t pixels,
                             const __m512i (&y)[kOutputs]) {
  constexpr bool kResidual = kEnd == End::codes_with_residual;
  const TileEnd& e = codes_end.end;
  const auto mask = static_cast<__mmask16>(e.mask);
  const std::int64_t pitch = e.pitch;
  std::uint8_t* out = e.out + index;
  __m512i v[kOutputs];
#pragma GCC unroll 4
  for (int j = 0; j < kOutputs; ++j) {
    if constexpr (kEnd == End::codes_of_hardswish) {
      v[j] = rounded_hardswish(codes_end.scale, y[j], _mm512_set1_ps(e.inv_out));
    } else {
      v[j] = rounded<kResidual>(e, codes_end.scale, y[j], 0, kResidual ? e.residual + index : nullptr,
                                min_of(j, pixels - 1) * pitch);
    }
  }
  const __m512i codes = packed_codes(codes_end.to, v[0], v[1], v[2], v[3]);
  _mm_mask_storeu_epi8(out, mask, _mm512_castsi512_si128(codes));
  if (pixels > 1) _mm_mask_storeu_epi8(out + pitch, mask, _mm512_extracti32x4_epi32(codes, 1));
  if (pixels > 2) _mm_mask_storeu_epi8(out + 2 * pitch, mask, _mm512_extracti32x4_epi32(codes, 2));
  if (pixels > 3) _mm_mask_storeu_epi8(out + 3 * pitch, mask, _mm512_extracti32x4_epi32(codes, 3));
}

// Tiles of a block.
struct TileRange {
  std::int64_t first, tiles;
};

template <End kEnd>
__attribute__((noinline)) void finish_tiles(const WinogradBlock& block, const TileEnd& panel_end, __m512i start,
                                            TileRange range) {
  const ConvWinogradPlan& plan = block.plan;
  const CodesEnd end = {panel_end, codes_of(panel_end), scale_of(panel_end, 0)};
  for (std::int64_t tile = 0; tile < range.tiles; ++tile) {
    __m512i y[kOutputs][kOutputs];
    sum_parts(block, tile, start, y);
    const TileOutput output = output_of(plan, block.tile_begin + range.first + tile);
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) {
      if (i == output.rows) break;
      store_pixels<kEnd>(end, output.index + i * output.row_pitch, output.columns, y[i]);
    }
  }
}

// Ends of other kinds.
__attribute__((noinline)) void finish_tiles_in_memory(const WinogradBlock& block, const TileEnd& panel_end,
                                                      __m512i start, TileRange range) {
  const ConvWinogradPlan& plan = block.plan;
  const std::int64_t element = plan.epilogue.out_type == DType::f32 ? 4 : 1;
  for (std::int64_t tile = 0; tile < range.tiles; ++tile) {
    alignas(64) __m512i y[kOutputs][kOutputs];
    sum_parts(block, tile, start, y);
    const TileOutput output = output_of(plan, block.tile_begin + range.first + tile);
    for (std::int64_t i = 0; i < output.rows; ++i) {
      const std::int64_t at = (output.index + i * output.row_pitch) * element;
      TileEnd end = panel_end;
      end.out += at;
      if (end.residual != nullptr) end.residual += at;
      end.sums = reinterpret_cast<std::int32_t*>(y[i]);
      finish_sums(plan.epilogue, end, End::sums, output.columns, 1);
    }
  }
}

struct Form {
  static void transform(const WinogradBlock& block, const Patch& patch, std::int64_t tile) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t group = tile / kTogether * strips_of(plan) * kStripElements;
    const PlacesAt to = {block.patches + group + tile % kTogether * 32, patch_row_elements(plan)};
    if (plan.x_type == DType::i8) return transform_patch<true>(patch, plan.dims.in_c, to);
    transform_patch<false>(patch, plan.dims.in_c, to);
  }

  static void transform_weights(const WinogradBlock& block, std::int64_t panel) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t words = words_of(plan), pitch = weight_row_elements(plan);
    const std::byte* word = panel_at(block, panel) + 64;
    std::int16_t* out = block.weights;
    for (std::int64_t first = 0; first < words; first += kWords) {
      const std::int64_t count = min_of(words - first, kWords);
      for (std::int64_t i = 0; i < count; ++i, word += 64, out += 32 * kPoints) {
        transform_word<false>(word, 64 * words, {out, pitch});
        transform_word<true>(word, 64 * words, {out + 32 * kPoints * count, pitch});
      }
      out += 32 * kPoints * count;
    }
  }

  static void multiply(const WinogradBlock& block, std::int64_t panel, std::int64_t first, std::int64_t tiles) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t strips = strips_of(plan), words = words_of(plan);
    const std::byte* ahead = panel_at(block, panel + 1);
    const std::int64_t turns = kPoints * strips * ((tiles + kTogether - 1) / kTogether);
    const std::int64_t ahead_lines = first == 0 ? (plan.panel_bytes / 64 + turns - 1) / turns : 0;
    for (std::int64_t row = 0; row < kPoints; ++row) {
      Product product = {
          .patches = block.patches + row * patch_row_elements(plan) + first / kTogether * strips * kStripElements,
          .weights = block.weights + row * weight_row_elements(plan),
          .words = words,
          .ahead = ahead,
          .ahead_lines = ahead_lines};
      std::int32_t* sums = block.sums + row * kOutputs * 16;
      for (; product.strip < strips; product.strip += product.strips, sums += plan.sum_tiles * kTileElements) {
        product.strips = min_of(strips - product.strip, plan.part_strips);
        product.ahead = multiply_tiles(plan, product, tiles, sums);
        product.patches += product.strips * kStripElements;
        for (std::int64_t i = 0; i < product.strips; ++i) {
          product.weights += 32 * kPoints * pairs_of(words, product.strip + i);
        }
      }
      ahead = product.ahead;
    }
  }

  static void finish(const WinogradBlock& block, std::int64_t panel, std::int64_t tile, std::int64_t tiles) {
    const ConvWinogradPlan& plan = block.plan;
    const EpilogueS8& e = plan.epilogue;
    const std::int64_t channel = panel * 16, element = e.out_type == DType::f32 ? 4 : 1;
    TileEnd end = tile_end(e, block.args.epilogue, channel, min_of(plan.dims.out_c - channel, 16));
    end.pitch = plan.dims.out_c;
    end.out = static_cast<std::uint8_t*>(block.args.epilogue.out) + channel * element;
    const auto* residual = static_cast<const std::uint8_t*>(block.args.epilogue.residual);
    end.residual = e.has_residual ? residual + channel * element : nullptr;
    const __m512i start =
        _mm512_mullo_epi32(_mm512_load_si512(panel_at(block, panel)), _mm512_set1_epi32(offset_of(block)));
    const TileRange range = {tile, tiles};
    const End kind = end_of(e, end, 9 * plan.dims.in_c, 1);
    if (kind == End::codes) return finish_tiles<End::codes>(block, end, start, range);
    if (kind == End::codes_with_residual) return finish_tiles<End::codes_with_residual>(block, end, start, range);
    if (kind == End::codes_of_hardswish) return finish_tiles<End::codes_of_hardswish>(block, end, start, range);
    finish_tiles_in_memory(block, end, start, range);
  }
};

}  // namespace

void run_conv_winograd_avx512_vnni(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch) {
  run_winograd<Form>(plan, args, unit_begin, unit_end, scratch);
}

}  // namespace aoq::cpu
