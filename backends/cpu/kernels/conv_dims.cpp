#include "backends/cpu/kernels/conv_dims.h"

namespace aoq::cpu {

std::int64_t conv_output_size(const ConvAxis& axis) {
  std::int64_t span = axis.in + axis.pad_begin + axis.pad_end - axis.dilation * (axis.kernel - 1) - 1;
  return span < 0 ? 0 : span / axis.stride + 1;
}

ConvDims dims_of_linear(std::int64_t m, std::int64_t k, std::int64_t n) {
  ConvDims dims;
  dims.in_w = m;
  dims.out_w = m;
  dims.in_c = k;
  dims.out_c = n;
  return dims;
}

}  // namespace aoq::cpu
