// Family 3 of qparam formulas: what is computed from a tensor at run time.
#include <algorithm>
#include <cmath>

#include "passes/quantize/arithmetic.h"
#include "passes/quantize/qparams.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

struct Rows {
  std::vector<float> values;
  std::size_t length = 0;
  std::span<const float> row(std::size_t i) const { return std::span(values).subspan(i * length, length); }
  std::size_t count() const { return values.size() / length; }
};

Result<Rows> rows_of(TensorView x) {
  if (x.shape.empty() || x.element_count() == 0)
    return error(Code::invalid_data, "choose_qparams_per_token: no elements");
  AOQ_ASSIGN(std::vector<float> values, to_floats(x));
  return Rows{std::move(values), static_cast<std::size_t>(x.shape.back())};
}

}  // namespace

Result<TokenQParams> decomposed_choose_qparams_per_token(TensorView x) {
  AOQ_ASSIGN(const Rows rows, rows_of(x));
  TokenQParams q;
  for (std::size_t i = 0; i < rows.count(); ++i) {
    float amax = 0;
    for (float v : rows.row(i)) amax = torch_math::max(amax, std::fabs(v));
    if (std::isnan(amax)) return error(Code::invalid_data, "choose_qparams_per_token: NaN");
    q.scale.push_back(std::max(amax, 1e-5f) / 127.0f);
    q.zero_point.push_back(0);
  }
  return q;
}

Result<TokenQParams> decomposed_choose_qparams_per_token_asymmetric(TensorView x) {
  constexpr float kQmin = -128, kQmax = 127;
  const Rounding round(x.dtype);
  AOQ_ASSIGN(const Rows rows, rows_of(x));
  TokenQParams q;
  for (std::size_t i = 0; i < rows.count(); ++i) {
    const torch_math::Range r = torch_math::aminmax(rows.row(i));
    if (std::isnan(r.min)) return error(Code::invalid_data, "choose_qparams_per_token_asymmetric: NaN");
    const float lo = std::min(r.min, 0.0f), hi = std::max(r.max, 0.0f);
    const float scale = std::max(round(round(hi - lo) / (kQmax - kQmin)), 0x1p-23f);
    const float descaled_min = round(lo / scale), descaled_max = round(hi / scale);
    const float min_error = round(kQmin + descaled_min), max_error = round(kQmax + descaled_max);
    float zero_point = round(min_error + max_error) > 0 ? round(kQmin - descaled_min) : round(kQmax - descaled_max);
    zero_point = std::nearbyintf(std::clamp(zero_point, kQmin, kQmax));
    q.scale.push_back(scale);
    q.zero_point.push_back(static_cast<std::int64_t>(zero_point));
  }
  return q;
}

}  // namespace aoq
