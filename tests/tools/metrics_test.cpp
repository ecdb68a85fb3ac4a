#include "tools/metrics.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tools/suggest.h"

namespace aoq::tools {
namespace {

Tensor rows(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return *Tensor::from_values<float>(DType::f32, std::move(shape), values);
}

TEST_CASE("SQNR is 20 log10 of the ratio of norms") {
  Tensor x = rows({1, 2}, {3, 4}), y = rows({1, 2}, {3, 4.5});
  ErrorSum error;
  REQUIRE(error.add(x.view(), y.view()).ok());
  CHECK(error.sqnr_db() == doctest::Approx(20));
  CHECK(error.max_abs() == doctest::Approx(0.5));
  CHECK(error.mean_abs() == doctest::Approx(0.25));
  CHECK(error.cosine() == doctest::Approx((9 + 18) / (5 * std::sqrt(9 + 20.25))));
  CHECK(*error.agreement() == 1);
}

TEST_CASE("agreement is the share of rows with the same argmax") {
  Tensor x = rows({2, 2}, {1, 2, 5, 3}), y = rows({2, 2}, {2, 1, 4, 3});
  ErrorSum error;
  REQUIRE(error.add(x.view(), y.view()).ok());
  CHECK(*error.agreement() == 0.5);
  Tensor flat = rows({2}, {1, 2});
  ErrorSum none;
  REQUIRE(none.add(flat.view(), flat.view()).ok());
  CHECK(!none.agreement());
}

TEST_CASE("equal outputs and NaN have finite figures") {
  Tensor x = rows({1, 2}, {1, 2}), nan = rows({1, 2}, {1, std::nanf("")});
  ErrorSum equal, broken, both;
  REQUIRE(equal.add(x.view(), x.view()).ok());
  CHECK(equal.sqnr_db() == kMaxDecibels);
  REQUIRE(broken.add(x.view(), nan.view()).ok());
  CHECK(broken.sqnr_db() == -kMaxDecibels);
  CHECK(broken.nonfinite_mismatches() == 1);
  REQUIRE(both.add(nan.view(), nan.view()).ok());
  CHECK(both.nonfinite_mismatches() == 0);
  CHECK(!equal.add(x.view(), rows({2, 1}, {1, 2}).view()).ok());
}

TEST_CASE("top1 and top5 count hits") {
  std::vector<std::int64_t> labels{2, 0};
  Tensor y = *Tensor::from_values<std::int64_t>(DType::i64, {2}, labels);
  Tensor out = rows({2, 7}, {1, 2, 3, 0, 0, 0, 0, 0, 6, 5, 4, 3, 2, 1});
  Metric top1 = *Metric::make("top1", y, 2), top5 = *Metric::make("top5", y, 2);
  REQUIRE(top1.add(out.view(), 2).ok());
  REQUIRE(top5.add(out.view(), 2).ok());
  CHECK(top1.value() == 0.5);
  CHECK(top5.value() == 0.5);
  Metric agreement = *Metric::make("agreement", out, 2);
  REQUIRE(agreement.add(out.view(), 2).ok());
  CHECK(agreement.value() == 1);
}

TEST_CASE("suggestions are near or absent") {
  std::vector<std::string> known{"compile", "compare", "run"};
  CHECK(nearest_name("complie", known) == "compile");
  CHECK(nearest_name("rnu", known) == "run");
  CHECK(nearest_name("something", known).empty());
}

}  // namespace
}  // namespace aoq::tools
