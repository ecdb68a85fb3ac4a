// AVX2 matrix product: a panel of 16 columns of b is packed to the F32_N16 layout in scratch, then all rows use it.
#include "backends/cpu/kernels/matmul_f32.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/tile_f32_avx2.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kRowBlock = 96;

void pack_columns(const float* b, std::int64_t pitch, std::int64_t k, std::int64_t columns, float* out) {
  for (std::int64_t i = 0; i < k; ++i) {
    store(out + 16 * i, load_first(b + i * pitch, columns));
    store(out + 16 * i + 8, columns > 8 ? load_first(b + i * pitch + 8, columns - 8) : F32x8(0.0f));
  }
}

// Eight rows of eight floats, transposed in place.
void transpose_8x8(__m256* r) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// b has one contiguous row of k values per column.
void pack_rows(const float* b, std::int64_t pitch, std::int64_t k, std::int64_t columns, float* out) {
  for (std::int64_t half = 0; half < 2; ++half) {
    for (std::int64_t i = 0; i < k; i += 8) {
      __m256 r[8];
      for (std::int64_t j = 0; j < 8; ++j) {
        bool exists = 8 * half + j < columns;
        r[j] = exists ? load_first(b + (8 * half + j) * pitch + i, k - i).v : _mm256_setzero_ps();
      }
      transpose_8x8(r);
      for (std::int64_t j = 0; j < 8; ++j) _mm256_store_ps(out + 16 * (i + j) + 8 * half, r[j]);
    }
  }
}

struct Panel {
  const float* weights;
  float* acc;
  const float** rows;
};

// Rows [begin, begin + count) times a packed panel, into out (of row `begin` and the panel's first column).
void multiply_rows(const MatmulDims& d, const Panel& panel, const float* a, const TargetF32& target) {
  bool is_direct = is_clamped(EpilogueF32{}, target.columns) && d.k > 0;
  for (std::int64_t row = 0; row < target.rows; ++row) panel.rows[row] = a + row * d.a_row;
  for (std::int64_t k = 0; k < d.k; k += kBlockK) {
    for (std::int64_t row = 0; row < target.rows; row += kTileRows) {
      TileRows x = {
          .rows = panel.rows + row, .taps = 1, .offset = k, .length = min_of(d.k - k, kBlockK), .is_first = k == 0};
      ClampedTarget clamped = clamped_target(EpilogueF32{}, target, row);
      MultiplyTileF32 multiply = tile_f32_of(min_of(target.rows - row, kTileRows), target.columns);
      multiply(x, panel.weights + 16 * k, panel.acc + 16 * row, is_direct && k + kBlockK >= d.k ? &clamped : nullptr);
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
  Panel panel = {weights, acc, reinterpret_cast<const float**>(acc + kRowBlock * 16)};
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
    for (std::int64_t row = 0; row < d.m; row += kRowBlock) {
      TargetF32 target = {.rows = min_of(d.m - row, kRowBlock),
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
