#include "backends/cpu/kernels/conv_vnni.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

std::int64_t steps_of(const ConvDims& dims) {
  return ceil_div(products_per_output(dims), 4);
}

}  // namespace

ConvPanelsPlan plan_conv_vnni(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  const bool is_small = epilogue.out_type != DType::f32 && steps_of(dims) <= kVnniSmallSteps;
  const std::int64_t rows = is_small ? kVnniSmallTileRows / 2 : kVnniTileRows;
  return plan_conv_panels(dims, x_type, epilogue, {panel_bytes_conv_vnni(dims), rows, 2, /*avoids_aliasing=*/true});
}

std::int64_t panel_bytes_conv_vnni(const ConvDims& dims) {
  return 64 + steps_of(dims) * 64;
}

std::int64_t packed_bytes_conv_vnni(const ConvDims& dims) {
  return dims.groups * panels_per_group(dims) * panel_bytes_conv_vnni(dims);
}

void pack_conv_vnni(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  const std::int64_t group_in = dims.in_c / dims.groups, taps = dims.kernel_h * dims.kernel_w;
  const std::int64_t steps = steps_of(dims);
  std::fill(packed.begin(), packed.end(), std::byte{0});
  std::vector<std::int8_t> row(static_cast<std::size_t>(4 * steps));  // of one channel, in the order of K
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel, weights += group_in * taps) {
    const std::int64_t group = channel / group_outputs(dims), local = channel % group_outputs(dims);
    std::byte* panel =
        packed.data() + (group * panels_per_group(dims) + local / kPanelChannels) * panel_bytes_conv_vnni(dims);
    std::int32_t sum = 0;
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      std::int8_t* to = row.data() + tap * group_in;
      for (std::int64_t c = 0; c < group_in; ++c) {
        to[c] = weights[c * taps + tap];
        sum += to[c];
      }
    }
    const std::int64_t column = local % kPanelChannels;
    std::memcpy(panel + 4 * column, &sum, 4);
    for (std::int64_t step = 0; step < steps; ++step) {
      std::memcpy(panel + 64 * (1 + step) + 4 * column, row.data() + 4 * step, 4);
    }
  }
}

std::int64_t index_conv_vnni(const ConvDims& dims, std::int64_t channel, std::int64_t k) {
  const std::int64_t group = channel / group_outputs(dims), local = channel % group_outputs(dims);
  const std::int64_t panel = group * panels_per_group(dims) + local / kPanelChannels;
  return panel * panel_bytes_conv_vnni(dims) + 64 * (1 + k / 4) + local % kPanelChannels * 4 + k % 4;
}

void run_conv_vnni(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin, std::int64_t unit_end,
                   std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  run_conv_avx512_vnni(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
