// int8 convolution and linear: every class of vectors against the scalar definition, bit for bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "backends/cpu/kernels/conv_maddubs.h"
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/conv_vnni256.h"
#include "backends/cpu/kernels/conv_winograd.h"
#include "tests/backends/cpu/kernels_test_support.h"

namespace aoq::cpu::test {
namespace {

struct Case {
  ConvDims dims;
  DType x_type = DType::u8;
  std::int32_t x_zero_point = 0;
  EpilogueS8 epilogue;
  bool extreme = false;
  float gain = 1.0f;  // of the multipliers
  struct Uniform {
    std::int8_t weight;
    std::uint8_t code;
  };
  std::optional<Uniform> uniform;  // all weights and all codes alike
};

EpilogueS8 random_epilogue(Random& random) {
  EpilogueS8 e;
  const DType types[] = {DType::u8, DType::i8, DType::f32};
  e.out_type = types[random.between(0, 2)];
  bool is_signed = e.out_type == DType::i8;
  std::int32_t qmin = is_signed ? -128 : 0;
  const std::int32_t zero_points[] = {qmin, qmin + 255, qmin + static_cast<std::int32_t>(random.between(0, 255))};
  e.bounds = full_bounds(e.out_type == DType::f32 ? DType::u8 : e.out_type,
                         e.out_type == DType::f32 ? 0 : zero_points[random.between(0, 2)]);
  if (random.chance(40) && e.out_type != DType::f32) e.bounds = narrowed_bounds(e.bounds, 0.0f, 1.5f, 0.02f);
  e.has_residual = random.chance(40);
  e.residual_type = e.out_type == DType::f32 ? DType::f32 : random.chance(50) ? DType::u8 : DType::i8;
  e.residual_zero_point = static_cast<std::int32_t>(random.between(-3, 100));
  e.residual_multiplier = random.real(0.1f, 2.0f);
  if (e.out_type == DType::u8 && random.chance(50)) {  // as after a relu: kernels then have a shorter end
    e.bounds = full_bounds(DType::u8, 0);
    if (random.chance(50)) {  // and a residual as after one
      e.residual_type = DType::u8;
      e.residual_zero_point = 0;
    }
  }
  if (random.chance(30)) {
    e.activation.kind = static_cast<Activation>(random.between(1, 8));
    e.activation.a = e.activation.kind == Activation::hardsigmoid ? 0.2f : 0.0f;
    e.activation.b = e.activation.kind == Activation::hardsigmoid ? 0.5f : 6.0f;
    e.inv_out = 40.0f;
  }
  return e;
}

template <typename Plan>
std::vector<std::uint8_t> run_in_pieces(const Plan& plan, const ConvS8Args& base, std::int64_t pieces,
                                        void (*run)(const Plan&, const ConvS8Args&, std::int64_t, std::int64_t,
                                                    std::byte*)) {
  const ConvDims& d = plan.dims;
  std::int64_t element = plan.epilogue.out_type == DType::f32 ? 4 : 1;
  Buffer out(d.batch * d.out_h * d.out_w * d.out_c * element);
  Buffer scratch(plan.scratch_bytes);
  ConvS8Args args = base;
  args.epilogue.out = out.data();
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    run(plan, args, plan.units * piece / pieces, plan.units * (piece + 1) / pieces, scratch.data());
  }
  CHECK(out.guards_are_intact());
  CHECK(scratch.guards_are_intact());
  return out.copy();
}

void check_vnni(const Case& c, const std::int8_t* weights, ConvS8Args args, const std::vector<std::uint8_t>& expected) {
  if (best_isa() < Isa::avx_vnni) return;
  Buffer packed(packed_bytes_conv_vnni(c.dims));
  pack_conv_vnni(c.dims, weights, {packed.data(), static_cast<std::size_t>(packed_bytes_conv_vnni(c.dims))});
  CHECK(packed.guards_are_intact());
  args.weights = packed.data();
  ConvPanelsPlan narrow = plan_conv_vnni256(c.dims, c.x_type, c.epilogue);
  CHECK(run_in_pieces(narrow, args, 1, run_conv_vnni256) == expected);
  CHECK(run_in_pieces(narrow, args, 4, run_conv_vnni256) == expected);
  if (best_isa() < Isa::avx512_vnni) return;
  ConvPanelsPlan plan = plan_conv_vnni(c.dims, c.x_type, c.epilogue);
  CHECK(run_in_pieces(plan, args, 1, run_conv_vnni) == expected);
  CHECK(run_in_pieces(plan, args, 4, run_conv_vnni) == expected);
}

void check_maddubs(const Case& c, const std::vector<std::uint8_t>& weights, ConvS8Args args,
                   const std::vector<std::uint8_t>& expected) {
  Buffer packed(packed_bytes_conv_maddubs(c.dims));
  pack_conv_maddubs(c.dims, reinterpret_cast<const std::int8_t*>(weights.data()),
                    {packed.data(), static_cast<std::size_t>(packed_bytes_conv_maddubs(c.dims))});
  CHECK(packed.guards_are_intact());
  CHECK(is_well_formed_maddubs(c.dims, packed.data()));
  std::vector<std::uint8_t> back(weights.size());
  unpack_conv_maddubs(c.dims, packed.data(), reinterpret_cast<std::int8_t*>(back.data()));
  CHECK(back == weights);
  args.weights = packed.data();
  ConvPanelsPlan plan = plan_conv_maddubs(c.dims, c.x_type, c.epilogue);
  CHECK(run_in_pieces(plan, args, 1, run_conv_maddubs) == expected);
  CHECK(run_in_pieces(plan, args, 4, run_conv_maddubs) == expected);
}

void check_winograd(const Case& c, const std::int8_t* weights, ConvS8Args args,
                    const std::vector<std::uint8_t>& expected) {
  if (!takes_winograd(c.dims)) return;
  Buffer packed(packed_bytes_conv_vnni(c.dims));
  pack_conv_vnni(c.dims, weights, {packed.data(), static_cast<std::size_t>(packed_bytes_conv_vnni(c.dims))});
  args.weights = packed.data();
  for (const Isa isa : {Isa::avx2, Isa::avx512_vnni}) {
    if (best_isa() < isa) continue;
    const ConvWinogradPlan plan = plan_conv_winograd(c.dims, c.x_type, c.epilogue, {isa, 1});
    const ConvWinogradPlan shared = plan_conv_winograd(c.dims, c.x_type, c.epilogue, {isa, 9});
    CHECK(run_in_pieces(plan, args, 1, run_conv_winograd) == expected);
    CHECK(run_in_pieces(shared, args, 3, run_conv_winograd) == expected);
  }
}

void check_case(const Case& c, Random& random) {
  const ConvDims& d = c.dims;
  std::int64_t weight_count = d.out_c * (d.in_c / d.groups) * d.kernel_h * d.kernel_w;
  std::vector<std::uint8_t> weights = random.bytes(weight_count, c.extreme, 0x80, 0x7f);
  if (random.chance(10)) std::fill(weights.begin(), weights.end(), std::uint8_t{1});
  // Mild weights, of which some words of four cannot saturate, and some can.
  const int divisor = c.extreme ? 1 : static_cast<int>(random.between(1, 3));
  for (std::uint8_t& w : weights) w = static_cast<std::uint8_t>(static_cast<std::int8_t>(w) / divisor);
  bool is_signed = c.x_type == DType::i8;
  std::vector<std::uint8_t> x =
      random.bytes(d.batch * d.in_h * d.in_w * d.in_c, c.extreme, is_signed ? 0x80 : 0, is_signed ? 0x7f : 255);
  if (c.uniform) {
    std::fill(weights.begin(), weights.end(), static_cast<std::uint8_t>(c.uniform->weight));
    std::fill(x.begin(), x.end(), c.uniform->code);
  }
  std::int64_t channels = padded_channels(d);
  float typical = c.gain / (is_signed ? 3000.0f : 6000.0f);
  std::vector<float> bias(static_cast<std::size_t>(channels)), multiplier(bias.size());
  spread_channels(d, random.reals(d.out_c, -2000.0f, 2000.0f), bias);
  spread_channels(d, random.reals(d.out_c, typical * 0.5f, typical * 2.0f), multiplier);
  std::int64_t outputs = d.batch * d.out_h * d.out_w * d.out_c;
  std::vector<float> residual = random.reals(outputs, -2.0f, 2.0f);
  Buffer packed(packed_bytes_conv_s8(d));
  pack_conv_s8(d, reinterpret_cast<const std::int8_t*>(weights.data()),
               {packed.data(), static_cast<std::size_t>(packed_bytes_conv_s8(d))});
  CHECK(packed.guards_are_intact());
  ConvS8Args args;
  args.x = x.data();
  args.x_zero_point = c.x_zero_point;
  args.weights = packed.data();
  args.epilogue = {.bias = bias.data(), .multiplier = multiplier.data(), .x_scale = 0.7f, .residual = residual.data()};
  ConvS8Plan scalar = plan_conv_s8(d, c.x_type, c.epilogue, Isa::reference);
  std::vector<std::uint8_t> expected = run_in_pieces(scalar, args, 1, run_conv_s8);
  CHECK(run_in_pieces(scalar, args, 3, run_conv_s8) == expected);
  ConvS8Plan vector = plan_conv_s8(d, c.x_type, c.epilogue, Isa::avx2);
  CHECK(run_in_pieces(vector, args, 1, run_conv_s8) == expected);
  CHECK(run_in_pieces(vector, args, 4, run_conv_s8) == expected);
  check_vnni(c, reinterpret_cast<const std::int8_t*>(weights.data()), args, expected);
  check_maddubs(c, weights, args, expected);
  check_winograd(c, reinterpret_cast<const std::int8_t*>(weights.data()), args, expected);
}

std::int32_t random_zero_point(Random& random, DType type) {
  std::int32_t qmin = type == DType::i8 ? -128 : 0;
  const std::int64_t choices[] = {qmin, qmin + 255, random.between(qmin, qmin + 255)};
  return static_cast<std::int32_t>(choices[random.between(0, 2)]);
}

}  // namespace

TEST_CASE("int8 linear: every row count and tail equals the definition") {
  if (!has_avx2()) return;
  Random random(1);
  for (int i = 0; i < 260; ++i) {
    Case c;
    c.dims = dims_of_linear(i % 13 + 1, random.between(1, 130), random.between(1, 70));
    c.x_type = random.chance(50) ? DType::u8 : DType::i8;
    c.x_zero_point = random_zero_point(random, c.x_type);
    c.epilogue = random_epilogue(random);
    c.extreme = random.chance(30);
    check_case(c, random);
  }
}

TEST_CASE("int8 linear: values beyond int32 are clamped on their side") {
  if (!has_avx2()) return;
  Random random(9);
  for (int i = 0; i < 40; ++i) {
    Case c;
    c.dims = dims_of_linear(i % 10 + 1, 48, random.between(1, 70));
    c.x_zero_point = random_zero_point(random, c.x_type);
    c.epilogue = random_epilogue(random);
    c.extreme = true;
    c.gain = 1e8f;
    check_case(c, random);
  }
}

TEST_CASE("[class 18] int8 linear: the largest exact K at full range") {
  if (!has_avx2()) return;
  Random random(2);
  Case c;
  c.dims = dims_of_linear(2, 65792, 17);
  c.x_zero_point = 0;
  c.epilogue.out_type = DType::f32;
  c.extreme = true;
  check_case(c, random);
}

TEST_CASE("int8 linear: many units") {
  if (!has_avx2()) return;
  Random random(3);
  Case c;
  c.dims = dims_of_linear(301, 257, 200);
  c.x_type = DType::i8;
  c.x_zero_point = -128;
  check_case(c, random);
  c.dims = dims_of_linear(1, 800, 1000);
  check_case(c, random);
}

TEST_CASE("int8 linear: tall blocks, pitches that alias, weights larger than the input") {
  if (!has_avx2()) return;
  Random random(5);
  for (ConvDims dims : {dims_of_linear(37, 2048, 40), dims_of_linear(29, 4096, 24), dims_of_linear(15, 64, 544),
                        dims_of_linear(700, 36, 33)}) {
    for (DType type : {DType::u8, DType::i8}) {
      Case c;
      c.dims = dims;
      c.x_type = type;
      c.x_zero_point = random_zero_point(random, type);
      c.epilogue = random_epilogue(random);
      check_case(c, random);
    }
  }
}

TEST_CASE("int8 convolution: kernels, strides, dilation, padding, groups") {
  if (!has_avx2()) return;
  Random random(4);
  for (int i = 0; i < 400; ++i) {
    Case c;
    c.dims = random_conv(random);
    c.x_type = random.chance(50) ? DType::u8 : DType::i8;
    c.x_zero_point = random_zero_point(random, c.x_type);
    c.epilogue = random_epilogue(random);
    c.extreme = random.chance(30);
    check_case(c, random);
  }
}

// Such pixels are one vector each, and those of later rows may be gathered between the products of earlier ones.
TEST_CASE("int8 convolution 3x3 of few channels: wide rows, borders, several images") {
  if (!has_avx2()) return;
  Random random(29);
  for (int i = 0; i < 60; ++i) {
    Case c;
    ConvDims& d = c.dims;
    d.batch = random.between(1, 2);
    d.in_h = random.between(3, 12);
    d.in_w = random.between(12, 60);
    d.in_c = random.between(1, 3);
    d.out_c = random.between(20, 36);
    d.kernel_h = d.kernel_w = 3;
    d.stride_h = d.stride_w = random.between(1, 2);
    d.pad_top = random.between(0, 2);
    d.pad_left = random.between(0, 2);
    d.out_h = conv_output_size({d.in_h, 3, d.stride_h, 1, d.pad_top, random.between(0, 2)});
    d.out_w = conv_output_size({d.in_w, 3, d.stride_w, 1, d.pad_left, random.between(0, 2)});
    c.x_type = random.chance(50) ? DType::u8 : DType::i8;
    c.x_zero_point = random_zero_point(random, c.x_type);
    if (random.chance(30)) c.epilogue = random_epilogue(random);
    check_case(c, random);
  }
}

TEST_CASE("int8 convolution 1x1 in groups") {
  if (!has_avx2()) return;
  Random random(8);
  for (int i = 0; i < 12; ++i) {
    Case c;
    c.dims.groups = random.between(2, 3);
    c.dims.in_c = 4 * random.between(1, 6) * c.dims.groups;
    c.dims.out_c = random.between(1, 20) * c.dims.groups;
    if (i == 0) c.dims = {.in_c = 32, .out_c = 16, .groups = 2};  // rows of 16 bytes, half of them a group's
    c.dims.in_w = c.dims.out_w = 11;
    c.x_zero_point = random_zero_point(random, c.x_type);
    check_case(c, random);
  }
}

TEST_CASE("int8 convolution: packing pairs and doubles only what cannot saturate") {
  Random random(9);
  std::int64_t doubles = 0, singles = 0, widened = 0;
  for (int i = 0; i < 60; ++i) {
    const ConvDims dims = dims_of_linear(1, random.between(1, 120), random.between(1, 20));
    const std::int64_t most = random.between(8, 127), steps = (dims.in_c + 3) / 4,
                       bytes = packed_bytes_conv_maddubs(dims);
    std::vector<std::int8_t> weights(static_cast<std::size_t>(dims.in_c * dims.out_c));
    for (std::int8_t& w : weights) w = static_cast<std::int8_t>(random.between(-most - 1, most));
    std::vector<std::byte> packed(static_cast<std::size_t>(bytes));
    pack_conv_maddubs(dims, weights.data(), packed);
    const std::byte* panel = packed.data();
    std::uint16_t head[2];
    std::memcpy(head, panel + 64, sizeof head);
    // The largest sum of weights of one sign among those that meet in 16 bits, in the first panel.
    auto most_of = [&](std::int64_t word, std::int64_t words, std::int64_t pair) {
      int largest = 0;
      for (std::int64_t channel = 0; channel < 16; ++channel) {
        int sums[2] = {};
        for (std::int64_t at = 0; at < 2 * words; ++at) {
          const std::int64_t byte = (word + at / 2) * 64 + channel * 4 + 2 * pair + at % 2;
          const auto w = static_cast<std::int8_t>(panel[maddubs_weights_offset(steps) + byte]);
          sums[w < 0 ? 1 : 0] += std::abs(w);
        }
        largest = std::max({largest, sums[0], sums[1]});
      }
      return largest;
    };
    for (std::int64_t pair = 0; pair < 2; ++pair) {
      for (std::int64_t d = 0; d < head[0]; ++d) CHECK(most_of(2 * d, 2, pair) <= 128);
      for (std::int64_t s = 0; s < head[1]; ++s) CHECK(most_of(2 * head[0] + s, 1, pair) <= 128);
    }
    doubles += head[0];
    singles += head[1];
    widened += steps - 2 * head[0] - head[1];
  }
  CHECK(std::min({doubles, singles, widened}) > 20);
}

TEST_CASE("int8 convolution: packed panels that name a word or a code twice are not well formed") {
  const std::int64_t steps = 5;
  const ConvDims dims = dims_of_linear(1, 4 * steps, 1);
  const std::vector<std::int8_t> weights(static_cast<std::size_t>(4 * steps), 127);
  std::vector<std::byte> packed(static_cast<std::size_t>(packed_bytes_conv_maddubs(dims)));
  pack_conv_maddubs(dims, weights.data(), packed);
  CHECK(is_well_formed_maddubs(dims, packed.data()));
  const std::int64_t numbers = 68, places = maddubs_places_offset(steps);
  // The last window orders codes 16 to 19, the last four of those that it reads.
  const std::pair<std::int64_t, int> wrongs[] = {{numbers, 5}, {numbers, 0}, {numbers + 2, 0},  {64, 3},
                                                 {66, 6},      {places, 16}, {places + 16, 11}, {places + 17, 12}};
  for (const auto& [at, value] : wrongs) {
    std::vector<std::byte> changed = packed;
    std::byte& byte = changed[static_cast<std::size_t>(at)];
    byte = byte == std::byte(value) ? std::byte(value + 1) : std::byte(value);
    CHECK_FALSE(is_well_formed_maddubs(dims, changed.data()));
  }
}

TEST_CASE("int8 convolution 3x3: odd sizes, borders, several images") {
  if (!has_avx2()) return;
  Random random(6);
  for (int i = 0; i < 60; ++i) {
    Case c;
    ConvDims& d = c.dims;
    d.kernel_h = d.kernel_w = 3;
    d.batch = random.between(1, 3);
    d.in_c = 16 * random.between(1, 4);
    d.out_c = random.between(1, 50);
    d.in_h = random.between(1, 13);
    d.in_w = random.between(1, 13);
    d.pad_top = random.between(d.in_h < 3 ? 1 : 0, 2);
    d.pad_left = random.between(d.in_w < 3 ? 1 : 0, 2);
    d.out_h = conv_output_size({d.in_h, 3, 1, 1, d.pad_top, random.between(1, 2)});
    d.out_w = conv_output_size({d.in_w, 3, 1, 1, d.pad_left, random.between(1, 2)});
    c.x_type = random.chance(50) ? DType::u8 : DType::i8;
    c.x_zero_point = random_zero_point(random, c.x_type);
    c.epilogue = random_epilogue(random);
    c.extreme = random.chance(40);
    check_case(c, random);
  }
}

TEST_CASE("[class 18] int8 convolution 3x3: the most channels of the transformed sums at full range") {
  if (!has_avx2()) return;
  Random random(7);
  for (int repeat = 0; repeat < 3; ++repeat) {
    Case c;
    ConvDims& d = c.dims;
    d.kernel_h = d.kernel_w = 3;
    d.in_c = 1808;
    d.out_c = 17;
    d.in_h = d.in_w = d.out_h = d.out_w = 3;
    d.pad_top = d.pad_left = 1;
    c.x_type = DType::i8;
    c.x_zero_point = repeat == 0 ? -128 : repeat == 1 ? 127 : 0;
    c.epilogue.out_type = DType::f32;
    c.extreme = true;
    check_case(c, random);
  }
}

// 224 channels are summed at once by Winograd's algorithm, and y * 2^6 of conv_winograd.h is then 128 steps of 2^14
// from the end of int32, 9 * 2^6 * y far beyond it. More are summed in parts.
TEST_CASE("[class 18] int8 convolution 3x3: transformed sums that wrap, as large as they get") {
  if (!has_avx2()) return;
  Random random(10);
  for (const std::int64_t channels : {208, 224, 240, 464}) {
    for (const DType type : {DType::u8, DType::i8}) {
      for (const auto uniform : {Case::Uniform{-128, 0}, {-128, 255}, {-128, 128}, {-128, 127}, {127, 0}, {127, 128}}) {
        Case c;
        ConvDims& d = c.dims;
        d.kernel_h = d.kernel_w = 3;
        d.in_c = channels;
        d.out_c = 17;
        d.in_h = d.in_w = 7;
        d.out_h = d.out_w = 5;
        c.x_type = type;
        c.x_zero_point = type == DType::u8 ? 255 : -128;
        c.epilogue.out_type = DType::f32;
        c.uniform = uniform;
        check_case(c, random);
      }
    }
  }
}

TEST_CASE("int8 convolution 3x3: many tiles in blocks of every size") {
  if (!has_avx2()) return;
  Random random(11);
  for (const std::int64_t channels : {16, 48, 288}) {
    Case c;
    ConvDims& d = c.dims;
    d.kernel_h = d.kernel_w = 3;
    d.batch = 2;
    d.in_c = channels;
    d.out_c = 24;
    d.in_h = d.out_h = 35;
    d.in_w = d.out_w = 46;
    d.pad_top = d.pad_left = 1;
    c.x_type = channels == 48 ? DType::i8 : DType::u8;
    check_case(c, random);
    for (const Isa isa : {Isa::avx2, Isa::avx512_vnni}) {
      const ConvWinogradPlan one = plan_conv_winograd(d, c.x_type, c.epilogue, {isa, 1});
      const ConvWinogradPlan shared = plan_conv_winograd(d, c.x_type, c.epilogue, {isa, 9});
      CHECK(one.tile_blocks > 1);
      CHECK(shared.units >= 9);
      CHECK((one.tile_block > one.sum_tiles) == (channels < 288));
      CHECK((shared.tile_block < one.tile_block) == (channels < 288));
    }
  }
}

TEST_CASE("int8 convolution 3x3: Winograd's algorithm is chosen where it was measured to be faster") {
  auto is_worth = [](Isa isa, std::int64_t size, std::int64_t channels, std::int64_t batch = 1) {
    ConvDims d;
    d.batch = batch;
    d.kernel_h = d.kernel_w = 3;
    d.in_c = d.out_c = channels;
    d.in_h = d.in_w = d.out_h = d.out_w = size;
    d.pad_top = d.pad_left = 1;
    return is_winograd_worth(d, isa);
  };
  for (const std::int64_t channels : {64, 128, 256}) {
    CHECK(is_worth(Isa::avx512_vnni, 56, channels));
    CHECK(is_worth(Isa::avx512_vnni, 14, channels));
    CHECK_FALSE(is_worth(Isa::avx512_vnni, 7, channels));
    CHECK(is_worth(Isa::avx512_vnni, 7, channels, 8));
    CHECK(is_worth(Isa::avx2, 7, channels));
    CHECK_FALSE(is_worth(Isa::avx2, 4, channels));
  }
  CHECK_FALSE(is_worth(Isa::avx512_vnni, 56, 16));
  CHECK_FALSE(is_worth(Isa::avx512_vnni, 56, 72));  // no multiple of 16
  CHECK_FALSE(is_worth(Isa::avx512_vnni, 56, 64, 0));
  CHECK_FALSE(is_worth(Isa::avx512_vnni, 56, 0));
}

TEST_CASE("epilogue arrays are the quotients of ir/epilogue.h") {
  std::vector<float> bias = {0.3f, -7.1f}, scales = {0.013f, 0.0021f};
  std::vector<float> b(2), m(2);
  RequantSource source = {.bias = bias, .weight_scales = scales, .x_scale = 0.05f, .out_scale = 0.11f};
  prepare_epilogue(source, b, m);
  float scale = 0.05f * scales[1];
  CHECK(b[1] == bias[1] / scale);
  CHECK(m[1] == scale / 0.11f);
  source.activation = Activation::hardswish;
  prepare_epilogue(source, b, m);
  CHECK(m[1] == scale);
  source.out_type = DType::f32;
  prepare_epilogue(source, b, m);
  CHECK(b[1] == bias[1]);
  CHECK(m[1] == scales[1]);
}

}  // namespace aoq::cpu::test
