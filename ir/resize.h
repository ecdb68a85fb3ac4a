// Where resize reads: shared by the reference and the kernel, so that both pick the same elements.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace aoq::resize {

struct AxisSizes {
  std::int64_t in, out;
  double scale;
};

// The position in the input that position `position` of the result reads, by the `coordinates` attribute.
inline double coordinate(std::string_view mode, const AxisSizes& d, std::int64_t position) {
  auto x = static_cast<double>(position);
  auto in = static_cast<double>(d.in);
  auto out = static_cast<double>(d.out);
  if (mode == "asymmetric") return x / d.scale;
  if (mode == "align_corners") return d.out == 1 ? 0.0 : x * (in - 1.0) / (out - 1.0);
  if (mode == "pytorch_half_pixel") return d.out > 1 ? (x + 0.5) / d.scale - 0.5 : 0.0;
  if (mode == "tf_half_pixel_for_nn") return (x + 0.5) / d.scale;
  if (mode == "half_pixel_symmetric") {
    double adjustment = out / (d.scale * in);
    return in / 2.0 * (1.0 - adjustment) + (x + 0.5) / d.scale - 0.5;
  }
  return (x + 0.5) / d.scale - 0.5;
}

// By the `nearest` attribute.
inline double to_nearest(std::string_view mode, double x) {
  if (mode == "floor") return std::floor(x);
  if (mode == "ceil") return std::ceil(x);
  return mode == "round_prefer_ceil" ? std::floor(x + 0.5) : std::ceil(x - 0.5);
}

inline std::int64_t inside(double x, std::int64_t n) {
  return static_cast<std::int64_t>(std::clamp(x, 0.0, static_cast<double>(n - 1)));
}

}  // namespace aoq::resize
