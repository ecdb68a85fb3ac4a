// Section "algorithms": weight algorithms and configurations on one linear layer.
#include "tests/golden/configs.h"
#include "tests/golden/sections.h"

namespace aoq::golden {

namespace {

constexpr OpRunner kOpRunners[] = {
    {"torchao.quantize_", &quantize_by_config, ""},
};

}  // namespace

const Section kAlgorithms{"algorithms", kOpRunners, "this weight algorithm is not built yet"};

}  // namespace aoq::golden
