// Float8 scaling, MX, NVFP4, and the order of their scales.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/quantize/float8.h"
#include "passes/quantize/mx.h"
#include "passes/quantize/nvfp4.h"
#include "passes/quantize/scale_swizzle.h"
#include "tests/passes/tensor_support.h"

namespace aoq {
namespace {

using Floats = std::vector<float>;
using Shape = std::vector<std::int64_t>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr DType kFloat8[] = {DType::f8_e4m3fn, DType::f8_e5m2, DType::f8_e4m3fnuz, DType::f8_e5m2fnuz};
constexpr DType kMxElements[] = {DType::f8_e4m3fn, DType::f8_e5m2, DType::f6_e2m3, DType::f6_e3m2, DType::f4_e2m1};
constexpr MxScaling kMxScalings[] = {MxScaling::floor, MxScaling::even, MxScaling::ceil, MxScaling::rceil};

TEST_CASE("float8 scales any block, and the largest number becomes the highest code") {
  const Tensor x = normal_tensor({2, 4, 12}, 1, 3.0f);
  for (DType dtype : kFloat8) {
    for (const Shape& block : {Shape{2, 4, 12}, Shape{1, 1, 12}, Shape{1, 2, 3}, Shape{2, 4, 1}}) {
      CAPTURE(dtype_name(dtype));
      const Tensor scale = choose_float8_scale(x.view(), block, {.dtype = dtype}).value();
      CHECK(scale.shape() == Shape{2 / block[0], 4 / block[1], 12 / block[2]});
      const Tensor codes = quantize_float8(x.view(), scale.view(), dtype).value();
      const Floats q = floats_of(codes), s = floats_of(scale), v = floats_of(x);
      const Floats d = floats_of(dequantize_float8(codes.view(), scale.view(), DType::f32).value());
      CHECK(*std::max_element(q.begin(), q.end()) <= static_cast<float>(dtype_info(dtype).max));
      CHECK(std::any_of(q.begin(), q.end(), [&](float c) { return std::fabs(c) == dtype_info(dtype).max; }));
      for (std::size_t i = 0; i < v.size(); ++i) {
        const float step = std::ldexp(1.0f, -dtype_info(dtype).mantissa_bits - 1);
        const float largest = static_cast<float>(dtype_info(dtype).max) * *std::max_element(s.begin(), s.end());
        REQUIRE(std::fabs(d[i] - v[i]) <= std::max(std::fabs(v[i]) * step * 1.001f, largest * 1e-5f));
      }
    }
  }
}

TEST_CASE("float8 bounds the magnitude, and scales may be powers of two") {
  const Tensor x = f32_tensor({2, 2}, {0, 0, 448, -896});
  const Shape rows{1, 2};
  CHECK(floats_of(choose_float8_scale(x.view(), rows, {}).value()) == Floats{0, 2});
  CHECK(floats_of(choose_float8_scale(x.view(), rows, {.amax_min = 1e-12f, .amax_max = 448.0f}).value()) ==
        Floats{1e-12f / 448, 1});
  const Tensor y = f32_tensor({1, 2}, {448 * 3, 0});
  CHECK(floats_of(choose_float8_scale(y.view(), rows, {.form = Float8ScaleForm::power_of_two}).value()) == Floats{4});
  // A block of zeros has no scale of its own; the lower bound gives it one.
  const Tensor zero = f32_tensor({1, 2}, {0, 0});
  const Tensor none = choose_float8_scale(zero.view(), rows, {}).value();
  CHECK(std::isnan(floats_of(quantize_float8(zero.view(), none.view(), DType::f8_e4m3fn).value())[0]));
  const Tensor some = choose_float8_scale(zero.view(), rows, {.amax_min = 1e-12f}).value();
  CHECK(floats_of(quantize_float8(zero.view(), some.view(), DType::f8_e4m3fn).value()) == Floats{0, 0});
}

TEST_CASE("float8 refuses what has no scale") {
  const Tensor x = f32_tensor({2, 2}, {1, kNan, 3, 4});
  const Shape rows{1, 2};
  CHECK(choose_float8_scale(x.view(), rows, {}).status().code() == Code::invalid_data);
  const Tensor wide = f32_tensor({1, 2}, {1, kInfinity});
  CHECK(choose_float8_scale(wide.view(), rows, {}).status().code() == Code::invalid_data);
  CHECK(floats_of(choose_float8_scale(wide.view(), rows, {.amax_max = 448.0f}).value()) == Floats{1});
  const Tensor good = f32_tensor({2, 2}, {1, 2, 3, 4});
  CHECK(choose_float8_scale(good.view(), Shape{1, 3}, {}).status().code() == Code::invalid_argument);
  CHECK(choose_float8_scale(good.view(), Shape{2}, {}).status().code() == Code::invalid_argument);
  CHECK(choose_float8_scale(good.view(), rows, {.dtype = DType::f16}).status().code() == Code::invalid_argument);
  CHECK(choose_float8_scale(good.view(), rows, {.amax_min = 2.0f, .amax_max = 1.0f}).status().code() ==
        Code::invalid_argument);
  const Tensor empty = f32_tensor({0, 2}, {});
  CHECK(choose_float8_scale(empty.view(), rows, {}).status().code() == Code::invalid_data);
  const Tensor odd = f32_tensor({2, 3}, {1, 1, 1, 1, 1, 1});
  CHECK(quantize_float8(good.view(), odd.view(), DType::f8_e4m3fn).status().code() == Code::invalid_argument);
  CHECK(dequantize_float8(good.view(), odd.view(), DType::f32).status().code() == Code::invalid_argument);
}

TEST_CASE("mx scales are the power of two of the rule") {
  // The largest magnitude is 7: 2^2 times 1.75.
  Floats values(32, 0.5f);
  values[3] = -7;
  const Tensor x = f32_tensor({32}, values);
  const auto scale = [&](MxScaling scaling) {
    return floats_of(quantize_mx(x.view(), {DType::f4_e2m1, 32, scaling}).value().scales);
  };
  CHECK(scale(MxScaling::floor) == Floats{1});  // 7 is clamped to 6
  CHECK(scale(MxScaling::even) == Floats{2});   // rounds to 8
  CHECK(scale(MxScaling::ceil) == Floats{2});
  CHECK(scale(MxScaling::rceil) == Floats{2});  // 7 / 6
  values[3] = 6;
  const Tensor six = f32_tensor({32}, values);
  CHECK(floats_of(quantize_mx(six.view(), {DType::f4_e2m1, 32, MxScaling::rceil}).value().scales) == Floats{1});
  CHECK(floats_of(quantize_mx(six.view(), {DType::f4_e2m1, 32, MxScaling::ceil}).value().scales) == Floats{2});
}

TEST_CASE("what mx codes mean is quantized to itself") {
  for (DType element : kMxElements) {
    for (MxScaling scaling : kMxScalings) {
      CAPTURE(dtype_name(element));
      for (DType dtype : {DType::f32, DType::bf16}) {
        const Tensor x = as_dtype(normal_tensor({3, 2, 64}, 7, 5.0f), dtype);
        const MxTensor q = quantize_mx(x.view(), {element, 32, scaling}).value();
        CHECK(q.codes.shape() == x.shape());
        CHECK(q.scales.shape() == Shape{3, 2, 2});
        CHECK(q.codes.byte_size() == (x.element_count() * dtype_info(element).bits + 7) / 8);
        const Tensor d = dequantize_mx(q.codes.view(), q.scales.view(), dtype).value();
        // The scale may be another where rounding took the largest number to another power, so it is given.
        const Floats once = floats_of(d), x_values = floats_of(x);
        for (std::size_t i = 0; i < once.size(); ++i) REQUIRE(std::fabs(once[i] - x_values[i]) <= 8.0f);
        const MxTensor again = quantize_mx(d.view(), {element, 32, scaling}).value();
        const Tensor twice = dequantize_mx(again.codes.view(), again.scales.view(), dtype).value();
        CHECK(floats_of(twice) == once);
      }
    }
  }
}

TEST_CASE("mx edges: zeros, denormals, infinity and NaN") {
  for (DType element : kMxElements) {
    for (MxScaling scaling : kMxScalings) {
      CAPTURE(dtype_name(element));
      Floats values(32 * 4, 0.0f);
      for (int i = 0; i < 32; ++i) values[32 + i] = 1e-42f;
      values[64] = kInfinity;
      values[65] = -kInfinity;
      values[96] = kNan;
      const Tensor x = f32_tensor({4, 32}, values);
      const MxTensor q = quantize_mx(x.view(), {element, 32, scaling}).value();
      const Floats scales = floats_of(q.scales);
      CHECK(scales[0] == 0x1p-127f);
      CHECK(scales[1] == 0x1p-127f);
      CHECK(scales[2] > 1e30f);
      CHECK(std::isnan(scales[3]));
      const Floats d = floats_of(dequantize_mx(q.codes.view(), q.scales.view(), DType::f32).value());
      for (int i = 0; i < 32; ++i) CHECK(d[i] == 0);
      CHECK((d[64] > 1e38f && d[64] == -d[65]));
      for (int i = 96; i < 128; ++i) CHECK(std::isnan(d[i]));
    }
  }
}

TEST_CASE("mx refuses other shapes and types, and takes nothing for nothing") {
  const Tensor x = normal_tensor({2, 48}, 1);
  CHECK(quantize_mx(x.view(), {}).status().code() == Code::invalid_argument);
  CHECK(quantize_mx(x.view(), {.block_size = 0}).status().code() == Code::invalid_argument);
  CHECK(quantize_mx(x.view(), {.element = DType::i8, .block_size = 16}).status().code() == Code::invalid_argument);
  CHECK(quantize_mx(x.view(), {.block_size = 16}).ok());
  const Tensor scalar = f32_tensor({}, {1});
  CHECK(quantize_mx(scalar.view(), {.block_size = 1}).status().code() == Code::invalid_argument);
  const Tensor empty = f32_tensor({0, 32}, {});
  CHECK(quantize_mx(empty.view(), {}).value().scales.shape() == Shape{0, 1});
  const MxTensor q = quantize_mx(x.view(), {.block_size = 16}).value();
  const Tensor less = Tensor::make(DType::f8_e8m0, {2, 5}).value();
  CHECK(dequantize_mx(q.codes.view(), less.view(), DType::f32).status().code() == Code::invalid_argument);
  CHECK(dequantize_mx(q.codes.view(), x.view(), DType::f32).status().code() == Code::invalid_argument);
}

TEST_CASE("nvfp4 in one and two levels") {
  Floats values(32, 1.0f);
  values[0] = 6;    // block scale 1
  values[16] = 12;  // block scale 2
  const Tensor x = f32_tensor({1, 32}, values);
  const Nvfp4Tensor one = quantize_nvfp4(x.view(), std::nullopt).value();
  CHECK(floats_of(one.scales) == Floats{1, 2});
  const Floats d = floats_of(dequantize_nvfp4(one, DType::f32).value());
  CHECK(d[0] == 6);
  CHECK(d[1] == 1);
  CHECK(d[16] == 12);
  CHECK(d[17] == 1);
  const float tensor_scale = nvfp4_tensor_scale(x.view()).value();
  CHECK(tensor_scale == 12.0f / 2688);
  const Nvfp4Tensor two = quantize_nvfp4(x.view(), tensor_scale).value();
  CHECK(floats_of(two.scales) == Floats{224, 448});
  const Floats e = floats_of(dequantize_nvfp4(two, DType::f32).value());
  for (std::size_t i = 0; i < d.size(); ++i) CHECK(e[i] == doctest::Approx(d[i]));
}

TEST_CASE("nvfp4 edges: zeros, infinity, NaN, scales that are none") {
  const Tensor zero = f32_tensor({1, 16}, Floats(16, 0.0f));
  CHECK(nvfp4_tensor_scale(zero.view()).value() == 1);
  const Nvfp4Tensor q = quantize_nvfp4(zero.view(), 1.0f).value();
  CHECK(floats_of(q.scales) == Floats{0x1p-6f});
  CHECK(floats_of(dequantize_nvfp4(q, DType::f32).value()) == Floats(16, 0.0f));
  Floats values(16, 1.0f);
  values[5] = kInfinity;
  const Tensor wide = f32_tensor({1, 16}, values);
  CHECK(nvfp4_tensor_scale(wide.view()).status().code() == Code::invalid_data);
  CHECK(floats_of(dequantize_nvfp4(quantize_nvfp4(wide.view(), std::nullopt).value(), DType::f32).value())[5] == 2688);
  values[5] = kNan;
  const Tensor bad = f32_tensor({1, 16}, values);
  CHECK(quantize_nvfp4(bad.view(), std::nullopt).status().code() == Code::invalid_data);
  for (float scale : {0.0f, -1.0f, kInfinity, kNan, 1e-40f}) {
    CHECK(quantize_nvfp4(zero.view(), scale).status().code() == Code::invalid_argument);
  }
  const Tensor odd = f32_tensor({1, 24}, Floats(24, 0.0f));
  CHECK(quantize_nvfp4(odd.view(), std::nullopt).status().code() == Code::invalid_argument);
}

TEST_CASE("scales are swizzled in tiles of 128 x 4") {
  Tensor scales = Tensor::make(DType::f8_e8m0, {130, 5}).value();
  for (std::int64_t i = 0; i < 130 * 5; ++i) scales.mutable_bytes()[i] = static_cast<std::byte>(i % 251 + 1);
  const Tensor swizzled = swizzle_scales(scales.view()).value();
  CHECK(swizzled.shape() == Shape{64, 32});
  const auto at = [&](std::int64_t r, std::int64_t c) { return scales.bytes()[r * 5 + c]; };
  CHECK(swizzled.bytes()[0] == at(0, 0));
  CHECK(swizzled.bytes()[3] == at(0, 3));
  CHECK(swizzled.bytes()[4] == at(32, 0));
  CHECK(swizzled.bytes()[16] == at(1, 0));
  CHECK(swizzled.bytes()[31 * 16 + 3 * 4 + 2] == at(127, 2));
  CHECK(swizzled.bytes()[512] == at(0, 4));          // the next tile along the columns
  CHECK(swizzled.bytes()[513] == std::byte{0});      // padding
  CHECK(swizzled.bytes()[1024 + 16] == at(129, 0));  // the next tiles along the rows
  const Tensor back = unswizzle_scales(swizzled.view(), 130, 5).value();
  CHECK(back.dtype() == DType::f8_e8m0);
  CHECK(std::ranges::equal(back.bytes(), scales.bytes()));
  CHECK(unswizzle_scales(swizzled.view(), 300, 5).status().code() == Code::invalid_argument);
  CHECK(unswizzle_scales(swizzled.view(), -1, 5).status().code() == Code::invalid_argument);
  const Tensor wide = f32_tensor({2, 2}, {1, 2, 3, 4});
  CHECK(swizzle_scales(wide.view()).status().code() == Code::invalid_argument);
}

}  // namespace
}  // namespace aoq
