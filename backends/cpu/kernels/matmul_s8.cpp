#include "backends/cpu/kernels/matmul_s8.h"

#include <algorithm>

namespace aoq::cpu {
namespace {

constexpr std::int64_t kColumns = 32, kRows = 4;

std::int16_t widened(const std::byte* data, std::int64_t i, DType type, std::int32_t zero_point) {
  const std::int32_t code = type == DType::i8 ? static_cast<std::int32_t>(static_cast<std::int8_t>(data[i]))
                                              : static_cast<std::int32_t>(static_cast<std::uint8_t>(data[i]));
  return static_cast<std::int16_t>(code - zero_point);
}

// [pairs][32][2]: columns beyond n and the odd K's partner are 0.
void pack_panel(const MatmulS8Plan& p, const std::byte* b, std::int64_t column, std::int16_t* out) {
  const std::int64_t width = std::min(kColumns, p.n - column), pairs = (p.k + 1) / 2;
  std::fill_n(out, pairs * kColumns * 2, std::int16_t{0});
  for (std::int64_t k = 0; k < p.k; ++k) {
    const std::byte* row = b + k * p.n + column;
    std::int16_t* to = out + k / 2 * kColumns * 2 + k % 2;
    for (std::int64_t j = 0; j < width; ++j) to[2 * j] = widened(row, j, p.b_type, p.b_zero_point);
  }
}

void widen_rows(const MatmulS8Plan& p, const std::byte* a, std::int64_t rows, std::int64_t pitch, std::int16_t* out) {
  std::fill_n(out, kRows * pitch, std::int16_t{0});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < p.k; ++k) {
      out[r * pitch + k] = widened(a, r * p.k + k, p.a_type, p.a_zero_point);
    }
  }
}

void store_row(const MatmulS8Plan& p, const std::int32_t* sums, std::int64_t width, std::byte* out, std::int64_t at) {
  if (p.out_type == DType::i32) {
    std::copy_n(sums, width, reinterpret_cast<std::int32_t*>(out) + at);
    return;
  }
  for (std::int64_t j = 0; j < width; ++j) {
    const float v = static_cast<float>(sums[j]) * p.multiplier;
    if (p.out_type == DType::f32) {
      reinterpret_cast<float*>(out)[at + j] = v;
    } else {
      out[at + j] = static_cast<std::byte>(round_and_clamp(v, p.bounds));
    }
  }
}

void multiply(const MatmulS8Plan& p, const std::int16_t* a, std::int64_t pitch, const std::int16_t* b,
              std::int32_t* sums) {
#if defined(AOQ_KERNELS_AVX2)
  if (p.isa >= Isa::avx2) return multiply_s16_avx2(a, pitch, b, pitch / 2, sums);
#endif
  multiply_s16(a, pitch, b, pitch / 2, sums);
}

}  // namespace

void multiply_s16(const std::int16_t* a, std::int64_t pitch, const std::int16_t* b, std::int64_t pairs,
                  std::int32_t* sums) {
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t j = 0; j < kColumns; ++j) {
      std::uint32_t sum = 0;  // wraps as the definition's does
      for (std::int64_t k = 0; k < 2 * pairs; ++k) {
        sum += static_cast<std::uint32_t>(a[r * pitch + k] * b[(k / 2 * kColumns + j) * 2 + k % 2]);
      }
      sums[r * kColumns + j] = static_cast<std::int32_t>(sum);
    }
  }
}

void run_matmul_s8(const MatmulS8Plan& p, const MatmulS8Args& args, std::int64_t begin, std::int64_t end,
                   std::byte* scratch) {
  const std::int64_t pitch = (p.k + 1) / 2 * 2;
  auto* panel = reinterpret_cast<std::int16_t*>(scratch);
  std::int16_t* rows = panel + pitch * kColumns;
  alignas(64) std::int32_t sums[kRows * kColumns];
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const MatmulS8Batch& at = p.batches[static_cast<std::size_t>(unit / p.panels())];
    const std::int64_t column = unit % p.panels() * kColumns, width = std::min(kColumns, p.n - column);
    pack_panel(p, args.b + at.b, column, panel);
    for (std::int64_t row = 0; row < p.m; row += kRows) {
      const std::int64_t count = std::min(kRows, p.m - row);
      widen_rows(p, args.a + at.a + row * p.k, count, pitch, rows);
      multiply(p, rows, pitch, panel, sums);
      for (std::int64_t r = 0; r < count; ++r) {
        store_row(p, sums + r * kColumns, width, args.out, at.out + (row + r) * p.n + column);
      }
    }
  }
}

}  // namespace aoq::cpu
