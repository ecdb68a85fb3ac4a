// aoq completion: a script that completes commands and options in a shell.
#include <fmt/format.h>

#include "tools/cli.h"

namespace aoq::tools {

namespace {

// Each command and its options, as one word list a line: "compile --calibrate --quantize ...".
std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

std::vector<std::string> names_of_commands() {
  std::vector<std::string> names;
  for (const CommandDef* def : all_commands()) names.emplace_back(def->name);
  return names;
}

std::string bash_script() {
  std::string text =
      "# aoq completion for bash: source <(aoq completion bash)\n"
      "_aoq() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]}\n"
      "  if [ \"$COMP_CWORD\" = 1 ]; then\n";
  text +=
      fmt::format("    COMPREPLY=($(compgen -W \"{}\" -- \"$word\"))\n    return\n  fi\n", joined(names_of_commands()));
  text += "  local options=\n  case ${COMP_WORDS[1]} in\n";
  for (const CommandDef* def : all_commands())
    text += fmt::format("    {}) options=\"{}\" ;;\n", def->name, joined(options_of(*def)));
  text +=
      "  esac\n"
      "  if [[ $word == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
      "  else\n"
      "    COMPREPLY=($(compgen -f -- \"$word\"))\n"
      "  fi\n"
      "}\n"
      "complete -o filenames -F _aoq aoq\n";
  return text;
}

std::string zsh_script() {
  return "# aoq completion for zsh: source <(aoq completion zsh)\nautoload -U +X bashcompinit && bashcompinit\n" +
         bash_script();
}

std::string fish_script() {
  std::string text = "# aoq completion for fish: aoq completion fish | source\n";
  for (const CommandDef* def : all_commands()) {
    text += fmt::format("complete -c aoq -f -n __fish_use_subcommand -a {} -d '{}'\n", def->name, def->summary);
    for (const std::string& option : options_of(*def)) {
      if (!option.starts_with("--")) continue;
      text += fmt::format("complete -c aoq -n '__fish_seen_subcommand_from {}' -l {}\n", def->name, option.substr(2));
    }
  }
  return text;
}

class Completion : public Command {
 public:
  void declare(Flags& flags) override { flags.positional("SHELL", shell_, "bash, zsh or fish"); }

  Status run(Console& console) override {
    if (shell_ != "bash" && shell_ != "zsh" && shell_ != "fish") {
      return error(Code::invalid_argument, "\"{}\" is none of bash, zsh, fish\n  try: aoq completion --help", shell_);
    }
    std::string text = shell_ == "fish" ? fish_script() : shell_ == "zsh" ? zsh_script() : bash_script();
    if (console.json) {
      console.document({{"shell", shell_}, {"script", text}});
    } else {
      console.print(text);
    }
    return {};
  }

 private:
  std::string shell_;
};

}  // namespace

extern const CommandDef kCommand_completion;
const CommandDef kCommand_completion = {.name = "completion",
                                        .summary = "Print a script that completes commands and options in a shell",
                                        .examples = {"completion bash", "completion fish"},
                                        .make = make_command<Completion>};

}  // namespace aoq::tools
