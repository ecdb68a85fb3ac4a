// Weights by name, as models written with the module API take them (ir/nn/module.h).
#pragma once

#include <map>
#include <string>

#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

// The tensors of a .safetensors file, an .npz archive or a GGUF file (as f32), told apart by their first bytes; they
// keep the mapped file alive where they read it in place. not_found when the file is not there, invalid_data when it is
// neither.
Result<std::map<std::string, Tensor>> read_state(const std::string& path);

}  // namespace aoq
