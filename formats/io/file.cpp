#include "formats/io/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }
  // The result of close(2), which may be the first to report a failed write.
  int close() { return ::close(release()); }

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

// A huge page. File systems with large pages keep what is written or read by whole ones in them, and mappings then have
// few pages to look up.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Writes whole huge pages, whatever the pieces that a writer hands over.
Status write_buffered(int fd, const std::string& path, const Writer& write) {
  std::vector<std::byte> buffer;
  const ByteSink sink = [&](std::span<const std::byte> bytes) -> Status {
    const std::size_t wanted = std::min(bytes.size(), kHugePage - buffer.size());
    if (!buffer.empty() || wanted < kHugePage) {
      buffer.insert(buffer.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(wanted));
      bytes = bytes.subspan(wanted);
      if (buffer.size() < kHugePage) return {};
      AOQ_TRY(write_all(fd, path, buffer));
      buffer.clear();
    }
    const std::size_t whole = bytes.size() / kHugePage * kHugePage;
    AOQ_TRY(write_all(fd, path, bytes.first(whole)));
    buffer.assign(bytes.begin() + static_cast<std::ptrdiff_t>(whole), bytes.end());
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

// "/dir/" of "/dir/name".
std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == path.npos ? "./" : path.substr(0, slash + 1);
}

// What is written before it takes the place of `target`: a file without a name, which goes when the process does, or
// else a named one beside it.
class Draft {
 public:
  explicit Draft(const std::string& target) : target_(target), file_(open_unnamed(target)) {
    if (file_.get() >= 0) return;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      std::string name = next_name();
      file_.reset(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (file_.get() >= 0) name_ = std::move(name);
      if (file_.get() >= 0 || errno != EEXIST) return;
    }
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  ~Draft() {
    if (!name_.empty()) ::unlink(name_.c_str());
  }

  int fd() const { return file_.get(); }

  // Makes it durable and gives it its place.
  Status publish() {
    if (::fsync(fd()) != 0) return system_error(target_, "sync", ErrorId::write_failed);
    if (name_.empty()) AOQ_TRY(name_it());
    if (file_.close() != 0) return system_error(target_, "close", ErrorId::write_failed);
    if (::rename(name_.c_str(), target_.c_str()) != 0) return system_error(target_, "replace", ErrorId::write_failed);
    name_.clear();
    return {};
  }

 private:
  static constexpr int kAttempts = 100;

  static int open_unnamed(const std::string& target) {
    if (::access("/proc/self/fd", X_OK) != 0) return -1;  // needed to name it later
    return ::open(directory_of(target).c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
  }

  std::string next_name() const {
    static std::atomic<unsigned> counter{0};
    return fmt::format("{}.{}.{}.partial", target_, ::getpid(), counter.fetch_add(1));
  }

  Status name_it() {
    const std::string own = fmt::format("/proc/self/fd/{}", fd());
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      std::string name = next_name();
      if (::linkat(AT_FDCWD, own.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
        name_ = std::move(name);
        return {};
      }
      if (errno != EEXIST) break;
    }
    return system_error(target_, "name the new contents of", ErrorId::write_failed);
  }

  const std::string& target_;
  FileDescriptor file_;
  std::string name_;  // empty: has none
};

// Makes the rename itself durable; some file systems cannot, which is no failure.
void sync_directory_of(const std::string& path) {
  FileDescriptor fd(::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) ::fsync(fd.get());
}

// Reads until `bytes` is full.
Status read_exactly(int fd, const std::string& path, std::span<std::byte> bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t n = ::pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "read");
    if (n == 0)
      return error(ErrorId::file_changed, "{}: ended at byte {} while it was read, it had {}", path, at, bytes.size());
    at += static_cast<std::size_t>(n);
  }
  return {};
}

// Components of a relative path; empty when it is none or leaves its directory.
std::vector<std::string> components_of(const std::string& path) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  for (const std::string& part : parts) {
    if (part.empty() || part == ".." || part.find('\0') != part.npos) return {};
  }
  return parts;
}

}  // namespace

// A file on its way to being open; takes the descriptor.
class MappedFile::Opening {
 public:
  Opening(const std::string& path, int fd) : file_(new MappedFile()) {
    file_->path_ = path;
    file_->fd_ = fd;
  }

  struct stat info;

  Status examine() {
    if (::fstat(fd(), &info) != 0) return system_error(path(), "examine");
    if (!S_ISREG(info.st_mode)) return error(ErrorId::not_a_file, "{}: not a regular file", path());
    file_->changed_s_ = info.st_mtim.tv_sec;
    file_->changed_ns_ = info.st_mtim.tv_nsec;
    return {};
  }

  Result<std::shared_ptr<const MappedFile>> finish(FileAccess access, HeadSize head) {
    const std::size_t size = static_cast<std::size_t>(info.st_size);
    if (size > 0) AOQ_TRY(access == FileAccess::copy ? copy(size) : map(size, head));
    return std::shared_ptr<const MappedFile>(std::move(file_));
  }

 private:
  int fd() const { return file_->fd_; }
  const std::string& path() const { return file_->path_; }

  Status copy(std::size_t size) {
    AOQ_TRY(map_pages(nullptr, size, MAP_ANONYMOUS));
    return fill(size);
  }

  Status map(std::size_t size, HeadSize head) {
    AOQ_TRY(map_pages(nullptr, size, 0));
    if (head == nullptr) return {};
    std::byte start[64];
    const std::span<std::byte> first(start, std::min(size, sizeof start));
    AOQ_TRY(read_exactly(fd(), path(), first));
    const std::size_t copied = static_cast<std::size_t>(std::min<std::uint64_t>(head(first), size));
    if (copied == 0) return {};
    AOQ_TRY(map_pages(file_->data_, copied, MAP_ANONYMOUS | MAP_FIXED));
    // It replaced whole pages.
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return fill(std::min(size, (copied + page - 1) / page * page));
  }

  Status map_pages(void* at, std::size_t size, int flags) {
    const bool is_own = (flags & MAP_ANONYMOUS) != 0;
    const int protection = is_own ? PROT_READ | PROT_WRITE : PROT_READ;
    void* mapping = ::mmap(at, size, protection, MAP_PRIVATE | flags, is_own ? -1 : fd(), 0);
    if (mapping == MAP_FAILED) return system_error(path(), "map");
    file_->data_ = static_cast<std::byte*>(mapping);
    if (at == nullptr) file_->size_ = size;
    // A system without huge pages refuses, which changes nothing.
    if (size >= kHugePage) ::madvise(mapping, size, MADV_HUGEPAGE);
    return {};
  }

  // Reads the first `size` bytes into pages of the process's own.
  Status fill(std::size_t size) {
    AOQ_TRY(read_exactly(fd(), path(), {file_->data_, size}));
    if (::mprotect(file_->data_, size, PROT_READ) != 0) return system_error(path(), "map");
    return {};
  }

  std::unique_ptr<MappedFile> file_;
};

// Without O_NONBLOCK, opening a pipe would wait for a writer.
static constexpr int kOpenToRead = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path, FileAccess access, HeadSize head) {
  const int fd = ::open(path.c_str(), kOpenToRead);
  if (fd < 0) return system_error(path, "open");
  Opening opening(path, fd);
  AOQ_TRY(opening.examine());
  return opening.finish(access, head);
}

Result<std::shared_ptr<const MappedFile>> MappedFile::open_below(const std::string& directory, const std::string& path,
                                                                 FileAccess access) {
  const std::vector<std::string> parts = components_of(path);
  if (parts.empty()) {
    return error(ErrorId::external_file,
                 "\"{}\" is no file below the model's directory: expected a relative path without \"..\"", path);
  }
  FileDescriptor at(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (at.get() < 0) return system_error(directory, "open");
  const std::string name = directory + "/" + path;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool is_last = i + 1 == parts.size();
    const int flags = is_last ? kOpenToRead | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    const int fd = ::openat(at.get(), parts[i].c_str(), flags);
    const int number = errno;
    if (fd < 0 && (number == ELOOP || (number == ENOTDIR && !is_last))) {
      return error(ErrorId::external_file,
                   "{}: \"{}\" is a symbolic link or no directory, which a model's files may not go through", name,
                   parts[i]);
    }
    errno = number;
    if (fd < 0) return system_error(name, "open");
    at.reset(fd);
  }
  Opening opening(name, at.release());
  AOQ_TRY(opening.examine());
  if (opening.info.st_nlink != 1) {
    return error(ErrorId::external_file, "{}: has {} names (hard links), a model's files have one", name,
                 static_cast<unsigned long>(opening.info.st_nlink));
  }
  return opening.finish(access, nullptr);
}

Status MappedFile::check_unchanged() const {
  struct stat info;
  if (::fstat(fd_, &info) != 0) return system_error(path_, "examine");
  if (static_cast<std::uint64_t>(info.st_size) != size_) {
    return error(ErrorId::file_changed, "{}: had {} bytes when it was opened and has {} now", path_, size_,
                 static_cast<std::uint64_t>(info.st_size));
  }
  if (info.st_mtim.tv_sec != changed_s_ || info.st_mtim.tv_nsec != changed_ns_) {
    return error(ErrorId::file_changed, "{}: was written to while it was read", path_);
  }
  return {};
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(data_, size_);
  if (fd_ >= 0) ::close(fd_);
}

Status write_file_atomically(const std::string& path, const Writer& write) {
  struct stat info;
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) return error(ErrorId::not_a_file, "{}: is a directory", path);
  if (exists && !S_ISREG(info.st_mode)) return write_directly(path, write);
  const std::string target = resolve(path);
  Draft draft(target);
  if (draft.fd() < 0) return system_error(path, "create", ErrorId::write_failed);
  AOQ_TRY(guarded([&] { return write_buffered(draft.fd(), target, write); }));
  AOQ_TRY(draft.publish());
  sync_directory_of(target);
  return {};
}

Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  return write_file_atomically(path, [&](const ByteSink& sink) { return sink(bytes); });
}

}  // namespace aoq
