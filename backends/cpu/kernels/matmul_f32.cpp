#include "backends/cpu/kernels/matmul_f32.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kAvx512Panels = 4;  // that one unit packs

void run_scalar(const MatmulDims& d, const MatmulF32Args& args, std::int64_t unit_begin, std::int64_t unit_end) {
  std::int64_t panels = ceil_div(d.n, kPanelChannels);
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    std::int64_t inner = unit / panels % d.inner;
    std::int64_t outer = unit / panels / d.inner;
    const float* a = args.a + outer * d.a_outer + inner * d.a_inner;
    const float* b = args.b + outer * d.b_outer + inner * d.b_inner;
    float* out = args.out + outer * d.out_outer + inner * d.out_inner;
    std::int64_t begin = unit % panels * kPanelChannels;
    std::int64_t end = std::min(begin + kPanelChannels, d.n);
    for (std::int64_t row = 0; row < d.m; ++row) {
      for (std::int64_t column = begin; column < end; ++column) {
        float acc = 0.0f;
        for (std::int64_t k = 0; k < d.k; ++k) acc = std::fma(a[row * d.a_row + k], b[k * d.b_k + column * d.b_n], acc);
        out[row * d.out_row + column] = acc;
      }
    }
  }
}

}  // namespace

MatmulF32Plan plan_matmul_f32(const MatmulDims& dims, Isa isa) {
  AOQ_CHECK(dims.b_k == 1 || dims.b_n == 1);
  MatmulF32Plan plan;
  plan.dims = dims;
  plan.isa = isa;
  std::int64_t panels = isa >= Isa::avx512_vnni ? kAvx512Panels : 1;
  plan.units = dims.outer * dims.inner * ceil_div(dims.n, panels * kPanelChannels);
  if (isa == Isa::reference) return plan;
  std::int64_t panel = round_up(dims.k, 8) * kPanelChannels * 4;
  plan.scratch_bytes = panels * (panel + kMatmulRows * kPanelChannels * 4) + kMatmulRows * 8;
  return plan;
}

void run_matmul_f32(const MatmulF32Plan& plan, const MatmulF32Args& args, std::int64_t unit_begin,
                    std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx512_vnni) return run_matmul_f32_avx512(plan, args, unit_begin, unit_end, scratch);
  if (plan.isa >= Isa::avx2) return run_matmul_f32_avx2(plan, args, unit_begin, unit_end, scratch);
#endif
  run_scalar(plan.dims, args, unit_begin, unit_end);
}

}  // namespace aoq::cpu
