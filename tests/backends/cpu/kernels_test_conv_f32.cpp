// f32 convolution and linear: every class against the scalar definition, bit for bit.
#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/conv_s8.h"
#include "tests/backends/cpu/kernels_test_support.h"

namespace aoq::cpu::test {
namespace {

EpilogueF32 random_epilogue(Random& random) {
  EpilogueF32 e;
  e.has_bias = random.chance(60);
  e.has_residual = random.chance(30);
  e.activation.kind = random.chance(50) ? Activation::none : static_cast<Activation>(random.between(1, 8));
  e.activation.b = 6.0f;
  return e;
}

std::vector<float> run_in_pieces(const ConvF32Plan& plan, const ConvF32Args& base, std::int64_t pieces) {
  std::int64_t outputs = plan.rows * plan.dims.out_c;
  Buffer out(outputs * 4);
  Buffer scratch(plan.scratch_bytes);
  ConvF32Args args = base;
  args.out = out.as<float>();
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    run_conv_f32(plan, args, plan.units * piece / pieces, plan.units * (piece + 1) / pieces, scratch.data());
  }
  CHECK(out.guards_are_intact());
  CHECK(scratch.guards_are_intact());
  return {out.as<float>(), out.as<float>() + outputs};
}

void check_dims(const ConvDims& d, Random& random, bool with_specials) {
  EpilogueF32 epilogue = random_epilogue(random);
  std::vector<float> weights = random.reals(d.out_c * (d.in_c / d.groups) * d.kernel_h * d.kernel_w, -1.0f, 1.0f);
  std::vector<float> x = random.reals(d.batch * d.in_h * d.in_w * d.in_c, -3.0f, 3.0f);
  if (with_specials) {
    x[x.size() / 2] = std::numeric_limits<float>::infinity();
    weights[0] = std::numeric_limits<float>::infinity();
  }
  std::vector<float> bias(static_cast<std::size_t>(padded_channels(d)));
  spread_channels(d, random.reals(d.out_c, -2.0f, 2.0f), bias);
  std::vector<float> residual = random.reals(d.batch * d.out_h * d.out_w * d.out_c, -2.0f, 2.0f);
  Buffer packed(packed_bytes_conv_f32(d));
  pack_conv_f32(d, weights.data(), {packed.data(), static_cast<std::size_t>(packed_bytes_conv_f32(d))});
  CHECK(packed.guards_are_intact());
  ConvF32Args args;
  args.x = x.data();
  args.weights = packed.data();
  args.bias = epilogue.has_bias ? bias.data() : nullptr;
  args.residual = epilogue.has_residual ? residual.data() : nullptr;
  ConvF32Plan scalar = plan_conv_f32(d, epilogue, Isa::reference);
  std::vector<float> expected = run_in_pieces(scalar, args, 1);
  for (Isa isa : {Isa::avx2, Isa::avx512_vnni}) {
    if (isa > best_isa()) continue;
    ConvF32Plan vector = plan_conv_f32(d, epilogue, isa);
    for (std::int64_t pieces : {1, 4}) {
      std::vector<float> got = run_in_pieces(vector, args, pieces);
      CHECK(same_floats(got.data(), expected.data(), static_cast<std::int64_t>(got.size())));
    }
  }
}

}  // namespace

TEST_CASE("f32 linear: every row count and tail equals the definition") {
  if (!has_avx2()) return;
  Random random(11);
  for (int i = 0; i < 200; ++i) {
    check_dims(dims_of_linear(i % 13 + 1, random.between(1, 90), random.between(1, 70)), random, i % 10 == 0);
  }
}

TEST_CASE("f32 linear: every number of panels and of rows of a tile") {
  if (!has_avx2()) return;
  Random random(15);
  for (std::int64_t columns = 1; columns <= 144; columns += 3) {
    for (std::int64_t rows : {1, 5, 6, 7, 11, 13, 27}) check_dims(dims_of_linear(rows, 19, columns), random, false);
  }
}

TEST_CASE("f32 linear: weights that pass once per block of rows") {
  if (!has_avx2()) return;
  Random random(16);
  check_dims(dims_of_linear(205, 800, 88), random, false);
  check_dims(dims_of_linear(49, 1100, 200), random, false);
  check_dims(dims_of_linear(2, 2304, 330), random, false);
}

TEST_CASE("f32 linear: blocks of K continue the same sum") {
  if (!has_avx2()) return;
  Random random(12);
  check_dims(dims_of_linear(7, 1537, 40), random, false);
  check_dims(dims_of_linear(103, 700, 33), random, false);
  check_dims(dims_of_linear(1, 1024, 1000), random, false);
}

TEST_CASE("f32 convolution: kernels, strides, dilation, padding, groups") {
  if (!has_avx2()) return;
  Random random(13);
  for (int i = 0; i < 400; ++i) check_dims(random_conv(random), random, i % 20 == 0);
}

TEST_CASE("f32 convolution: many channels") {
  if (!has_avx2()) return;
  Random random(14);
  ConvDims d;
  d.in_h = d.in_w = d.out_h = d.out_w = 5;
  d.in_c = 300;
  d.out_c = 40;
  d.kernel_h = d.kernel_w = 3;
  d.pad_top = d.pad_left = 1;
  check_dims(d, random, false);
  d.in_c = 600;
  check_dims(d, random, false);
}

}  // namespace aoq::cpu::test
