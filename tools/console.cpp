#include "tools/console.h"
#include "ir/error_id.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include <fmt/format.h>

namespace aoq::tools {

int exit_code(Code code) {
  static const std::map<Code, int> kCodes = {{Code::ok, 0},
                                             {Code::check_failed, 1},
                                             {Code::invalid_argument, 2},
                                             {Code::invalid_model, 3},
                                             {Code::invalid_data, 3},
                                             {Code::not_found, 3},
                                             {Code::io_error, 3},
                                             {Code::unsupported, 4},
                                             {Code::resource_limit, 5},
                                             {Code::internal, 6},
                                             {Code::interrupted, 130}};
  auto it = kCodes.find(code);
  return it != kCodes.end() ? it->second : 6;
}

void Console::document(const Json& document) {
  AOQ_CHECK(!has_document_);
  has_document_ = true;
  fmt::print("{}\n", dump_json_indented(document));
}

void Console::print(std::string_view text) {
  fmt::print("{}", text);
}

void Console::note(std::string_view text) {
  if (!quiet) fmt::print(stderr, "{}\n", text);
}

Status Console::flush() {
  bool failed = std::ferror(stdout) != 0;
  failed = std::fflush(stdout) != 0 || failed;
  if (failed) return error(ErrorId::write_failed, "stdout: cannot write everything; is the disk full?");
  return {};
}

Progress::Progress(const Console& console, std::string what, std::int64_t total)
    : what_(std::move(what)), total_(total), start_(Clock::now()), last_draw_(start_) {
  const char* terminal = std::getenv("TERM");
  bool is_dumb = terminal != nullptr && std::string_view(terminal) == "dumb";
  is_shown_ = !console.quiet && !is_dumb && ::isatty(STDERR_FILENO) != 0;
}

Progress::~Progress() {
  erase();
}

void Progress::advance(std::int64_t steps) {
  done_ += steps;
  if (!is_shown_) return;
  Clock::time_point now = Clock::now();
  if (now - last_draw_ < std::chrono::milliseconds(100)) return;
  last_draw_ = now;
  draw();
}

void Progress::draw() {
  constexpr std::int64_t kWidth = 24;
  double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  double left = rate > 0 ? static_cast<double>(total_ - done_) / rate : 0;
  std::int64_t filled = total_ > 0 ? std::min(kWidth, kWidth * done_ / total_) : 0;
  std::string bar(static_cast<std::size_t>(filled), '#');
  std::string line = fmt::format("{} [{:<{}}] {}/{}  {:.1f}/s  {}:{:02} left", what_, bar, kWidth, done_, total_, rate,
                                 static_cast<std::int64_t>(left) / 60, static_cast<std::int64_t>(left) % 60);
  const char* no_color = std::getenv("NO_COLOR");
  bool plain = no_color != nullptr && *no_color != '\0';
  std::string padding(drawn_ > line.size() ? drawn_ - line.size() : 0, ' ');
  fmt::print(stderr, "\r{}{}{}{}", plain ? "" : "\x1b[36m", line, plain ? "" : "\x1b[0m", padding);
  std::fflush(stderr);
  drawn_ = line.size();
}

void Progress::erase() {
  if (drawn_ == 0) return;
  fmt::print(stderr, "\r{}\r", std::string(drawn_, ' '));
  std::fflush(stderr);
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i + 1 < row.size() ? fmt::format("{:<{}}  ", row[i], widths[i]) : row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} bytes", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

}  // namespace aoq::tools
