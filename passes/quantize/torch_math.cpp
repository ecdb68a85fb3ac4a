#include "passes/quantize/torch_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace aoq::torch_math {
namespace {

constexpr std::int64_t kLanes = 8;
constexpr std::int64_t kRows = 4;
constexpr std::int64_t kLevels = 4;

using Lanes = std::array<float, kLanes>;

void add(Lanes& a, const Lanes& b) {
  for (std::int64_t i = 0; i < kLanes; ++i) a[i] += b[i];
}

Lanes load(const float* p) {
  Lanes v;
  std::copy_n(p, kLanes, v.begin());
  return v;
}

// Sums `size` groups of kRows vectors; levels keep the partial sums of like magnitude.
std::array<Lanes, kRows> cascade(const float* data, std::int64_t size) {
  const std::int64_t ceil_log2 = size <= 1 ? 0 : std::bit_width(static_cast<std::uint64_t>(size - 1));
  const std::int64_t power = std::max<std::int64_t>(4, ceil_log2 / kLevels);
  const std::int64_t step = std::int64_t{1} << power;
  std::array<std::array<Lanes, kRows>, kLevels> acc{};
  std::int64_t i = 0;
  auto add_group = [&] {
    for (std::int64_t k = 0; k < kRows; ++k) add(acc[0][k], load(data + (i * kRows + k) * kLanes));
  };
  while (i + step <= size) {
    for (std::int64_t j = 0; j < step; ++j, ++i) add_group();
    for (std::int64_t level = 1; level < kLevels; ++level) {
      for (std::int64_t k = 0; k < kRows; ++k) {
        add(acc[level][k], acc[level - 1][k]);
        acc[level - 1][k] = Lanes{};
      }
      if ((i & ((step - 1) << (level * power))) != 0) break;
    }
  }
  for (; i < size; ++i) add_group();
  for (std::int64_t level = 1; level < kLevels; ++level) {
    for (std::int64_t k = 0; k < kRows; ++k) add(acc[0][k], acc[level][k]);
  }
  return acc[0];
}

}  // namespace

float min(float a, float b) {
  if (std::isnan(a)) return a;
  if (std::isnan(b)) return b;
  return b < a ? b : a;
}

float max(float a, float b) {
  if (std::isnan(a)) return a;
  if (std::isnan(b)) return b;
  return b > a ? b : a;
}

Range aminmax(std::span<const float> values) {
  Range r{values[0], values[0]};
  bool has_nan = false;
  for (float v : values) {
    has_nan |= v != v;
    r.min = v < r.min ? v : r.min;
    r.max = v > r.max ? v : r.max;
  }
  if (has_nan) r.min = r.max = std::numeric_limits<float>::quiet_NaN();
  return r;
}

float sum(std::span<const float> values) {
  const std::int64_t count = static_cast<std::int64_t>(values.size());
  const std::int64_t vectors = count / kLanes;
  const std::int64_t groups = vectors / kRows;
  std::array<Lanes, kRows> partial = cascade(values.data(), groups);
  for (std::int64_t i = groups * kRows; i < vectors; ++i) add(partial[0], load(values.data() + i * kLanes));
  for (std::int64_t k = 1; k < kRows; ++k) add(partial[0], partial[k]);
  float total = 0;
  for (std::int64_t i = vectors * kLanes; i < count; ++i) total += values[i];
  for (float lane : partial[0]) total += lane;
  return total;
}

ColumnSums::Series::Series(std::size_t columns) {
  for (std::vector<float>& level : levels) level.assign(columns, 0.0f);
}

void ColumnSums::Series::add(std::span<const float> row) {
  for (std::size_t k = 0; k < row.size(); ++k) levels[0][k] += row[k];
  ++rows;
  std::int64_t step = 16;
  for (std::size_t level = 1; level < levels.size() && rows % step == 0; ++level, step *= 16) {
    for (std::size_t k = 0; k < row.size(); ++k) {
      levels[level][k] += levels[level - 1][k];
      levels[level - 1][k] = 0;
    }
  }
}

std::vector<float> ColumnSums::Series::totals() const {
  std::vector<float> sums = levels[0];
  for (std::size_t level = 1; level < levels.size(); ++level) {
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += levels[level][k];
  }
  return sums;
}

ColumnSums::ColumnSums(std::int64_t columns)
    : columns_(static_cast<std::size_t>(columns)),
      plain_columns_(columns_ / 32 * 32),
      plain_(plain_columns_),
      interleaved_(4, Series(columns_ - plain_columns_)) {}

void ColumnSums::add(std::span<const float> row) {
  plain_.add(row.first(plain_columns_));
  const std::span<const float> rest = row.subspan(plain_columns_);
  if (rest.empty()) return;
  pending_.insert(pending_.end(), rest.begin(), rest.end());
  if (pending_.size() < interleaved_.size() * rest.size()) return;
  for (std::size_t i = 0; i < interleaved_.size(); ++i) {
    interleaved_[i].add(std::span(pending_).subspan(i * rest.size(), rest.size()));
  }
  pending_.clear();
}

std::vector<float> ColumnSums::totals() const {
  std::vector<float> sums = plain_.totals();
  std::vector<float> rest = interleaved_[0].totals();
  for (std::size_t i = 0; i < pending_.size(); ++i) rest[i % rest.size()] += pending_[i];
  for (std::size_t i = 1; i < interleaved_.size(); ++i) {
    const std::vector<float> series = interleaved_[i].totals();
    for (std::size_t k = 0; k < rest.size(); ++k) rest[k] += series[k];
  }
  sums.insert(sums.end(), rest.begin(), rest.end());
  return sums;
}

float norm(std::span<const float> values) {
  const std::int64_t count = static_cast<std::int64_t>(values.size());
  Lanes lanes{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) lanes[k] += values[i + k] * values[i + k];
  }
  float total = lanes[0];
  for (std::int64_t k = 1; k < kLanes; ++k) total += lanes[k];
  for (const std::int64_t fours = i + (count - i) / 4 * 4; i < fours; ++i) total += values[i] * values[i];
  for (; i < count; ++i) total = std::fma(values[i], values[i], total);
  return std::sqrt(total);
}

std::vector<float> linspace(float lo, float hi, std::int64_t steps) {
  std::vector<float> result(static_cast<std::size_t>(steps));
  const float step = (hi - lo) / static_cast<float>(steps - 1);
  for (std::int64_t i = 0; i < steps; ++i) {
    result[i] = i < steps / 2 ? std::fma(step, static_cast<float>(i), lo)
                              : std::fma(-step, static_cast<float>(steps - 1 - i), hi);
  }
  return result;
}

std::vector<float> histc(std::span<const float> values, std::int64_t bins, float lo, float hi) {
  std::vector<float> counts(static_cast<std::size_t>(bins));
  if (lo == hi && !values.empty()) {
    const Range own = aminmax(values);
    lo = own.min;
    hi = own.max;
  }
  if (lo == hi) {
    lo -= 1;
    hi += 1;
  }
  const float width = hi - lo;
  for (float v : values) {
    if (!(v >= lo && v <= hi)) continue;
    const float position = (v - lo) * static_cast<float>(bins) / width;
    std::int64_t bin =
        position >= 0 && position < static_cast<float>(bins) ? static_cast<std::int64_t>(position) : bins - 1;
    counts[bin] += 1.0f;
  }
  return counts;
}

std::int32_t to_int32(float value) {
  if (!(value >= -2147483648.0f && value < 2147483648.0f)) return std::numeric_limits<std::int32_t>::min();
  return static_cast<std::int32_t>(value);
}

}  // namespace aoq::torch_math
