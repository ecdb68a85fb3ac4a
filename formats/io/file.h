// Files: opening one for reading, and writing one so that it appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "ir/status.h"

namespace aoq {

// What a file may do while it is open.
enum class FileAccess {
  // Mapped: costs nothing until it is read, and processes share it. It must be replaced by renaming, not edited: an
  // access
  // behind the end of a file that was cut short ends the process (SIGBUS).
  map,
  // Read into memory of the process's own: whatever happens to the file then, the bytes stay.
  copy,
};

// How much of the start of a mapped file is to be copied nevertheless, told from its first 64 bytes (or all, if it has
// fewer).
using HeadSize = std::uint64_t (*)(std::span<const std::byte> start);

// The contents of a regular file, read-only. Keeps the file open.
class MappedFile {
 public:
  // not_found, file_changed when it gets shorter meanwhile, or io_error when it is no regular file or cannot be read.
  // Owners of the result: the caller and every tensor that borrows from the contents.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path, FileAccess access = FileAccess::map,
                                                        HeadSize head = nullptr);
  // A file that a model names: `path` must be relative and lead to a regular file below `directory` without "..",
  // symbolic links and hard links. Opened step by step from the directory, so that nobody can put a link in between;
  // otherwise invalid_model.
  static Result<std::shared_ptr<const MappedFile>> open_below(const std::string& directory, const std::string& path,
                                                              FileAccess access = FileAccess::map);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // file_changed when the file has another size or time of change than when it was opened.
  Status check_unchanged() const;

 private:
  class Opening;
  MappedFile() = default;

  std::string path_;
  int fd_ = -1;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::int64_t changed_s_ = 0;  // time of the last change, seconds and nanoseconds
  std::int64_t changed_ns_ = 0;
};

// Takes the bytes of a file in order.
using ByteSink = std::function<Status(std::span<const std::byte>)>;

// Writes beside `path`, syncs and renames; on any failure, also one that `write` returns, nothing is left behind and an
// existing file stays as it was. Where the system can, the bytes have no name until they are complete, so that even a
// killed process leaves nothing. A `path` that is a device or a pipe is written to directly.
Status write_file_atomically(const std::string& path, const std::function<Status(const ByteSink&)>& write);
Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes);

}  // namespace aoq
