#include <zlib.h>

#include <algorithm>
#include <array>

#include "formats/zip/records.h"
#include "formats/zip/zip.h"

namespace aoq {
namespace {

using zip::append;
using Bytes = std::span<const std::byte>;

constexpr std::uint64_t kAlignment = 64;
constexpr std::uint16_t kVersion = 20;
constexpr std::uint16_t kVersion64 = 45;
constexpr std::uint32_t kFirstOfJanuary1980 = 0x00210000;  // date and time in DOS form: the least there is

std::uint32_t checksum(std::uint32_t crc, Bytes bytes) {
  while (!bytes.empty()) {
    const std::size_t n = std::min<std::size_t>(bytes.size(), std::size_t{1} << 30);
    crc = static_cast<std::uint32_t>(::crc32(crc, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(n)));
    bytes = bytes.subspan(n);
  }
  return crc;
}

std::uint32_t saturate(std::uint64_t v) {
  return v >= zip::kSaturated32 ? zip::kSaturated32 : static_cast<std::uint32_t>(v);
}

// A zip64 extra field with those of the values that do not fit into 32 bits.
std::vector<std::byte> zip64_extra(std::initializer_list<std::uint64_t> values) {
  std::vector<std::byte> body;
  for (std::uint64_t v : values) {
    if (v >= zip::kSaturated32) append(body, v);
  }
  std::vector<std::byte> extra;
  if (body.empty()) return extra;
  append(extra, zip::kZip64Extra);
  append(extra, static_cast<std::uint16_t>(body.size()));
  zip::append_bytes(extra, body);
  return extra;
}

// What both kinds of header share, from the version needed to the name length.
void append_common(std::vector<std::byte>& out, const ZipEntry& e, std::uint16_t version) {
  append(out, version);
  append(out, zip::kUtf8Flag);
  append(out, std::uint16_t{0});
  append(out, kFirstOfJanuary1980);
  append(out, e.crc32);
  append(out, saturate(e.stored_size));
  append(out, saturate(e.size));
  append(out, static_cast<std::uint16_t>(e.name.size()));
}

void append_text(std::vector<std::byte>& out, std::string_view text) {
  zip::append_bytes(out, std::as_bytes(std::span(text)));
}

std::vector<std::byte> local_header(const ZipEntry& e) {
  const bool is_wide = e.size >= zip::kSaturated32;
  std::vector<std::byte> extra;
  // A local zip64 field must hold both sizes.
  if (is_wide) extra = zip64_extra({e.size, e.stored_size});
  const std::uint64_t unpadded = e.header_offset + zip::kLocalSize + e.name.size() + extra.size() + 4;
  const std::uint64_t padding = (kAlignment - unpadded % kAlignment) % kAlignment;
  append(extra, zip::kPaddingExtra);
  append(extra, static_cast<std::uint16_t>(padding));
  extra.resize(extra.size() + padding);
  std::vector<std::byte> header;
  append(header, zip::kLocalSignature);
  append_common(header, e, is_wide ? kVersion64 : kVersion);
  append(header, static_cast<std::uint16_t>(extra.size()));
  append_text(header, e.name);
  zip::append_bytes(header, extra);
  return header;
}

void append_central(std::vector<std::byte>& out, const ZipEntry& e) {
  const std::vector<std::byte> extra = zip64_extra({e.size, e.stored_size, e.header_offset});
  append(out, zip::kCentralSignature);
  append(out, kVersion64);
  append_common(out, e, extra.empty() ? kVersion : kVersion64);
  append(out, static_cast<std::uint16_t>(extra.size()));
  append(out, std::uint16_t{0});  // comment
  append(out, std::uint16_t{0});  // disk
  append(out, std::uint16_t{0});  // internal attributes
  append(out, std::uint32_t{0});  // external attributes
  append(out, saturate(e.header_offset));
  append_text(out, e.name);
  zip::append_bytes(out, extra);
}

void append_end64(std::vector<std::byte>& out, std::uint64_t count, std::uint64_t size, std::uint64_t offset) {
  append(out, zip::kEnd64Signature);
  append(out, std::uint64_t{zip::kEnd64Size - 12});
  append(out, kVersion64);
  append(out, kVersion64);
  append(out, std::uint32_t{0});
  append(out, std::uint32_t{0});
  append(out, count);
  append(out, count);
  append(out, size);
  append(out, offset);
  append(out, zip::kLocatorSignature);
  append(out, std::uint32_t{0});
  append(out, offset + size);
  append(out, std::uint32_t{1});
}

}  // namespace

Status ZipWriter::write(Bytes bytes) {
  AOQ_TRY(sink_(bytes));
  offset_ += bytes.size();
  return {};
}

Status ZipWriter::add(std::string_view name, std::span<const Bytes> pieces) {
  if (name.empty() || name.size() > 1024 || name.find('\0') != name.npos) {
    return error(Code::invalid_argument, "zip: \"{}\" cannot name an entry", name);
  }
  ZipEntry e;
  e.name = name;
  if (!by_name_.emplace(e.name, entries_.size()).second) {
    return error(Code::invalid_argument, "zip: two entries are named \"{}\"", name);
  }
  e.header_offset = offset_;
  for (Bytes piece : pieces) {
    e.crc32 = checksum(e.crc32, piece);
    e.size += piece.size();
  }
  e.stored_size = e.size;
  AOQ_TRY(write(local_header(e)));
  for (Bytes piece : pieces) AOQ_TRY(write(piece));
  entries_.push_back(std::move(e));
  return {};
}

Status ZipWriter::finish() {
  const std::uint64_t offset = offset_;
  const std::uint64_t count = entries_.size();
  std::vector<std::byte> out;
  for (const ZipEntry& e : entries_) append_central(out, e);
  const std::uint64_t size = out.size();
  if (count >= zip::kSaturated16 || size >= zip::kSaturated32 || offset >= zip::kSaturated32) {
    append_end64(out, count, size, offset);
  }
  const std::uint16_t narrow_count = static_cast<std::uint16_t>(std::min<std::uint64_t>(count, zip::kSaturated16));
  append(out, zip::kEndSignature);
  append(out, std::uint32_t{0});
  append(out, narrow_count);
  append(out, narrow_count);
  append(out, saturate(size));
  append(out, saturate(offset));
  append(out, std::uint16_t{0});
  return write(out);
}

}  // namespace aoq
