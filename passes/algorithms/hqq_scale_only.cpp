// The symmetric form of HQQ: scales by least squares.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "passes/algorithms/hqq.h"
#include "passes/algorithms/weight_matrix.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

constexpr float kEps = 0x1p-23f;
constexpr float kTolerance = 1e-5f;

struct Groups {
  std::vector<float> values;
  std::size_t size;
  QRange range;
  std::vector<float> scale;

  std::span<const float> group(std::size_t g) const { return std::span(values).subspan(g * size, size); }
  float code(float value, std::size_t g) const {
    return std::clamp(std::nearbyintf(value / scale[g]), static_cast<float>(range.min), static_cast<float>(range.max));
  }
};

void start_from_amax(Groups& groups) {
  const std::int64_t highest = std::max({std::abs(groups.range.min), std::abs(groups.range.max), std::int64_t{1}});
  for (std::size_t g = 0; g < groups.scale.size(); ++g) {
    const torch_math::Range r = torch_math::aminmax(groups.group(g));
    groups.scale[g] = std::max(std::max(std::fabs(r.min), std::fabs(r.max)) / static_cast<float>(highest), kEps);
  }
}

// Returns the largest relative change.
float least_squares_step(Groups& groups) {
  float largest = 0;
  std::vector<float> products(groups.size), squares(groups.size);
  for (std::size_t g = 0; g < groups.scale.size(); ++g) {
    const std::span<const float> values = groups.group(g);
    for (std::size_t i = 0; i < groups.size; ++i) {
      const float code = groups.code(values[i], g);
      products[i] = values[i] * code;
      squares[i] = code * code;
    }
    const float before = groups.scale[g], denominator = torch_math::sum(squares);
    const float solved = denominator > 0 ? torch_math::sum(products) / denominator : before;
    groups.scale[g] = std::fabs(torch_math::max(solved, kEps));
    largest = torch_math::max(largest, std::fabs(groups.scale[g] - before) / std::max(before, kEps));
  }
  return largest;
}

Status check_form(const ScaleOnlyHqqForm& form) {
  const DTypeInfo& info = dtype_info(form.dtype);
  const bool holds_range = is_integer(form.dtype) && static_cast<double>(form.range.min) >= info.min &&
                           static_cast<double>(form.range.max) <= info.max;
  if (holds_range && form.range.min < form.range.max) return {};
  return error(Code::invalid_argument, "hqq: codes of type {} over [{}, {}]", info.name, form.range.min,
               form.range.max);
}

Status check_finite(const Groups& groups) {
  for (std::size_t g = 0; g < groups.scale.size(); ++g) {
    if (!std::isfinite(groups.scale[g])) {
      return error(Code::invalid_data, "hqq: group {} would have scale {}", g, groups.scale[g]);
    }
  }
  return {};
}

}  // namespace

Result<ScaleOnlyHqqWeight> hqq_quantize_scale_only(TensorView weight, const ScaleOnlyHqqForm& form) {
  AOQ_TRY(check_form(form));
  AOQ_ASSIGN(WeightMatrix m, weight_matrix("hqq", weight));
  AOQ_TRY(check_group_size("hqq", form.group_size, m.columns));
  Groups groups{std::move(m.values), static_cast<std::size_t>(form.group_size), form.range, {}};
  groups.scale.resize(groups.values.size() / groups.size);
  start_from_amax(groups);
  for (int i = 0; i < std::max(form.iterations, 1); ++i) {
    if (least_squares_step(groups) < kTolerance) break;
  }
  AOQ_TRY(check_finite(groups));
  ScaleOnlyHqqWeight out;
  AOQ_ASSIGN(out.codes, Tensor::make(form.dtype, {m.rows, m.columns}));
  std::byte* codes = out.codes.mutable_bytes().data();
  for (std::size_t i = 0; i < groups.values.size(); ++i) {
    const float code = groups.code(groups.values[i], i / groups.size);
    store_integer(form.dtype, codes, static_cast<std::int64_t>(i), static_cast<std::int64_t>(code));
  }
  AOQ_ASSIGN(out.scale, Tensor::make(weight.dtype, {m.rows, m.columns / form.group_size}));
  dtype_info(weight.dtype).from_float(groups.scale, out.scale.mutable_bytes().data(), 0);
  return out;
}

}  // namespace aoq
