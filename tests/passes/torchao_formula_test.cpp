// torchao's quantized weights against their formulas written down a second time, in the plainest way: part D of the
// semantics. Shapes, groups and numbers are drawn; rounding is by bits (bf16) and by search among all values (small
// floats).
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <random>

#include "passes/torchao/quantized_weight.h"
#include "tests/passes/tensor_support.h"

namespace aoq::torchao {
namespace {

using Floats = std::vector<float>;

float to_bf16(float v) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(v);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

struct Draw {
  std::mt19937 engine;
  std::int64_t between(std::int64_t lo, std::int64_t hi) {
    return std::uniform_int_distribution<std::int64_t>(lo, hi)(engine);
  }
  float normal() { return std::normal_distribution<float>()(engine); }
};

// A weight whose groups have different sizes, signs and now and then no spread.
struct Drawn {
  std::int64_t rows, columns, group;
  DType dtype;
  Floats values;
  Tensor tensor;

  float round(float v) const { return dtype == DType::bf16 ? to_bf16(v) : v; }
  std::int64_t groups() const { return columns / group; }
  const float* block(std::int64_t b) const { return values.data() + b * group; }
};

Drawn draw_weight(Draw& draw, std::int64_t group) {
  Drawn d;
  d.group = group;
  d.rows = draw.between(1, 7);
  d.columns = group * draw.between(1, 5);
  d.dtype = draw.between(0, 1) == 0 ? DType::f32 : DType::bf16;
  for (std::int64_t b = 0; b < d.rows * d.groups(); ++b) {
    const float size = std::ldexp(1.0f, static_cast<int>(draw.between(-20, 12)));
    const std::int64_t kind = draw.between(0, 9);
    for (std::int64_t i = 0; i < group; ++i) {
      const float v = draw.normal() * size;
      d.values.push_back(d.round(kind == 0 ? 0.0f : kind == 1 ? size : kind == 2 ? std::fabs(v) : v));
    }
  }
  d.tensor = Tensor::make(d.dtype, {d.rows, d.columns}).value();
  dtype_info(d.dtype).from_float(d.values, d.tensor.mutable_bytes().data(), 0);
  return d;
}

struct Range {
  float lo, hi;
};
Range range_of(const float* v, std::int64_t n) {
  Range r{v[0], v[0]};
  for (std::int64_t i = 1; i < n; ++i) r = {std::min(r.lo, v[i]), std::max(r.hi, v[i])};
  return r;
}

std::int64_t code_at(const QuantizedWeight& w, std::int64_t i) {
  return load_integer(w.codes.dtype(), w.codes.bytes().data(), i);
}

// D.3 and D.4 of one block; r rounds every operation.
struct Affine {
  MappingType mapping;
  float qmin, qmax, eps;
  float scale = 0, zero = 0;

  template <typename Round>
  void choose(Range range, const Round& r) {
    const float lo = std::min(range.lo, 0.0f), hi = std::max(range.hi, 0.0f);
    if (mapping == MappingType::asymmetric) {
      scale = std::max(r(r(hi - lo) / (qmax - qmin)), eps);
      zero = std::clamp(r(qmin - std::nearbyint(r(lo / scale))), qmin, qmax);
      return;
    }
    zero = static_cast<float>(static_cast<int>((qmax + qmin + 1) / 2));
    const float wide = mapping == MappingType::symmetric ? r(std::max(-lo, hi) / ((qmax - qmin) / 2))
                                                         : std::max(r(lo / qmin), r(hi / qmax));
    scale = std::max(wide, eps);
  }
  template <typename Round>
  float code(float x, const Round& r) const {
    return std::clamp(r(std::nearbyint(r(x * r(1.0f / scale))) + zero), qmin, qmax);
  }
};

void check_affine(const Drawn& d, const QuantizedWeight& found, Affine form) {
  const auto r = [&](float v) { return d.round(v); };
  for (std::int64_t b = 0; b < d.rows * d.groups(); ++b) {
    form.choose(range_of(d.block(b), d.group), r);
    const auto at = static_cast<std::size_t>(b);
    CHECK(found.qparams.scale[at] == form.scale);
    CHECK(static_cast<float>(found.qparams.zero_point[at]) == form.zero);
    for (std::int64_t i = 0; i < d.group; ++i) {
      CHECK(static_cast<float>(code_at(found, b * d.group + i)) == form.code(d.block(b)[i], r));
    }
  }
}

TEST_CASE("integer weights are those of the formulas, for drawn shapes, groups and numbers") {
  Draw draw{std::mt19937(7)};
  constexpr MappingType kMappings[] = {MappingType::symmetric, MappingType::symmetric_no_clipping_error,
                                       MappingType::asymmetric};
  for (int turn = 0; turn < 120; ++turn) {
    const Drawn d = draw_weight(draw, draw.between(1, 40));
    CAPTURE(turn);
    const int bits = static_cast<int>(draw.between(1, 8));
    CAPTURE(bits);
    const float half = std::ldexp(1.0f, bits - 1), own_eps = d.dtype == DType::f32 ? 0x1p-23f : 0x1p-7f;
    // One bit has no positive code, which this mapping divides by.
    const MappingType mapping = kMappings[draw.between(0, 2)];
    if (bits > 1 || mapping != MappingType::symmetric_no_clipping_error) {
      const DType dtype = *dtype_from_name(fmt::format("i{}", bits));
      const IntxForm form{dtype, {Granularity::Kind::group, d.group}, mapping, std::nullopt};
      check_affine(d, intx_weight(d.tensor.view(), form).value(), {mapping, -half, half - 1, own_eps});
    }
    check_affine(d, int8_weight(d.tensor.view(), {Granularity::Kind::group, d.group}).value(),
                 {MappingType::symmetric, -128, 127, 0x1p-23f});
    const DType dtype = *dtype_from_name(fmt::format("u{}", bits));
    check_affine(d, uintx_weight(d.tensor.view(), dtype, d.group).value(),
                 {MappingType::asymmetric, 0, 2 * half - 1, 0x1p-23f});
  }
}

TEST_CASE("int4 weights are those of the formula") {
  Draw draw{std::mt19937(8)};
  for (int turn = 0; turn < 80; ++turn) {
    const Drawn d = draw_weight(draw, draw.between(1, 40));
    CAPTURE(turn);
    const QuantizedWeight found = int4_weight(d.tensor.view(), d.group).value();
    for (std::int64_t b = 0; b < d.rows * d.groups(); ++b) {
      const Range range = range_of(d.block(b), d.group);
      const float scale = std::max(range.hi - range.lo, 1e-6f) / 15, zero = range.lo + 8 * scale;
      CHECK(found.qparams.scale[static_cast<std::size_t>(b)] == d.round(scale));
      CHECK(found.qparams.float_zero_point[static_cast<std::size_t>(b)] == d.round(zero));
      for (std::int64_t i = 0; i < d.group; ++i) {
        const float code = std::clamp(std::nearbyint((d.block(b)[i] - range.lo) / scale), 0.0f, 15.0f);
        CHECK(static_cast<float>(code_at(found, b * d.group + i)) == code);
      }
    }
  }
}

// ---- small floats

// The numbers that are not below 0, in the order of their codes.
struct SmallFloat {
  DType dtype;
  int exponent_bits, mantissa_bits, max_power;
  float largest;

  Floats values() const {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    Floats out;
    for (int code = 0; code < 1 << (exponent_bits + mantissa_bits); ++code) {
      const int e = code >> mantissa_bits, m = code & ((1 << mantissa_bits) - 1);
      const float fraction = std::ldexp(static_cast<float>(m), -mantissa_bits);
      out.push_back(e == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, e - bias));
      if (out.back() == largest) break;
    }
    return out;
  }
  // The nearest one, of two the one with the even code.
  float nearest(float v, const Floats& all) const {
    const double x = std::min(std::fabs(static_cast<double>(v)), static_cast<double>(largest));
    std::size_t best = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double now = std::fabs(static_cast<double>(all[i]) - x),
                   then = std::fabs(static_cast<double>(all[best]) - x);
      if (now < then || (now == then && i % 2 == 0)) best = i;
    }
    return std::copysign(all[best], v);
  }
};

const SmallFloat kFp4{DType::f4_e2m1, 2, 1, 2, 6}, kE4m3{DType::f8_e4m3fn, 4, 3, 8, 448};
const SmallFloat kSmallFloats[] = {
    kFp4, {DType::f6_e2m3, 2, 3, 2, 7.5f}, {DType::f6_e3m2, 3, 2, 4, 28}, kE4m3, {DType::f8_e5m2, 5, 2, 15, 57344}};

float amax_of(const Drawn& d, std::int64_t b) {
  const Range r = range_of(d.block(b), d.group);
  return std::max(std::fabs(r.lo), std::fabs(r.hi));
}

void check_codes(const Drawn& d, const QuantizedWeight& found, std::int64_t b, const Floats& expected) {
  for (std::int64_t i = 0; i < d.group; ++i) {
    const double code = load_as_double(found.codes.dtype(), found.codes.bytes().data(), b * d.group + i);
    CHECK(code == static_cast<double>(expected[static_cast<std::size_t>(i)]));
  }
}

int mx_exponent(float amax, const SmallFloat& f, MxScaling scaling) {
  const int floor = std::ilogb(amax);
  const float fraction = std::ldexp(amax, -floor);  // 1 to 2
  switch (scaling) {
    case MxScaling::floor:
      return floor - f.max_power;
    case MxScaling::ceil:
      return floor - f.max_power + (fraction > 1 ? 1 : 0);
    case MxScaling::even:  // up where the fraction would round to 2
      return floor - f.max_power + (fraction >= 2 - std::ldexp(1.0f, -f.mantissa_bits - 1) ? 1 : 0);
    case MxScaling::rceil: {
      const float descale = amax * (1.0f / f.largest);
      const int e = std::ilogb(descale);
      return e + (std::ldexp(descale, -e) > 1 ? 1 : 0);
    }
  }
  return 0;
}

TEST_CASE("mx weights are those of the formulas, in every element type and scaling") {
  Draw draw{std::mt19937(9)};
  for (int turn = 0; turn < 60; ++turn) {
    const Drawn d = draw_weight(draw, 8 * draw.between(1, 6));
    for (const SmallFloat& f : kSmallFloats) {
      const Floats all = f.values();
      for (const MxScaling scaling : {MxScaling::floor, MxScaling::even, MxScaling::ceil, MxScaling::rceil}) {
        CAPTURE(turn);
        CAPTURE(static_cast<int>(scaling));
        CAPTURE(std::string(dtype_name(f.dtype)));
        MxForm form;
        form.element = f.dtype;
        form.block_size = d.group;
        form.scaling = scaling;
        const QuantizedWeight found = mx_weight(d.tensor.view(), form).value();
        for (std::int64_t b = 0; b < d.rows * d.groups(); ++b) {
          const float amax = amax_of(d, b);
          if (amax == 0) continue;
          const int e = mx_exponent(amax, f, scaling);
          CHECK(found.qparams.scale[static_cast<std::size_t>(b)] == std::ldexp(1.0f, e));
          Floats expected;
          for (std::int64_t i = 0; i < d.group; ++i) expected.push_back(f.nearest(std::ldexp(d.block(b)[i], -e), all));
          check_codes(d, found, b, expected);
        }
      }
    }
  }
}

TEST_CASE("nvfp4 and float8 weights are those of the formulas") {
  Draw draw{std::mt19937(10)};
  const Floats fp4 = kFp4.values(), e4m3 = kE4m3.values();
  for (int turn = 0; turn < 60; ++turn) {
    CAPTURE(turn);
    const Drawn d = draw_weight(draw, 16);
    float whole = 0;
    for (float v : d.values) whole = std::max(whole, std::fabs(v));
    if (whole == 0) continue;
    const QuantizedWeight found = nvfp4_weight(d.tensor.view()).value();
    const float tensor_scale = whole / (448.0f * 6.0f);
    for (std::int64_t b = 0; b < d.rows * d.groups(); ++b) {
      const float wanted = std::clamp(amax_of(d, b) / 6.0f / tensor_scale, 0x1p-6f, 448.0f);
      const float scale = kE4m3.nearest(wanted, e4m3), factor = (1.0f / tensor_scale) / scale;
      CHECK(found.qparams.scale[static_cast<std::size_t>(b)] == scale * tensor_scale);
      Floats expected;
      for (std::int64_t i = 0; i < d.group; ++i) expected.push_back(kFp4.nearest(d.block(b)[i] * factor, fp4));
      check_codes(d, found, b, expected);
    }
    const Granularity blocks{Granularity::Kind::block, 1, 16};
    const QuantizedWeight small = float8_weight(d.tensor.view(), DType::f8_e4m3fn, blocks).value();
    for (std::int64_t b = 0; b < d.rows * d.groups(); ++b) {
      const float scale = d.round(std::max(amax_of(d, b), d.round(1e-12f)) / 448.0f);
      CHECK(small.qparams.scale[static_cast<std::size_t>(b)] == scale);
      Floats expected;
      for (std::int64_t i = 0; i < d.group; ++i) expected.push_back(kE4m3.nearest(d.block(b)[i] / scale, e4m3));
      check_codes(d, small, b, expected);
    }
  }
}

}  // namespace
}  // namespace aoq::torchao
