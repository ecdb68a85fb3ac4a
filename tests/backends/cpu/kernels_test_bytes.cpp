// Elementwise kernels on 8-bit codes and pooling: AVX2 against the scalar definition, bit for bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "backends/cpu/kernels/binary_s8.h"
#include "backends/cpu/kernels/epilogue_s8.h"
#include "backends/cpu/kernels/pool.h"
#include "backends/cpu/kernels/quantize.h"
#include "tests/backends/cpu/kernels_test_support.h"

namespace aoq::cpu::test {
namespace {

DType random_type(Random& random) {
  return random.chance(50) ? DType::u8 : DType::i8;
}

std::int32_t random_code(Random& random, DType type) {
  std::int32_t qmin = type == DType::i8 ? -128 : 0;
  const std::int64_t choices[] = {qmin, qmin + 255, random.between(qmin, qmin + 255)};
  return static_cast<std::int32_t>(choices[random.between(0, 2)]);
}

// Runs `kernel(isa, out)` for both classes on guarded memory and compares.
template <typename Kernel>
void compare(std::int64_t bytes, Kernel kernel) {
  Buffer expected(bytes);
  kernel(Isa::reference, expected.data());
  CHECK(expected.guards_are_intact());
  for (Isa isa : {Isa::avx2, Isa::avx512_vnni}) {
    if (isa > best_isa()) continue;
    Buffer got(bytes);
    kernel(isa, got.data());
    CHECK(got.guards_are_intact());
    CHECK(expected.copy() == got.copy());
  }
}

void check_pool(Random& random, DType type) {
  PoolParams p;
  p.dims = random_conv(random);
  p.dims.in_c = p.dims.out_c = random.between(1, 50);
  p.dims.groups = 1;
  p.type = type;
  p.kind = random.chance(50) ? PoolKind::max : PoolKind::average;
  p.count = random.chance(50) ? PoolCount::inside : PoolCount::padded;
  p.pad_bottom = random.between(0, 1);
  p.pad_right = random.between(0, 1);
  p.x_scale = 0.07f;
  p.out_scale = random.real(0.03f, 0.2f);
  if (type != DType::f32) {
    p.x_zero_point = random_code(random, type);
    p.bounds = full_bounds(type, random_code(random, type));
  }
  const ConvDims& d = p.dims;
  std::int64_t inputs = d.batch * d.in_h * d.in_w * d.in_c;
  std::vector<std::uint8_t> codes = random.bytes(inputs, random.chance(20));
  std::vector<float> floats = random.reals(inputs, -5.0f, 5.0f);
  if (random.chance(20)) floats[0] = std::numeric_limits<float>::quiet_NaN();
  bool is_float = type == DType::f32;
  std::int64_t outputs = d.batch * d.out_h * d.out_w * d.in_c;
  Buffer expected(outputs * (is_float ? 4 : 1)), got(outputs * (is_float ? 4 : 1));
  PoolArgs args = {.x = is_float ? static_cast<const void*>(floats.data()) : codes.data(), .out = expected.data()};
  PoolPlan scalar = plan_pool(p, Isa::reference);
  run_pool(scalar, args, 0, scalar.units, nullptr);
  PoolPlan plan = plan_pool(p, Isa::avx2);
  Buffer scratch(plan.scratch_bytes);
  args.out = got.data();
  run_pool(plan, args, plan.units / 2, plan.units, scratch.data());
  run_pool(plan, args, 0, plan.units / 2, scratch.data());
  CHECK(got.guards_are_intact());
  CHECK(scratch.guards_are_intact());
  if (is_float) {
    CHECK(same_floats(got.as<float>(), expected.as<float>(), outputs));
  } else {
    CHECK(got.copy() == expected.copy());
  }
}

BroadcastShape random_shape(Random& random) {
  BroadcastShape s;
  s.rows = random.between(1, 5);
  s.columns = random.between(1, 70);
  auto strides = [&](std::int64_t* row, std::int64_t* column) {
    *column = random.chance(70) ? 1 : 0;
    *row = random.chance(60) ? (*column == 1 ? s.columns : 1) : 0;
  };
  strides(&s.a_row, &s.a_column);
  strides(&s.b_row, &s.b_column);
  return s;
}

}  // namespace

TEST_CASE("quantize: ties, ends, infinities and NaN") {
  if (!has_avx2()) return;
  Random random(31);
  for (int i = 0; i < 200; ++i) {
    std::int64_t n = random.between(1, 200);
    std::vector<float> x = random.reals(n, -400.0f, 400.0f);
    x[0] = std::numeric_limits<float>::quiet_NaN();
    if (n > 5) {
      x[1] = std::numeric_limits<float>::infinity();
      x[2] = -std::numeric_limits<float>::infinity();
      x[3] = 2.5f;
      x[4] = 1e30f;
      x[5] = -1e30f;
    }
    QuantizeParams p;
    p.type = random_type(random);
    p.inv_scale = random.chance(30) ? 1.0f : random.real(0.1f, 9.0f);
    p.qmin = p.type == DType::i8 ? -128 : 0;
    p.qmax = p.qmin + 255;
    p.zero_point = random_code(random, p.type);
    if (random.chance(20)) p.qmax -= 128;
    if (random.chance(20)) p.qmin += 1;
    p.zero_point = std::clamp(p.zero_point, p.qmin, p.qmax);
    compare(n, [&](Isa isa, std::byte* out) { quantize_f32(isa, p, x.data(), out, n); });
  }
}

TEST_CASE("dequantize, requantize and lookup on every code") {
  if (!has_avx2()) return;
  Random random(32);
  for (int i = 0; i < 100; ++i) {
    std::int64_t n = random.between(250, 290);
    std::vector<std::uint8_t> x(static_cast<std::size_t>(n));
    for (std::size_t j = 0; j < x.size(); ++j) x[j] = static_cast<std::uint8_t>(j);
    DequantizeParams d = {random_type(random), random.real(0.01f, 2.0f), 0};
    d.zero_point = random_code(random, d.type);
    compare(n * 4,
            [&](Isa isa, std::byte* out) { dequantize_bytes(isa, d, x.data(), reinterpret_cast<float*>(out), n); });
    RequantizeParams r;
    r.x_type = random_type(random);
    r.out_type = random_type(random);
    r.x_zero_point = random_code(random, r.x_type);
    r.x_scale = random.chance(30) ? 0.5f : random.real(0.01f, 3.0f);
    r.inv_out = random.chance(30) ? 1.0f : random.real(0.1f, 3.0f);
    r.bounds = full_bounds(r.out_type, random_code(random, r.out_type));
    compare(n, [&](Isa isa, std::byte* out) { requantize_bytes(isa, r, x.data(), out, n); });
    std::vector<std::uint8_t> table = random.bytes(256, false);
    compare(n, [&](Isa isa, std::byte* out) { look_up_bytes(isa, table.data(), x.data(), out, n); });
  }
}

TEST_CASE("range of floats") {
  if (!has_avx2()) return;
  Random random(33);
  for (std::int64_t n = 1; n < 50; ++n) {
    std::vector<float> x = random.reals(n, -4.0f, 4.0f);
    if (n % 3 == 0) x.assign(x.size(), n % 2 == 0 ? -0.0f : 0.0f);
    if (n % 7 == 0) x[static_cast<std::size_t>(n) - 1] = std::numeric_limits<float>::quiet_NaN();
    Range expected = range_of(Isa::reference, x.data(), n);
    Range got = range_of(Isa::avx2, x.data(), n);
    CHECK(same_floats(&got.min, &expected.min, 1));
    CHECK(same_floats(&got.max, &expected.max, 1));
  }
}

TEST_CASE("addition and multiplication of codes, all broadcasts") {
  if (!has_avx2()) return;
  Random random(34);
  for (int i = 0; i < 400; ++i) {
    BroadcastShape s = random_shape(random);
    BinaryS8Params p;
    p.a_type = random_type(random);
    p.b_type = random_type(random);
    p.out_type = random_type(random);
    p.a_zero_point = random_code(random, p.a_type);
    p.b_zero_point = random_code(random, p.b_type);
    p.a_scale = random.chance(30) ? 0.5f : random.real(0.01f, 0.2f);
    p.b_scale = random.real(0.01f, 0.2f);
    p.inv_out = random.real(5.0f, 30.0f);
    p.bounds = full_bounds(p.out_type, random_code(random, p.out_type));
    if (random.chance(30)) p.bounds = narrowed_bounds(p.bounds, 0.0f, 6.0f, 0.05f);
    std::vector<std::uint8_t> a = random.bytes(s.rows * s.columns, random.chance(20));
    std::vector<std::uint8_t> b = random.bytes(s.rows * s.columns, random.chance(20));
    std::int64_t n = s.rows * s.columns;
    compare(n, [&](Isa isa, std::byte* out) { add_bytes(isa, p, s, a.data(), b.data(), out); });
    compare(n, [&](Isa isa, std::byte* out) { multiply_bytes(isa, p, s, a.data(), b.data(), out); });
  }
}

TEST_CASE("pooling: maximum and average of u8, i8 and f32") {
  if (!has_avx2()) return;
  Random random(35);
  for (int i = 0; i < 300; ++i) {
    check_pool(random, DType::u8);
    check_pool(random, DType::i8);
    check_pool(random, DType::f32);
  }
}

}  // namespace aoq::cpu::test
