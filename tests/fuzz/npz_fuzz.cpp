// Reads the input as an `.npz` archive and as an `.npy` array.
#include "formats/npy/npy.h"
#include "tests/fuzz/fuzz.h"

namespace {

aoq::Status read_archive(std::span<const std::byte> bytes, const aoq::Limits& limits) {
  AOQ_ASSIGN(const aoq::NpzReader npz, aoq::NpzReader::open(bytes, nullptr, limits));
  for (const std::string& name : npz.names()) aoq::fuzz::require_typed(npz.read(name).status());
  return {};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace aoq;
  fuzz::Input input(data, size);
  Limits limits;
  limits.inflated_bytes = 1 << 20;
  fuzz::MemoryWatch watch(64 * size + 4 * fuzz::kMegabyte);
  fuzz::require_typed(read_npy(input.bytes(), nullptr, limits).status());
  fuzz::require_typed(read_archive(input.bytes(), limits));
  return 0;
}
