// The only file that knows CLI11.
#include "tools/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <new>

#include <fmt/format.h>

#include "ir/error_id.h"
#include "tools/suggest.h"
#include "tools/version.h"

namespace aoq::tools {

#define AOQ_COMMAND(name) extern const CommandDef kCommand_##name;
#include "tools/commands.def"
#undef AOQ_COMMAND

namespace {

constexpr const CommandDef* kTable[] = {
#define AOQ_COMMAND(name) &kCommand_##name,
#include "tools/commands.def"
#undef AOQ_COMMAND
};

template <class T>
CLI::Option* describe(CLI::Option* option, const char* value_name, const T& need) {
  option->type_name(value_name);
  if (need == Flags::Need::required) option->required();
  return option;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const CommandDef* def : kTable) names.emplace_back(def->name);
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::string footer(const CommandDef& def) {
  std::string text = "\nExamples:\n";
  for (const char* example : def.examples) text += fmt::format("  aoq {}\n", example);
  return text;
}

Status usage_error(const CommandDef& def, const std::string& what) {
  return error(Code::invalid_argument, "{}\n  try: aoq {} --help", what, def.name);
}

Status explain_extras(const CommandDef& def, const CLI::App& app) {
  std::string first = app.remaining(true).empty() ? std::string() : app.remaining(true).front();
  if (!first.starts_with("-")) return usage_error(def, fmt::format("unexpected argument \"{}\"", first));
  std::string name = first.substr(0, first.find('='));
  return error(ErrorId::unknown_option, "unknown option {}{}\n  try: aoq {} --help", name,
               did_you_mean(name, option_names(app)), def.name);
}

std::string main_help() {
  std::string text = "aoq compiles and runs quantized neural networks.\n\nUsage: aoq COMMAND [options]\n\nCommands:\n";
  for (const CommandDef* def : kTable) text += fmt::format("  {:<10} {}\n", def->name, def->summary);
  text +=
      "\n`aoq COMMAND --help` shows the options of a command and examples.\n"
      "\nExamples:\n  aoq compile model.onnx -o int8.aoq --calibrate data.npz\n  aoq inspect int8.aoq\n"
      "\nExit codes: 0 ok, 1 a comparison or threshold failed, 2 usage, 3 input unreadable or invalid, 4 unsupported,\n"
      "5 a resource limit, 6 internal error, 130 interrupted. `aoq explain AOQ-0301` explains the code of an error.\n";
  return text;
}

// What every command takes besides its own options.
void declare_common(Flags& flags, Console& console) {
  flags.flag("--json", console.json, "Put one JSON document on stdout");
  flags.flag("--quiet", console.quiet, "No progress and no notes on stderr");
}

Result<Invocation> parse_command(const CommandDef& def, std::span<const std::string> arguments) {
  Invocation invocation;
  invocation.def = &def;
  invocation.command = def.make();
  CLI::App app(def.summary, fmt::format("aoq {}", def.name));
  app.set_help_flag("-h,--help", "Show this help");
  app.footer(footer(def));
  Flags flags(app);
  invocation.command->declare(flags);
  declare_common(flags, invocation.console);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    invocation.def = nullptr;
    invocation.text = app.help();
  } catch (const CLI::ExtrasError&) {
    return explain_extras(def, app);
  } catch (const CLI::ParseError& e) {
    // A mistyped option is often why another one is missing.
    if (!app.remaining(true).empty()) return explain_extras(def, app);
    return usage_error(def, e.what());
  }
  return invocation;
}

void report(Console& console, std::string_view command, const Status& status) {
  std::string_view kind = status.code() == Code::internal ? "internal error" : "error";
  fmt::print(stderr, "aoq{}{}: {} {}: {}\n", command.empty() ? "" : " ", command, kind, error_number(status.id()),
             status.message());
  if (!console.json || console.has_document()) return;
  console.document({{"error",
                     {{"code", std::string(code_name(status.code()))},
                      {"id", error_number(status.id())},
                      {"message", status.message()}}}});
}

// Every exception of the libraries below ends here.
Status run_guarded(Invocation& invocation) {
  try {
    return invocation.command->run(invocation.console);
  } catch (const std::bad_alloc&) {
    return Status::out_of_memory();
  } catch (const std::exception& e) {
    return error(Code::internal, "unexpected exception: {}", e.what());
  }
}

}  // namespace

void Flags::positional(const char* name, std::string& value, const char* doc, Need need) {
  describe(app_.add_option(name, value, doc), "", need);
}

void Flags::text(const char* names, const char* value_name, std::string& value, const char* doc, Need need) {
  describe(app_.add_option(names, value, doc), value_name, need);
}

void Flags::list(const char* names, const char* value_name, std::vector<std::string>& values, const char* doc,
                 Values each) {
  describe(app_.add_option(names, values, doc), value_name, Need::optional)->allow_extra_args(each == Values::several);
}

void Flags::choice(const char* names, std::string& value, const std::vector<std::string>& allowed, const char* doc,
                   Need need) {
  std::string value_name = fmt::format("{}", fmt::join(allowed, "|"));
  describe(app_.add_option(names, value, doc), value_name.c_str(), need)->check([allowed](const std::string& text) {
    if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return std::string();
    return fmt::format("\"{}\" is none of {}{}", text, fmt::join(allowed, ", "), did_you_mean(text, allowed));
  });
}

void Flags::integer(const char* names, const char* value_name, std::int64_t& value, std::int64_t min, const char* doc) {
  describe(app_.add_option(names, value, doc), value_name, Need::optional)->check([min](const std::string& text) {
    std::int64_t number = 0;
    if (!CLI::detail::lexical_cast(text, number)) return fmt::format("\"{}\" is no whole number", text);
    if (number < min) return fmt::format("{} is too small, expected {} or more", number, min);
    return std::string();
  });
}

void Flags::real(const char* names, const char* value_name, double& value, const char* doc) {
  describe(app_.add_option(names, value, doc), value_name, Need::optional);
}

void Flags::flag(const char* names, bool& value, const char* doc) {
  app_.add_flag(names, value, doc);
}

std::span<const CommandDef* const> all_commands() {
  return kTable;
}

std::vector<std::string> options_of(const CommandDef& def) {
  CLI::App app;
  app.set_help_flag("-h,--help", "");
  std::unique_ptr<Command> command = def.make();
  Console console;
  Flags flags(app);
  command->declare(flags);
  declare_common(flags, console);
  return option_names(app);
}

Result<Invocation> parse_command_line(std::span<const std::string> arguments) {
  std::string first = arguments.empty() ? std::string() : arguments[0];
  if (arguments.empty()) return error(Code::invalid_argument, "no command is given\n  try: aoq --help");
  if (first == "help" && arguments.size() > 1) {
    std::vector<std::string> asked{arguments[1], "--help"};
    return parse_command_line(asked);
  }
  Invocation invocation;
  if (first == "-h" || first == "--help" || first == "help") {
    invocation.text = main_help();
    return invocation;
  }
  if (first == "--version" || first == "-V") {
    invocation.text = fmt::format("aoq {}\n", kVersion);
    return invocation;
  }
  for (const CommandDef* def : kTable) {
    if (first == def->name) return parse_command(*def, arguments.subspan(1));
  }
  std::string kind = first.starts_with("-") ? "option" : "command";
  return error(ErrorId::unknown_command, "unknown {} \"{}\"{}\n  try: aoq --help", kind, first,
               did_you_mean(first, command_names()));
}

int run_command_line(std::span<const std::string> arguments) {
  Result<Invocation> parsed = parse_command_line(arguments);
  if (!parsed.ok()) {
    Console console;
    console.json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
    report(console, "", parsed.status());
    return exit_code(parsed.status().code());
  }
  if (parsed->def == nullptr) {
    parsed->console.print(parsed->text);
    return exit_code(parsed->console.flush().code());
  }
  Status status = run_guarded(*parsed);
  if (!status.ok()) report(parsed->console, parsed->def->name, status);
  Status flushed = parsed->console.flush();
  if (!status.ok()) return exit_code(status.code());
  if (!flushed.ok()) report(parsed->console, parsed->def->name, flushed);
  return exit_code(flushed.code());
}

}  // namespace aoq::tools
