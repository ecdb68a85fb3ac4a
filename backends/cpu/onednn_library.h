// libdnnl, loaded when the first node may use it: it is 50 MB of code, and costs memory and time from the start on.
#pragma once

#include <string>

#include "ir/status.h"

namespace aoq::cpu {

// Loads libdnnl, once; before that no function of it may be called. unsupported where there is none of version 3.2 or
// newer, with the loader's words. Thread-safe.
Status load_onednn();

// The version, such as "3.2.0", or why there is none. Loads the library.
std::string onednn_version();

}  // namespace aoq::cpu
