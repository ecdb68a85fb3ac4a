#include "tools/output_file.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "ir/error_id.h"

namespace aoq::tools {

namespace {

volatile std::sig_atomic_t writing = 0;
volatile std::sig_atomic_t pending_signal = 0;

void on_signal(int number) {
  if (writing != 0) {
    pending_signal = number;
    return;
  }
  constexpr char kText[] = "\ninterrupted\n";
  [[maybe_unused]] ssize_t ignored = ::write(STDERR_FILENO, kText, sizeof(kText) - 1);
  ::_exit(128 + number);
}

// Memory that is not there: a mapped file was cut short. Nothing can be tidied up here; unfinished output has no name.
void on_bus_error(int) {
  constexpr char kText[] =
      "aoq: error AOQ-0205: a file was cut short by another program while it was read; nothing was written. Replace "
      "files by "
      "renaming a new one over the old\n";
  [[maybe_unused]] ssize_t ignored = ::write(STDERR_FILENO, kText, sizeof(kText) - 1);
  ::_exit(3);
}

// While one lives, a signal waits for the file to be complete or gone.
class WriteScope {
 public:
  WriteScope() { writing = 1; }
  WriteScope(const WriteScope&) = delete;
  WriteScope& operator=(const WriteScope&) = delete;
  ~WriteScope() {
    writing = 0;
    if (pending_signal != 0) on_signal(pending_signal);
  }
};

}  // namespace

void handle_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  ::sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
  action.sa_handler = on_bus_error;
  ::sigaction(SIGBUS, &action, nullptr);
}

Status write_output(const std::string& path, const std::function<Status(const ByteSink&)>& write) {
  WriteScope scope;
  return write_file_atomically(path, [&](const ByteSink& sink) -> Status {
    return write([&](std::span<const std::byte> bytes) -> Status {
      if (pending_signal != 0) return error(Code::interrupted, "{}: interrupted", path);
      return sink(bytes);
    });
  });
}

Status write_output(const std::string& path, std::string_view text) {
  return write_output(path, [&](const ByteSink& sink) { return sink(std::as_bytes(std::span(text))); });
}

Status check_output(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode))
      return error(ErrorId::not_a_file, "{}: is a directory, expected a file name for the output", path);
    if (!S_ISREG(info.st_mode)) return {};
  }
  std::size_t slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (::stat(directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return error(Code::not_found, "{}: cannot be written: there is no directory {}; make it first", path, directory);
  }
  if (::access(directory.c_str(), W_OK) != 0) {
    return error(Code::io_error, "{}: cannot be written: no permission to write in {}", path, directory);
  }
  return {};
}

Result<std::string> read_text_file(const std::string& path) {
  AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  return std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
}

}  // namespace aoq::tools
