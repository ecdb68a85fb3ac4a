// f32 elementwise, row, matrix and permute kernels: AVX2 against the scalar definition, bit for bit.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "backends/cpu/kernels/elementwise_f32.h"
#include "backends/cpu/kernels/matmul_f32.h"
#include "backends/cpu/kernels/permute.h"
#include "backends/cpu/kernels/rows_f32.h"
#include "ir/math.h"
#include "tests/backends/cpu/kernels_test_support.h"

namespace aoq::cpu::test {
namespace {

// Runs `kernel(isa, out)` for both classes on guarded memory and compares floats.
template <typename Kernel>
void compare(std::int64_t n, Kernel kernel) {
  Buffer expected(n * 4);
  kernel(Isa::reference, expected.as<float>());
  for (Isa isa : {Isa::avx2, Isa::avx512_vnni}) {
    if (isa > best_isa()) continue;
    Buffer got(n * 4);
    kernel(isa, got.as<float>());
    CHECK(got.guards_are_intact());
    CHECK(same_floats(got.as<float>(), expected.as<float>(), n));
  }
}

// Floats of every exponent and sign, with infinities, NaN, zeros and denormals.
std::vector<float> all_kinds(Random& random, std::int64_t n) {
  std::vector<float> out = random.reals(n, -12.0f, 12.0f);
  for (std::size_t i = 0; i < out.size(); i += 2) {
    out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(random.between(0, 0xffffffff)));
  }
  const float specials[] = {0.0f, -0.0f, std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::denorm_min()};
  for (std::size_t i = 0; i < 5 && i < out.size(); ++i) out[i] = specials[i];
  return out;
}

}  // namespace

TEST_CASE("unary functions equal ir/math on all kinds of floats") {
  if (!has_avx2()) return;
  Random random(41);
  for (int op = 0; op <= static_cast<int>(UnaryOp::add_multiply); ++op) {
    UnaryF32 p = {static_cast<UnaryOp>(op), 0.2f, 0.5f};
    CAPTURE(op);
    for (std::int64_t n : {1, 7, 8, 9, 23, 20000}) {
      std::vector<float> x = all_kinds(random, n);
      compare(n, [&](Isa isa, float* out) { unary_f32(isa, p, x.data(), out, n); });
    }
  }
}

TEST_CASE("binary operations, all broadcasts") {
  if (!has_avx2()) return;
  Random random(42);
  for (int i = 0; i < 300; ++i) {
    BroadcastShape s;
    s.rows = random.between(1, 5);
    s.columns = random.between(1, 40);
    s.a_column = random.between(0, 1);
    s.b_column = random.between(0, 1);
    s.a_row = random.chance(50) ? 0 : s.a_column == 1 ? s.columns : 1;
    s.b_row = random.chance(50) ? 0 : s.b_column == 1 ? s.columns : 1;
    std::vector<float> a = all_kinds(random, s.rows * s.columns), b = all_kinds(random, s.rows * s.columns);
    auto op = static_cast<BinaryOp>(i % 6);
    compare(s.rows * s.columns, [&](Isa isa, float* out) { binary_f32(isa, op, s, a.data(), b.data(), out); });
  }
}

TEST_CASE("softmax, layer norm and reductions equal ir/math") {
  if (!has_avx2()) return;
  Random random(43);
  for (std::int64_t n = 1; n < 70; ++n) {
    std::int64_t rows = random.between(1, 9);
    std::vector<float> x = random.reals(rows * n, -9.0f, 9.0f);
    if (n % 11 == 0) x[0] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> scale = random.reals(n, -2.0f, 2.0f), bias = random.reals(n, -2.0f, 2.0f);
    compare(rows * n, [&](Isa isa, float* out) { softmax_f32(isa, {x.data(), out, rows, n}); });
    math::LayerNormParams params = {n % 2 == 0 ? scale.data() : nullptr, n % 3 == 0 ? bias.data() : nullptr, 1e-5f};
    compare(rows * n, [&](Isa isa, float* out) { layer_norm_f32(isa, params, {x.data(), out, rows, n}); });
    for (ReduceOp op : {ReduceOp::sum, ReduceOp::mean, ReduceOp::max}) {
      compare(rows, [&](Isa isa, float* out) { reduce_last_f32(isa, op, {x.data(), out, rows, n}); });
    }
  }
}

TEST_CASE("reductions over a middle axis equal the reduction of the gathered column") {
  if (!has_avx2()) return;
  Random random(44);
  for (int i = 0; i < 100; ++i) {
    std::int64_t outer = random.between(1, 2), middle = random.between(1, 60), inner = random.between(1, 30);
    std::vector<float> x = random.reals(outer * middle * inner, -3.0f, 3.0f);
    for (ReduceOp op : {ReduceOp::sum, ReduceOp::mean, ReduceOp::max}) {
      compare(outer * inner,
              [&](Isa isa, float* out) { reduce_middle_f32(isa, op, {x.data(), out, outer, middle, inner}); });
    }
    std::vector<float> column, out(static_cast<std::size_t>(outer * inner));
    for (std::int64_t j = 0; j < middle; ++j) column.push_back(x[static_cast<std::size_t>(j * inner)]);
    reduce_middle_f32(Isa::avx2, ReduceOp::sum, {x.data(), out.data(), outer, middle, inner});
    CHECK(out[0] == math::reduce_sum(column.data(), middle));
  }
}

TEST_CASE("matrix product: strides, transposed right side, batches") {
  if (!has_avx2()) return;
  Random random(45);
  for (int i = 0; i < 150; ++i) {
    MatmulDims d;
    d.outer = random.between(1, 2);
    d.inner = random.between(1, 3);
    d.m = random.between(1, random.chance(10) ? 110 : 14);
    d.n = random.between(1, random.chance(30) ? 150 : 40);
    d.k = random.between(1, random.chance(10) ? 1100 : 40);
    bool is_transposed = random.chance(50);
    d.a_row = d.inner * d.k;  // heads interleaved
    d.a_inner = d.k;
    d.a_outer = d.m * d.a_row;
    d.b_k = is_transposed ? 1 : d.n + 2;
    d.b_n = is_transposed ? d.k + 1 : 1;
    d.b_inner = random.chance(30) ? 0 : (d.k + 1) * (d.n + 2);
    d.b_outer = d.inner * (d.k + 1) * (d.n + 2);
    d.out_row = d.inner * d.n;
    d.out_inner = d.n;
    d.out_outer = d.m * d.out_row;
    std::vector<float> a = random.reals(d.outer * d.a_outer, -1.0f, 1.0f);
    std::vector<float> b = random.reals(d.outer * d.b_outer, -1.0f, 1.0f);
    compare(d.outer * d.out_outer, [&](Isa isa, float* out) {
      MatmulF32Plan plan = plan_matmul_f32(d, isa);
      Buffer scratch(plan.scratch_bytes);
      run_matmul_f32(plan, {a.data(), b.data(), out}, 0, plan.units / 2, scratch.data());
      run_matmul_f32(plan, {a.data(), b.data(), out}, plan.units / 2, plan.units, scratch.data());
      CHECK(scratch.guards_are_intact());
    });
  }
}

TEST_CASE("permute of three planes of bytes to pixels") {
  Random random(9);
  for (std::int64_t pixels : {1, 15, 16, 17, 40, 333}) {
    const std::vector<std::uint8_t> x = random.bytes(3 * pixels, false, 0, 255);
    const std::int64_t dims[] = {3, pixels};
    const int order[] = {1, 0};
    const PermutePlan plan = plan_permute(dims, order, 1);
    Buffer out(3 * pixels);
    run_permute(plan, x.data(), out.data(), 0, plan.units / 3);
    run_permute(plan, x.data(), out.data(), plan.units / 3, plan.units);
    CHECK(out.guards_are_intact());
    for (std::int64_t i = 0; i < 3 * pixels; ++i) {
      CHECK(out.as<std::uint8_t>()[i] == x[static_cast<std::size_t>(i % 3 * pixels + i / 3)]);
    }
  }
}

TEST_CASE("permute equals the definition for every order of up to five axes") {
  Random random(46);
  for (int i = 0; i < 400; ++i) {
    std::size_t rank = static_cast<std::size_t>(random.between(1, 5));
    std::vector<std::int64_t> dims(rank);
    std::int64_t size = 1;
    for (std::int64_t& d : dims) size *= d = random.between(1, random.chance(20) ? 40 : 7);
    std::vector<int> order(rank);
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t j = rank; j > 1; --j) {
      std::swap(order[j - 1], order[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(j) - 1))]);
    }
    std::vector<std::uint32_t> x(static_cast<std::size_t>(size)), out(x.size()), expected(x.size());
    std::iota(x.begin(), x.end(), 0u);
    std::vector<std::int64_t> index(rank, 0);  // of the output
    for (std::uint32_t& e : expected) {
      std::vector<std::int64_t> at(rank);
      for (std::size_t j = 0; j < rank; ++j) at[static_cast<std::size_t>(order[j])] = index[j];
      std::int64_t flat = 0;
      for (std::size_t j = 0; j < rank; ++j) flat = flat * dims[j] + at[j];
      e = x[static_cast<std::size_t>(flat)];
      for (std::size_t j = rank; j-- > 0;) {
        if (++index[j] < dims[static_cast<std::size_t>(order[j])]) break;
        index[j] = 0;
      }
    }
    PermutePlan plan = plan_permute(dims, order, 4);
    run_permute(plan, x.data(), out.data(), 0, plan.units / 2);
    run_permute(plan, x.data(), out.data(), plan.units / 2, plan.units);
    CHECK(out == expected);
  }
}

}  // namespace aoq::cpu::test
