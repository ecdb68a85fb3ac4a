// The rule counts bytes, each at the price of the level that it comes from.
//
// A step that touches F bytes finds them in L2 while they are a half of it, and every doubling of F makes a byte dearer
// by one, up to what memory costs. A loop saves that difference between batch and slice for every access to a value
// that stays within it. It pays for weights, which each slice reads again: less where many rows use a weight, because
// then the multiplications hide the reading; twice where the weights of the loop do not stay in L3. And it pays
// kStepBytes for every start of a step. All is counted for one worker: where the slices are shared out, it starts a
// step for its own slices only, and does not wait for the others after each step.
//
// The best set of loops is found from the front: the best up to a step is that up to the step before, or ends with a
// loop that begins at one of the steps before it.
#include "runtime/batch_loops.h"

#include <algorithm>
#include <cmath>

namespace aoq {
namespace {

constexpr double kStepBytes = 16 * 1024;
// A step that moves less is not worth splitting over threads: nobody waits for it.
constexpr std::uint64_t kSplitBytes = 64 * 1024;
// Rows that multiply a weight while the next one is read.
constexpr double kHidingRows = 8;
constexpr std::int64_t kMaxSteps = 2048;  // of a loop

double price(double bytes, const CacheSizes& caches) {
  const double near = static_cast<double>(caches.l2) / 2;
  if (bytes <= near) return 0;
  return std::log2(std::min(bytes, static_cast<double>(caches.l3)) / near);
}

// What one way to cut the batch saves and costs, for one worker.
struct Cut {
  std::int64_t slices = 1;
  double starts = 0;          // of a step, more than without a loop
  double waits = 0;           // of the workers for each other after a step, fewer than without a loop
  double readings = 0;        // of a weight, more than without a loop
  std::vector<double> saved;  // for each value that stays within the loop
};

Cut make_cut(const LoopProblem& problem, std::int64_t slices) {
  const double workers = static_cast<double>(problem.workers), count = static_cast<double>(slices);
  const int sharing = loop_workers(slices, problem.workers);
  Cut cut{slices, count - 1, 0, count - 1, {}};
  if (sharing > 1) {
    const double turns = std::ceil(count / workers);
    cut.starts = turns - 1;
    cut.waits = 1;
    // Without a loop each weight may be read by one of the workers only.
    cut.readings = turns - 1 / workers;
  }
  for (const LoopValue& value : problem.values) {
    double saved = 0;
    for (std::int64_t access : value.accesses) {
      const double moving = static_cast<double>(problem.steps[static_cast<std::size_t>(access)].moving_bytes);
      saved += price(moving, problem.caches) - price(moving / count, problem.caches);
    }
    cut.saved.push_back(saved * static_cast<double>(value.bytes) / workers);
  }
  return cut;
}

class Chooser {
 public:
  explicit Chooser(const LoopProblem& problem) : problem_(problem), ending_(problem.steps.size()) {
    for (std::size_t v = 0; v < problem.values.size(); ++v) {
      ending_[static_cast<std::size_t>(problem.values[v].last)].push_back(v);
    }
    for (std::int64_t slices : problem.slice_counts) cuts_.push_back(make_cut(problem, slices));
  }

  std::vector<BatchLoop> choose() {
    const auto count = static_cast<std::int64_t>(problem_.steps.size());
    best_.assign(static_cast<std::size_t>(count) + 1, 0.0);
    chosen_.assign(static_cast<std::size_t>(count) + 1, BatchLoop{});
    // best_[first] is final when the loops that begin there are looked at.
    for (std::int64_t first = 0; first < count; ++first) {
      const auto at = static_cast<std::size_t>(first);
      if (best_[at] > best_[at + 1]) take(at + 1, best_[at], BatchLoop{});
      for (const Cut& cut : cuts_) grow(first, cut);
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

  // All loops that begin at a step and cut the batch in this way.
  void grow(std::int64_t first, const Cut& cut) {
    const auto count = static_cast<std::int64_t>(problem_.steps.size());
    const double before = best_[static_cast<std::size_t>(first)];
    const double l3 = static_cast<double>(problem_.caches.l3), slices = static_cast<double>(cut.slices);
    double gain = -kStepBytes, again = 0, weights = 0, most_moving = 0;
    for (std::int64_t i = first; i < std::min(count, first + kMaxSteps); ++i) {
      const LoopStep& step = problem_.steps[static_cast<std::size_t>(i)];
      if (!step.is_sliceable || step.whole_from >= first) return;
      gain -= (cut.starts - (step.moving_bytes > kSplitBytes ? cut.waits : 0)) * kStepBytes;
      for (std::size_t v : ending_[static_cast<std::size_t>(i)]) {
        if (problem_.values[v].first >= first) gain += cut.saved[v];
      }
      const double bytes = static_cast<double>(step.weight_bytes);
      again += cut.readings * bytes * std::min(1.0, kHidingRows / std::max(step.weight_rows / slices, 1.0));
      weights += bytes;
      most_moving = std::max(most_moving, static_cast<double>(step.moving_bytes) / slices);
      const double level = weights + most_moving > l3 / 2 ? 2.0 : 1.0;
      const double total = before + gain - level * again;
      const auto end = static_cast<std::size_t>(i) + 1;
      if (i > first && total > best_[end]) take(end, total, {first, i + 1 - first, cut.slices});
    }
  }

  const LoopProblem& problem_;
  std::vector<Cut> cuts_;
  std::vector<std::vector<std::size_t>> ending_;  // values by the last step that reads them
  std::vector<double> best_;                      // gain of the best loops among the first steps
  std::vector<BatchLoop> chosen_;                 // the loop that ends there, count 0: none
};

}  // namespace

int loop_workers(std::int64_t slices, int workers) {
  const std::int64_t turns = (slices + workers - 1) / workers;
  return turns * workers * 4 <= slices * 5 ? workers : 1;
}

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
