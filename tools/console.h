// Console: data on stdout, talk and progress on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json/json.h"
#include "ir/status.h"

namespace aoq::tools {

// 0 ok, 1 check failed, 2 usage, 3 input, 4 unsupported, 5 resource limit, 6 internal, 130 interrupted.
int exit_code(Code code);

class Console {
 public:
  bool json = false;
  bool quiet = false;

  // The one JSON document of --json. Numbers that are not finite become null.
  void document(const Json& document);
  bool has_document() const { return has_document_; }
  // Lines for people on stdout; a command prints these or a document.
  void print(std::string_view text);
  // Talk on stderr, unless --quiet.
  void note(std::string_view text);
  // io_error when stdout did not take everything.
  Status flush();

 private:
  bool has_document_ = false;
};

// A bar on stderr with rate and time left, on a terminal only. It is gone when the object is.
class Progress {
 public:
  Progress(const Console& console, std::string what, std::int64_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  void advance(std::int64_t steps);

 private:
  using Clock = std::chrono::steady_clock;
  void draw();
  void erase();

  std::string what_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  bool is_shown_;
  std::size_t drawn_ = 0;  // characters on the line
  Clock::time_point start_, last_draw_;
};

// Columns under their headings; the last one is not padded.
std::string format_table(const std::vector<std::vector<std::string>>& rows);
// "12.3 MB"
std::string format_bytes(std::uint64_t bytes);

}  // namespace aoq::tools
