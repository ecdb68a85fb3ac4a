// Attention in int8 without VNNI: codes as s16 in the panels of matmul_s8.h, four rows at a time.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/kernels/attention.h"
#include "backends/cpu/kernels/attention_rows_s8.h"
#include "backends/cpu/kernels/attention_vnni.h"
#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/matmul_s8.h"
#include "ir/attention_levels.h"
#include "ir/math.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kRows = 4;
constexpr std::int64_t kPanel = 32;

// What a worker's scratch holds; depth and columns are padded to pairs, columns and width to panels.
struct Scratch {
  std::int64_t depth, columns, width, lines;
  std::int16_t* keys;     // [columns / 32][depth / 2][32][2]
  std::int16_t* values;   // [width / 32][columns / 2][32][2]
  float* key_scales;      // [columns]
  float* value_scales;    // [width]
  std::int16_t* query;    // [4][depth], and what the last one's vectors write behind it
  std::int16_t* weights;  // [4][columns]
  std::int32_t* sums;     // [columns / 32 or width / 32][4][32]
  float* scores;          // [columns]
  float* mean;            // [depth], of k
  std::int16_t* line;     // of k or v
  float* result;          // [width], of one row
  std::int64_t bytes = 0;

  Scratch(const AttentionDims& d, std::byte* at)
      : depth(round_up(d.depth, 2)),
        columns(round_up(d.columns, kPanel)),
        width(round_up(d.width, kPanel)),
        lines(round_up(std::max(d.depth, d.columns), kPanel)) {
    keys = take<std::int16_t>(at, columns * depth);
    values = take<std::int16_t>(at, width * columns);
    key_scales = take<float>(at, columns);
    value_scales = take<float>(at, width);
    query = take<std::int16_t>(at, kRows * depth + 8);
    weights = take<std::int16_t>(at, kRows * columns);
    sums = take<std::int32_t>(at, kRows * std::max(columns, width));
    scores = take<float>(at, columns);
    mean = take<float>(at, depth);
    line = take<std::int16_t>(at, lines);
    result = take<float>(at, width);
  }
  template <typename T>
  T* take(std::byte* at, std::int64_t count) {
    std::int64_t begin = bytes;
    bytes += round_up(count * static_cast<std::int64_t>(sizeof(T)), 64);
    return at == nullptr ? nullptr : reinterpret_cast<T*>(at + begin);
  }
};

// Codes of a line less its mean, if there is one; returns their step.
float line_codes(Isa isa, const CodeLine& line, std::int16_t* codes) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return line_codes_avx2(line, codes);
#endif
  const auto number = [&](std::int64_t i) {
    const float x = line.x[i * line.pitch];
    return line.mean == nullptr ? x : x - line.mean[i];
  };
  float max = 0.0f;
  for (std::int64_t i = 0; i < line.count; ++i) max = math::maximum(max, std::fabs(number(i)));
  const float step = max / 127.0f;
  const float inverse = step > 0.0f ? 1.0f / step : 0.0f;
  for (std::int64_t i = 0; i < line.count; ++i) {
    codes[i] = static_cast<std::int16_t>(quantize_value(number(i), inverse, 0, -127, 127));
  }
  return step;
}

// Line `column` of a panelled matrix of `pairs` pairs.
void put_line(std::int16_t* panels, std::int64_t pairs, std::int64_t column, const std::int16_t* codes) {
  std::int16_t* to = panels + (column / kPanel * pairs * kPanel + column % kPanel) * 2;
  for (std::int64_t i = 0; i < pairs; ++i) std::copy_n(codes + 2 * i, 2, to + i * kPanel * 2);
}

void pack_keys(const AttentionPlan& plan, const AttentionUnit& u, const Scratch& s) {
  const AttentionDims& d = plan.dims;
  std::fill_n(s.mean, d.depth, 0.0f);
  for (std::int64_t j = 0; j < d.columns; ++j) {
    for (std::int64_t i = 0; i < d.depth; ++i) s.mean[i] = s.mean[i] + u.k[j * d.heads * d.depth + i];
  }
  for (std::int64_t i = 0; i < d.depth; ++i) s.mean[i] = s.mean[i] / static_cast<float>(d.columns);
  for (std::int64_t j = 0; j < d.columns; ++j) {
    const CodeLine line = {.x = u.k + j * d.heads * d.depth, .pitch = 1, .mean = s.mean, .count = d.depth};
    s.key_scales[j] = line_codes(plan.isa, line, s.line);
    put_line(s.keys, s.depth / 2, j, s.line);
  }
}

void pack_values(const AttentionPlan& plan, const AttentionUnit& u, const Scratch& s) {
  const AttentionDims& d = plan.dims;
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx2) {
    return pack_columns_s16_avx2({.x = u.v,
                                  .pitch = d.heads * d.width,
                                  .rows = d.columns,
                                  .columns = d.width,
                                  .steps = s.value_scales,
                                  .panels = s.values,
                                  .pairs = s.columns / 2});
  }
#endif
  for (std::int64_t e = 0; e < d.width; ++e) {
    const CodeLine line = {.x = u.v + e, .pitch = d.heads * d.width, .mean = nullptr, .count = d.columns};
    s.value_scales[e] = line_codes(plan.isa, line, s.line);
    put_line(s.values, s.columns / 2, e, s.line);
  }
}

void pack(const AttentionPlan& plan, const AttentionUnit& u, const Scratch& s) {
  std::fill_n(s.keys, s.columns * s.depth, std::int16_t{0});
  std::fill_n(s.values, s.width * s.columns, std::int16_t{0});
  std::fill_n(s.query, kRows * s.depth + 8, std::int16_t{0});
  std::fill_n(s.weights, kRows * s.columns, std::int16_t{0});
  std::fill_n(s.line, s.lines, std::int16_t{0});
  pack_keys(plan, u, s);
  std::fill_n(s.line, s.lines, std::int16_t{0});
  pack_values(plan, u, s);
}

void multiply(Isa isa, const std::int16_t* a, std::int64_t depth, const std::int16_t* panels, std::int64_t columns,
              std::int32_t* sums) {
  for (std::int64_t panel = 0; panel < columns / kPanel; ++panel) {
    const std::int16_t* b = panels + panel * depth * kPanel;
    std::int32_t* to = sums + panel * kRows * kPanel;
#if defined(AOQ_KERNELS_AVX2)
    if (isa >= Isa::avx2) {
      multiply_s16_avx2(a, depth, b, depth / 2, to);
      continue;
    }
#endif
    multiply_s16(a, depth, b, depth / 2, to);
  }
}

float weigh_row(Isa isa, const WeighRow& row) {
#if defined(AOQ_KERNELS_AVX2)
  if (isa >= Isa::avx2) return weigh_row_avx2(row);
#endif
  float max = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < row.columns; ++i) {
    float score = static_cast<float>(row.sums[i / kPanel * row.panel_pitch + i % kPanel]) * row.scales[i];
    score = row.mask == nullptr ? score * row.factor : std::fma(score, row.factor, row.mask[i * row.mask_column]);
    row.scores[i] = score;
    max = score > max ? score : max;
  }
  std::int32_t sum = 0;
  const auto levels = static_cast<float>(row.levels);
  for (std::int64_t i = 0; i < row.columns; ++i) {
    std::int32_t weight = quantize_value(math::exp_weight(row.scores[i] - max), levels, 0, 0, row.levels);
    row.weights[i] = static_cast<std::int16_t>(weight);
    sum += weight;
  }
  return 1.0f / static_cast<float>(sum);
}

// Results of one row from its sums in the panels.
void store_row(const AttentionPlan& plan, const Scratch& s, std::int64_t row, float inverse, std::byte* out) {
  const AttentionDims& d = plan.dims;
  float* y = plan.gives_codes ? s.result : reinterpret_cast<float*>(out);
  for (std::int64_t panel = 0; panel < d.width; panel += kPanel) {
    const std::int32_t* sums = s.sums + panel * kRows + row * kPanel;
    for (std::int64_t e = 0; e < std::min(kPanel, d.width - panel); ++e) {
      y[panel + e] = (static_cast<float>(sums[e]) * s.value_scales[panel + e]) * inverse;
    }
  }
  if (plan.gives_codes) quantize_f32(plan.isa, plan.codes, y, out, d.width);
}

void run_unit(const AttentionPlan& plan, const AttentionUnit& u, void* result, std::byte* scratch) {
  const AttentionDims& d = plan.dims;
  const Scratch s(d, scratch);
  const ScoresF32& steps = plan.scores;
  pack(plan, u, s);
  for (std::int64_t first = 0; first < u.rows; first += kRows) {
    std::int64_t rows = std::min(u.rows - first, kRows);
    float factors[kRows], inverse[kRows];
    for (std::int64_t r = 0; r < rows; ++r) {
      const CodeLine line = {.x = u.q + (first + r) * d.heads * d.depth, .pitch = 1, .mean = nullptr, .count = d.depth};
      factors[r] = line_codes(plan.isa, line, s.query + r * s.depth);
      if (steps.has_scale) factors[r] = factors[r] * steps.scale;
      if (steps.has_divisor) factors[r] = factors[r] / steps.divisor;
    }
    multiply(plan.isa, s.query, s.depth, s.keys, s.columns, s.sums);
    for (std::int64_t r = 0; r < rows; ++r) {
      inverse[r] = weigh_row(plan.isa, {.sums = s.sums + r * kPanel,
                                        .panel_pitch = kRows * kPanel,
                                        .scales = s.key_scales,
                                        .factor = factors[r],
                                        .mask = u.mask == nullptr ? nullptr : u.mask + (first + r) * d.mask_row,
                                        .mask_column = d.mask_column,
                                        .columns = d.columns,
                                        .levels = plan.levels,
                                        .scores = s.scores,
                                        .weights = s.weights + r * s.columns});
    }
    multiply(plan.isa, s.weights, s.columns, s.values, s.width, s.sums);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::int64_t at = u.out + (first + r) * d.heads * d.width;
      store_row(plan, s, r, inverse[r], static_cast<std::byte*>(result) + (plan.gives_codes ? at : 4 * at));
    }
  }
}

}  // namespace

void plan_attention_s8(AttentionPlan& plan, std::int64_t units) {
  const AttentionDims& d = plan.dims;
  plan.levels = attention_levels(d.columns);
  // Scores leave no cache, so only the number of units limits a block.
  std::int64_t blocks = ceil_div(units, std::max<std::int64_t>(d.batch * d.heads, 1));
  plan.block = std::min(std::max<std::int64_t>(ceil_div(d.rows, std::max<std::int64_t>(blocks, 1)), 24), d.rows);
  plan.blocks = plan.block == 0 ? 0 : ceil_div(d.rows, plan.block);
  plan.scratch_bytes = plan.isa >= Isa::avx512_vnni ? VnniScratch(d, nullptr).bytes : Scratch(d, nullptr).bytes;
}

void run_attention_s8(const AttentionPlan& plan, const AttentionArgs& args, std::int64_t begin, std::int64_t end,
                      std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx512_vnni) return run_attention_avx512_vnni(plan, args, begin, end, scratch);
#endif
  for (std::int64_t unit = begin; unit < end; ++unit) {
    run_unit(plan, attention_unit(plan, args, unit), args.out, scratch);
  }
}

}  // namespace aoq::cpu
