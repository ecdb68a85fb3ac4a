// The rule counts bytes, each at the price of the level that it comes from.
//
// A step that touches F bytes finds them in L2 while they are a half of it, and every doubling of F makes a byte dearer
// by one, up to what memory costs. A loop saves that difference between batch and slice for every access to a value
// that stays within it. It pays for weights, which each slice reads again: less where many rows use a weight, because
// then the multiplications hide the reading; twice where the weights of the loop do not stay in L3. And it pays
// kStepBytes for every start of a step.
//
// The best set of loops is found from the front: the best up to a step is that up to the step before, or ends with a
// loop that begins at one of the steps before it.
#include "runtime/batch_loops.h"

#include <algorithm>
#include <cmath>

namespace aoq {
namespace {

constexpr double kStepBytes = 16 * 1024;
// Rows that multiply a weight while the next one is read.
constexpr double kHidingRows = 8;
constexpr std::int64_t kMaxSteps = 2048;  // of a loop

double price(double bytes, const CacheSizes& caches) {
  const double near = static_cast<double>(caches.l2) / 2;
  if (bytes <= near) return 0;
  return std::log2(std::min(bytes, static_cast<double>(caches.l3)) / near);
}

class Chooser {
 public:
  explicit Chooser(const LoopProblem& problem) : problem_(problem), ending_(problem.steps.size()) {
    for (std::size_t v = 0; v < problem.values.size(); ++v) {
      ending_[static_cast<std::size_t>(problem.values[v].last)].push_back(v);
    }
  }

  std::vector<BatchLoop> choose() {
    const auto count = static_cast<std::int64_t>(problem_.steps.size());
    best_.assign(static_cast<std::size_t>(count) + 1, 0.0);
    chosen_.assign(static_cast<std::size_t>(count) + 1, BatchLoop{});
    // best_[first] is final when the loops that begin there are looked at.
    for (std::int64_t first = 0; first < count; ++first) {
      const auto at = static_cast<std::size_t>(first);
      if (best_[at] > best_[at + 1]) take(at + 1, best_[at], BatchLoop{});
      for (std::int64_t slices : problem_.slice_counts) grow(first, slices);
    }
    std::vector<BatchLoop> loops;
    for (std::int64_t end = count; end > 0;) {
      const BatchLoop& loop = chosen_[static_cast<std::size_t>(end)];
      if (loop.count > 0) loops.push_back(loop);
      end -= std::max<std::int64_t>(loop.count, 1);
    }
    std::reverse(loops.begin(), loops.end());
    return loops;
  }

 private:
  void take(std::size_t end, double gain, const BatchLoop& loop) {
    best_[end] = gain;
    chosen_[end] = loop;
  }

  // All loops of `slices` slices that begin at a step.
  void grow(std::int64_t first, std::int64_t slices) {
    const auto count = static_cast<std::int64_t>(problem_.steps.size());
    double saved = 0, lost = 0, weights = 0, dearest = 0;
    const double again = static_cast<double>(slices - 1);
    for (std::int64_t i = first; i < std::min(count, first + kMaxSteps); ++i) {
      const LoopStep& step = problem_.steps[static_cast<std::size_t>(i)];
      if (!step.is_sliceable || step.whole_from >= first) return;
      saved -= again * kStepBytes;
      for (std::size_t v : ending_[static_cast<std::size_t>(i)]) {
        if (problem_.values[v].first >= first) saved += saved_by(problem_.values[v], slices);
      }
      const double bytes = static_cast<double>(step.weight_bytes);
      const double rows = std::max(step.weight_rows / static_cast<double>(slices), 1.0);
      lost += again * bytes * std::min(1.0, kHidingRows / rows);
      weights += bytes;
      dearest = std::max(dearest, static_cast<double>(step.moving_bytes) / static_cast<double>(slices));
      const double level = weights + dearest > static_cast<double>(problem_.caches.l3) / 2 ? 2.0 : 1.0;
      const double gain = best_[static_cast<std::size_t>(first)] + saved - level * lost;
      const auto end = static_cast<std::size_t>(i) + 1;
      if (i > first && gain > best_[end]) take(end, gain, {first, i + 1 - first, slices});
    }
  }

  double saved_by(const LoopValue& value, std::int64_t slices) const {
    double saved = 0;
    for (std::int64_t access : value.accesses) {
      const double moving = static_cast<double>(problem_.steps[static_cast<std::size_t>(access)].moving_bytes);
      saved += price(moving, problem_.caches) - price(moving / static_cast<double>(slices), problem_.caches);
    }
    return saved * static_cast<double>(value.bytes);
  }

  const LoopProblem& problem_;
  std::vector<std::vector<std::size_t>> ending_;  // values by the last step that reads them
  std::vector<double> best_;                      // gain of the best loops among the first steps
  std::vector<BatchLoop> chosen_;                 // the loop that ends there, count 0: none
};

}  // namespace

std::vector<BatchLoop> choose_loops(const LoopProblem& problem) {
  return Chooser(problem).choose();
}

std::vector<BatchLoop> all_loops(const LoopProblem& problem) {
  std::vector<BatchLoop> loops;
  if (problem.slice_counts.empty()) return loops;
  bool is_open = false;
  for (std::size_t i = 0; i < problem.steps.size(); ++i) {
    const LoopStep& step = problem.steps[i];
    is_open = is_open && step.is_sliceable && step.whole_from < loops.back().first;
    if (is_open) {
      ++loops.back().count;
    } else if (step.is_sliceable) {
      loops.push_back({static_cast<std::int64_t>(i), 1, problem.slice_counts[0]});
      is_open = true;
    }
  }
  return loops;
}

}  // namespace aoq
