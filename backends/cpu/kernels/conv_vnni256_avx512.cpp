#include "backends/cpu/kernels/conv_vnni256_tile.h"
#include "backends/cpu/kernels/entry_avx512.h"

namespace aoq::cpu {

void run_conv_vnni256_avx512(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                             std::int64_t unit_end, std::byte* scratch) {
  run_panels<Tile>(plan, args, unit_begin, unit_end, scratch);
}

}  // namespace aoq::cpu
