// The geometry of a two-dimensional convolution over NHWC tensors, shared by all convolution kernels.
#pragma once

#include <cstdint>

namespace aoq::cpu {

// A one-dimensional convolution has in_h = kernel_h = 1. Padding below and to the right only shows in out_h and out_w.
struct ConvDims {
  std::int64_t batch = 1;
  std::int64_t in_h = 1;
  std::int64_t in_w = 1;
  std::int64_t in_c = 1;
  std::int64_t out_h = 1;
  std::int64_t out_w = 1;
  std::int64_t out_c = 1;
  std::int64_t kernel_h = 1;
  std::int64_t kernel_w = 1;
  std::int64_t stride_h = 1;
  std::int64_t stride_w = 1;
  std::int64_t dilation_h = 1;
  std::int64_t dilation_w = 1;
  std::int64_t pad_top = 0;
  std::int64_t pad_left = 0;
  std::int64_t groups = 1;
};

// out_h or out_w of one axis: floor((in + pad_begin + pad_end - dilation * (kernel - 1) - 1) / stride) + 1.
struct ConvAxis {
  std::int64_t in, kernel, stride, dilation, pad_begin, pad_end;
};
std::int64_t conv_output_size(const ConvAxis& axis);

// A matrix product of [m, k] rows is the 1x1 convolution of m pixels.
ConvDims dims_of_linear(std::int64_t m, std::int64_t k, std::int64_t n);

}  // namespace aoq::cpu
