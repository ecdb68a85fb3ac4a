// This machine: the one file that knows which backends are built in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ir/target.h"
#include "runtime/model.h"

namespace aoq::tools {

struct MachineInfo {
  std::string isa;
  std::vector<std::string> features;
  std::string cuda;  // the device; empty: none
  int threads = 1;   // what this process may use
};
MachineInfo machine_info();
// Its version, or why it cannot be used; empty: not built in. Loads the library.
std::string onednn();

// The backend of a kernel class ("native": the best this machine has); unsupported where the machine lacks it.
// Owners of the result: the caller and every model made with it.
Result<std::shared_ptr<const Backend>> make_backend(const std::string& cpu_class);
std::unique_ptr<TargetInfo> make_target();
// The kernel rows of an op on this machine, best first; whether they take a node is asked when a plan is made.
std::vector<std::string> kernel_rows_of(Op op);
// "portable", "native" and the names of the kernel classes.
std::vector<std::string> cpu_classes();

struct RunSettings {
  int threads = 0;  // 0: what this process may use
  bool deterministic = false;
  BatchLoops batch_loops = BatchLoops::automatic;
};
ModelOptions model_options(const RunSettings& settings);

}  // namespace aoq::tools
