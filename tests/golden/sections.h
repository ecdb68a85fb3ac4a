// One declaration per section file.
#pragma once

#include "tests/golden/golden.h"

namespace aoq::golden {

extern const Section kObservers;
extern const Section kPrimitives;
extern const Section kFloats;
extern const Section kOps;
extern const Section kAlgorithms;
extern const Section kModels;

}  // namespace aoq::golden
