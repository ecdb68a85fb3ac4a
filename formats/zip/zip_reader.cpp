#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>
#include <optional>

#include "formats/zip/records.h"
#include "formats/zip/zip.h"
#include "ir/checked.h"

namespace aoq {
namespace {

using zip::load;
using Bytes = std::span<const std::byte>;

constexpr std::uint64_t kMaxName = 1024;
// Deflate never does better than 1032 to 1.
constexpr std::uint64_t kMaxRatio = 1032;

template <typename... Args>
Status bad(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::invalid_data, "zip: {}", fmt::format(format, std::forward<Args>(args)...));
}

struct Directory {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t count = 0;
};

// A field of the end record either equals the zip64 one or is saturated.
bool agrees(std::uint64_t narrow, std::uint64_t saturated, std::uint64_t wide) {
  return narrow == saturated || narrow == wide;
}

Result<Directory> locate_zip64(Bytes file, std::uint64_t locator, const Directory& narrow) {
  const std::uint64_t end64 = load<std::uint64_t>(file, locator + 8);
  const std::uint32_t disks = load<std::uint32_t>(file, locator + 16);
  if (load<std::uint32_t>(file, locator + 4) != 0 || disks > 1) {
    return error(Code::unsupported, "zip: archive of several disks");
  }
  if (!checked::fits(end64, zip::kEnd64Size, locator) || end64 + zip::kEnd64Size != locator ||
      load<std::uint32_t>(file, end64) != zip::kEnd64Signature ||
      load<std::uint64_t>(file, end64 + 4) != zip::kEnd64Size - 12) {
    return bad("zip64 end record is not at {} before its locator", end64);
  }
  if (load<std::uint32_t>(file, end64 + 16) != 0 || load<std::uint32_t>(file, end64 + 20) != 0) {
    return error(Code::unsupported, "zip: archive of several disks");
  }
  Directory d;
  d.count = load<std::uint64_t>(file, end64 + 32);
  d.size = load<std::uint64_t>(file, end64 + 40);
  d.offset = load<std::uint64_t>(file, end64 + 48);
  if (load<std::uint64_t>(file, end64 + 24) != d.count) return bad("zip64 end record has two entry counts");
  if (!agrees(narrow.count, zip::kSaturated16, d.count) || !agrees(narrow.size, zip::kSaturated32, d.size) ||
      !agrees(narrow.offset, zip::kSaturated32, d.offset)) {
    return bad("the end record and the zip64 end record differ");
  }
  if (!checked::fits(d.offset, d.size, end64) || d.offset + d.size != end64) {
    return bad("directory [{}, +{}) does not end at its end record {}", d.offset, d.size, end64);
  }
  return d;
}

Result<Directory> locate_directory(Bytes file) {
  if (file.size() < zip::kEndSize) return bad("{} bytes are too few for an archive", file.size());
  const std::uint64_t end = file.size() - zip::kEndSize;
  if (load<std::uint32_t>(file, end) != zip::kEndSignature) {
    return bad("no end record in the last {} bytes (archive comments are not accepted)", zip::kEndSize);
  }
  if (load<std::uint16_t>(file, end + 20) != 0) return bad("the end record announces a comment that is not there");
  if (load<std::uint16_t>(file, end + 4) != 0 || load<std::uint16_t>(file, end + 6) != 0) {
    return error(Code::unsupported, "zip: archive of several disks");
  }
  Directory d;
  d.count = load<std::uint16_t>(file, end + 10);
  d.size = load<std::uint32_t>(file, end + 12);
  d.offset = load<std::uint32_t>(file, end + 16);
  if (load<std::uint16_t>(file, end + 8) != d.count) return bad("end record has two entry counts");
  if (end >= zip::kLocatorSize && load<std::uint32_t>(file, end - zip::kLocatorSize) == zip::kLocatorSignature) {
    return locate_zip64(file, end - zip::kLocatorSize, d);
  }
  if (!checked::fits(d.offset, d.size, end) || d.offset + d.size != end) {
    return bad("directory [{}, +{}) does not end at its end record {}", d.offset, d.size, end);
  }
  return d;
}

bool is_canonical(std::string_view name) {
  if (name.find('\\') != name.npos || name.find(':') != name.npos) return false;
  if (name.ends_with('/')) name.remove_suffix(1);
  while (true) {
    const std::size_t slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == name.npos) return true;
    name.remove_prefix(slash + 1);
  }
}

Status check_name(std::string_view name, ZipNames names) {
  if (name.empty() || name.size() > kMaxName) return bad("an entry name of {} bytes", name.size());
  if (name.find('\0') != name.npos) return bad("an entry name with a NUL in it");
  if (names == ZipNames::canonical && !is_canonical(name)) return bad("entry name \"{}\" is not canonical", name);
  return {};
}

// Fills in the fields that are saturated from the zip64 extra field, in the order the format lays down.
Status apply_zip64(Bytes extra, std::span<std::uint64_t* const> fields) {
  bool is_found = false;
  while (!extra.empty()) {
    if (extra.size() < 4) return bad("extra field ends early");
    const std::uint16_t id = load<std::uint16_t>(extra, 0);
    const std::uint16_t size = load<std::uint16_t>(extra, 2);
    extra = extra.subspan(4);
    if (size > extra.size()) return bad("extra field of {} bytes, {} left", size, extra.size());
    if (id == zip::kZip64Extra) {
      if (is_found) return bad("two zip64 extra fields");
      is_found = true;
      Bytes values = extra.first(size);
      for (std::uint64_t* field : fields) {
        if (*field != zip::kSaturated32) continue;
        if (values.size() < 8) return bad("zip64 extra field ends early");
        *field = load<std::uint64_t>(values, 0);
        values = values.subspan(8);
      }
    }
    extra = extra.subspan(size);
  }
  return {};
}

struct Header {
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc32 = 0;
  std::uint64_t stored_size = 0;
  std::uint64_t size = 0;
};

// The fields from `flags` on have one layout in both kinds of header.
Header load_header(Bytes file, std::uint64_t flags_at) {
  return {load<std::uint16_t>(file, flags_at), load<std::uint16_t>(file, flags_at + 2),
          load<std::uint32_t>(file, flags_at + 8), load<std::uint32_t>(file, flags_at + 12),
          load<std::uint32_t>(file, flags_at + 16)};
}

// After the payload of an entry whose sizes were not known in time: [signature], crc, two sizes of 4 or 8 bytes.
bool has_descriptor(Bytes file, std::uint64_t at, std::uint64_t limit, const ZipEntry& e) {
  auto matches = [&](std::uint64_t p, bool is_wide) {
    const std::uint64_t size = is_wide ? 20 : 12;
    if (!checked::fits(p, size, limit) || load<std::uint32_t>(file, p) != e.crc32) return false;
    if (is_wide) {
      return load<std::uint64_t>(file, p + 4) == e.stored_size && load<std::uint64_t>(file, p + 12) == e.size;
    }
    return load<std::uint32_t>(file, p + 4) == e.stored_size && load<std::uint32_t>(file, p + 8) == e.size;
  };
  if (checked::fits(at, 4, limit) && load<std::uint32_t>(file, at) == zip::kDescriptorSignature &&
      (matches(at + 4, false) || matches(at + 4, true))) {
    return true;
  }
  return matches(at, false) || matches(at, true);
}

// Compares the local header with what the directory says and sets payload_offset.
Status check_local(Bytes file, const Directory& directory, const Header& central, ZipEntry& e) {
  const std::uint64_t at = e.header_offset;
  if (!checked::fits(at, zip::kLocalSize, directory.offset) || load<std::uint32_t>(file, at) != zip::kLocalSignature) {
    return bad("\"{}\": no local header at {}", e.name, at);
  }
  Header local = load_header(file, at + 6);
  const std::uint64_t name_size = load<std::uint16_t>(file, at + 26);
  const std::uint64_t extra_size = load<std::uint16_t>(file, at + 28);
  e.payload_offset = at + zip::kLocalSize + name_size + extra_size;
  if (!checked::fits(e.payload_offset, e.stored_size, directory.offset)) {
    return bad("\"{}\": payload [{}, +{}) runs into the directory at {}", e.name, e.payload_offset, e.stored_size,
               directory.offset);
  }
  const char* name = reinterpret_cast<const char*>(file.data() + at + zip::kLocalSize);
  if (std::string_view(name, name_size) != e.name) return bad("\"{}\": local header has another name", e.name);
  std::uint64_t* const fields[] = {&local.size, &local.stored_size};
  AOQ_TRY(apply_zip64(file.subspan(at + zip::kLocalSize + name_size, extra_size), fields));
  if (local.flags != central.flags || local.method != central.method) {
    return bad("\"{}\": local header differs from the directory in flags or method", e.name);
  }
  const bool is_deferred = (local.flags & zip::kDescriptorFlag) != 0;
  const bool is_blank = local.size == 0 && local.stored_size == 0 && local.crc32 == 0;
  if (is_deferred && !has_descriptor(file, e.payload_offset + e.stored_size, directory.offset, e)) {
    return bad("\"{}\": data descriptor differs from the directory", e.name);
  }
  if (is_deferred && is_blank) return {};
  if (local.size != e.size || local.stored_size != e.stored_size || local.crc32 != e.crc32) {
    return bad("\"{}\": local header differs from the directory in size or checksum", e.name);
  }
  return {};
}

Status check_sizes(const ZipEntry& e, const ZipOptions& options) {
  if (e.is_stored) {
    if (e.size == e.stored_size) return {};
    return bad("\"{}\": stored, but {} bytes for a content of {}", e.name, e.stored_size, e.size);
  }
  if (e.size > options.max_inflated_bytes) {
    return error(Code::resource_limit, "zip: \"{}\" inflates to {} bytes, limit {}", e.name, e.size,
                 options.max_inflated_bytes);
  }
  if (e.size / kMaxRatio > e.stored_size) {
    return bad("\"{}\": {} bytes cannot inflate to {}", e.name, e.stored_size, e.size);
  }
  return {};
}

// Reads the directory entry at `at`, moves `at` behind it and checks the entry against its local header.
Result<ZipEntry> read_entry(Bytes file, const Directory& directory, const ZipOptions& options, std::uint64_t& at) {
  const std::uint64_t end = directory.offset + directory.size;
  if (!checked::fits(at, zip::kCentralSize, end) || load<std::uint32_t>(file, at) != zip::kCentralSignature) {
    return bad("no directory entry at {}", at);
  }
  Header central = load_header(file, at + 8);
  const std::uint64_t name_size = load<std::uint16_t>(file, at + 28);
  const std::uint64_t extra_size = load<std::uint16_t>(file, at + 30);
  const std::uint64_t comment_size = load<std::uint16_t>(file, at + 32);
  const std::uint64_t size = zip::kCentralSize + name_size + extra_size + comment_size;
  if (!checked::fits(at, size, end)) return bad("directory entry at {} runs over its end", at);
  ZipEntry e;
  e.name.assign(reinterpret_cast<const char*>(file.data() + at + zip::kCentralSize), name_size);
  AOQ_TRY(check_name(e.name, options.names));
  e.header_offset = load<std::uint32_t>(file, at + 42);
  std::uint64_t* const fields[] = {&central.size, &central.stored_size, &e.header_offset};
  AOQ_TRY(apply_zip64(file.subspan(at + zip::kCentralSize + name_size, extra_size), fields));
  const std::uint16_t disk = load<std::uint16_t>(file, at + 34);
  if (disk != 0) return error(Code::unsupported, "zip: archive of several disks");
  if ((central.flags & zip::kEncryptedFlag) != 0) return error(Code::unsupported, "zip: \"{}\" is encrypted", e.name);
  if (central.method != 0 && central.method != 8) {
    return error(Code::unsupported, "zip: \"{}\" has compression method {}", e.name, central.method);
  }
  e.crc32 = central.crc32;
  e.size = central.size;
  e.stored_size = central.stored_size;
  e.is_stored = central.method == 0;
  AOQ_TRY(check_sizes(e, options));
  AOQ_TRY(check_local(file, directory, central, e));
  at += size;
  return e;
}

Status check_layout(std::vector<ZipEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.header_offset < b.header_offset; });
  std::uint64_t end = 0;
  for (const ZipEntry& e : entries) {
    if (e.header_offset < end) return bad("\"{}\" overlaps another entry", e.name);
    if (end == 0 && e.header_offset != 0) return bad("{} bytes before the first entry", e.header_offset);
    end = e.payload_offset + e.stored_size;
  }
  return {};
}

std::uint32_t checksum(Bytes bytes) {
  uLong crc = ::crc32(0, nullptr, 0);
  while (!bytes.empty()) {
    const std::size_t n = std::min<std::size_t>(bytes.size(), std::size_t{1} << 30);
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(n));
    bytes = bytes.subspan(n);
  }
  return static_cast<std::uint32_t>(crc);
}

// Inflates raw deflate data into exactly `out`; false when it is malformed or of another size.
bool inflate_all(Bytes in, std::span<std::byte> out) {
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
  std::size_t in_used = 0, out_used = 0;
  Bytef nothing = 0;
  int code = Z_OK;
  while (code == Z_OK) {
    constexpr std::size_t kStep = std::size_t{1} << 30;
    const std::size_t in_step = std::min(in.size() - in_used, kStep);
    const std::size_t out_step = std::min(out.size() - out_used, kStep);
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data() + in_used));
    stream.avail_in = static_cast<uInt>(in_step);
    stream.next_out = out.empty() ? &nothing : reinterpret_cast<Bytef*>(out.data() + out_used);
    stream.avail_out = static_cast<uInt>(out_step);
    code = inflate(&stream, Z_NO_FLUSH);
    const std::size_t in_taken = in_step - stream.avail_in;
    const std::size_t out_given = out_step - stream.avail_out;
    in_used += in_taken;
    out_used += out_given;
    if (code == Z_OK && in_taken == 0 && out_given == 0) break;
  }
  inflateEnd(&stream);
  return code == Z_STREAM_END && in_used == in.size() && out_used == out.size();
}

}  // namespace

Result<ZipReader> ZipReader::open(Bytes archive, const ZipOptions& options) {
  AOQ_ASSIGN(const Directory directory, locate_directory(archive));
  if (directory.count > options.max_entries) {
    return error(Code::resource_limit, "zip: {} entries, limit {}", directory.count, options.max_entries);
  }
  if (directory.count > directory.size / zip::kCentralSize) {
    return bad("{} entries in a directory of {} bytes", directory.count, directory.size);
  }
  try {
    ZipReader reader;
    reader.archive_ = archive;
    reader.options_ = options;
    std::uint64_t at = directory.offset;
    std::vector<ZipEntry> all;
    for (std::uint64_t i = 0; i < directory.count; ++i) {
      AOQ_ASSIGN(ZipEntry entry, read_entry(archive, directory, options, at));
      all.push_back(std::move(entry));
    }
    if (at != directory.offset + directory.size)
      return bad("the directory has {} more bytes than entries", directory.offset + directory.size - at);
    for (const ZipEntry& entry : all) {
      const bool is_directory = entry.name.ends_with('/');
      if (is_directory && entry.size != 0) return bad("directory \"{}\" has a content", entry.name);
      if (!reader.by_name_.emplace(entry.name, reader.entries_.size()).second) {
        return bad("two entries are named \"{}\"", entry.name);
      }
      if (is_directory) reader.by_name_.erase(entry.name);
      if (!is_directory) reader.entries_.push_back(entry);
    }
    AOQ_TRY(check_layout(std::move(all)));
    return reader;
  } catch (const std::bad_alloc&) {
    return error(Code::resource_limit, "zip: no memory for {} entries", directory.count);
  }
}

const ZipEntry* ZipReader::find(std::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

Result<Bytes> ZipReader::stored(const ZipEntry& entry) const {
  if (!entry.is_stored)
    return error(Code::unsupported, "zip: \"{}\" is compressed, a stored entry is needed", entry.name);
  return archive_.subspan(entry.payload_offset, entry.stored_size);
}

Result<std::vector<std::byte>> ZipReader::read(const ZipEntry& entry) const {
  const Bytes payload = archive_.subspan(entry.payload_offset, entry.stored_size);
  try {
    std::vector<std::byte> content;
    if (entry.is_stored) {
      content.assign(payload.begin(), payload.end());
    } else {
      content.resize(entry.size);
      if (!inflate_all(payload, content)) return bad("\"{}\": damaged deflate data", entry.name);
    }
    if (checksum(content) != entry.crc32) return bad("\"{}\": wrong checksum", entry.name);
    return content;
  } catch (const std::bad_alloc&) {
    return error(Code::resource_limit, "zip: no memory for the {} bytes of \"{}\"", entry.size, entry.name);
  }
}

Status ZipReader::verify(const ZipEntry& entry) const {
  if (!entry.is_stored) return read(entry).status();
  if (checksum(archive_.subspan(entry.payload_offset, entry.stored_size)) != entry.crc32) {
    return bad("\"{}\": wrong checksum", entry.name);
  }
  return {};
}

}  // namespace aoq
