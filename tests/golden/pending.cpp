// Sections whose product part does not exist yet.
#include "tests/golden/sections.h"

namespace aoq::golden {

const Section kAlgorithms{"algorithms", {}, "the weight algorithms are not built yet"};

std::span<const Section> sections() {
  static const Section all[] = {kObservers, kPrimitives, kFloats, kOps, kAlgorithms, kModels};
  return all;
}

}  // namespace aoq::golden
