// The FX workflow on one golden case.
#pragma once

#include "tests/golden/golden.h"

namespace aoq::golden {

Status fx_quantize(Case& c);

}  // namespace aoq::golden
