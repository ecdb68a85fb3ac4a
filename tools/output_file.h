// Output files and interruption: a file that a command writes appears whole or not at all, also when the user stops it.
#pragma once

#include <string>

#include "formats/io/file.h"

namespace aoq::tools {

// SIGINT, SIGTERM and SIGHUP end the process with 128 + their number: at once, or while a file is being written as soon
// as its unfinished copy has been removed. SIGBUS, from a mapped file that was cut short, is exit 3 with error
// file_changed.
void handle_signals();

Status write_output(const std::string& path, const std::function<Status(const ByteSink&)>& write);
Status write_output(const std::string& path, std::string_view text);

// Before long work: whether `path` can be written later.
Status check_output(const std::string& path);

// The whole of a small text file (a recipe, ranges, IR).
Result<std::string> read_text_file(const std::string& path);

}  // namespace aoq::tools
