// "Did you mean", for the tool.
#pragma once

#include "ir/nearest_name.h"

namespace aoq::tools {

using aoq::did_you_mean;
using aoq::nearest_name;

}  // namespace aoq::tools
