// The transforms and products of conv_winograd.h with 512 bits: 4 tiles x 16 channels of six places at a time, whose
// sums are transformed back in one direction while they are in registers.
//
// Patches are [row of places][4 tiles][32 channels][place][tile][channel]; sums [part][tile][row of places][4][16].
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

std::int64_t strips_of(const ConvWinogradPlan& plan) {
  return (plan.dims.in_c + 31) / 32;
}
// Of patches of a row of places.
std::int64_t row_elements(const ConvWinogradPlan& plan) {
  return plan.tile_block / kTogether * strips_of(plan) * kStripElements;
}

template <bool kSigned>
AOQ_INLINE Vector16 load_codes(const std::uint8_t* from, __mmask32 mask) {
  const __m256i bytes = _mm256_maskz_loadu_epi8(mask, from);
  return reinterpret_cast<Vector16>(kSigned ? _mm512_cvtepi8_epi16(bytes) : _mm512_cvtepu8_epi16(bytes));
}

template <bool kSigned>
void transform_patch(const Patch& patch, std::int64_t channels, std::int16_t* out, std::int64_t row_pitch) {
  constexpr auto kCorrection = static_cast<std::uint16_t>(kSigned ? 0 : 36 * 128);
  for (std::int64_t c = 0; c < channels; c += 32, out += kStripElements) {
    const __mmask32 mask = channels - c >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << (channels - c)) - 1;
    Vector16 rows[kPoints][kPoints];
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) {
      Vector16 x[kPoints], v[kPoints];
#pragma GCC unroll 6
      for (int i = 0; i < kPoints; ++i) x[i] = load_codes<kSigned>(patch.pixels[i][j] + c, mask);
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
        _mm512_store_si512(out + i * row_pitch + j * kTogether * 32, reinterpret_cast<__m512i>(v[j]));
      }
    }
  }
}

// A row of places of up to four tiles.
struct Product {
  const std::int16_t* patches;  // [strip][place][tile][32]
  const std::int16_t* weights;  // of the first place
  std::int64_t weight_pitch;    // from place to place
  std::int64_t pairs;           // of channels
};

template <int R>
void multiply_row(const Product& p, std::int32_t* out) {
  __m512i sum[R][kPoints];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) sum[r][j] = _mm512_setzero_si512();
  }
  const std::int16_t* strip = p.patches;
  const std::int16_t* weights = p.weights;
  const std::int64_t pitch = p.weight_pitch;
  for (std::int64_t left = p.pairs; left > 0; left -= 16, strip += kStripElements) {
    const std::int16_t* patches = strip;
    for (std::int64_t pair = min_of(left, 16); pair > 0; --pair, patches += 2, weights += 32) {
#pragma GCC unroll 6
      for (int j = 0; j < kPoints; ++j) {
        const __m512i w = _mm512_load_si512(weights + j * pitch);
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

// All tiles of a block, from the first's.
void multiply_tiles(const ConvWinogradPlan& plan, Product p, std::int64_t tiles, std::int32_t* out) {
  constexpr void (*kRows[])(const Product&, std::int32_t*) = {multiply_row<1>, multiply_row<2>, multiply_row<3>,
                                                              multiply_row<4>};
  const std::int64_t group_elements = strips_of(plan) * kStripElements;
  for (; tiles > 0; tiles -= kTogether, p.patches += group_elements, out += kTogether * kTileElements) {
    kRows[min_of(tiles, kTogether) - 1](p, out);
  }
}

// (o - z) * (sum of w) of a panel's columns.
__m512i sum_weights(const WinogradBlock& block, const std::int16_t* weights) {
  const std::int64_t channels = block.plan.dims.in_c;
  const __m512i factor = _mm512_set1_epi16(static_cast<short>(code_offset(block.plan) - block.args.x_zero_point));
  __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  const std::int16_t* from = weights + kSumPlace * channels * 16;
  for (std::int64_t pair = 0; pair < channels / 2; pair += 2, from += 64) {
    sum[0] = _mm512_dpwssd_epi32(sum[0], _mm512_load_si512(from), factor);
    sum[1] = _mm512_dpwssd_epi32(sum[1], _mm512_load_si512(from + 32), factor);
  }
  return _mm512_add_epi32(sum[0], sum[1]);
}

// The sums of a tile, part by part `pitch` apart, to exact ones.
AOQ_INLINE void sum_parts(const std::int32_t* sums, std::int64_t parts, std::int64_t pitch, __m512i start,
                          __m512i (&y)[kOutputs][kOutputs]) {
#pragma GCC unroll 4
  for (int i = 0; i < kOutputs; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kOutputs; ++j) y[i][j] = start;
  }
  const __m512i inverse = _mm512_set1_epi32(static_cast<int>(kInverseOf9));
  for (; parts > 0; --parts, sums += pitch) {
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

// Pixels next to each other, 1 to 4 of one panel, to codes.
template <End kEnd>
AOQ_INLINE void store_pixels(const TileEnd& e, const Codes& to, const Scale& scale, std::int64_t index,
                             std::int64_t pixels, const __m512i (&y)[kOutputs]) {
  constexpr bool kResidual = kEnd == End::codes_with_residual;
  const auto mask = static_cast<__mmask16>(e.mask);
  const std::int64_t pitch = e.pitch;
  std::uint8_t* out = e.out + index;
  __m512i v[kOutputs];
#pragma GCC unroll 4
  for (int j = 0; j < kOutputs; ++j) {
    if constexpr (kEnd == End::codes_of_hardswish) {
      v[j] = rounded_hardswish(scale, y[j], _mm512_set1_ps(e.inv_out));
    } else {
      v[j] = rounded<kResidual>(e, scale, y[j], 0, kResidual ? e.residual + index : nullptr,
                                min_of(j, pixels - 1) * pitch);
    }
  }
  const __m512i codes = packed_codes(to, v[0], v[1], v[2], v[3]);
  _mm_mask_storeu_epi8(out, mask, _mm512_castsi512_si128(codes));
  if (pixels > 1) _mm_mask_storeu_epi8(out + pitch, mask, _mm512_extracti32x4_epi32(codes, 1));
  if (pixels > 2) _mm_mask_storeu_epi8(out + 2 * pitch, mask, _mm512_extracti32x4_epi32(codes, 2));
  if (pixels > 3) _mm_mask_storeu_epi8(out + 3 * pitch, mask, _mm512_extracti32x4_epi32(codes, 3));
}

// `panel_end` points at the panel's first channel of the first pixel.
template <End kEnd>
void finish_tiles(const WinogradBlock& block, const TileEnd& panel_end, __m512i start) {
  const ConvWinogradPlan& plan = block.plan;
  const TileEnd e = panel_end;
  const Codes to = codes_of(e);
  const Scale scale = scale_of(e, 0);
  for (std::int64_t tile = 0; tile < block.tiles; ++tile) {
    __m512i y[kOutputs][kOutputs];
    sum_parts(block.sums + tile * kTileElements, plan.parts, plan.tile_block * kTileElements, start, y);
    const TileOutput output = output_of(plan, block.tile_begin + tile);
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) {
      if (i == output.rows) break;
      store_pixels<kEnd>(e, to, scale, output.index + i * output.row_pitch, output.columns, y[i]);
    }
  }
}

// Ends of other kinds.
void finish_tiles_in_memory(const WinogradBlock& block, const TileEnd& panel_end, __m512i start) {
  const ConvWinogradPlan& plan = block.plan;
  const std::int64_t element = plan.epilogue.out_type == DType::f32 ? 4 : 1;
  for (std::int64_t tile = 0; tile < block.tiles; ++tile) {
    alignas(64) __m512i y[kOutputs][kOutputs];
    sum_parts(block.sums + tile * kTileElements, plan.parts, plan.tile_block * kTileElements, start, y);
    const TileOutput output = output_of(plan, block.tile_begin + tile);
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
    const std::int64_t channels = plan.dims.in_c, pitch = row_elements(plan);
    std::int16_t* out = block.patches + tile / kTogether * strips_of(plan) * kStripElements + tile % kTogether * 32;
    if (plan.x_type == DType::i8) return transform_patch<true>(patch, channels, out, pitch);
    transform_patch<false>(patch, channels, out, pitch);
  }

  static void multiply(const WinogradBlock& block, const std::int16_t* weights) {
    const ConvWinogradPlan& plan = block.plan;
    const std::int64_t pitch = plan.dims.in_c * 16;
    for (std::int64_t row = 0; row < kPoints; ++row) {
      for (std::int64_t i = 0; i < plan.parts; ++i) {
        const Part part = part_at(plan, i);
        const Product product = {block.patches + row * row_elements(plan) + part.begin / 32 * kStripElements,
                                 weights + row * kPoints * pitch + part.begin * 16, pitch, part.channels / 2};
        multiply_tiles(plan, product, block.tiles,
                       block.sums + i * plan.tile_block * kTileElements + row * kOutputs * 16);
      }
    }
  }

  static void finish(const WinogradBlock& block, std::int64_t panel, const std::int16_t* weights) {
    const ConvWinogradPlan& plan = block.plan;
    const EpilogueS8& e = plan.epilogue;
    const std::int64_t first = panel * 16, element = e.out_type == DType::f32 ? 4 : 1;
    TileEnd end = tile_end(e, block.args.epilogue, first, min_of(plan.dims.out_c - first, 16));
    end.pitch = plan.dims.out_c;
    end.out = static_cast<std::uint8_t*>(block.args.epilogue.out) + first * element;
    const auto* residual = static_cast<const std::uint8_t*>(block.args.epilogue.residual);
    end.residual = e.has_residual ? residual + first * element : nullptr;
    const __m512i start = sum_weights(block, weights);
    const End kind = end_of(e, end, 9 * plan.dims.in_c, 1);
    if (kind == End::codes) return finish_tiles<End::codes>(block, end, start);
    if (kind == End::codes_with_residual) return finish_tiles<End::codes_with_residual>(block, end, start);
    if (kind == End::codes_of_hardswish) return finish_tiles<End::codes_of_hardswish>(block, end, start);
    finish_tiles_in_memory(block, end, start);
  }
};

}  // namespace

void run_conv_winograd_avx512_vnni(const ConvWinogradPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                                   std::int64_t unit_end, std::byte* scratch) {
  run_winograd<Form>(plan, args, unit_begin, unit_end, scratch);
}

}  // namespace aoq::cpu
