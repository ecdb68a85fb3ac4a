// Convolution and pooling windows. Included by formats/onnx/*.cpp only.
#pragma once

#include "formats/onnx/context.h"

namespace aoq::onnx {

struct WindowAttributes {
  std::vector<std::int64_t> kernel, stride, dilation, pads;
};

// Reads strides, dilations, pads and auto_pad for a window over `x`, whose spatial dimensions start at 2.
Result<WindowAttributes> read_window(NodeContext& c, const Type& x, std::vector<std::int64_t> kernel);

Status import_conv(NodeContext& c);
Status import_conv_transpose(NodeContext& c);
Status import_max_pool(NodeContext& c);
Status import_average_pool(NodeContext& c);
Status import_lp_pool(NodeContext& c);

Status import_gemm(NodeContext& c);
Status import_matmul(NodeContext& c);
Status import_einsum(NodeContext& c);
// x [..., K] times w [K, N], as the op `linear` where w is a constant matrix.
Result<Value*> emit_matmul(NodeContext& c, Value* x, Value* w, Value* bias);

}  // namespace aoq::onnx
