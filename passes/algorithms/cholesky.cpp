#include "passes/algorithms/cholesky.h"

#include <array>
#include <cmath>

namespace aoq {
namespace {

// 16 partial sums, so that the compiler may use vectors.
float dot(const float* a, const float* b, std::int64_t n) {
  constexpr std::int64_t kLanes = 16;
  std::array<float, kLanes> lanes{};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) lanes[k] += a[i + k] * b[i + k];
  }
  for (; i < n; ++i) lanes[i % kLanes] += a[i] * b[i];
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

void add_multiple(float* to, const float* from, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

std::vector<float> inverse_of_lower(std::span<const float> lower, std::int64_t n) {
  std::vector<float> inverse(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    float* row = inverse.data() + i * n;
    for (std::int64_t j = 0; j < i; ++j) add_multiple(row, inverse.data() + j * n, -lower[i * n + j], j + 1);
    row[i] = 1.0f;
    for (std::int64_t j = 0; j <= i; ++j) row[j] /= lower[i * n + i];
  }
  return inverse;
}

}  // namespace

Status cholesky_lower(std::span<float> matrix, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    float* row = matrix.data() + i * n;
    for (std::int64_t j = 0; j < i; ++j) {
      const float* above = matrix.data() + j * n;
      row[j] = (row[j] - dot(row, above, j)) / above[j];
    }
    const float pivot = row[i] - dot(row, row, i);
    if (!(pivot > 0) || !std::isfinite(pivot)) {
      return error(Code::invalid_data, "the matrix of size {} is not positive definite: pivot {} is {}", n, i, pivot);
    }
    row[i] = std::sqrt(pivot);
  }
  return {};
}

std::vector<float> inverse_of_cholesky(std::span<const float> lower, std::int64_t n) {
  const std::vector<float> m = inverse_of_lower(lower, n);
  std::vector<float> result(m.size());
  for (std::int64_t k = 0; k < n; ++k) {
    const float* row = m.data() + k * n;
    for (std::int64_t i = 0; i <= k; ++i) add_multiple(result.data() + i * n, row, row[i], i + 1);
  }
  return result;
}

}  // namespace aoq
