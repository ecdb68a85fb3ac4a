// Reads the input as an `.aoq` file: as it is, and with a header that fits, so that damage gets past the hashes.
#include <algorithm>
#include <cstring>

#include "formats/aoq/aoq.h"
#include "formats/aoq/layout.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace aoq;
using aoq_layout::Header;

// The promise of ir/file_limits.h; constants are borrowed.
std::uint64_t promised(std::span<const std::byte> file) {
  return 4 * file.size() + 16 * fuzz::kMegabyte + fuzz::kMegabyte;
}

void read(std::span<const std::byte> file) {
  fuzz::MemoryWatch watch(promised(file));
  fuzz::require_typed(read_aoq(file, nullptr).status());
  fuzz::require_typed(read_aoq_summary(file).status());
  fuzz::require_typed(verify_aoq(file));
}

void seal(std::span<std::byte> file) {
  Header header;
  std::memcpy(&header, file.data(), sizeof header);
  const std::uint64_t most = file.size() - sizeof header;
  header.magic = aoq_layout::kMagic;
  header.version = kAoqVersion;
  header.header_size = sizeof header;
  header.features = 0;
  header.metadata_offset = sizeof header;
  header.metadata_size = std::min(header.metadata_size, most);
  header.metadata_hash = xxh64(file.subspan(sizeof header, header.metadata_size));
  header.file_size = file.size();
  header.header_hash = hash_of(header);
  std::memcpy(file.data(), &header, sizeof header);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  aoq::fuzz::Input input(data, size);
  read(input.bytes());
  if (size < sizeof(Header)) return 0;
  seal(input.bytes());
  read(input.bytes());
  return 0;
}
