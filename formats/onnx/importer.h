// ONNX to Graph.
//
// Default domain, opset 7 and up. Every ONNX node becomes the aoq nodes that compute the same numbers; shape arithmetic
// (Shape, Gather, Concat, ... on dimensions) is carried out during the import and leaves no nodes. Constant expressions
// are folded. Anything that is not understood is an error that says what could be done about it.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/onnx/wire.h"
#include "ir/graph.h"

namespace aoq::onnx {

inline constexpr int kMinOpset = 7;
inline constexpr int kMaxOpset = 28;

// Bytes outside the model file, and what keeps them alive (null: static).
struct Blob {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// Fetches `length` bytes at `offset` of the file that a model calls `location`, a relative path. The implementation
// must stay below the model's directory whatever the path says.
using BlobResolver = std::function<Result<Blob>(std::string_view location, std::uint64_t offset, std::uint64_t length)>;

struct OnnxOptions {
  Limits limits;
  // Keeps the bytes handed to import_onnx alive. When set, large aligned initializers are not copied.
  std::shared_ptr<const void> owner;
  // Without one, models that keep tensors in other files are refused.
  BlobResolver external_data;
  // Values for dimensions that the model leaves open, by their name in the model or in the graph.
  SymbolValues bind;
  // Shapes for inputs that have none in the model, or to replace those.
  std::map<std::string, std::vector<Dim>, std::less<>> input_shapes;
  enum class InitializerInputs { constants, inputs };
  // What an initializer that is also listed as a graph input becomes.
  InitializerInputs initializer_inputs = InitializerInputs::constants;
  // Bytes of constants that folding may add.
  std::int64_t max_folded_bytes = std::int64_t{1} << 30;
};

// `bytes` need to outlive the graph only when options.owner is set, which then keeps them.
Result<Graph> import_onnx(std::span<const std::byte> bytes, const OnnxOptions& options = {});

// A TensorProto file, such as the test data of ONNX.
Result<Tensor> read_tensor(std::span<const std::byte> bytes);

}  // namespace aoq::onnx
