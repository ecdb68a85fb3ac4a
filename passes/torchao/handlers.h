// The handlers that aoq brings, by file.
#pragma once

#include <vector>

#include "passes/torchao/config.h"

namespace aoq::torchao {

std::vector<Handler> built_in_handlers();

// Why groups, or blocks, of so many inputs do not fit a weight; none where they do. `field` is what says the number.
std::optional<Quantized> misfit(const LinearSite& site, std::int64_t group, const char* field);
std::optional<Quantized> misfit(const LinearSite& site, const Granularity& granularity);

// By the field intx_choose_qparams_algorithm: affine, or hqq_scale_only.
Result<QuantizedWeight> intx_by_algorithm(const Config& config, const LinearSite& site, const IntxForm& form);

// Int8WeightOnlyConfig, IntxWeightOnlyConfig, Int4WeightOnlyConfig, ...
void add_weight_only_handlers(std::vector<Handler>& handlers);
// Int8DynamicActivation..., Int8StaticActivationInt8WeightConfig
void add_activation_handlers(std::vector<Handler>& handlers);

// AWQConfig, SmoothQuantConfig, GPTQConfig
void add_algorithm_handlers(std::vector<Handler>& handlers);
// Float8..., MXWeightOnlyConfig, NVFP4WeightOnlyConfig, CodebookWeightOnlyConfig
void add_float_handlers(std::vector<Handler>& handlers);

}  // namespace aoq::torchao
