// How far quantized values are from real ones, summed over batches.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "ir/tensor.h"

namespace aoq {

class ErrorFigures {
 public:
  // x: the real values; y: what became of them. Where only one is finite the error is infinite; elements where both are
  // not count as no number.
  void add(std::span<const float> x, std::span<const float> y);
  // The same where y stands for codes. A code is saturated when it is the first or the last of its range and x lies
  // beyond the value that it stands for, by more than what rounding the scale explains (a hundred-thousandth).
  struct Codes {
    TensorView codes;
    std::int64_t lowest = 0, highest = 0;
  };
  void add(std::span<const float> x, std::span<const float> y, const Codes& codes);

  // |x - y| / |x|; 0 where they are equal, infinite where only x is zero everywhere, or the error is.
  double relative_error() const;
  // 20 log10(|x| / |x - y|), from -999 (infinite error) to 999 (equal).
  double sqnr_db() const;
  // The share of saturated codes; empty where no codes were added.
  std::optional<double> saturation() const;

 private:
  double signal_ = 0, noise_ = 0;
  std::int64_t codes_ = 0, saturated_ = 0, mismatches_ = 0;
};

// The first and the last code of a type.
ErrorFigures::Codes whole_range(const TensorView& codes);

}  // namespace aoq
