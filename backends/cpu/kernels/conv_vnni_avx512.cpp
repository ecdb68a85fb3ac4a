// Runs the plan of conv_vnni.h on AVX-512: which tiles take a unit's rows, how their sums end, and the ends that are
// not in the tiles.
#include <cmath>

#include "backends/cpu/kernels/activation_avx2.h"
#include "backends/cpu/kernels/conv_gather_avx512.h"
#include "backends/cpu/kernels/conv_unit.h"
#include "backends/cpu/kernels/conv_vnni_tiles_avx512.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/epilogue_s8.h"

namespace aoq::cpu {
namespace {

// stays_small of epilogue_s8.h, for these panels.
bool panels_stay_small(const ConvPanelsPlan& plan, const TileEnd& end, int panels) {
  const EpilogueS8& e = plan.epilogue;
  const __m512 most_sum = _mm512_set1_ps(255.0f * 128.0f * static_cast<float>(plan.k));
  const __m512 residual = _mm512_set1_ps(e.has_residual ? 255.0f * std::fabs(e.residual_multiplier) : 0.0f);
  const __m512 scale = _mm512_set1_ps(e.activation.kind == Activation::none ? 1.0f : e.inv_out);
  const __m512 limit = _mm512_set1_ps(0x1p30f);
  __mmask16 small = _mm512_cmp_ps_mask(scale, _mm512_set1_ps(0x1p60f), _CMP_LT_OQ);
  for (int c = 0; c < panels; ++c) {
    const Scale panel = scale_of(end, c);
    const __m512 sum = _mm512_add_ps(most_sum, _mm512_abs_ps(panel.bias));
    const __m512 most = _mm512_add_ps(_mm512_mul_ps(sum, panel.multiplier), residual);
    small &= _mm512_cmp_ps_mask(most, limit, _CMP_LT_OQ);
    small &= _mm512_cmp_ps_mask(_mm512_mul_ps(most, scale), limit, _CMP_LT_OQ);
  }
  return small == 0xffff;
}

Range range_of(const EpilogueS8& e, std::int64_t columns) {
  const bool has_all = e.bounds.lo == 0.0f && e.bounds.hi == 255.0f && columns % 16 == 0;
  const bool has_plain_residual = !e.has_residual || (e.residual_type == DType::u8 && e.residual_zero_point == 0);
  const bool is_plain = e.out_type == DType::u8 && e.bounds.zero_point == 0 && has_all && has_plain_residual;
  return is_plain ? Range::plain : Range::any;
}

End end_of(const ConvPanelsPlan& plan, const TileEnd& end, int panels) {
  const EpilogueS8& e = plan.epilogue;
  if (e.activation.kind == Activation::none && e.out_type == DType::f32) return End::floats;
  if (e.out_type == DType::f32 || !panels_stay_small(plan, end, panels)) return End::sums;
  if (e.activation.kind == Activation::none) return e.has_residual ? End::codes_with_residual : End::codes;
  return e.activation.kind == Activation::hardswish && !e.has_residual ? End::codes_of_hardswish : End::sums;
}

TileEnd tile_end(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t channel, std::int64_t columns) {
  const EpilogueS8& e = plan.epilogue;
  TileEnd end;
  end.bias = args.epilogue.bias + channel;
  end.multiplier = args.epilogue.multiplier + channel;
  end.lo = e.bounds.lo;
  end.hi = e.bounds.hi;
  end.zero_point = e.bounds.zero_point;
  end.is_signed = e.out_type == DType::i8;
  end.mask = columns >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << columns) - 1;
  end.pitch = plan.dims.out_c;
  end.residual_flip = e.residual_type == DType::i8 ? 128 : 0;
  end.residual_zero_point = e.residual_zero_point + end.residual_flip;
  end.residual_multiplier = e.residual_multiplier;
  end.x_scale = args.epilogue.x_scale;
  end.inv_out = e.inv_out;
  return end;
}

// Sums in memory, [panels][kTileRows][16], to floats.
template <typename Act>
void finish_floats(const TileEnd& end, std::int64_t rows, int panels, Act activation) {
  for (int c = 0; c < panels; ++c) {
    const auto mask = static_cast<__mmask16>(end.mask >> (16 * c));
    const F32x16 bias(_mm512_loadu_ps(end.bias + 16 * c));
    const F32x16 multiplier = F32x16(end.x_scale) * F32x16(_mm512_loadu_ps(end.multiplier + 16 * c));
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t at = r * end.pitch + 16 * c;
      const F32x16 sum(_mm512_cvtepi32_ps(_mm512_loadu_si512(end.sums + (c * kTileRows + r) * 16)));
      F32x16 v = sum * multiplier + bias;
      if (end.residual != nullptr) {
        v = v + F32x16(_mm512_maskz_loadu_ps(mask, reinterpret_cast<const float*>(end.residual) + at));
      }
      _mm512_mask_storeu_ps(reinterpret_cast<float*>(end.out) + at, mask, activation(v).v);
    }
  }
}

// Sums in memory to codes, four vectors at a time: two rows of two panels or four of one. Values are clamped as floats
// here, so that any multiplier is right.
template <int C, typename Act>
void finish_codes(const TileEnd& e, std::int64_t rows, float inv_out, Act activation) {
  constexpr int kTogether = 4 / C;
  const Codes to = codes_of(e);
  const Scale scales[2] = {scale_of(e, 0), scale_of(e, C - 1)};
  const __m512 lo = _mm512_set1_ps(e.lo), hi = _mm512_set1_ps(e.hi);
  const auto mask = static_cast<__mmask32>(C == 2 ? e.mask : e.mask & 0xffffu);
  const std::uint8_t* residual = e.residual;
  const std::int32_t* sums = e.sums;
  const std::int64_t pitch = e.pitch;
  std::uint8_t* out = e.out;
  alignas(64) std::uint8_t codes[64 + 32];  // rows are read 32 bytes at a time
  for (std::int64_t r = 0; r < rows; r += kTogether) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const std::int64_t row = min_of(r + i / C, rows - 1);
      const int c = i % C;
      const F32x16 sum(_mm512_cvtepi32_ps(_mm512_loadu_si512(sums + (c * kTileRows + row) * 16)));
      F32x16 y = (sum + F32x16(scales[c].bias)) * F32x16(scales[c].multiplier);
      if (residual != nullptr) y = y + F32x16(residual_of(e, c, residual + row * pitch + 16 * c));
      y = activation(y) * F32x16(inv_out);
      v[i] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(y.v, lo), hi));
    }
    _mm512_store_si512(codes, packed_codes(to, v[0], v[1], v[2], v[3]));
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) {
      if (r + i == rows) break;
      const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 16 * C * i));
      _mm256_mask_storeu_epi8(out, mask, row);
      out += pitch;
    }
  }
}

// Residual, activation and rounding of sums in memory.
template <typename Act>
void finish_rows(const EpilogueS8& e, const TileEnd& end, std::int64_t rows, int panels, Act activation) {
  if (e.out_type == DType::f32) return finish_floats(end, rows, panels, activation);
  const float inv_out = e.activation.kind == Activation::none ? 1.0f : e.inv_out;
  if (panels == 2) return finish_codes<2>(end, rows, inv_out, activation);
  finish_codes<1>(end, rows, inv_out, activation);
}

void finish_sums(const EpilogueS8& e, const TileEnd& end, End kind, std::int64_t rows, int panels) {
  if (kind == End::codes_of_hardswish) {
    return finish_rows(e, end, rows, panels, [](F32x16 v) { return hardswish_of_normal(v); });
  }
  finish_rows(e, end, rows, panels, [&](F32x16 v) { return apply_activation_to(e.activation, v); });
}

// One or two panels, and the place in a block of rows where their tiles have come to.
struct PanelRun {
  PanelTile tile;
  TileEnd end;
  End kind;
  int panels;
  std::int64_t columns;
  std::int64_t first;  // column of the output
  std::int64_t row, row_end;
};

PanelRun panel_run(const ConvPanelsPlan& plan, const ConvS8Args& args, const ConvUnit& block, const std::uint8_t* rows,
                   std::int64_t panel) {
  const std::int64_t group_out = plan.dims.out_c / plan.dims.groups;
  const std::int64_t columns = min_of(group_out - panel * 16, 32);
  const std::int64_t panel_index = block.group * plan.panels + panel;
  const std::byte* panels = args.weights + panel_index * plan.panel_bytes;
  PanelRun run;
  run.tile = {.rows = rows,
              .pitch = plan.pitch,
              .panels = panels,
              .panel_bytes = plan.panel_bytes,
              .steps = plan.steps,
              .zero_point = args.x_zero_point + (plan.x_type == DType::i8 ? 128 : 0),
              .ahead = panels + 2 * plan.panel_bytes};
  run.end = tile_end(plan, args, panel_index * 16, columns);
  run.panels = columns > 16 ? 2 : 1;
  run.columns = columns;
  run.kind = end_of(plan, run.end, run.panels);
  run.first = block.group * group_out + panel * 16;
  run.row = block.row_begin;
  run.row_end = block.row_end;
  return run;
}

// Points the end of a tile at the row that is next.
void set_output(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  const std::int64_t element = plan.epilogue.out_type == DType::f32 ? 4 : 1;
  const std::int64_t at = (run.row * plan.dims.out_c + run.first) * element;
  run.end.out = static_cast<std::uint8_t*>(args.epilogue.out) + at;
  const auto* residual = static_cast<const std::uint8_t*>(args.epilogue.residual);
  run.end.residual = plan.epilogue.has_residual ? residual + at : nullptr;
}

void multiply_small_tiles(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  const RunSmallTiles run_small = small_tiles_of(run.kind, range_of(plan.epilogue, run.columns), run.columns);
  const std::int64_t rows = 8 / run.panels, tiles = (run.row_end - run.row) / rows;
  const std::int64_t least =
      run.kind == End::codes_with_residual ? kParts<End::codes_with_residual> : kParts<End::codes>;
  if (run_small == nullptr || run.tile.steps < least || run.tile.steps > kMostSmallSteps || tiles == 0) {
    return;
  }
  set_output(plan, args, run);
  run_small(run.tile, run.end, tiles);
  run.tile.rows += tiles * rows * plan.pitch;
  run.row += tiles * rows;
}

// Tiles of nearly the same height.
void multiply_tiles(const ConvPanelsPlan& plan, const ConvS8Args& args, PanelRun& run) {
  alignas(64) std::int32_t sums[2 * kTileRows * 16];
  run.end.sums = sums;
  const std::int64_t left = run.row_end - run.row;
  const bool is_few = left < 8 / run.panels;
  const bool is_here = run.kind == End::floats || (is_few && run.kind != End::codes_of_hardswish);
  const End kind = is_here ? run.kind : End::sums;
  const std::byte* ahead_end = run.tile.ahead + 2 * plan.panel_bytes;
  std::int64_t tiles = (left + kTileRows - 1) / kTileRows;
  for (; run.row < run.row_end; --tiles) {
    const std::int64_t count = (run.row_end - run.row + tiles - 1) / tiles;
    set_output(plan, args, run);
    (run.panels == 2 ? tile_of<2>(kind, count) : tile_of<1>(kind, count))(run.tile, run.end);
    if (kind == End::sums) finish_sums(plan.epilogue, run.end, run.kind, count, run.panels);
    run.tile.rows += count * plan.pitch;
    const std::byte* ahead = run.tile.ahead + run.tile.steps / 4 * 128;
    run.tile.ahead = ahead < ahead_end ? ahead : run.tile.panels;
    run.row += count;
  }
}

}  // namespace

void run_conv_avx512_vnni(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                          std::int64_t unit_end, std::byte* scratch) {
  auto* gathered = reinterpret_cast<std::uint8_t*>(scratch);
  const std::int32_t shift = plan.x_type == DType::i8 ? 128 : 0;
  const ConvDims& d = plan.dims;
  const auto* x = static_cast<const std::uint8_t*>(args.x);
  const Gather gather = {.x = x,
                         .x_end = x + d.batch * d.in_h * d.in_w * d.in_c,
                         .flip = _mm512_set1_epi8(static_cast<char>(shift)),
                         .fill = _mm512_set1_epi8(static_cast<char>(args.x_zero_point + shift))};
  std::int64_t held = -1;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const ConvUnit block = unit_at(plan, unit);
    const std::uint8_t* rows = plan.reads_in_place ? gather.x + block.row_begin * plan.pitch : gathered;
    // Units that follow each other share their rows when only the panels differ.
    if (!plan.reads_in_place && held != block.row_unit) {
      gather_rows(plan, gather, block.group, block.row_begin, block.row_end, gathered);
      held = block.row_unit;
    }
    for (std::int64_t panel = block.panel_begin; panel < block.panel_end; panel += 2) {
      PanelRun run = panel_run(plan, args, block, rows, panel);
      multiply_small_tiles(plan, args, run);
      multiply_tiles(plan, args, run);
    }
  }
}

}  // namespace aoq::cpu
