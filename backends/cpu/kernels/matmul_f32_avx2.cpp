// AVX2 matrix product: a panel of 16 columns of b is packed to the F32_N16 layout in scratch, then all rows use it.
#include "backends/cpu/kernels/matmul_f32.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/pack_columns_f32.h"
#include "backends/cpu/kernels/tile_f32_avx2.h"

namespace aoq::cpu {
namespace {

struct Panel {
  const float* weights;
  float* acc;
  const float** rows;
};

// Rows [begin, begin + count) times a packed panel, into out (of row `begin` and the panel's first column).
void multiply_rows(const MatmulDims& d, const Panel& panel, const float* a, const TargetF32& target) {
  bool is_direct = is_clamped(EpilogueF32{}, target.columns) && d.k > 0;
  for (std::int64_t row = 0; row < target.rows; ++row) panel.rows[row] = a + row * d.a_row;
  if (d.k == 0) zero_floats(panel.acc, 16 * target.rows);
  for (std::int64_t k = 0; k < d.k; k += kBlockK) {
    for (std::int64_t row = 0; row < target.rows; row += kTileRows) {
      const float* weights = panel.weights + 16 * k;
      TileRows x = {.rows = panel.rows + row,
                    .taps = 1,
                    .offset = k,
                    .length = min_of(d.k - k, kBlockK),
                    .ahead = weights,
                    .is_first = k == 0};
      ClampedTarget clamped = clamped_target(EpilogueF32{}, target, row);
      MultiplyTileF32 multiply = tile_f32_of(min_of(target.rows - row, kTileRows), target.columns);
      multiply(x, weights, panel.acc + 16 * row, is_direct && k + kBlockK >= d.k ? &clamped : nullptr);
    }
  }
  if (!is_direct) store_tile_f32(EpilogueF32{}, target, panel.acc);
}

}  // namespace

void run_matmul_f32_avx2(const MatmulF32Plan& plan, const MatmulF32Args& args, std::int64_t unit_begin,
                         std::int64_t unit_end, std::byte* scratch) {
  const MatmulDims& d = plan.dims;
  std::int64_t panels = (d.n + 15) / 16;
  auto* weights = reinterpret_cast<float*>(scratch);
  float* acc = weights + (d.k + 7) / 8 * 8 * 16;
  Panel panel = {weights, acc, reinterpret_cast<const float**>(acc + kMatmulRows * 16)};
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    std::int64_t inner = unit / panels % d.inner;
    std::int64_t outer = unit / panels / d.inner;
    std::int64_t column = unit % panels * 16;
    std::int64_t columns = min_of(d.n - column, 16);
    const float* b = args.b + outer * d.b_outer + inner * d.b_inner + column * d.b_n;
    if (d.b_n == 1) {
      pack_columns(b, d.b_k, d.k, columns, weights);
    } else {
      pack_rows(b, d.b_n, d.k, columns, weights);
    }
    for (std::int64_t row = 0; row < d.m; row += kMatmulRows) {
      TargetF32 target = {.rows = min_of(d.m - row, kMatmulRows),
                          .columns = columns,
                          .pitch = d.out_row,
                          .bias = nullptr,
                          .residual = nullptr,
                          .out = args.out + outer * d.out_outer + inner * d.out_inner + row * d.out_row + column};
      multiply_rows(d, panel, args.a + outer * d.a_outer + inner * d.a_inner + row * d.a_row, target);
    }
  }
}

}  // namespace aoq::cpu
