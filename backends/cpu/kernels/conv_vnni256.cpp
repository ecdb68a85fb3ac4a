#include "backends/cpu/kernels/conv_vnni256.h"

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/status.h"

namespace aoq::cpu {

ConvPanelsPlan plan_conv_vnni256(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  return plan_conv_panels(dims, x_type, epilogue, {panel_bytes_conv_vnni(dims), kVnni256TileRows, 1});
}

void run_conv_vnni256(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                      std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (cpu_features().avx_vnni) return run_conv_vnni256_avxvnni(plan, args, unit_begin, unit_end, scratch);
  return run_conv_vnni256_avx512(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
