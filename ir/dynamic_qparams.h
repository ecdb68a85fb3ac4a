// Scales and zero points that are chosen from data while a model runs: what the op choose_qparams and its kernels
// compute.
#pragma once

#include <cstdint>

#include "ir/attribute.h"
#include "ir/status.h"

namespace aoq {

struct QRange {
  std::int64_t min = 0;
  std::int64_t max = 255;
};

enum class ReduceRange : std::uint8_t { no, yes };

struct TensorQParams {
  double scale = 1;
  std::int64_t zero_point = 0;
};

// ATen's ChooseQuantizationParams, in double; dynamic quantization and fused fake-quantize use it. A range of one point
// gives scale 0.1; scales below 6.1e-5 are raised to it. The zero point is taken from the end of the range that has the
// smaller error.
struct ChooseQuantizationOptions {
  QRange range;
  bool preserve_sparsity = false;
  bool force_power_of_two = false;
  ReduceRange reduce = ReduceRange::no;
};
TensorQParams choose_quantization_params(float min, float max, const ChooseQuantizationOptions& options);

// The attributes of choose_qparams, read once.
struct DynamicQParams {
  enum class Formula : std::uint8_t { affine, symmetric, aten };
  Formula formula = Formula::affine;
  bool per_token = false;  // each row of the last axis by itself
  QRange range;            // reduced already
  float eps = 0x1p-23f;

  // Attributes that choose_qparams accepted.
  static DynamicQParams from(const Attributes& attributes);
  // The attributes of linear_dynamic: i8 codes for each row.
  static DynamicQParams narrow_linear(const Attributes& attributes);
};

struct ChosenQParams {
  float scale = 1.0f;
  std::int32_t zero_point = 0;
};
// For values in [min, max]. invalid_data when one is not finite or the range is too wide for a scale.
Result<ChosenQParams> choose_dynamic_qparams(const DynamicQParams& how, float min, float max);

}  // namespace aoq
