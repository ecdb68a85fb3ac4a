// One linear layer by a torchao configuration, against what torchao made of it.
#pragma once

#include <string>

#include "passes/torchao/config.h"
#include "tests/golden/golden.h"

namespace aoq::golden {

// "IntxWeightOnlyConfig(int4, PerGroup(16))", as the cases name it.
Result<torchao::Config> config_of(const std::string& text);
// Codes, scales and zero points.
void compare_weight(Case& c, const torchao::QuantizedWeight& weight);
// The layer's result, but for the order of float sums.
void compare_result(Case& c, const Tensor& y);

// The case torchao.quantize_.
Status quantize_by_config(Case& c);

}  // namespace aoq::golden
