// Files: mapping one for reading, and writing one so that it appears whole or not at all.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "ir/status.h"

namespace aoq {

// A regular file mapped read-only. The mapping is private, but a file that another process cuts short while it is
// mapped still ends the process on access (SIGBUS): map only files that are replaced, not edited.
class MappedFile {
 public:
  // not_found, or io_error when it is no regular file or cannot be read.
  // Owners of the result: the caller and every tensor that borrows from the mapping.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}

  const std::byte* data_;
  std::size_t size_;
};

// Takes the bytes of a file in order.
using ByteSink = std::function<Status(std::span<const std::byte>)>;

// Writes beside `path`, syncs and renames; on any failure, also one that `write` returns, nothing is left behind and an
// existing file stays as it was. A `path` that is a device or a pipe is written to directly.
Status write_file_atomically(const std::string& path, const std::function<Status(const ByteSink&)>& write);
Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes);

}  // namespace aoq
