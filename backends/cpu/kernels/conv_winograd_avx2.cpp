// The transforms and products of conv_winograd.h with 256 bits: 6 tiles x 16 channels of one place at a time.
//
// V is [place][tile][channel] and U [place][pair of channels][16][2], a place's start a line behind the end of the
// last; M is [part][tile][place][16]. Every 32 channels come as 8 pairs of those with even numbers and 8 of the others.
#include "backends/cpu/kernels/conv_winograd.h"
#include "backends/cpu/kernels/conv_winograd_unit.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/epilogue_s8_avx2.h"

namespace aoq::cpu {
namespace {

constexpr int kTileRows = 6;
constexpr std::int64_t kTileSums = kPlaces * 16;

typedef std::uint16_t Vector16 __attribute__((vector_size(32)));
typedef std::uint32_t Vector32 __attribute__((vector_size(32)));

// Words of four codes whose pairs stand together.
constexpr std::int64_t kWords = 8;

std::int64_t patch_pitch(const ConvWinogradPlan& plan) {
  return plan.tile_block * plan.dims.in_c + 32;
}
std::int64_t weight_pitch(const ConvWinogradPlan& plan) {
  return plan.dims.in_c * 16 + 32;
}

AOQ_INLINE void store_s16(std::int16_t* to, Vector16 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(v));
}

// The codes with even numbers, or the others, as s16.
template <bool kSigned, bool kIsOdd>
AOQ_INLINE Vector16 half_of(__m256i bytes) {
  if constexpr (!kSigned) {
    const __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi16(255));
    return reinterpret_cast<Vector16>(kIsOdd ? _mm256_srli_epi16(bytes, 8) : low);
  }
  return reinterpret_cast<Vector16>(_mm256_srai_epi16(kIsOdd ? bytes : _mm256_slli_epi16(bytes, 8), 8));
}

// 16 or at least 32 codes of each pixel from `c` on.
template <bool kSigned, bool kIsOdd>
__attribute__((noinline)) void transform_codes(const Patch& patch, std::int64_t c, std::int64_t codes, PlacesAt to) {
  transform_patch_both_ways<Vector16>(
      kSigned,
      [&](int i, int j) {
        const std::uint8_t* from = patch.pixels[i][j] + c;
        const __m256i bytes = codes >= 32 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))
                                          : _mm256_zextsi128_si256(load_bytes(from));
        return half_of<kSigned, kIsOdd>(bytes);
      },
      [&](int i, int j, Vector16 v) { store_s16(to.out + (kPoints * i + j) * to.pitch, v); });
}

// Whole vectors are written: what of the last is too much, the next tile overwrites, and a place has slack.
template <bool kSigned>
void transform_patch(const Patch& patch, std::int64_t channels, PlacesAt to) {
  for (std::int64_t c = 0; c < channels; c += 4 * kWords) {
    const std::int64_t codes = min_of(channels - c, 4 * kWords);
    transform_codes<kSigned, false>(patch, c, codes, {to.out + c, to.pitch});
    transform_codes<kSigned, true>(patch, c, codes, {to.out + c + codes / 2, to.pitch});
  }
}

// U of one word of a packed panel, eight columns, those with even or odd numbers of its four channels.
template <bool kIsOdd>
__attribute__((noinline)) void transform_word(const std::byte* word, std::int64_t tap_bytes, PlacesAt to) {
  __m256i six = _mm256_set1_epi16(6);
  asm("" : "+x"(six));
  transform_taps_both_ways(
      reinterpret_cast<Vector16>(six),
      [&](int i, int j) {
        return half_of<true, kIsOdd>(
            _mm256_load_si256(reinterpret_cast<const __m256i*>(word + (3 * i + j) * tap_bytes)));
      },
      [&](int i, int j, Vector16 u) { store_s16(to.out + (kPoints * i + j) * to.pitch, u); });
}

// Tiles of one place, `pitch` apart, and a part's weights.
struct Product {
  const std::int16_t* patches;
  std::int64_t pitch;
  const std::int16_t* weights;
  std::int64_t pairs;  // of channels
};

// R tiles times a panel of 16 columns, to the place's sums of each.
template <int R>
void multiply_tiles(const Product& p, std::int32_t* out) {
  __m256i sum[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  const std::int16_t* patches = p.patches;
  const std::int64_t pitch = p.pitch, pairs = p.pairs;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const auto* from = reinterpret_cast<const __m256i*>(p.weights + 32 * pair);
    const __m256i low = _mm256_load_si256(from), high = _mm256_load_si256(from + 1);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256i x = _mm256_set1_epi32(*reinterpret_cast<const AnyInt32*>(patches + r * pitch + 2 * pair));
      add_s32_in_place(sum[r][0], _mm256_madd_epi16(x, low));
      add_s32_in_place(sum[r][1], _mm256_madd_epi16(x, high));
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + kTileSums * r), sum[r][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + kTileSums * r + 8), sum[r][1]);
  }
}

// All tiles, in pieces of nearly the same height.
void multiply_place(Product p, std::int64_t tiles, std::int32_t* out) {
  constexpr void (*kRows[])(const Product&, std::int32_t*) = {multiply_tiles<1>, multiply_tiles<2>, multiply_tiles<3>,
                                                              multiply_tiles<4>, multiply_tiles<5>, multiply_tiles<6>};
  for (std::int64_t pieces = (tiles + kTileRows - 1) / kTileRows; pieces > 0; --pieces) {
    const std::int64_t count = (tiles + pieces - 1) / pieces;
    kRows[count - 1](p, out);
    p.patches += count * p.pitch;
    out += count * kTileSums;
    tiles -= count;
  }
}

// A M A^T of eight columns, exact: y = start + it.
AOQ_INLINE void add_tile(const std::int32_t* sums, const __m256i (&start)[kOutputs][kOutputs][2],
                         __m256i (&y)[kOutputs][kOutputs][2], int half) {
  Vector32 rows[kOutputs][kPoints];
#pragma GCC unroll 6
  for (int j = 0; j < kPoints; ++j) {
    Vector32 m[kPoints], back[kOutputs];
#pragma GCC unroll 6
    for (int i = 0; i < kPoints; ++i) {
      m[i] = reinterpret_cast<Vector32>(
          _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + (kPoints * i + j) * 16)));
    }
    transform_sums(m, back);
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) rows[i][j] = back[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < kOutputs; ++i) {
    Vector32 back[kOutputs];
    transform_sums(rows[i], back);
#pragma GCC unroll 4
    for (int j = 0; j < kOutputs; ++j) {
      const auto scaled = reinterpret_cast<__m256i>(back[j] * kInverseOf9);
      y[i][j][half] = _mm256_add_epi32(start[i][j][half], _mm256_srai_epi32(scaled, kShift[i] + kShift[j]));
    }
  }
}

// Two pixels of 16 whole channels to codes.
using ToCodes = __m256i (*)(const PlainEpilogue&, const __m256i (&)[2], const __m256i (&)[2], const std::uint8_t*,
                            const std::uint8_t*);

template <bool kSigned>
ToCodes to_codes_of(Addend addend) {
  if (addend == Addend::none) return plain_rows<kSigned, Addend::none>;
  return addend == Addend::u8 ? plain_rows<kSigned, Addend::u8> : plain_rows<kSigned, Addend::i8>;
}

// How a panel's pixels are stored.
struct PanelEnd {
  const EpilogueS8& epilogue;
  const EpilogueArgs& args;
  PlainEpilogue plain;
  ToCodes to_codes;  // or null
  TileTarget target;
};

PanelEnd end_of(const WinogradBlock& block, std::int64_t panel) {
  const ConvDims& d = block.plan.dims;
  const EpilogueS8& e = block.plan.epilogue;
  const EpilogueArgs& args = block.args.epilogue;
  const TileTarget target = {
      .rows = 0, .columns = min_of(d.out_c - panel * 16, 16), .index = 0, .pitch = d.out_c, .channel = panel * 16};
  PanelEnd end = {e, args, plain_epilogue(e, args, panel * 16), nullptr, target};
  if (target.columns == 16 && has_plain_epilogue(e, args, 9 * d.in_c, panel * 16, target.columns)) {
    end.to_codes = e.out_type == DType::i8 ? to_codes_of<true>(addend_of(e)) : to_codes_of<false>(addend_of(e));
  }
  return end;
}

// Ends of other kinds.
__attribute__((noinline)) void store_sums(const PanelEnd& end, const TileTarget& target, const std::int32_t* sums) {
  store_tile(end.epilogue, end.args, target, sums);
}

// Pixels next to each other, `target.rows` of them.
void store_pixels(const PanelEnd& end, const TileTarget& target, const __m256i (&y)[kOutputs][2]) {
  if (end.to_codes == nullptr) return store_sums(end, target, reinterpret_cast<const std::int32_t*>(y));
  std::uint8_t* out = static_cast<std::uint8_t*>(end.args.out) + target.index;
  const std::uint8_t* residual =
      end.epilogue.has_residual ? static_cast<const std::uint8_t*>(end.args.residual) + target.index : nullptr;
  for (std::int64_t j = 0; j < target.rows; j += 2) {
    const bool has_next = j + 1 < target.rows;
    const std::uint8_t* next = residual != nullptr && has_next ? residual + target.pitch : residual;
    const __m256i codes = end.to_codes(end.plain, y[j], y[j + 1], residual, next);
    store_bytes(out, _mm256_castsi256_si128(codes));
    if (has_next) store_bytes(out + target.pitch, _mm256_extracti128_si256(codes, 1));
    out += 2 * target.pitch;
    if (residual != nullptr) residual += 2 * target.pitch;
  }
}

struct Form {
  static void transform(const WinogradBlock& block, const Patch& patch, std::int64_t tile) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t channels = plan.dims.in_c;
    const PlacesAt to = {block.patches + tile * channels, patch_pitch(plan)};
    if (plan.x_type == DType::i8) return transform_patch<true>(patch, channels, to);
    transform_patch<false>(patch, channels, to);
  }

  static void transform_weights(const WinogradBlock& block, std::int64_t panel) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t words = words_of(plan), pitch = weight_pitch(plan);
    const std::byte* word = panel_at(block, panel) + 64;
    std::int16_t* out = block.weights;
    for (std::int64_t first = 0; first < words; first += kWords) {
      const std::int64_t count = min_of(words - first, kWords);
      for (std::int64_t i = 0; i < count; ++i, word += 64, out += 32) {
        for (int half = 0; half < 2; ++half) {
          transform_word<false>(word + 32 * half, 64 * words, {out + 16 * half, pitch});
          transform_word<true>(word + 32 * half, 64 * words, {out + 32 * count + 16 * half, pitch});
        }
      }
      out += 32 * count;
    }
  }

  static void multiply(const WinogradBlock& block, std::int64_t /*panel*/, std::int64_t tile, std::int64_t tiles) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t channels = plan.dims.in_c, depth = 16 * plan.part_strips;
    for (std::int64_t place = 0; place < kPlaces; ++place) {
      Product product = {block.patches + place * patch_pitch(plan) + tile * channels, channels,
                         block.weights + place * weight_pitch(plan), 0};
      std::int32_t* sums = block.sums + place * 16;
      for (std::int64_t first = 0; first < channels; first += depth) {
        product.pairs = min_of(channels - first, depth) / 2;
        multiply_place(product, tiles, sums);
        product.patches += depth;
        product.weights += 16 * depth;
        sums += plan.sum_tiles * kTileSums;
      }
    }
  }

  static void finish(const WinogradBlock& block, std::int64_t panel, std::int64_t first, std::int64_t tiles) {
    const ConvWinogradPlan& plan = block.plan;
    const PanelEnd end = end_of(block, panel);
    const auto* sums_of_weights = reinterpret_cast<const __m256i*>(panel_at(block, panel));
    __m256i start[kOutputs][kOutputs][2], y[kOutputs][kOutputs][2];
    for (int half = 0; half < 2; ++half) {
      const __m256i sum = _mm256_load_si256(sums_of_weights + half);
      const __m256i offset = _mm256_mullo_epi32(sum, _mm256_set1_epi32(offset_of(block)));
      for (auto& row : start) {
        for (auto& pixel : row) pixel[half] = offset;
      }
    }
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int32_t* sums = block.sums + tile * kTileSums;
      for (int half = 0; half < 2; ++half) add_tile(sums + 8 * half, start, y, half);
      for (std::int64_t part = 1; part < plan.parts; ++part) {
        sums += plan.sum_tiles * kTileSums;
        for (int half = 0; half < 2; ++half) add_tile(sums + 8 * half, y, y, half);
      }
      const TileOutput output = output_of(plan, block.tile_begin + first + tile);
      TileTarget target = end.target;
      target.rows = output.columns;
      for (std::int64_t i = 0; i < output.rows; ++i) {
        target.index = output.index + i * output.row_pitch + panel * 16;
        store_pixels(end, target, y[i]);
      }
    }
  }
};

}  // namespace

void run_conv_winograd_avx2(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                            std::int64_t unit_end, std::byte* scratch) {
  run_winograd<Form>(plan, args, unit_begin, unit_end, scratch);
}

}  // namespace aoq::cpu
