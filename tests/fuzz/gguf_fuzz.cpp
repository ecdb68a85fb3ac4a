// Reads the input as a GGUF file, and the numbers of its tensors.
#include "formats/gguf/gguf.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace aoq;
  fuzz::Input input(data, size);
  fuzz::MemoryWatch watch(64 * size + 4 * fuzz::kMegabyte);
  const Result<GgufFile> file = read_gguf(input.bytes());
  fuzz::require_typed(file.status());
  if (!file.ok()) return 0;
  for (const GgufTensor& t : file->tensors) fuzz::require_typed(gguf_floats(t).status());
  return 0;
}
