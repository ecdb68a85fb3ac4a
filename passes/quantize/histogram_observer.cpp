// Gathering a histogram over batches of growing range (spec C.3, HistogramObserver, the current algorithm).
//
//   old  |--------|             each bin is split into 16, whose mid-points are counted into the bins of the new range
//   new  |--------------|
#include "passes/quantize/histogram_observer.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace aoq::observers {
namespace {

using torch_math::Range;

constexpr std::int64_t kUpsample = 16;
constexpr int kMaxBins = 1 << 20;

void add(std::vector<float>& to, std::span<const float> from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

// The counts of a histogram over another range, which holds its own.
std::vector<float> rebin(const HistogramView& old, Range range) {
  const std::int64_t bins = static_cast<std::int64_t>(old.counts.size());
  const float bin_size = (old.max - old.min) / static_cast<float>(bins * kUpsample);
  const std::vector<float> starts = torch_math::linspace(old.min, old.max, bins * kUpsample + 1);
  const std::vector<float> edges = torch_math::linspace(range.min, range.max, bins + 1);
  std::vector<float> counts(old.counts.size());
  for (std::int64_t j = 0; j < bins * kUpsample; ++j) {
    const float middle = starts[j] + 0.5f * bin_size;
    const std::int64_t bin = std::upper_bound(edges.begin(), edges.end(), middle) - edges.begin() - 1;
    counts[std::clamp<std::int64_t>(bin, 0, bins - 1)] += old.counts[j / kUpsample] / static_cast<float>(kUpsample);
  }
  return counts;
}

std::vector<float> moved_to(const HistogramView& old, Range range) {
  if (range.min == old.min && range.max == old.max) return {old.counts.begin(), old.counts.end()};
  if (old.min != old.max) return rebin(old, range);
  const std::int64_t bins = static_cast<std::int64_t>(old.counts.size());
  std::vector<float> counts = torch_math::histc({&old.min, 1}, bins, range.min, range.max);
  const float total = torch_math::sum(old.counts);
  for (float& c : counts) c *= total;
  return counts;
}

class HistogramObserver final : public Observer {
 public:
  HistogramObserver(ObserverSpec spec, ObserverFormula formula, ChooseRange choose)
      : Observer(std::move(spec)), formula_(formula), choose_(choose) {}

  Status observe(const TensorView& x) override {
    AOQ_ASSIGN(std::span<const float> values, f32_elements(x));
    if (values.empty()) return {};
    Range range = torch_math::aminmax(values);
    if (std::isnan(range.min)) return error(Code::invalid_data, "{}: NaN in the values", spec_.kind);
    std::vector<float> finite;
    if (std::isinf(range.min) || std::isinf(range.max)) {
      for (float v : values) {
        if (!std::isinf(v)) finite.push_back(v);
      }
      if (finite.empty()) return {};
      values = finite;
      range = torch_math::aminmax(values);
    }
    const Range whole = joined(range);
    std::vector<float> counts = torch_math::histc(values, spec_.bins, whole.min, whole.max);
    take_in(whole, std::move(counts));
    return {};
  }

  Result<QParams> qparams() const override {
    if (state_.min.empty()) return observer_qparams(formula_, {}, {});
    const Range r = choose_({state_.histogram, state_.min[0], state_.max[0]}, spec_);
    return observer_qparams(formula_, {&r.min, 1}, {&r.max, 1});
  }

 protected:
  Status merge_state(const ObserverState& other) override {
    if (other.min.empty()) return {};
    const Range theirs{other.min[0], other.max[0]};
    const Range whole = joined(theirs);
    take_in(whole, moved_to({other.histogram, theirs.min, theirs.max}, whole));
    return {};
  }

  Status check_state(const ObserverState& state) const override {
    const bool is_empty = state.min.empty() && state.max.empty() && state.histogram.empty();
    if (is_empty) return {};
    const bool is_whole = state.min.size() == 1 && state.max.size() == 1 &&
                          state.histogram.size() == static_cast<std::size_t>(spec_.bins);
    if (!is_whole)
      return error(Code::invalid_data, "observer state: a histogram needs a range and {} bins", spec_.bins);
    if (!std::isfinite(state.min[0]) || !std::isfinite(state.max[0]) || state.min[0] > state.max[0]) {
      return error(Code::invalid_data, "observer state: histogram over [{}, {}]", state.min[0], state.max[0]);
    }
    for (float c : state.histogram) {
      if (!(c >= 0) || std::isinf(c)) return error(Code::invalid_data, "observer state: a bin counts {}", c);
    }
    return {};
  }

 private:
  Range joined(Range r) const {
    if (state_.min.empty()) return r;
    return {torch_math::min(state_.min[0], r.min), torch_math::max(state_.max[0], r.max)};
  }

  // `counts` is over `range`, which holds our own.
  void take_in(Range range, std::vector<float> counts) {
    if (!state_.min.empty()) {
      const std::vector<float> ours = moved_to({state_.histogram, state_.min[0], state_.max[0]}, range);
      add(counts, ours);
    }
    state_ = {{range.min}, {range.max}, std::move(counts)};
  }

  const ObserverFormula formula_;
  const ChooseRange choose_;
};

}  // namespace

Result<std::unique_ptr<Observer>> make_histogram_observer(const ObserverSpec& spec, ChooseRange choose) {
  if (is_per_channel(spec.qscheme)) return error(Code::invalid_argument, "a histogram of each channel is not kept");
  if (spec.bins < 2 || spec.bins > kMaxBins)
    return error(Code::invalid_argument, "{} bins, 2 to {} are possible", spec.bins, kMaxBins);
  AOQ_ASSIGN(const ObserverFormula formula, formula_of(spec));
  return std::unique_ptr<Observer>(new HistogramObserver(spec, formula, choose));
}

Result<std::unique_ptr<Observer>> make_histogram(const ObserverSpec& spec) {
  return make_histogram_observer(spec, &torch_search);
}

}  // namespace aoq::observers
