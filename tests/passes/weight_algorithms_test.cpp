// HQQ, GPTQ, SmoothQuant and AWQ beyond the golden cases: hand-made examples and degenerate input.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "passes/algorithms/awq.h"
#include "passes/algorithms/channel_scales.h"
#include "passes/algorithms/cholesky.h"
#include "passes/algorithms/gptq.h"
#include "passes/algorithms/hqq.h"
#include "passes/algorithms/smoothquant.h"
#include "passes/quantize/nvfp4.h"
#include "passes/quantize/torch_math.h"
#include "tests/passes/tensor_support.h"

namespace aoq {
namespace {

using Floats = std::vector<float>;
using Shape = std::vector<std::int64_t>;
using Integers = std::vector<std::int64_t>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

double mean_error(const Tensor& w, const HqqWeight& q, std::size_t group) {
  const Floats v = floats_of(w), scale = floats_of(q.scale), zero = floats_of(q.zero);
  const Integers codes = integers_of(q.codes);
  double sum = 0;
  for (std::size_t i = 0; i < v.size(); ++i) {
    sum += std::fabs(static_cast<double>(v[i] - (static_cast<float>(codes[i]) - zero[i / group]) * scale[i / group]));
  }
  return sum / static_cast<double>(v.size());
}

TEST_CASE("hqq without search holds the range of each group, with it the error is no larger") {
  const Tensor w = normal_tensor({8, 64}, 3, 0.1f);
  for (int bits : {1, 2, 3, 4, 8}) {
    CAPTURE(bits);
    const HqqWeight plain = hqq_quantize(w.view(), {bits, 16, HqqSearch::none, DType::f32}).value();
    const HqqWeight searched = hqq_quantize(w.view(), {bits, 16, HqqSearch::proximal, DType::f32}).value();
    CHECK(plain.codes.dtype() == *dtype_from_name(fmt::format("u{}", bits)));
    CHECK(plain.scale.shape() == Shape{8, 4});
    CHECK(mean_error(w, searched, 16) <= mean_error(w, plain, 16) * 1.01);
    // The other form means the same numbers.
    const HqqWeight tinygemm = hqq_quantize_tinygemm(w.view(), {bits, 16, HqqSearch::none, DType::f32}).value();
    CHECK(integers_of(tinygemm.codes) == integers_of(plain.codes));
    const float middle = static_cast<float>(1 << (bits - 1));
    const Floats scale = floats_of(plain.scale), zero = floats_of(plain.zero), other = floats_of(tinygemm.zero);
    for (std::size_t g = 0; g < scale.size(); ++g) {
      CHECK((3 - zero[g]) * scale[g] == doctest::Approx((3 - middle) * scale[g] + other[g]).epsilon(1e-3));
    }
  }
}

TEST_CASE("hqq keeps its parameters in the type that is asked for") {
  const Tensor w = as_dtype(normal_tensor({2, 32}, 3), DType::bf16);
  const HqqWeight q = hqq_quantize(w.view(), {4, 32, HqqSearch::proximal, DType::bf16}).value();
  CHECK(q.scale.dtype() == DType::bf16);
  CHECK(q.zero.dtype() == DType::bf16);
}

TEST_CASE("hqq of degenerate weights") {
  for (float value : {0.0f, 1.5f, -1.5f}) {
    const Tensor w = f32_tensor({1, 8}, Floats(8, value));
    for (HqqSearch search : {HqqSearch::none, HqqSearch::proximal}) {
      const HqqWeight q = hqq_quantize(w.view(), {4, 8, search, DType::f32}).value();
      CHECK(std::isfinite(floats_of(q.scale)[0]));
      CHECK(std::isfinite(floats_of(q.zero)[0]));
      CHECK(mean_error(w, q, 8) < 1e-3);
    }
    const ScaleOnlyHqqWeight s = hqq_quantize_scale_only(w.view(), {.group_size = 8}).value();
    CHECK(floats_of(s.scale)[0] > 0);
  }
  const auto code_of = [](const Tensor& w, const HqqForm& form) {
    return hqq_quantize(w.view(), form).status().code();
  };
  const Tensor good = normal_tensor({2, 12}, 1);
  CHECK(code_of(good, {4, 8, HqqSearch::none, DType::f32}) == Code::invalid_argument);
  CHECK(code_of(good, {4, 0, HqqSearch::none, DType::f32}) == Code::invalid_argument);
  CHECK(code_of(good, {9, 4, HqqSearch::none, DType::f32}) == Code::invalid_argument);
  CHECK(code_of(good, {4, 4, HqqSearch::none, DType::i8}) == Code::invalid_argument);
  CHECK(code_of(normal_tensor({24}, 1), {4, 4, HqqSearch::none, DType::f32}) == Code::invalid_argument);
  CHECK(code_of(f32_tensor({0, 4}, {}), {4, 4, HqqSearch::none, DType::f32}) == Code::invalid_data);
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    CHECK(code_of(f32_tensor({1, 4}, {1, bad, 2, 3}), {4, 4, HqqSearch::proximal, DType::f32}) == Code::invalid_data);
    CHECK(hqq_quantize_scale_only(f32_tensor({1, 4}, {1, bad, 2, 3}).view(), {.group_size = 4}).status().code() ==
          Code::invalid_data);
  }
  // A range that overflows, and a zero point that does.
  CHECK(code_of(f32_tensor({1, 2}, {3e38f, -3e38f}), {4, 2, HqqSearch::none, DType::f32}) == Code::invalid_data);
  CHECK(code_of(f32_tensor({1, 2}, {3e38f, 3e38f}), {4, 2, HqqSearch::none, DType::f32}) == Code::invalid_data);
  CHECK(hqq_quantize_scale_only(good.view(), {.dtype = DType::i2, .group_size = 4}).status().code() ==
        Code::invalid_argument);
}

TEST_CASE("the scale-only search finds a scale that the weights were made with") {
  Floats values;
  for (int i = 0; i < 16; ++i) values.push_back(0.037f * static_cast<float>(i - 8));
  const Tensor w = f32_tensor({1, 16}, values);
  const ScaleOnlyHqqWeight q = hqq_quantize_scale_only(w.view(), {.group_size = 16}).value();
  CHECK(floats_of(q.scale)[0] == doctest::Approx(0.037f));
  const Integers codes = integers_of(q.codes);
  for (int i = 0; i < 16; ++i) CHECK(codes[static_cast<std::size_t>(i)] == i - 8);
}

TEST_CASE("a Cholesky factor and the inverse from it") {
  Floats a{4, 0, 0, 2, 5, 0, 1, 3, 6};  // the lower half of a symmetric matrix
  REQUIRE(cholesky_lower(a, 3).ok());
  CHECK(a[0] == 2);
  CHECK(a[3] == 1);
  CHECK(a[4] == 2);
  CHECK(a[6] == 0.5f);
  CHECK(a[7] == 1.25f);
  CHECK(a[8] == doctest::Approx(std::sqrt(6 - 0.25 - 1.5625)));
  const Floats inverse = inverse_of_cholesky(a, 3);
  const float full[3][3] = {{4, 2, 1}, {2, 5, 3}, {1, 3, 6}};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      float sum = 0;
      for (int k = 0; k < 3; ++k)
        sum += full[i][k] * inverse[static_cast<std::size_t>(std::max(k, j) * 3 + std::min(k, j))];
      CHECK(sum == doctest::Approx(i == j ? 1.0f : 0.0f));
    }
  }
  Floats indefinite{1, 0, 2, 1};
  const Status status = cholesky_lower(indefinite, 2);
  CHECK(status.code() == Code::invalid_data);
  CHECK(status.message().find("pivot 1 is -3") != std::string::npos);
}

// Rounds to integers: one code is one.
class Whole final : public RowQuantizer {
 public:
  std::int64_t group_size() const override { return 0; }
  void set_size(std::int64_t rows, std::int64_t) override { rows_ = rows; }
  void choose(std::int64_t, std::int64_t, std::span<const float>) override {}
  std::int64_t code(std::int64_t, std::int64_t, float weight) const override {
    return static_cast<std::int64_t>(std::nearbyintf(weight));
  }
  float value(std::int64_t, std::int64_t, std::int64_t code) const override { return static_cast<float>(code); }
  QParams qparams() const override {
    QParams q;
    q.dtype = DType::i8;
    q.range = {-128, 127};
    q.scale.assign(static_cast<std::size_t>(rows_), 1.0f);
    q.zero_point.assign(static_cast<std::size_t>(rows_), 0);
    return q;
  }

 private:
  std::int64_t rows_ = 0;
};

Integers gptq_codes(const Tensor& w, const Tensor& hessian, const GptqOptions& options = {}) {
  return integers_of(gptq_quantize(w.view(), hessian, std::make_unique<Whole>(), options).value().codes);
}

TEST_CASE("gptq moves half of a column's error to one that goes half along with it") {
  // H^-1 = [[2, -1], [-1, 2]] / 3: an error of e in the first column moves the second by e / 2.
  const Tensor hessian = f32_tensor({2, 2}, {2, 1, 1, 2});
  const Tensor w = f32_tensor({3, 2}, {0.4f, 0.4f, 0.4f, 0.2f, -0.4f, -0.4f});
  CHECK(gptq_codes(w, hessian, {.damping = 0}) == Integers{0, 1, 0, 0, 0, -1});
  // Blocks of one column pass errors on too.
  CHECK(gptq_codes(w, hessian, {.damping = 0, .block_size = 1}) == Integers{0, 1, 0, 0, 0, -1});
  // Features that have nothing to do with each other: plain rounding.
  const Tensor apart = f32_tensor({2, 2}, {2, 0, 0, 2});
  CHECK(gptq_codes(w, apart) == Integers{0, 0, 0, 0, 0, 0});
}

TEST_CASE("gptq lowers the error of the layer's result") {
  const Tensor w = normal_tensor({16, 48}, 1, 0.3f);
  // Channels that go together.
  const Tensor noise = normal_tensor({256, 48}, 2), shared = normal_tensor({256, 1}, 3);
  Tensor x = noise;
  for (std::size_t i = 0; i < 256 * 48; ++i) x.mutable_as<float>()[i] += 2 * shared.as<float>()[i / 48];
  GptqObserver observer = GptqObserver::make(48).value();
  REQUIRE(observer.observe(x.view()).ok());
  const auto result_error = [&](const Tensor& hessian) {
    const GptqWeight q = gptq_quantize(w.view(), hessian, int4_group_quantizer(16)).value();
    CHECK(q.block_size == Shape{1, 16});
    const Integers codes = integers_of(q.codes);
    double error = 0;
    for (int t = 0; t < 256; ++t) {
      for (int r = 0; r < 16; ++r) {
        double sum = 0;
        for (int k = 0; k < 48; ++k) {
          const std::size_t b = static_cast<std::size_t>(r * 3 + k / 16), i = static_cast<std::size_t>(r * 48 + k);
          const float value = (static_cast<float>(codes[i]) - 8) * q.qparams.scale[b] + q.qparams.float_zero_point[b];
          sum += static_cast<double>((w.as<float>()[i] - value) * x.as<float>()[t * 48 + k]);
        }
        error += sum * sum;
      }
    }
    return error;
  };
  Tensor identity = Tensor::make(DType::f32, {48, 48}).value();
  for (std::size_t d = 0; d < 48; ++d) identity.mutable_as<float>()[d * 49] = 1;
  CHECK(result_error(observer.hessian().value()) < 0.7 * result_error(identity));
}

// bf16 by its bits, half to even; finite numbers.
float to_bf16(float v) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(v);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

// The columns of a weight of bf16 one after the other, as the Python code goes: the weight in bf16, errors in f32,
// 4-bit scales and zero points in f32 until they are stored, 8-bit ones and their codes in bf16.
struct ColumnByColumn {
  static constexpr std::size_t kRows = 6, kColumns = 48, kBlock = 32;
  const Floats& factor;
  std::size_t group = kColumns;  // kColumns: 8-bit rows
  Floats w;
  Floats scale = Floats(kRows * kColumns), zero = scale;  // at the first column of a group

  bool is_int8() const { return group == kColumns; }
  void choose(std::size_t r, std::size_t k) {
    const std::size_t end = std::min(k + group, (k / kBlock + 1) * kBlock);
    float lo = w[r * kColumns + k], hi = lo;
    for (std::size_t j = k; j < end; ++j) {
      lo = std::min(lo, w[r * kColumns + j]);
      hi = std::max(hi, w[r * kColumns + j]);
    }
    if (is_int8()) {
      scale[r * kColumns + k] = std::max(to_bf16(std::max({-lo, hi, 0.0f}) / 127.5f), 0x1p-23f);
    } else {
      scale[r * kColumns + k] = std::max(hi - lo, 1e-6f) / 15.0f;
      zero[r * kColumns + k] = lo + scale[r * kColumns + k] * 8.0f;
    }
  }
  float code(std::size_t r, std::size_t k) const {
    const std::size_t at = r * kColumns + k / group * group;
    const float v = w[r * kColumns + k];
    if (is_int8()) return std::clamp(std::nearbyintf(to_bf16(v * to_bf16(1.0f / scale[at]))), -128.0f, 127.0f);
    return std::clamp(std::nearbyintf((v - (zero[at] - scale[at] * 8.0f)) / scale[at]), 0.0f, 15.0f);
  }
  float value(std::size_t r, std::size_t k) const {
    const std::size_t at = r * kColumns + k / group * group;
    return is_int8() ? code(r, k) * scale[at] : code(r, k) * scale[at] + (zero[at] - scale[at] * 8.0f);
  }
  void run() {
    for (std::size_t begin = 0; begin < kColumns; begin += kBlock) {
      const std::size_t end = std::min(begin + kBlock, kColumns);
      Floats errors(kRows * kColumns, 0.0f);
      for (std::size_t k = begin; k < end; ++k) {
        for (std::size_t r = 0; r < kRows; ++r) {
          if (k % group == 0) choose(r, k);
          const float error = (w[r * kColumns + k] - value(r, k)) / factor[k * kColumns + k];
          errors[r * kColumns + k] = error;
          for (std::size_t j = k; j < end; ++j) {
            w[r * kColumns + j] = to_bf16(w[r * kColumns + j] - error * factor[k * kColumns + j]);
          }
        }
      }
      for (std::size_t r = 0; r < kRows; ++r) {
        for (std::size_t j = end; j < kColumns; ++j) {
          float sum = 0;
          for (std::size_t k = begin; k < end; ++k) sum += errors[r * kColumns + k] * factor[k * kColumns + j];
          w[r * kColumns + j] = to_bf16(w[r * kColumns + j] - sum);
        }
      }
    }
  }
};

TEST_CASE("gptq of a bf16 weight rounds what makes up for errors to bf16 at every step") {
  constexpr std::size_t kColumns = ColumnByColumn::kColumns, kRows = ColumnByColumn::kRows;
  const Tensor w = as_dtype(normal_tensor({kRows, kColumns}, 4, 0.3f), DType::bf16);
  const Tensor x = normal_tensor({200, kColumns}, 5), shared = normal_tensor({200, 1}, 6);
  Tensor together = x;
  for (std::size_t i = 0; i < 200 * kColumns; ++i)
    together.mutable_as<float>()[i] += 2 * shared.as<float>()[i / kColumns];
  GptqObserver observer = GptqObserver::make(kColumns).value();
  REQUIRE(observer.observe(together.view()).ok());
  const Tensor hessian = observer.hessian().value();
  Floats h = floats_of(hessian);
  Floats diagonal;
  for (std::size_t d = 0; d < kColumns; ++d) diagonal.push_back(h[d * kColumns + d]);
  float mean = torch_math::sum(diagonal) / static_cast<float>(kColumns);
  for (std::size_t d = 0; d < kColumns; ++d) h[d * kColumns + d] += 0.01f * mean;
  REQUIRE(cholesky_lower(h, kColumns).ok());
  Floats factor = inverse_of_cholesky(h, kColumns);
  REQUIRE(cholesky_lower(factor, kColumns).ok());
  for (std::size_t i = 0; i < kColumns; ++i) {
    for (std::size_t j = 0; j < i; ++j) std::swap(factor[i * kColumns + j], factor[j * kColumns + i]);
  }
  for (const std::size_t group : {std::size_t{16}, kColumns}) {
    CAPTURE(group);
    const auto quantizer = [&](DType parameters) {
      return group == kColumns ? int8_row_quantizer(parameters) : int4_group_quantizer(16, parameters);
    };
    const GptqOptions options{.block_size = ColumnByColumn::kBlock};
    const GptqWeight found = gptq_quantize(w.view(), hessian, quantizer(DType::bf16), options).value();
    ColumnByColumn expected{factor, group, floats_of(w)};
    expected.run();
    const Integers codes = integers_of(found.codes);
    for (std::size_t i = 0; i < kRows * kColumns; ++i) {
      CHECK(static_cast<float>(codes[i]) == expected.code(i / kColumns, i % kColumns));
    }
    for (std::size_t b = 0; b < found.qparams.scale.size(); ++b) {
      CHECK(found.qparams.scale[b] == to_bf16(expected.scale[b * group]));
      if (group != kColumns) CHECK(found.qparams.float_zero_point[b] == to_bf16(expected.zero[b * group]));
    }
    // Updates in f32 would give other codes.
    const Tensor wide = f32_tensor({kRows, kColumns}, floats_of(w));
    const Integers in_f32 =
        integers_of(gptq_quantize(wide.view(), hessian, quantizer(DType::f32), options).value().codes);
    int different = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) different += codes[i] != in_f32[i] ? 1 : 0;
    MESSAGE("codes that differ from those of updates in f32: ", different, " of ", codes.size());
    CHECK(different > 0);
  }
}

TEST_CASE("gptq to nvfp4 is plain rounding where features are apart, and better where they go together") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor w = as_dtype(normal_tensor({6, 48}, 4, 0.3f), dtype);
    Tensor apart = Tensor::make(DType::f32, {48, 48}).value();
    for (std::size_t d = 0; d < 48; ++d) apart.mutable_as<float>()[d * 49] = 2;
    const GptqWeight found = gptq_quantize(w.view(), apart, nvfp4_block_quantizer(w.view()).value()).value();
    const float tensor_scale = nvfp4_tensor_scale(w.view()).value();
    const Nvfp4Tensor plain = quantize_nvfp4(w.view(), tensor_scale).value();
    // But for the sign of zeros, which an update loses.
    CHECK(floats_of(found.codes) == floats_of(plain.codes));
    const Floats scales = floats_of(plain.scales);
    for (std::size_t b = 0; b < scales.size(); ++b) CHECK(found.qparams.scale[b] == scales[b] * tensor_scale);
    // Features that all go along with each other.
    Tensor together = apart;
    for (std::size_t i = 0; i < 48 * 48; ++i) together.mutable_as<float>()[i] += 6;
    const GptqWeight moved = gptq_quantize(w.view(), together, nvfp4_block_quantizer(w.view()).value()).value();
    const auto error = [&](const GptqWeight& q) {
      const Floats codes = floats_of(q.codes), weights = floats_of(w);
      double sum = 0;
      for (std::size_t r = 0; r < 6; ++r) {
        double row = 0;
        for (std::size_t k = 0; k < 48; ++k) {
          row += static_cast<double>(weights[r * 48 + k] - codes[r * 48 + k] * q.qparams.scale[(r * 48 + k) / 16]);
        }
        sum += row * row;
      }
      return sum;
    };
    CHECK(error(moved) < 0.2 * error(found));
  }
}

TEST_CASE("the gptq observer averages over batches, however they are cut") {
  const Tensor x = normal_tensor({6, 4, 5}, 1);
  GptqObserver whole = GptqObserver::make(5).value(), parts = GptqObserver::make(5).value();
  REQUIRE(whole.observe(x.view()).ok());
  for (int b = 0; b < 6; ++b) {
    const std::span<const float> values = x.as<float>().subspan(static_cast<std::size_t>(b * 20), 20);
    REQUIRE(parts.observe(f32_tensor({4, 5}, Floats(values.begin(), values.end())).view()).ok());
  }
  CHECK(whole.batches() == 6);
  CHECK(parts.batches() == 6);
  const Floats a = floats_of(whole.hessian().value()), b = floats_of(parts.hessian().value());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-4));
    double exact = 0;
    for (std::size_t t = 0; t < 24; ++t) {
      exact += static_cast<double>(x.as<float>()[t * 5 + i / 5]) * static_cast<double>(x.as<float>()[t * 5 + i % 5]);
    }
    CHECK(static_cast<double>(a[i]) == doctest::Approx(exact * 2 / 6).epsilon(1e-4));
  }
}

TEST_CASE("gptq of degenerate input") {
  const Tensor w = normal_tensor({2, 4}, 1);
  GptqObserver observer = GptqObserver::make(4).value();
  CHECK(observer.hessian().status().code() == Code::invalid_data);
  CHECK(observer.observe(normal_tensor({2, 3}, 1).view()).code() == Code::invalid_argument);
  CHECK(observer.observe(f32_tensor({1, 4}, {1, 2, kNan, 3}).view()).code() == Code::invalid_data);
  CHECK(observer.observe(f32_tensor({0, 4}, {}).view()).ok());
  CHECK(observer.batches() == 0);
  CHECK(GptqObserver::make(0).status().code() == Code::invalid_argument);
  const auto status_of = [&](const Tensor& weight, const Tensor& hessian, std::unique_ptr<RowQuantizer> quantizer,
                             const GptqOptions& options) {
    return gptq_quantize(weight.view(), hessian, std::move(quantizer), options).status();
  };
  // Dead features get weight 0; all of them dead is a layer of zeros.
  const Tensor dead = Tensor::make(DType::f32, {4, 4}).value();
  const GptqWeight zeros = gptq_quantize(w.view(), dead, int8_row_quantizer()).value();
  CHECK(integers_of(zeros.codes) == Integers(8, 0));
  CHECK(zeros.qparams.scale == Floats(2, 0x1p-23f));
  Tensor indefinite = f32_tensor({4, 4}, Floats(16, 1.0f));
  indefinite.mutable_as<float>()[1] = indefinite.mutable_as<float>()[4] = 5;
  const Status refused = status_of(w, indefinite, int8_row_quantizer(), {});
  CHECK(refused.code() == Code::invalid_data);
  CHECK(refused.message().find("not positive definite") != std::string::npos);
  Tensor good = dead;
  for (std::size_t d = 0; d < 4; ++d) good.mutable_as<float>()[d * 5] = 1;
  CHECK(status_of(w, f32_tensor({2, 2}, {1, 0, 0, 1}), int8_row_quantizer(), {}).code() == Code::invalid_argument);
  CHECK(status_of(w, good, int4_group_quantizer(3), {}).code() == Code::invalid_argument);
  CHECK(status_of(w, good, int4_group_quantizer(-1), {}).code() == Code::invalid_argument);
  CHECK(status_of(w, good, int4_group_quantizer(2), {.block_size = 3}).code() == Code::invalid_argument);
  CHECK(status_of(w, good, int8_row_quantizer(), {.block_size = 0}).code() == Code::invalid_argument);
  CHECK(status_of(f32_tensor({1, 4}, {1, kInfinity, 0, 0}), good, int8_row_quantizer(), {}).code() ==
        Code::invalid_data);
  good.mutable_as<float>()[3] = kNan;
  CHECK(status_of(w, good, int8_row_quantizer(), {}).code() == Code::invalid_data);
}

TEST_CASE("smoothquant shares the spread between input and weight") {
  const Tensor w = f32_tensor({2, 3}, {1, -4, 0, 0.5f, 2, 0});
  SmoothQuantObserver observer = SmoothQuantObserver::make(3).value();
  CHECK(smoothquant_factors(observer, w.view(), 0.5).status().code() == Code::invalid_data);
  REQUIRE(observer.observe(f32_tensor({1, 2, 3}, {16, 1, 0, -3, -2, 0}).view()).ok());
  REQUIRE(observer.observe(f32_tensor({1, 3}, {0, -9, 0}).view()).ok());
  const Floats half = smoothquant_factors(observer, w.view(), 0.5).value();
  CHECK(half[0] == doctest::Approx(4.0f));
  CHECK(half[1] == doctest::Approx(1.5f));
  CHECK(half[2] == doctest::Approx(1.0f));
  CHECK(smoothquant_factors(observer, w.view(), std::nullopt).value() == Floats{1, 1, 1});
  CHECK(smoothquant_factors(observer, w.view(), 1.0).value()[0] == doctest::Approx(16.0f));
  const SmoothedRange range = smoothed_range(observer, half, DType::f32).value();
  CHECK(range.max == doctest::Approx(4.0f));
  CHECK(range.min == doctest::Approx(-6.0f));
  CHECK(floats_of(scale_columns(w.view(), Floats{2, 1, 1}).value()) == Floats{2, -4, 0, 1, 2, 0});
  CHECK(pre_scale_of(Floats{4, 0.5f}, DType::f32) == Floats{0.25f, 2});
}

TEST_CASE("smoothquant of degenerate input") {
  SmoothQuantObserver observer = SmoothQuantObserver::make(2).value();
  CHECK(observer.observe(f32_tensor({1, 2}, {1, kNan}).view()).code() == Code::invalid_data);
  CHECK(observer.observe(f32_tensor({1, 2}, {1, kInfinity}).view()).code() == Code::invalid_data);
  CHECK(!observer.has_seen_data());
  CHECK(observer.observe(f32_tensor({3}, {1, 2, 3}).view()).code() == Code::invalid_argument);
  REQUIRE(observer.observe(f32_tensor({1, 2}, {1, 2}).view()).ok());
  CHECK(smoothquant_factors(observer, normal_tensor({2, 3}, 1).view(), 0.5).status().code() == Code::invalid_argument);
  CHECK(smoothquant_factors(observer, f32_tensor({1, 2}, {1, kNan}).view(), 0.5).status().code() == Code::invalid_data);
  CHECK(smoothquant_factors(observer, f32_tensor({0, 2}, {}).view(), 0.5).status().code() == Code::invalid_data);
  CHECK(smoothquant_factors(observer, f32_tensor({1, 2}, {0, 0}).view(), -50.0).status().code() == Code::invalid_data);
  CHECK(scale_columns(normal_tensor({2, 3}, 1).view(), Floats{1}).status().code() == Code::invalid_argument);
  CHECK(SmoothQuantObserver::make(0).status().code() == Code::invalid_argument);
}

// Rounds the weight to steps of its largest number / 7, row by row, and multiplies.
Result<Tensor> coarse_linear(TensorView weight, TensorView x) {
  const std::int64_t n = weight.shape[0], k = weight.shape[1], rows = x.shape[0];
  const float* w = reinterpret_cast<const float*>(weight.data);
  const float* in = reinterpret_cast<const float*>(x.data);
  AOQ_ASSIGN(Tensor y, Tensor::make(DType::f32, {rows, n}));
  for (std::int64_t r = 0; r < n; ++r) {
    float amax = 0;
    for (std::int64_t i = 0; i < k; ++i) amax = std::max(amax, std::fabs(w[r * k + i]));
    for (std::int64_t t = 0; t < rows; ++t) {
      float sum = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        sum += std::nearbyintf(w[r * k + i] / amax * 7) * amax / 7 * in[t * k + i];
      }
      y.mutable_as<float>()[t * n + r] = sum;
    }
  }
  return y;
}

TEST_CASE("awq keeps the channels with large inputs precise") {
  const Tensor w = normal_tensor({8, 16}, 1);
  Tensor x = normal_tensor({64, 16}, 2);
  for (std::size_t i = 0; i < 64; ++i) x.mutable_as<float>()[i * 16 + 3] *= 50;
  AwqObserver observer = AwqObserver::make(16).value();
  const AwqLayer layer{w.view(), nullptr, coarse_linear};
  CHECK(awq_search(observer, layer).status().code() == Code::invalid_data);
  REQUIRE(observer.observe(x.view()).ok());
  const AwqSearch found = awq_search(observer, layer).value();
  CHECK(found.candidate > 0);
  CHECK(std::max_element(found.factors.begin(), found.factors.end()) - found.factors.begin() == 3);
  const AwqSearch plain = awq_search(observer, layer, 1).value();
  CHECK(plain.candidate == 0);
  CHECK(plain.factors == Floats(16, 1.0f));
  CHECK(found.loss < plain.loss);
}

TEST_CASE("awq takes ones where nothing is better than infinity") {
  AwqObserver observer = AwqObserver::make(2).value();
  REQUIRE(observer.observe(f32_tensor({1, 2}, {1, 2}).view()).ok());
  const Tensor w = f32_tensor({1, 2}, {1, 2});
  const AwqLayer broken{w.view(), nullptr, [](TensorView, TensorView) { return Tensor::make(DType::f32, {1, 1}); }};
  CHECK(awq_search(observer, broken).value().candidate == 0);
  const AwqLayer nan{w.view(), nullptr,
                     [](TensorView, TensorView) { return Result<Tensor>(f32_tensor({1, 1}, {kNan})); }};
  const AwqSearch none = awq_search(observer, nan).value();
  CHECK(none.candidate == -1);
  CHECK(none.factors == Floats{1, 1});
  const AwqLayer wrong{w.view(), nullptr, [](TensorView, TensorView) { return Tensor::make(DType::f32, {3}); }};
  CHECK(awq_search(observer, wrong).status().code() == Code::invalid_argument);
  const Tensor bias = f32_tensor({3}, {1, 2, 3});
  CHECK(awq_search(observer, {w.view(), &bias, coarse_linear}).status().code() == Code::invalid_argument);
  const Tensor wide = normal_tensor({1, 3}, 1);
  CHECK(awq_search(observer, {wide.view(), nullptr, coarse_linear}).status().code() == Code::invalid_argument);
}

TEST_CASE("the awq observer stays within its bytes") {
  Floats rows;
  for (int i = 0; i < 100; ++i) rows.push_back(static_cast<float>(i));
  const Tensor x = f32_tensor({100, 1}, rows);
  AwqObserver thin = AwqObserver::make(1, {.max_bytes = 16 * 4}).value();
  REQUIRE(thin.observe(x.view()).ok());
  CHECK(thin.rows_seen() == 100);
  CHECK(thin.stride() == 8);
  REQUIRE(thin.recorded().size() == 13);
  for (std::size_t i = 0; i < thin.recorded().size(); ++i) CHECK(thin.recorded()[i] == static_cast<float>(8 * i));
  CHECK(thin.mean_magnitude()[0] == 49.5f);  // over all rows
  AwqObserver strict = AwqObserver::make(1, {.max_bytes = 16 * 4, .overflow = AwqOverflow::fail}).value();
  CHECK(strict.observe(x.view()).code() == Code::resource_limit);
  AwqObserver exact = AwqObserver::make(1, {.max_bytes = 100 * 4, .overflow = AwqOverflow::fail}).value();
  CHECK(exact.observe(x.view()).ok());
  CHECK(AwqObserver::make(8, {.max_bytes = 31}).status().code() == Code::invalid_argument);
  CHECK(AwqObserver::make(0).status().code() == Code::invalid_argument);
  CHECK(thin.observe(f32_tensor({1, 1}, {kInfinity}).view()).code() == Code::invalid_data);
  CHECK(thin.observe(f32_tensor({1, 2}, {1, 2}).view()).code() == Code::invalid_argument);
}

}  // namespace
}  // namespace aoq
