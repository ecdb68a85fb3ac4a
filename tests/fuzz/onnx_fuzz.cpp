// Imports the input as an ONNX file. Constants that folding makes are limited, so that time is.
#include "formats/onnx/importer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace aoq;
  fuzz::Input input(data, size);
  onnx::OnnxOptions options;
  options.max_folded_bytes = 1 << 18;
  options.limits.nodes = 10'000;
  fuzz::MemoryWatch watch(256 * size + 64 * fuzz::kMegabyte);
  fuzz::require_typed(onnx::import_onnx(input.bytes(), options).status());
  fuzz::require_typed(onnx::read_tensor(input.bytes()).status());
  return 0;
}
