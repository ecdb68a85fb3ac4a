// --tuning of `compile`: a file, "estimate" or "none".
#pragma once

#include "tools/compiler.h"
#include "tools/quantize_flags.h"

namespace aoq::tools {

// Fills in what the compiler does about it. `choice` empty: an estimate for our own default recipe, nothing for others.
// Warnings are added while compiling too, so they must live as long. Errors name the file.
Status use_tuning(const std::string& choice, const QuantizeFlags& flags, CompileOptions& options,
                  std::vector<std::string>& warnings);

}  // namespace aoq::tools
