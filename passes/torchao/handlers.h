// The handlers that aoq brings, by file.
#pragma once

#include <vector>

#include "passes/torchao/config.h"

namespace aoq::torchao {

std::vector<Handler> built_in_handlers();

// Int8WeightOnlyConfig, IntxWeightOnlyConfig, Int4WeightOnlyConfig, ...
void add_weight_only_handlers(std::vector<Handler>& handlers);
// Int8DynamicActivation..., Int8StaticActivationInt8WeightConfig
void add_activation_handlers(std::vector<Handler>& handlers);

// AWQConfig, SmoothQuantConfig, GPTQConfig
void add_algorithm_handlers(std::vector<Handler>& handlers);
// Float8..., MXWeightOnlyConfig, NVFP4WeightOnlyConfig, CodebookWeightOnlyConfig
void add_float_handlers(std::vector<Handler>& handlers);

}  // namespace aoq::torchao
