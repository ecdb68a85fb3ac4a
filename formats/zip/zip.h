// A zip reader over bytes in memory and a writer of stored entries.
//
//   [local header, name, extra][payload][descriptor]?  ...  [central directory]  [zip64 end, locator]?  [end]
//
// The reader believes nothing twice: sizes, names, methods and checksums of the local headers must equal the central
// directory's, entries may not overlap, names may not repeat, nothing may stand before the first entry or after the end
// record, and comments are refused. Stored payloads are handed out in place, deflated ones are inflated up to a limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/status.h"

namespace aoq {

enum class ZipNames : std::uint8_t {
  canonical,  // relative, "/" between parts, no empty part, no "." or ".."
  any,        // whatever is not empty and has no NUL: an .npz uses names as keys only
};

struct ZipOptions {
  std::uint64_t max_entries = 1'000'000;
  std::uint64_t max_inflated_bytes = std::uint64_t{1} << 32;  // of one entry
  ZipNames names = ZipNames::canonical;
};

struct ZipEntry {
  std::string name;
  std::uint64_t header_offset = 0;
  std::uint64_t payload_offset = 0;
  std::uint64_t stored_size = 0;  // bytes in the archive
  std::uint64_t size = 0;         // bytes of the content
  std::uint32_t crc32 = 0;
  bool is_stored = true;  // otherwise deflated
};

class ZipReader {
 public:
  // `archive` must outlive the reader. invalid_data for a malformed archive, unsupported for encryption, other methods
  // and several disks, resource_limit for the limits.
  static Result<ZipReader> open(std::span<const std::byte> archive, const ZipOptions& options = {});

  // In the order of the central directory; directories (names that end in "/") are left out.
  const std::vector<ZipEntry>& entries() const { return entries_; }
  // Null when there is no such entry.
  const ZipEntry* find(std::string_view name) const;

  // The payload in place, checksum not looked at; unsupported for a deflated entry.
  Result<std::span<const std::byte>> stored(const ZipEntry& entry) const;
  // A copy of the content, checksum verified.
  Result<std::vector<std::byte>> read(const ZipEntry& entry) const;
  // Whether the checksum of a stored or deflated entry holds.
  Status verify(const ZipEntry& entry) const;

 private:
  std::span<const std::byte> archive_;
  ZipOptions options_;
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

// Takes bytes in order; the first error ends the writing.
using ZipSink = std::function<Status(std::span<const std::byte>)>;

// Writes stored entries whose payloads are 64-byte aligned, without a time stamp: equal input gives equal bytes.
class ZipWriter {
 public:
  explicit ZipWriter(ZipSink sink) : sink_(std::move(sink)) {}

  // The content is all pieces one after another.
  Status add(std::string_view name, std::span<const std::span<const std::byte>> pieces);
  Status add(std::string_view name, std::span<const std::byte> content) { return add(name, {&content, 1}); }
  // Writes the directory; nothing may be added after it.
  Status finish();

 private:
  Status write(std::span<const std::byte> bytes);

  ZipSink sink_;
  std::uint64_t offset_ = 0;
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

}  // namespace aoq
