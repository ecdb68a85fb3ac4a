// Batch loops: runs of steps that are executed slice by slice of the batch, so that what passes between them stays in
// the cache. Internal to the runtime.
//
//     conv  conv  add  pool  linear              conv conv add pool   for samples 0..1
//     8     8     8    8     8        becomes    conv conv add pool   for samples 2..3, ...
//                                                linear               for all 8
//
// Values that only the steps of a loop see are planned at the size of a slice; those that cross its border are whole.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/cache_sizes.h"

namespace aoq {

// A step as far as the choice looks at it. All sizes are those of the whole batch.
struct LoopStep {
  bool is_sliceable = false;
  // The last step before this one that makes an operand which enters whole; -1: none. A loop begins behind it.
  std::int64_t whole_from = -1;
  std::uint64_t moving_bytes = 0;  // operands and results that are cut
  std::uint64_t weight_bytes = 0;  // constants that each slice reads again
  double weight_rows = 1;          // how often the whole batch multiplies each weight
};

// A value that steps make; graph inputs and results cross every border and are not among them.
struct LoopValue {
  std::int64_t first = 0, last = 0;    // the step that makes it and the last one that reads it
  std::uint64_t bytes = 0;             // of the whole batch
  std::vector<std::int64_t> accesses;  // steps that make or read it
};

struct LoopProblem {
  std::vector<LoopStep> steps;
  std::vector<LoopValue> values;
  std::vector<std::int64_t> slice_counts;  // into how many slices the batch may be cut, each above 1
  CacheSizes caches;
  int workers = 1;  // threads
};

struct BatchLoop {
  std::int64_t first = 0, count = 0;  // steps
  std::int64_t slices = 1;
};

// How many of the workers share the slices out; 1: they would wait too long for the last ones, and split each slice.
int loop_workers(std::int64_t slices, int workers);
// The loops that pay most by the rule in batch_loops.cpp, in order. Pure.
std::vector<BatchLoop> choose_loops(const LoopProblem& problem);
// Every run of steps that can be a loop, as long as it can be, with problem.slice_counts[0] slices.
std::vector<BatchLoop> all_loops(const LoopProblem& problem);

}  // namespace aoq
