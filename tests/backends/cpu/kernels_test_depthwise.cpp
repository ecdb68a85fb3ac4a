// Depthwise convolution, int8 and f32: every class of vectors against the scalar definition, bit for bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/depthwise_maddubs.h"
#include "backends/cpu/kernels/depthwise_s8.h"
#include "backends/cpu/kernels/depthwise_vnni.h"
#include "tests/backends/cpu/kernels_test_support.h"

namespace aoq::cpu::test {
namespace {

ConvDims random_depthwise(Random& random) {
  ConvDims d = random_conv(random);
  d.in_c = d.out_c = d.groups = random.between(1, random.chance(20) ? 150 : 70);
  if (random.chance(60)) {  // the widths that have code of their own
    std::int64_t kernel = random.chance(60) ? 3 : 5;
    if (random.chance(60)) d.dilation_w = 1;
    d.in_h += std::max<std::int64_t>(kernel - d.kernel_h, 0) * d.dilation_h;
    d.in_w += (kernel + 2) * d.dilation_w;
    d.kernel_h = d.kernel_w = kernel;
    d.out_h = conv_output_size({d.in_h, kernel, d.stride_h, d.dilation_h, d.pad_top, kernel * d.dilation_h});
    d.out_w = conv_output_size({d.in_w, kernel, d.stride_w, d.dilation_w, d.pad_left, 1});
  }
  return d;
}

// All units at once, and in two pieces.
template <typename Plan>
void check_plan(const Plan& plan, DepthwiseS8Args args, const std::vector<std::uint8_t>& expected,
                void (*run)(const Plan&, const DepthwiseS8Args&, std::int64_t, std::int64_t, std::byte*)) {
  const ConvDims& d = plan.dims;
  for (std::int64_t middle : {plan.units, plan.units / 2}) {
    Buffer out(d.batch * d.out_h * d.out_w * d.out_c), scratch(plan.scratch_bytes);
    args.epilogue.out = out.data();
    run(plan, args, 0, middle, scratch.data());
    run(plan, args, middle, plan.units, scratch.data());
    CHECK(out.guards_are_intact());
    CHECK(scratch.guards_are_intact());
    CHECK(out.copy() == expected);
  }
}

void check_vnni(const ConvDims& d, DType x_type, const EpilogueS8& e, const std::int8_t* weights, DepthwiseS8Args args,
                const std::vector<std::uint8_t>& expected) {
  if (best_isa() < Isa::avx512_vnni || !takes_depthwise_vnni(d, e)) return;
  Buffer packed(packed_bytes_depthwise_vnni(d));
  pack_depthwise_vnni(d, weights, {packed.data(), static_cast<std::size_t>(packed_bytes_depthwise_vnni(d))});
  CHECK(packed.guards_are_intact());
  args.weights = packed.data();
  const auto channels = static_cast<std::size_t>(d.in_c), padded = static_cast<std::size_t>(padded_depthwise_vnni(d));
  std::vector<float> bias(padded), multiplier(padded);
  spread_depthwise_vnni({args.epilogue.bias, channels}, bias);
  spread_depthwise_vnni({args.epilogue.multiplier, channels}, multiplier);
  args.epilogue.bias = bias.data();
  args.epilogue.multiplier = multiplier.data();
  check_plan(plan_depthwise_vnni(d, x_type, e), args, expected, run_depthwise_vnni);
}

void check_maddubs(const ConvDims& d, DType x_type, const EpilogueS8& e, const std::vector<std::uint8_t>& weights,
                   DepthwiseS8Args args, const std::vector<std::uint8_t>& expected) {
  if (!takes_depthwise_maddubs(d, e)) return;
  Buffer packed(packed_bytes_depthwise_maddubs(d));
  pack_depthwise_maddubs(d, reinterpret_cast<const std::int8_t*>(weights.data()),
                         {packed.data(), static_cast<std::size_t>(packed_bytes_depthwise_maddubs(d))});
  CHECK(packed.guards_are_intact());
  std::vector<std::uint8_t> back(weights.size());
  unpack_depthwise_maddubs(d, packed.data(), reinterpret_cast<std::int8_t*>(back.data()));
  CHECK(back == weights);
  args.weights = packed.data();
  check_plan(plan_depthwise_maddubs(d, x_type, e), args, expected, run_depthwise_maddubs);
}

void check_s8(const ConvDims& d, Random& random) {
  EpilogueS8 e;
  const DType types[] = {DType::u8, DType::i8, DType::f32};
  e.out_type = types[random.between(0, 2)];
  e.bounds = full_bounds(e.out_type == DType::i8 ? DType::i8 : DType::u8, e.out_type == DType::i8 ? -128 : 255);
  const std::int32_t zero_point = random.chance(50) ? 7 : 0;
  if (random.chance(70)) e.bounds = full_bounds(e.out_type == DType::i8 ? DType::i8 : DType::u8, zero_point);
  if (e.out_type == DType::f32) e.bounds = full_bounds(DType::u8, 0);
  e.has_residual = random.chance(30);
  e.residual_type = e.out_type == DType::f32 ? DType::f32 : DType::u8;
  e.residual_multiplier = 0.3f;
  e.activation.kind = random.chance(60) ? Activation::none : Activation::hardswish;
  e.inv_out = 20.0f;
  DType x_type = random.chance(50) ? DType::u8 : DType::i8;
  bool is_signed = x_type == DType::i8;
  bool extreme = random.chance(30);
  std::vector<std::uint8_t> x =
      random.bytes(d.batch * d.in_h * d.in_w * d.in_c, extreme, is_signed ? 0x80 : 0, is_signed ? 0x7f : 255);
  std::vector<std::uint8_t> weights = random.bytes(d.in_c * d.kernel_h * d.kernel_w, extreme, 0x80, 0x7f);
  std::vector<float> bias = random.reals(d.in_c + 16, -2000.0f, 2000.0f);
  std::vector<float> multiplier = random.reals(d.in_c + 16, 0.002f, 0.01f);
  std::int64_t outputs = d.batch * d.out_h * d.out_w * d.out_c;
  std::vector<float> residual = random.reals(outputs, -2.0f, 2.0f);
  Buffer packed(packed_bytes_depthwise_s8(d));
  pack_depthwise_s8(d, reinterpret_cast<const std::int8_t*>(weights.data()),
                    {packed.data(), static_cast<std::size_t>(packed_bytes_depthwise_s8(d))});
  CHECK(packed.guards_are_intact());
  DepthwiseS8Args args;
  args.x = x.data();
  args.x_zero_point = static_cast<std::int32_t>(is_signed ? random.between(-128, 127) : random.between(0, 255));
  args.weights = packed.data();
  args.epilogue = {.bias = bias.data(), .multiplier = multiplier.data(), .x_scale = 0.7f, .residual = residual.data()};
  std::vector<std::vector<std::uint8_t>> results;
  for (std::int64_t variant = 0; variant < 3; ++variant) {
    DepthwiseS8Plan plan = plan_depthwise_s8(d, x_type, e, variant == 0 ? Isa::reference : Isa::avx2);
    Buffer out(outputs * (e.out_type == DType::f32 ? 4 : 1));
    Buffer scratch(plan.scratch_bytes);
    args.epilogue.out = out.data();
    std::int64_t middle = variant == 2 ? plan.units / 2 : plan.units;
    run_depthwise_s8(plan, args, 0, middle, scratch.data());
    run_depthwise_s8(plan, args, middle, plan.units, scratch.data());
    CHECK(out.guards_are_intact());
    CHECK(scratch.guards_are_intact());
    results.push_back(out.copy());
  }
  CHECK(results[1] == results[0]);
  CHECK(results[2] == results[0]);
  check_maddubs(d, x_type, e, weights, args, results[0]);
  check_vnni(d, x_type, e, reinterpret_cast<const std::int8_t*>(weights.data()), args, results[0]);
}

void check_f32(const ConvDims& d, Random& random) {
  EpilogueF32 e;
  e.has_bias = random.chance(60);
  e.has_residual = random.chance(30);
  e.activation.kind = random.chance(50) ? Activation::none : static_cast<Activation>(random.between(1, 8));
  e.activation.b = 6.0f;
  std::int64_t outputs = d.batch * d.out_h * d.out_w * d.out_c;
  std::vector<float> x = random.reals(d.batch * d.in_h * d.in_w * d.in_c, -2.0f, 2.0f);
  std::vector<float> weights = random.reals(d.in_c * d.kernel_h * d.kernel_w, -1.0f, 1.0f);
  std::vector<float> bias = random.reals(d.in_c, -1.0f, 1.0f);
  std::vector<float> residual = random.reals(outputs, -1.0f, 1.0f);
  Buffer packed(packed_bytes_depthwise_f32(d));
  pack_depthwise_f32(d, weights.data(), {packed.data(), static_cast<std::size_t>(packed_bytes_depthwise_f32(d))});
  DepthwiseF32Args args = {.x = x.data(), .weights = packed.data(), .bias = bias.data(), .residual = residual.data()};
  std::vector<float> expected(static_cast<std::size_t>(outputs));
  args.out = expected.data();
  DepthwiseF32Plan scalar = plan_depthwise_f32(d, e, Isa::reference);
  run_depthwise_f32(scalar, args, 0, scalar.units, nullptr);
  for (Isa isa : {Isa::avx2, Isa::avx512_vnni}) {
    if (isa > best_isa()) continue;
    DepthwiseF32Plan plan = plan_depthwise_f32(d, e, isa);
    Buffer out(outputs * 4), scratch(plan.scratch_bytes);
    args.out = out.as<float>();
    run_depthwise_f32(plan, args, plan.units / 3, plan.units, scratch.data());
    run_depthwise_f32(plan, args, 0, plan.units / 3, scratch.data());
    CHECK(out.guards_are_intact());
    CHECK(scratch.guards_are_intact());
    CHECK(same_floats(out.as<float>(), expected.data(), outputs));
  }
}

}  // namespace

TEST_CASE("int8 depthwise convolution equals the definition") {
  if (!has_avx2()) return;
  Random random(21);
  for (int i = 0; i < 400; ++i) check_s8(random_depthwise(random), random);
}

TEST_CASE("int8 depthwise convolution: sums in 16 bits hold the largest weights and codes") {
  if (!has_avx2()) return;
  Random random(24);
  for (const std::int64_t kernel : {3, 5}) {
    ConvDims d;
    d.in_c = d.out_c = d.groups = 40;
    d.kernel_h = d.kernel_w = kernel;
    d.in_h = d.in_w = d.out_h = d.out_w = 7;
    d.pad_top = d.pad_left = kernel / 2;
    const std::int64_t taps = kernel * kernel, outputs = d.out_h * d.out_w * d.out_c;
    const std::vector<std::uint8_t> x(static_cast<std::size_t>(d.in_h * d.in_w * d.in_c), 255);
    for (const int weight : {-128, -120, 120, 127}) {
      const std::vector<std::int8_t> weights(static_cast<std::size_t>(d.in_c * taps), static_cast<std::int8_t>(weight));
      const std::vector<float> bias(static_cast<std::size_t>(d.in_c), weight < 0 ? 900000.0f : 0.0f);
      const std::vector<float> multiplier(bias.size(), 0.0002f);
      Buffer packed(packed_bytes_depthwise_maddubs(d)), out(outputs);
      pack_depthwise_maddubs(d, weights.data(),
                             {packed.data(), static_cast<std::size_t>(packed_bytes_depthwise_maddubs(d))});
      DepthwiseS8Args args = {.x = x.data(), .weights = packed.data()};
      args.epilogue = {.bias = bias.data(), .multiplier = multiplier.data(), .out = out.data()};
      const EpilogueS8 e = {.bounds = full_bounds(DType::u8, 0)};
      DepthwiseMaddubsPlan plan = plan_depthwise_maddubs(d, DType::u8, e);
      Buffer scratch(plan.scratch_bytes);
      run_depthwise_maddubs(plan, args, 0, plan.units, scratch.data());
      std::uint8_t expected = 0;
      args.epilogue.out = &expected;
      store_epilogue_scalar(e, args.epilogue, 0, static_cast<std::int32_t>(255 * weight * taps), 0);
      CHECK(out.as<std::uint8_t>()[(3 * d.out_w + 3) * d.out_c] == expected);
    }
  }
}

TEST_CASE("f32 depthwise convolution equals the definition") {
  if (!has_avx2()) return;
  Random random(22);
  for (int i = 0; i < 400; ++i) check_f32(random_depthwise(random), random);
}

TEST_CASE("f32 depthwise convolution: every width of an output row") {
  if (!has_avx2()) return;
  Random random(23);
  for (std::int64_t width = 1; width <= 18; ++width) {
    for (std::int64_t kernel : {3, 5}) {
      for (std::int64_t stride : {1, 2}) {
        ConvDims d;
        d.in_c = d.out_c = d.groups = random.between(1, 40);
        d.kernel_h = d.kernel_w = kernel;
        d.stride_h = d.stride_w = stride;
        d.pad_top = d.pad_left = kernel / 2;
        d.in_h = 3;
        d.in_w = (width - 1) * stride + 1;
        d.out_h = conv_output_size({d.in_h, kernel, stride, 1, kernel / 2, kernel / 2});
        d.out_w = conv_output_size({d.in_w, kernel, stride, 1, kernel / 2, kernel / 2});
        REQUIRE(d.out_w == width);
        check_f32(d, random);
      }
    }
  }
}

}  // namespace aoq::cpu::test
