#include "passes/algorithms/hqq.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "passes/algorithms/weight_matrix.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

constexpr int kSteps = 20;
constexpr double kBeta = 10.0;
constexpr double kKappa = 1.01;
constexpr float kPower = static_cast<float>(0.7 - 1);
constexpr float kHighestScale = 2e4f;

Status check_form(const HqqForm& form) {
  const DType p = form.parameters;
  if (form.bits >= 1 && form.bits <= 8 && (p == DType::f32 || p == DType::bf16 || p == DType::f16)) return {};
  return error(Code::invalid_argument, "hqq: {} bits with parameters of type {}, expected 1 to 8 and f32, bf16 or f16",
               form.bits, dtype_name(p));
}

DType code_dtype(int bits) {
  return *dtype_from_name(fmt::format("u{}", bits));
}

// Groups one after the other, with a scale (codes per unit) and a zero point each.
struct Groups {
  std::vector<float> values;
  std::size_t size;
  float highest_code;
  std::vector<float> scale;
  std::vector<float> zero;

  std::size_t count() const { return values.size() / size; }
  std::span<const float> group(std::size_t g) const { return std::span(values).subspan(g * size, size); }
  float code(float value, std::size_t g) const {
    return std::clamp(std::nearbyintf(value * scale[g] + zero[g]), 0.0f, highest_code);
  }
};

void start_from_range(Groups& groups, int bits) {
  for (std::size_t g = 0; g < groups.count(); ++g) {
    const torch_math::Range range = torch_math::aminmax(groups.group(g));
    const float scale = std::min(1.0f / (range.max - range.min) * groups.highest_code, kHighestScale);
    const float zero = -range.min * scale;
    groups.scale.push_back(scale);
    groups.zero.push_back(bits == 4 ? std::nearbyintf(zero) : zero);
  }
}

// The proximal operator of the norm's power, on one error.
float shrink(float x, float inverse_beta) {
  if (x == 0) return 0;
  const float magnitude = std::fabs(x);
  const float power = static_cast<float>(std::pow(static_cast<double>(magnitude), static_cast<double>(kPower)));
  return std::copysign(std::max(magnitude - inverse_beta * power, 0.0f), x);
}

// One step: new zero points, and the mean error before them.
float proximal_step(Groups& groups, double beta) {
  const float inverse_beta = static_cast<float>(1.0 / beta);
  std::vector<float> errors(groups.values.size()), targets(groups.size);
  for (std::size_t g = 0; g < groups.count(); ++g) {
    const std::span<const float> values = groups.group(g);
    for (std::size_t i = 0; i < groups.size; ++i) {
      const float code = groups.code(values[i], g);
      const float difference = values[i] - (code - groups.zero[g]) / groups.scale[g];
      targets[i] = code - (values[i] - shrink(difference, inverse_beta)) * groups.scale[g];
      errors[g * groups.size + i] = std::fabs(difference);
    }
    groups.zero[g] = torch_math::sum(targets) / static_cast<float>(groups.size);
  }
  return torch_math::sum(errors) / static_cast<float>(errors.size());
}

// The zero points of the step that made it worse stay, as they do in the original.
void optimize(Groups& groups) {
  double beta = kBeta;
  float best = 1e4f;
  for (int step = 0; step < kSteps; ++step, beta *= kKappa) {
    const float error = proximal_step(groups, beta);
    if (!(error < best)) return;
    best = error;
  }
}

Status check_finite(const Groups& groups) {
  for (std::size_t g = 0; g < groups.count(); ++g) {
    if (std::isfinite(groups.zero[g]) && groups.scale[g] > 0 && std::isfinite(1.0f / groups.scale[g])) continue;
    const torch_math::Range range = torch_math::aminmax(groups.group(g));
    return error(Code::invalid_data, "hqq: group {} over [{}, {}] would have scale 1 / {} and zero point {}", g,
                 range.min, range.max, groups.scale[g], groups.zero[g]);
  }
  return {};
}

Result<Tensor> parameter_tensor(std::span<const float> values, DType dtype, std::int64_t rows) {
  const std::int64_t per_row = static_cast<std::int64_t>(values.size()) / rows;
  AOQ_ASSIGN(Tensor t, Tensor::make(dtype, {rows, per_row}));
  dtype_info(dtype).from_float(values, t.mutable_bytes().data(), 0);
  return t;
}

// Scales as codes per unit. Without a search they have the type of the form already; a search ends in f32.
Result<Groups> solve(WeightMatrix m, const HqqForm& form) {
  Groups groups{
      std::move(m.values), static_cast<std::size_t>(form.group_size), static_cast<float>((1 << form.bits) - 1), {}, {}};
  start_from_range(groups, form.bits);
  AOQ_TRY(check_finite(groups));
  if (form.search == HqqSearch::proximal) {
    optimize(groups);
  } else {
    const Rounding round(form.parameters);
    for (float& z : groups.zero) z = round(z);
    for (float& s : groups.scale) s = round(s);
  }
  AOQ_TRY(check_finite(groups));
  return groups;
}

enum class ZeroPoint : std::uint8_t { code, middle_value };

Result<HqqWeight> quantize(TensorView weight, const HqqForm& form, ZeroPoint zero_point) {
  AOQ_TRY(check_form(form));
  AOQ_ASSIGN(WeightMatrix m, weight_matrix("hqq", weight));
  AOQ_TRY(check_group_size("hqq", form.group_size, m.columns));
  const std::int64_t rows = m.rows, columns = m.columns;
  AOQ_ASSIGN(Groups groups, solve(std::move(m), form));
  HqqWeight out;
  AOQ_ASSIGN(out.codes, Tensor::make(code_dtype(form.bits), {rows, columns}));
  std::byte* codes = out.codes.mutable_bytes().data();
  for (std::size_t i = 0; i < groups.values.size(); ++i) {
    const float code = groups.code(groups.values[i], i / groups.size);
    store_integer(out.codes.dtype(), codes, static_cast<std::int64_t>(i), static_cast<std::int64_t>(code));
  }
  const Rounding round(form.search == HqqSearch::proximal ? DType::f32 : form.parameters);
  const float middle = static_cast<float>(1 << (form.bits - 1));
  for (std::size_t g = 0; g < groups.scale.size(); ++g) {
    groups.scale[g] = round(1.0f / groups.scale[g]);
    if (zero_point == ZeroPoint::middle_value) groups.zero[g] = (middle - groups.zero[g]) * groups.scale[g];
  }
  AOQ_ASSIGN(out.scale, parameter_tensor(groups.scale, form.parameters, rows));
  AOQ_ASSIGN(out.zero, parameter_tensor(groups.zero, form.parameters, rows));
  return out;
}

}  // namespace

Result<HqqWeight> hqq_quantize(TensorView weight, const HqqForm& form) {
  return quantize(weight, form, ZeroPoint::code);
}

Result<HqqWeight> hqq_quantize_tinygemm(TensorView weight, const HqqForm& form) {
  return quantize(weight, form, ZeroPoint::middle_value);
}

}  // namespace aoq
