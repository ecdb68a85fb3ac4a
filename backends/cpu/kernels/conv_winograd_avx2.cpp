// The transforms and products of conv_winograd.h with 256 bits: 6 tiles x 16 channels of one place at a time.
//
// Patches are [place][tile][in_c], a place's start a line behind the end of the last; sums [part][tile][place][16].
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

std::int64_t patch_pitch(const ConvWinogradPlan& plan) {
  return plan.tile_block * plan.dims.in_c + 32;
}

template <bool kSigned>
void transform_patch(const Patch& patch, std::int64_t channels, std::int16_t* out, std::int64_t pitch) {
  constexpr auto kCorrection = static_cast<std::uint16_t>(kSigned ? 0 : 36 * 128);
  for (std::int64_t c = 0; c < channels; c += 16, out += 16) {
    Vector16 rows[kPoints][kPoints];
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) {
      Vector16 x[kPoints], v[kPoints];
#pragma GCC unroll 6
      for (int i = 0; i < kPoints; ++i) {
        x[i] = reinterpret_cast<Vector16>(widen_to_s16<kSigned>(load_bytes(patch.pixels[i][j] + c)));
      }
      transform_pixels(x, v);
#pragma GCC unroll 6
      for (int i = 0; i < kPoints; ++i) rows[i][j] = v[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < kPoints; ++i) {
      Vector16 v[kPoints];
      transform_pixels(rows[i], v);
      if (i == 1) v[1] -= kCorrection;
#pragma GCC unroll 6
      for (int j = 0; j < kPoints; ++j) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (kPoints * i + j) * pitch),
                            reinterpret_cast<__m256i>(v[j]));
      }
    }
  }
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

// (o - z) * (sum of w) of a panel's columns.
void sum_weights(const WinogradBlock& block, const std::int16_t* weights, __m256i (&sum)[2]) {
  const std::int64_t channels = block.plan.dims.in_c;
  const __m256i factor = _mm256_set1_epi16(static_cast<short>(code_offset(block.plan) - block.args.x_zero_point));
  __m256i low = _mm256_setzero_si256(), high = low;
  const auto* from = reinterpret_cast<const __m256i*>(weights + kSumPlace * channels * 16);
  for (std::int64_t pair = 0; pair < channels / 2; ++pair, from += 2) {
    low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_load_si256(from), factor));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_load_si256(from + 1), factor));
  }
  sum[0] = low;
  sum[1] = high;
}

// A M A^T of eight columns, exact: y = start + it.
inline __attribute__((always_inline)) void add_tile(const std::int32_t* sums,
                                                    const __m256i (&start)[kOutputs][kOutputs][2],
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

// Pixels next to each other, `target.rows` of them.
void store_pixels(const PanelEnd& end, const TileTarget& target, const __m256i (&y)[kOutputs][2]) {
  if (end.to_codes == nullptr) {
    return store_tile(end.epilogue, end.args, target, reinterpret_cast<const std::int32_t*>(y));
  }
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
    const std::int64_t channels = plan.dims.in_c, pitch = patch_pitch(plan);
    std::int16_t* out = block.patches + tile * channels;
    if (plan.x_type == DType::i8) return transform_patch<true>(patch, channels, out, pitch);
    transform_patch<false>(patch, channels, out, pitch);
  }

  static void multiply(const WinogradBlock& block, const std::int16_t* weights) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t channels = plan.dims.in_c;
    for (std::int64_t place = 0; place < kPlaces; ++place) {
      const std::int16_t* patches = block.patches + place * patch_pitch(plan);
      for (std::int64_t i = 0; i < plan.parts; ++i) {
        const Part part = part_at(plan, i);
        const Product product = {patches + part.begin, channels, weights + (place * channels + part.begin) * 16,
                                 part.channels / 2};
        multiply_place(product, block.tiles, block.sums + i * plan.tile_block * kTileSums + place * 16);
      }
    }
  }

  static void finish(const WinogradBlock& block, std::int64_t panel, const std::int16_t* weights) {
    const ConvWinogradPlan& plan = block.plan;
    const PanelEnd end = end_of(block, panel);
    __m256i sum_of_weights[2], start[kOutputs][kOutputs][2], y[kOutputs][kOutputs][2];
    sum_weights(block, weights, sum_of_weights);
    for (auto& row : start) {
      for (auto& pixel : row) {
        for (int half = 0; half < 2; ++half) pixel[half] = sum_of_weights[half];
      }
    }
    for (std::int64_t tile = 0; tile < block.tiles; ++tile) {
      const std::int32_t* sums = block.sums + tile * kTileSums;
      for (int half = 0; half < 2; ++half) add_tile(sums + 8 * half, start, y, half);
      for (std::int64_t part = 1; part < plan.parts; ++part) {
        sums += plan.tile_block * kTileSums;
        for (int half = 0; half < 2; ++half) add_tile(sums + 8 * half, y, y, half);
      }
      const TileOutput output = output_of(plan, block.tile_begin + tile);
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
