// The FX workflow on one golden case.
#pragma once

#include "tests/golden/golden.h"

namespace aoq::golden {

Status fx_quantize(Case& c);
// torchao's static flow on linear layers one after the other.
Status torchao_static(Case& c);

}  // namespace aoq::golden
