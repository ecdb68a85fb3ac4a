// From measured steps of lowered graphs to the costs of a placement problem.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>

#include "tools/measure.h"
#include "tools/placement_model.h"

namespace aoq::tools {

struct MeasuredStep {
  std::string label, op;
  double us = 0;
};
struct MeasuredConversions {
  std::map<std::int64_t, std::pair<double, double>> by_elements;  // microseconds of quantize and dequantize
};
// Alone, one after the other, for tensors of so many elements.
Result<MeasuredConversions> measure_conversions(const std::set<std::int64_t>& sizes, const ModelOptions& options,
                                                double seconds, const Console& console);

// quantize, dequantize and choose_qparams, which belong to values.
bool is_conversion(const std::string& op);

// Fills in the costs of `model` from the steps of the lowered graphs, in float and with every op in int8, by their
// labels. Conversions that the int8 graph has none of cost what one of their size does.
void fill_costs(std::span<const MeasuredStep> in_float, std::span<const MeasuredStep> in_int8,
                const MeasuredConversions& conversions, PlacementModel& model);

}  // namespace aoq::tools
