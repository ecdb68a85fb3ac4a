// A subcommand: its options, its help and what it does. One file each; tools/commands.def lists them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/console.h"

namespace CLI {
class App;
}

namespace aoq::tools {

// Declares the options of a subcommand. The variables hold the defaults and must outlive the parsing. `names` are as on
// the command line: "--input" or "-o,--output".
class Flags {
 public:
  enum class Need { required, optional };

  explicit Flags(CLI::App& app) : app_(app) {}

  void positional(const char* name, std::string& value, const char* doc, Need need = Need::required);
  void text(const char* names, const char* value_name, std::string& value, const char* doc, Need need = Need::optional);
  // May be given more than once, each time with one value or several.
  enum class Values { one, several };
  void list(const char* names, const char* value_name, std::vector<std::string>& values, const char* doc,
            Values each = Values::one);
  void choice(const char* names, std::string& value, const std::vector<std::string>& allowed, const char* doc,
              Need need = Need::optional);
  void integer(const char* names, const char* value_name, std::int64_t& value, std::int64_t min, const char* doc);
  void real(const char* names, const char* value_name, double& value, const char* doc);
  void flag(const char* names, bool& value, const char* doc);

 private:
  CLI::App& app_;
};

class Command {
 public:
  virtual ~Command() = default;
  virtual void declare(Flags& flags) = 0;
  virtual Status run(Console& console) = 0;
};

struct CommandDef {
  const char* name = nullptr;
  const char* summary = "";
  std::vector<const char*> examples;  // without "aoq "
  std::unique_ptr<Command> (*make)() = nullptr;
};

template <class T>
std::unique_ptr<Command> make_command() {
  return std::make_unique<T>();
}

}  // namespace aoq::tools
