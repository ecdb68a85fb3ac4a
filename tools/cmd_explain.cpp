// aoq explain: what the number of an error stands for.
#include <fmt/format.h>

#include "ir/error_id.h"
#include "tools/command.h"
#include "tools/suggest.h"

namespace aoq::tools {

namespace {

Json to_json(const ErrorInfo& e) {
  return {{"code", error_number(e.id)}, {"name", e.name},   {"kind", code_name(e.code)}, {"exit", exit_code(e.code)},
          {"title", e.title},           {"cause", e.cause}, {"remedy", e.remedy}};
}

class Explain : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("CODE", code_, "As an error prints it: AOQ-0301, or 301", Flags::Need::optional);
    flags.flag("--list", list_, "Name every code and stop");
  }

  Status run(Console& console) override {
    if (list_) return list(console);
    if (code_.empty()) return error(Code::invalid_argument, "expected CODE, or --list\n  try: aoq explain --help");
    const ErrorInfo* found = find_error(code_);
    if (found == nullptr) {
      std::vector<std::string> known;
      for (const ErrorInfo& e : all_errors()) known.push_back(error_number(e.id));
      return error(Code::invalid_argument, "no error has the code \"{}\"{}\n  try: aoq explain --list", code_,
                   did_you_mean(code_, known));
    }
    if (console.json) {
      console.document(to_json(*found));
      return {};
    }
    console.print(fmt::format("{}: {}\n\n{}\n\nWhat to do: {}\n\nKind {}, exit code {}.\n", error_number(found->id),
                              found->title, found->cause, found->remedy, code_name(found->code),
                              exit_code(found->code)));
    return {};
  }

 private:
  static Status list(Console& console) {
    Json document = Json::array();
    std::vector<std::vector<std::string>> rows;
    for (const ErrorInfo& e : all_errors()) {
      document.push_back(to_json(e));
      rows.push_back({error_number(e.id), std::to_string(exit_code(e.code)), std::string(e.title)});
    }
    if (console.json) {
      console.document(document);
    } else {
      console.print(format_table(rows));
    }
    return {};
  }

  std::string code_;
  bool list_ = false;
};

}  // namespace

extern const CommandDef kCommand_explain;
const CommandDef kCommand_explain = {.name = "explain",
                                     .summary = "Explain the code of an error",
                                     .examples = {"explain AOQ-0301", "explain --list"},
                                     .make = make_command<Explain>};

}  // namespace aoq::tools
