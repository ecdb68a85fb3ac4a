// The command line: from arguments to one command, and from its Status to an exit code.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tools/command.h"

namespace aoq::tools {

std::span<const CommandDef* const> all_commands();
// "--input", "-o", ...
std::vector<std::string> options_of(const CommandDef& def);

struct Invocation {
  const CommandDef* def = nullptr;  // null: only `text` is to be printed
  std::unique_ptr<Command> command;
  Console console;
  std::string text;  // help or version
};

// Arguments without the program's name. invalid_argument says what is wrong and what was meant.
Result<Invocation> parse_command_line(std::span<const std::string> arguments);

// The whole program: parses, runs, reports. The result is the exit code.
int run_command_line(std::span<const std::string> arguments);

}  // namespace aoq::tools
