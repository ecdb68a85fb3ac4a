#include <string>
#include <vector>

#include "tools/cli.h"
#include "tools/output_file.h"

int main(int argc, char** argv) {
  aoq::tools::handle_signals();
  std::vector<std::string> arguments(argv + 1, argv + argc);
  return aoq::tools::run_command_line(arguments);
}
