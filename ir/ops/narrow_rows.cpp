#include "ir/ops/narrow_rows.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "ir/narrow_linear.h"

namespace aoq::ops {

namespace {

void round_to(DType dtype, std::span<float> values) {
  if (dtype == DType::f32) return;
  const DTypeInfo& info = dtype_info(dtype);
  constexpr std::size_t kAtOnce = 64;
  std::array<std::byte, kAtOnce * 2> narrow;
  for (std::size_t i = 0; i < values.size(); i += kAtOnce) {
    const std::span<float> part = values.subspan(i, std::min(kAtOnce, values.size() - i));
    info.from_float(part, narrow.data(), 0);
    info.to_float(narrow.data(), 0, part);
  }
}

}  // namespace

void scale_narrow_row(const NarrowRowFormat& format, std::span<const float> scales, std::span<const float> zero_points,
                      std::span<float> row) {
  const auto group = static_cast<std::size_t>(format.group);
  const bool has_float_zeros = is_float(format.zero_points);
  const auto centre = static_cast<float>(code_centre(format.codes));
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const std::size_t begin = g * group;
    const std::span<float> values = row.subspan(begin, std::min(group, row.size() - begin));
    const float zero = has_float_zeros ? centre : zero_points[g];
    for (float& v : values) v = (v - zero) * scales[g];
    if (!has_float_zeros) continue;
    round_to(format.zero_points, values);
    for (float& v : values) v = v + zero_points[g];
    round_to(format.zero_points, values);
  }
}

}  // namespace aoq::ops
