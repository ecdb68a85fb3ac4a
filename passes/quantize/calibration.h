// Calibration: what running a prepared graph over data teaches, in constant memory per observed value.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/quantize/observer.h"

namespace aoq {

// A stream of batches. Implementations read files, generate data, ...
struct CalibrationData {
  virtual ~CalibrationData() = default;
  // Fills one tensor per graph input, in order; false at the end.
  virtual Result<bool> next(std::vector<Tensor>& batch) = 0;
  // Starts over; false where that cannot be done.
  virtual bool rewind() { return false; }
};

// Each channel of what a weighted op reads, for bias correction and equalization.
struct ChannelStatistics {
  std::vector<double> sum;
  std::vector<float> min, max;
  std::int64_t count = 0;  // elements per channel
};

// The names in Ranges::channels of what a node reads as its input and as its residual.
std::string channels_of_input(const Node& reader);
std::string channels_of_residual(const Node& reader);

// The result of calibration: observer states by name. It can be saved, merged and used again (the ranges file).
struct Ranges {
  std::map<std::string, std::unique_ptr<Observer>> observers;
  std::map<std::string, ChannelStatistics> channels;
  std::int64_t samples = 0;

  std::string to_json() const;
  static Result<Ranges> from_json(std::string_view json);
  // Adds what another run over other data saw; observers that cannot be merged refuse.
  Status merge(const Ranges& other);
};

}  // namespace aoq
