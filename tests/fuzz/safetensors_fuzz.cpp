// Reads the input as a safetensors file and, as that is most of one, as JSON.
#include "formats/json/json.h"
#include "formats/safetensors/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace aoq;
  fuzz::Input input(data, size);
  fuzz::MemoryWatch watch(64 * size + 4 * fuzz::kMegabyte);
  fuzz::require_typed(read_safetensors(input.bytes()).status());
  const Result<Json> json = parse_json(input.bytes());
  fuzz::require_typed(json.status());
  if (json.ok()) {
    Result<Json> again = parse_json(dump_json(*json));
    AOQ_CHECK(again.ok() && dump_json(*again) == dump_json(*json));
  }
  return 0;
}
