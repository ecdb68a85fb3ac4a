#include "formats/io/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <vector>

#include "ir/error_id.h"
#include "ir/guard.h"

namespace aoq {
namespace {

// The last error of the system; `kind` where it is not that the path leads nowhere.
Status system_error(const std::string& path, const char* action, ErrorId kind = ErrorId::io_error) {
  const int number = errno;
  return error(number == ENOENT ? ErrorId::file_not_found : kind, "{}: cannot {}: {}", path, action,
               std::generic_category().message(number));
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  // The result of close(2), which may be the first to report a failed write.
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

Status write_all(int fd, const std::string& path, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "write", ErrorId::write_failed);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

using Writer = std::function<Status(const ByteSink&)>;

// Gathers small pieces, so that a writer may hand over a few bytes at a time.
Status write_buffered(int fd, const std::string& path, const Writer& write) {
  constexpr std::size_t kBuffer = std::size_t{1} << 16;
  std::vector<std::byte> buffer;
  const ByteSink sink = [&](std::span<const std::byte> bytes) -> Status {
    if (buffer.size() + bytes.size() > kBuffer) {
      AOQ_TRY(write_all(fd, path, buffer));
      buffer.clear();
    }
    if (bytes.size() > kBuffer) return write_all(fd, path, bytes);
    buffer.insert(buffer.end(), bytes.begin(), bytes.end());
    return {};
  };
  AOQ_TRY(write(sink));
  return write_all(fd, path, buffer);
}

Status write_directly(const std::string& path, const Writer& write) {
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return system_error(path, "open");
  AOQ_TRY(write_buffered(file.get(), path, write));
  if (file.close() != 0) return system_error(path, "close");
  return {};
}

// Where the bytes really go: the file behind a symbolic link, or the path itself.
std::string resolve(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (real == nullptr) return path;
  std::string resolved = real;
  ::free(real);
  return resolved;
}

// A file of a name that did not exist, in the directory of `target`.
int create_beside(const std::string& target, std::string& temporary) {
  static std::atomic<unsigned> counter{0};
  for (int attempt = 0; attempt < 100; ++attempt) {
    temporary = fmt::format("{}.{}.{}.partial", target, ::getpid(), counter.fetch_add(1));
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

// Makes the rename itself durable; some file systems cannot, which is no failure.
void sync_directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == path.npos ? "." : path.substr(0, slash + 1);
  FileDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) ::fsync(fd.get());
}

Status fill_and_rename(FileDescriptor& file, const std::string& temporary, const std::string& target,
                       const Writer& write) {
  AOQ_TRY(write_buffered(file.get(), target, write));
  if (::fsync(file.get()) != 0) return system_error(target, "sync", ErrorId::write_failed);
  if (file.close() != 0) return system_error(target, "close");
  if (::rename(temporary.c_str(), target.c_str()) != 0) return system_error(target, "replace", ErrorId::write_failed);
  return {};
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return system_error(path, "open");
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return system_error(path, "examine");
  if (!S_ISREG(info.st_mode)) return error(ErrorId::not_a_file, "{}: not a regular file", path);
  const std::size_t size = static_cast<std::size_t>(info.st_size);
  const std::byte* data = nullptr;
  if (size > 0) {
    void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapping == MAP_FAILED) return system_error(path, "map");
    data = static_cast<const std::byte*>(mapping);
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(data, size));
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

Status write_file_atomically(const std::string& path, const Writer& write) {
  struct stat info;
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) return error(ErrorId::not_a_file, "{}: is a directory", path);
  if (exists && !S_ISREG(info.st_mode)) return write_directly(path, write);
  const std::string target = resolve(path);
  std::string temporary;
  FileDescriptor file(create_beside(target, temporary));
  if (file.get() < 0) return system_error(path, "create", ErrorId::write_failed);
  Status status = guarded([&] { return fill_and_rename(file, temporary, target, write); });
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  sync_directory_of(target);
  return {};
}

Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  return write_file_atomically(path, [&](const ByteSink& sink) { return sink(bytes); });
}

}  // namespace aoq
