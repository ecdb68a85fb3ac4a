// Our own ways to choose a range from a histogram; PyTorch has none of these as an observer. All work in double.
//
//   percentile: the shortest range of whole bins that leaves at most (100 - percentile) / 2 percent out at either end
//   entropy:    among ranges cut off at a common magnitude, the one whose quantized histogram has the least
//               Kullback-Leibler divergence from the clipped histogram (TensorRT's calibration, for both signs)
//   mse:        among the same ranges, the one of the least expected squared error
#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/quantize/histogram_observer.h"

namespace aoq::observers {
namespace {

using torch_math::Range;

// Bin widths and centres; a histogram of one value has bins of no width.
struct Bins {
  explicit Bins(const HistogramView& h)
      : histogram(h),
        count(static_cast<std::int64_t>(h.counts.size())),
        width((static_cast<double>(h.max) - h.min) / static_cast<double>(count)) {}

  double start(std::int64_t i) const { return histogram.min + width * static_cast<double>(i); }
  double center(std::int64_t i) const { return start(i) + width / 2; }

  const HistogramView& histogram;
  std::int64_t count;
  double width;
};

Range percentile_range(const HistogramView& h, const ObserverSpec& spec) {
  const Bins bins(h);
  double total = 0;
  for (float c : h.counts) total += c;
  const double outside = total * (100.0 - spec.percentile) / 200.0;
  std::int64_t first = 0, last = bins.count - 1;
  for (double left = h.counts[0]; first < last && left <= outside; left += h.counts[first]) ++first;
  for (double right = h.counts[last]; last > first && right <= outside; right += h.counts[last]) --last;
  const float lo = first == 0 ? h.min : static_cast<float>(bins.start(first));
  const float hi = last == bins.count - 1 ? h.max : static_cast<float>(bins.start(last + 1));
  return {std::max(lo, h.min), std::min(hi, h.max)};
}

// A candidate: the observed range, with zero in it, cut off at `share` of its largest magnitude on either side.
Range clipped_range(const HistogramView& h, double share) {
  const double lo = std::min(0.0, static_cast<double>(h.min)), hi = std::max(0.0, static_cast<double>(h.max));
  const double threshold = share * std::max(-lo, hi);
  return {static_cast<float>(std::max(lo, -threshold)), static_cast<float>(std::min(hi, threshold))};
}

// The range over which the codes are spread: a symmetric scheme spends them on both sides alike.
Range spread_range(Range r, const ObserverSpec& spec) {
  if (spec.qscheme != QScheme::per_tensor_symmetric) return r;
  const float magnitude = std::max(-r.min, r.max);
  return {-magnitude, magnitude};
}

// The least-loss candidate of a hundred; the widest wins a tie.
template <class Loss>
Range best_of(const HistogramView& h, const Loss& loss) {
  constexpr int kCandidates = 100;
  Range best = clipped_range(h, 1.0);
  double least = std::numeric_limits<double>::infinity();
  for (int i = kCandidates; i > 0; --i) {
    const Range r = clipped_range(h, static_cast<double>(i) / kCandidates);
    const double l = r.max > r.min ? loss(r) : std::numeric_limits<double>::infinity();
    if (l < least) {
      least = l;
      best = r;
    }
  }
  return best;
}

double codes_of(const ObserverSpec& spec) {
  if (spec.quant_min && spec.quant_max) return static_cast<double>(*spec.quant_max - *spec.quant_min + 1);
  return std::ldexp(1.0, dtype_info(spec.dtype).bits - (spec.reduce_range ? 1 : 0));
}

Range mse_range(const HistogramView& h, const ObserverSpec& spec) {
  const Bins bins(h);
  const double codes = codes_of(spec);
  return best_of(h, [&](Range r) {
    const Range spread = spread_range(r, spec);
    const double step = (static_cast<double>(spread.max) - spread.min) / (codes - 1);
    double loss = 0;
    for (std::int64_t i = 0; i < bins.count; ++i) {
      if (h.counts[i] == 0) continue;
      const double x = bins.center(i);
      const double inside = std::clamp(x, static_cast<double>(r.min), static_cast<double>(r.max));
      const double clipped = x - inside;
      // Within the range the error is uniform over a step.
      loss += h.counts[i] * (clipped != 0 ? clipped * clipped : step * step / 12);
    }
    return loss;
  });
}

// Divergence of the histogram clipped to `r` from the same histogram seen through `codes` levels.
double divergence(const Bins& bins, Range r, std::int64_t codes) {
  const HistogramView& h = bins.histogram;
  std::vector<double> clipped(static_cast<std::size_t>(bins.count)), inner(clipped);
  std::int64_t first = bins.count, last = -1;
  for (std::int64_t i = 0; i < bins.count; ++i) {
    const double x = bins.center(i);
    if (x < r.min || x > r.max) continue;
    first = std::min(first, i);
    last = i;
    clipped[i] = inner[i] = h.counts[i];
  }
  if (last - first + 1 < codes) return std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < first; ++i) clipped[first] += h.counts[i];
  for (std::int64_t i = last + 1; i < bins.count; ++i) clipped[last] += h.counts[i];
  double total = 0, inner_total = 0;
  for (std::int64_t i = first; i <= last; ++i) {
    total += clipped[i];
    inner_total += inner[i];
  }
  if (inner_total == 0) return std::numeric_limits<double>::infinity();
  double sum = 0;
  for (std::int64_t code = 0; code < codes; ++code) {
    const std::int64_t begin = first + (last - first + 1) * code / codes,
                       end = first + (last - first + 1) * (code + 1) / codes;
    double level = 0, occupied = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      level += inner[i];
      occupied += clipped[i] > 0 ? 1 : 0;
    }
    for (std::int64_t i = begin; i < end; ++i) {
      if (clipped[i] == 0) continue;
      const double p = clipped[i] / total;
      const double q = std::max(level / occupied / inner_total, 1e-12);
      sum += p * std::log(p / q);
    }
  }
  return sum;
}

Range entropy_range(const HistogramView& h, const ObserverSpec& spec) {
  const Bins bins(h);
  const std::int64_t codes = static_cast<std::int64_t>(std::min(codes_of(spec), static_cast<double>(bins.count) / 2));
  return best_of(h, [&](Range r) {
    const Range spread = spread_range(r, spec);
    const double share = (static_cast<double>(r.max) - r.min) / (static_cast<double>(spread.max) - spread.min);
    const std::int64_t used = static_cast<std::int64_t>(std::ceil(static_cast<double>(codes) * share));
    return divergence(bins, r, std::max<std::int64_t>(used, 1));
  });
}

}  // namespace

Result<std::unique_ptr<Observer>> make_percentile(const ObserverSpec& spec) {
  if (!(spec.percentile > 0 && spec.percentile <= 100)) {
    return error(Code::invalid_argument, "percentile {}, expected more than 0 and at most 100", spec.percentile);
  }
  return make_histogram_observer(spec, &percentile_range);
}

Result<std::unique_ptr<Observer>> make_entropy(const ObserverSpec& spec) {
  return make_histogram_observer(spec, &entropy_range);
}

Result<std::unique_ptr<Observer>> make_mse(const ObserverSpec& spec) {
  return make_histogram_observer(spec, &mse_range);
}

}  // namespace aoq::observers
