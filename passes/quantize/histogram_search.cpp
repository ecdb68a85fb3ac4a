// PyTorch's parameter search over a histogram (spec C.3). It cuts off bins at whichever end gives up more of them for
// the next 1e-5 of the values, as long as the squared error of quantizing what remains does not grow.
#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/quantize/histogram_observer.h"

namespace aoq::observers {
namespace {

// The integral of density * x^2 over [begin, end].
float squared_error(float begin, float end, float density) {
  return density * ((end * end * end - begin * begin * begin) / 3.0f);
}

// Squared error of quantizing the histogram with the bins [first, last] spread over the codes. Scalars are double and
// rounded once where they meet the fp32 vectors, as in the original.
class ErrorOfRange {
 public:
  ErrorOfRange(const HistogramView& histogram, double codes)
      : histogram_(histogram),
        codes_(codes),
        bin_width_((static_cast<double>(histogram.max) - static_cast<double>(histogram.min)) /
                   static_cast<double>(histogram.counts.size())),
        errors_(histogram.counts.size()) {}

  double operator()(std::int64_t first, std::int64_t last) {
    const double wide_code = bin_width_ * static_cast<double>(last - first + 1) / codes_;
    if (wide_code == 0.0) return 0.0;
    const float bin = static_cast<float>(bin_width_), code = static_cast<float>(wide_code);
    const float half_code = static_cast<float>(wide_code / 2), last_code = static_cast<float>(codes_ - 1);
    const float minus_half_code = static_cast<float>(-wide_code / 2);
    const std::int64_t bins = static_cast<std::int64_t>(histogram_.counts.size());
    for (std::int64_t i = 0; i < bins; ++i) {
      const float begin = static_cast<float>(i - first) * bin;
      const float end = begin + bin;
      const float code_of_begin = std::clamp(floor_quotient(begin, code), 0.0f, last_code);
      const float code_of_end = std::clamp(floor_quotient(end, code), 0.0f, last_code);
      const float density = histogram_.counts[i] / bin;
      const float begin_center = (code_of_begin + 0.5f) * code;
      const float end_center = code_of_end * code + half_code;
      float e = squared_error(begin - begin_center, half_code, density);
      e += (code_of_end - code_of_begin - 1.0f) * squared_error(minus_half_code, half_code, density);
      e += squared_error(minus_half_code, end - end_center, density);
      errors_[i] = e;
    }
    return torch_math::sum(errors_);
  }

 private:
  // The double quotient of two floats never rounds across an integer, so this equals the division by fmod of the
  // original.
  static float floor_quotient(float a, float b) {
    return static_cast<float>(std::floor(static_cast<double>(a) / static_cast<double>(b)));
  }

  const HistogramView& histogram_;
  const double codes_;
  const double bin_width_;
  std::vector<float> errors_;
};

std::vector<float> cumulative(std::span<const float> counts) {
  std::vector<float> sums;
  double total = 0;
  for (float c : counts) {
    total += c;
    sums.push_back(static_cast<float>(total));
  }
  return sums;
}

}  // namespace

torch_math::Range torch_search(const HistogramView& histogram, const ObserverSpec& spec) {
  constexpr double kStep = 1e-5;
  const double total = torch_math::sum(histogram.counts);
  const std::vector<float> sums = cumulative(histogram.counts);
  ErrorOfRange error_of(histogram, std::ldexp(1.0, dtype_info(spec.dtype).bits));
  double alpha = 0.0, beta = 1.0;
  double best = std::numeric_limits<double>::infinity();
  std::int64_t first = 0, last = static_cast<std::int64_t>(histogram.counts.size()) - 1;
  while (alpha < beta) {
    const double next_alpha = alpha + kStep, next_beta = beta - kStep;
    const float left_share = static_cast<float>(next_alpha * total),
                right_share = static_cast<float>(next_beta * total);
    std::int64_t left = first, right = last;
    while (left < last && sums[left] < left_share) ++left;
    while (right > first && sums[right] > right_share) --right;
    std::int64_t next_first = first, next_last = last;
    if (left - first > last - right) {
      next_first = left;
      alpha = next_alpha;
    } else {
      next_last = right;
      beta = next_beta;
    }
    if (next_first == first && next_last == last) continue;
    const double e = error_of(next_first, next_last);
    if (e > best) break;
    best = e;
    first = next_first;
    last = next_last;
  }
  const float bin_width = (histogram.max - histogram.min) / static_cast<float>(histogram.counts.size());
  return {histogram.min + bin_width * static_cast<float>(first),
          histogram.min + bin_width * static_cast<float>(last + 1)};
}

}  // namespace aoq::observers
