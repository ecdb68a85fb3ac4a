// AVX-512 matrix product: four panels of 16 columns of b are packed to the F32_N16 layout in scratch, then all rows use
// them.
#include "backends/cpu/kernels/entry_avx512.h"
#include "backends/cpu/kernels/matmul_f32.h"
#include "backends/cpu/kernels/pack_columns_f32.h"
#include "backends/cpu/kernels/row_tiles_f32.h"
#include "backends/cpu/kernels/tile_f32_avx512.h"

namespace aoq::cpu {
namespace {

// K of one block: in four panels 192 KB.
constexpr std::int64_t kBlockK = 768;

// The scratch of a worker and what is packed in it.
struct Packed {
  float* weights;  // [panels][k rounded up to 8][16]
  std::int64_t pitch;
  std::int64_t panels;
  std::int64_t columns;
  float* acc;          // [kMatmulRows][64]
  const float** rows;  // [tile][6]
};

void pack(const MatmulDims& d, const float* b, const Packed& packed) {
  for (std::int64_t panel = 0; panel < packed.panels; ++panel, b += 16 * d.b_n) {
    std::int64_t columns = min_of(packed.columns - 16 * panel, 16);
    float* to = packed.weights + panel * packed.pitch;
    if (d.b_n == 1) {
      pack_columns(b, d.b_k, d.k, columns, to);
    } else {
      pack_rows(b, d.b_n, d.k, columns, to);
    }
  }
}

// Asks for a tile's place in the output before its products: they take long enough for it to come.
void fetch_for_writing(const TargetTileF32& target, std::int64_t rows, std::int64_t panels) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* out = target.out + r * target.pitch;
    for (std::int64_t p = 0; p < panels; ++p) asm volatile("prefetchw %0" : : "m"(out[16 * p]));
  }
}

// Rows of a times the packed panels, into out.
void multiply_rows(const MatmulDims& d, const Packed& packed, std::int64_t rows, const float* a, float* out) {
  RowTiles tiles(rows);
  for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
    const float* first = a + tiles.begin(tile) * d.a_row;
    for (std::int64_t r = 0; r < tiles.rows(tile); ++r) packed.rows[tile * kTileRows + r] = first + r * d.a_row;
  }
  TargetTileF32 target = target_of({}, d.out_row);
  target.last_columns = packed.columns - 16 * (packed.panels - 1);
  std::int64_t k = 0;
  do {  // once even for no products at all: their sums are zeros
    TileF32 x = {.runs = 1,
                 .offset = k,
                 .length = min_of(d.k - k, kBlockK),
                 .weights = packed.weights + 16 * k,
                 .panel_pitch = packed.pitch,
                 .ahead = packed.weights + 16 * k,
                 .is_first = k == 0};
    k += x.length;
    for (std::int64_t tile = 0; tile < tiles.count; ++tile) {
      std::int64_t row = tiles.begin(tile);
      x.rows = packed.rows + tile * kTileRows;
      x.acc = packed.acc + row * kTileColumns;
      target.out = out + row * d.out_row;
      if (k == d.k) fetch_for_writing(target, tiles.rows(tile), packed.panels);
      tile_f32_of(tiles.rows(tile), packed.panels, target.last_columns)(x, k == d.k ? &target : nullptr);
    }
  } while (k < d.k);
}

}  // namespace

void run_matmul_f32_avx512(const MatmulF32Plan& plan, const MatmulF32Args& args, std::int64_t unit_begin,
                           std::int64_t unit_end, std::byte* scratch) {
  const MatmulDims& d = plan.dims;
  std::int64_t steps = (d.n + kTileColumns - 1) / kTileColumns;
  Packed packed = {.weights = reinterpret_cast<float*>(scratch), .pitch = (d.k + 7) / 8 * 8 * 16};
  packed.acc = packed.weights + kTilePanels * packed.pitch;
  packed.rows = reinterpret_cast<const float**>(packed.acc + kMatmulRows * kTileColumns);
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    std::int64_t inner = unit / steps % d.inner;
    std::int64_t outer = unit / steps / d.inner;
    std::int64_t column = unit % steps * kTileColumns;
    packed.columns = min_of(d.n - column, kTileColumns);
    packed.panels = (packed.columns + 15) / 16;
    pack(d, args.b + outer * d.b_outer + inner * d.b_inner + column * d.b_n, packed);
    const float* a = args.a + outer * d.a_outer + inner * d.a_inner;
    float* out = args.out + outer * d.out_outer + inner * d.out_inner + column;
    for (std::int64_t row = 0; row < d.m; row += kMatmulRows) {
      multiply_rows(d, packed, min_of(d.m - row, kMatmulRows), a + row * d.a_row, out + row * d.out_row);
    }
  }
}

}  // namespace aoq::cpu
