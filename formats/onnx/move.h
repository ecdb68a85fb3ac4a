// Handlers of ops that move elements. Included by formats/onnx/*.cpp only.
#pragma once

#include "formats/onnx/context.h"

namespace aoq::onnx {

Status import_compress(NodeContext& c);
Status import_concat(NodeContext& c);
Status import_depth_to_space(NodeContext& c);
Status import_gather(NodeContext& c);
Status import_gather_elements(NodeContext& c);
Status import_gather_nd(NodeContext& c);
Status import_non_zero(NodeContext& c);
Status import_one_hot(NodeContext& c);
Status import_pad(NodeContext& c);
Status import_scatter_elements(NodeContext& c);
Status import_scatter_nd(NodeContext& c);
Status import_slice(NodeContext& c);
Status import_space_to_depth(NodeContext& c);
Status import_split(NodeContext& c);
Status import_tile(NodeContext& c);
Status import_trilu(NodeContext& c);

// Opset 10, 11 and up, and the older Upsample.
Status import_resize_10(NodeContext& c);
Status import_resize(NodeContext& c);
Status import_upsample(NodeContext& c);

}  // namespace aoq::onnx
