// ir/math.h against double precision: the error bounds, the special values and the order of reductions.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ir/math.h"

namespace aoq::math {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Distance from the exact value in units of the last place of a float there.
double ulps(float got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0.0 : 1e9;
  auto rounded = static_cast<float>(exact);
  if (std::isinf(rounded) || std::isinf(got)) return rounded == got ? 0.0 : 1e9;
  double place = std::ldexp(1.0, std::ilogb(std::fabs(exact) + 1e-300) - 23);
  return std::fabs(got - exact) / std::fmax(place, std::ldexp(1.0, -149));
}

// The worst error over floats of every exponent and both signs.
template <typename Got, typename Exact>
double worst(Got got, Exact exact) {
  double most = 0.0;
  for (std::uint64_t bits = 0; bits < 0x100000000ull; bits += 40009) {
    auto x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    most = std::fmax(most, ulps(got(x), exact(static_cast<double>(x))));
  }
  return most;
}

}  // namespace

TEST_CASE("float functions are within a few ulp of double precision") {
  CHECK(worst(exp, [](double x) { return std::exp(x); }) < 1.1);
  CHECK(worst(log, [](double x) { return std::log(x); }) < 1.1);
  CHECK(worst(tanh, [](double x) { return std::tanh(x); }) < 1.5);
  CHECK(worst(erf, [](double x) { return std::erf(x); }) < 1.5);
  CHECK(worst(sigmoid, [](double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }) <
        2.5);
  CHECK(worst(softplus, [](double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }) < 2.5);
}

TEST_CASE("exp_weight is within 2^-18 down to -24, 1 for 0, and next to nothing below and for NaN") {
  for (float x = -24.0f; x <= 0.0f; x += 0.0007f) {
    double exact = std::exp(static_cast<double>(x));
    CHECK(std::fabs(exp_weight(x) - exact) <= std::ldexp(exact, -18));
  }
  CHECK(exp_weight(0.0f) == 1.0f);
  for (float x : {-24.5f, -1e30f, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK(exp_weight(x) == exp_weight(-24.0f));
  }
  CHECK(exp_weight(-24.0f) * 32767.0f < 0.5f);
}

TEST_CASE("gelu is within rounding of its two terms") {
  for (float x = -12.0f; x < 12.0f; x += 0.0137f) {
    double exact = 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    CHECK(std::fabs(gelu_erf(x) - exact) <= 2e-7 * (1.0 + std::fabs(x)));
    double inner = std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * std::pow(x, 3.0));
    CHECK(std::fabs(gelu_tanh(x) - 0.5 * x * (1.0 + std::tanh(inner))) <= 2e-7 * (1.0 + std::fabs(x)));
  }
}

TEST_CASE("limits at infinity, and NaN stays") {
  for (auto* function : {silu, gelu_erf, gelu_tanh, hardswish}) {
    CHECK(function(-kInfinity) == 0.0f);
    CHECK(function(kInfinity) == kInfinity);
  }
  for (auto* function : {exp, log, tanh, sigmoid, erf, silu, gelu_erf, gelu_tanh, hardswish, softplus, relu}) {
    CHECK(std::isnan(function(std::numeric_limits<float>::quiet_NaN())));
  }
  CHECK(log(0.0f) == -kInfinity);
  CHECK(log(-0.0f) == -kInfinity);
  CHECK(std::isnan(log(-1.0f)));
  CHECK(std::isnan(maximum(std::numeric_limits<float>::quiet_NaN(), 1.0f)));
  CHECK(std::isnan(minimum(1.0f, std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("a reduction adds sixteen lanes in a tree") {
  std::vector<float> x(33, 0.0f);
  // Lane 0 takes elements 0, 16 and 32: the big values cancel before lane 8 comes.
  x[0] = 1e8f;
  x[16] = -1e8f;
  x[32] = 1.0f;
  x[8] = 0.25f;
  CHECK(reduce_sum(x.data(), 33) == 1.25f);
  CHECK(reduce_max(x.data(), 33) == 1e8f);
  CHECK(reduce_max(x.data(), 0) == -kInfinity);
}

}  // namespace aoq::math
