#include <limits>

#include "ir/math.h"
#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("reductions over axes") {
  Tensor x = f32({2, 3, 2}, {1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6});
  Tensor sum = run(Op::reduce_sum, {x}, {{"axes", Ints{-1, 0}}});
  CHECK(sum.shape() == Shape{1, 3, 1});
  CHECK(floats(sum) == Floats{0, 0, 0});
  Tensor mean = run(Op::reduce_mean, {x}, {{"axes", Ints{1}}, {"keepdims", false}});
  CHECK(mean.shape() == Shape{2, 2});
  CHECK(floats(mean) == Floats{3, 4, -3, -4});
  CHECK(floats(run(Op::reduce_max, {x}, {{"axes", Ints{0}}})) == Floats{1, 2, 3, 4, 5, 6});
  CHECK(floats(run(Op::reduce_min, {x})) == Floats{-6});
  CHECK(floats(run(Op::reduce_l1, {x})) == Floats{42});
  CHECK(floats(run(Op::reduce_sum_square, {x})) == Floats{182});
  CHECK(floats(run(Op::reduce_l2, {f32({2}, {3, 4})})) == Floats{5});
  CHECK(floats(run(Op::reduce_prod, {x}, {{"axes", Ints{1}}})) == Floats{15, 48, -15, -48});
  check_near(run(Op::reduce_log_sum_exp, {f32({3}, {1000, 1000, 999})}), {1000.86199f}, 1e-6f);
  CHECK(floats(run(Op::reduce_log_sum_exp, {f32({2}, {-kInfinity, -kInfinity})})) == Floats{-kInfinity});
  CHECK(code_of(Op::reduce_sum, {x}, {{"axes", Ints{3}}}) == Code::invalid_model);
  CHECK(code_of(Op::reduce_sum, {x}, {{"axes", Ints{0, -3}}}) == Code::invalid_model);
}

TEST_CASE("reductions of integers and of nothing") {
  CHECK(integers(run(Op::reduce_sum, {i64({3}, {1, 2, 40})})) == Ints{43});
  CHECK(integers(run(Op::reduce_max, {u8({3}, {1, 200, 40})})) == Ints{200});
  CHECK(integers(run(Op::reduce_min, {boolean({3}, {1, 0, 1})})) == Ints{0});
  CHECK(integers(run(Op::reduce_prod, {i32({2}, {-3, 4})})) == Ints{-12});
  Tensor none = f32({0, 2}, {});
  CHECK(floats(run(Op::reduce_sum, {none}, {{"axes", Ints{0}}})) == Floats{0, 0});
  CHECK(floats(run(Op::reduce_max, {none}, {{"axes", Ints{0}}})) == Floats{-kInfinity, -kInfinity});
  CHECK(floats(run(Op::reduce_prod, {none}, {{"axes", Ints{0}}})) == Floats{1, 1});
  CHECK(integers(run(Op::reduce_max, {i8({0}, {})})) == Ints{-128});
  CHECK(run(Op::reduce_sum, {none}, {{"axes", Ints{1}}}).shape() == Shape{0, 1});
}

TEST_CASE("sums go over 16 lanes") {
  Tensor x = wave({3, 100}, 0.7f, 100.0f);
  Tensor sums = run(Op::reduce_sum, {x}, {{"axes", Ints{1}}});
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(sums.as<float>()[i] == math::reduce_sum(x.as<float>().data() + i * 100, 100));
}

TEST_CASE("argmax, argmin, topk, cumsum") {
  Tensor x = f32({2, 3}, {1, 3, 3, NAN, -2, 5});
  CHECK(integers(run(Op::argmax, {x}, {{"axis", std::int64_t{1}}})) == Ints{1, 0});
  CHECK(integers(run(Op::argmax, {x}, {{"axis", std::int64_t{1}}, {"select_last", true}})) == Ints{2, 0});
  CHECK(run(Op::argmin, {x}, {{"axis", std::int64_t{-1}}, {"keepdims", false}}).shape() == Shape{2});
  CHECK(integers(run(Op::argmin, {i64({3}, {4, 2, 2})})) == Ints{1});
  CHECK(code_of(Op::argmax, {f32({0}, {})}) == Code::invalid_model);
  std::vector<Tensor> top = run_op(Op::topk, {f32({1, 4}, {2, 7, 7, 5})}, {{"k", std::int64_t{3}}}).value();
  CHECK(floats(top[0]) == Floats{7, 7, 5});
  CHECK(integers(top[1]) == Ints{1, 2, 3});
  top = run_op(Op::topk, {i32({4, 1}, {2, 7, -7, 5})},
               {{"k", std::int64_t{2}}, {"axis", std::int64_t{0}}, {"largest", false}})
            .value();
  CHECK(integers(top[0]) == Ints{-7, 2});
  CHECK(integers(top[1]) == Ints{2, 0});
  CHECK(code_of(Op::topk, {f32({2}, {1, 2})}, {{"k", std::int64_t{3}}}) == Code::invalid_model);
  Attributes a{{"axis", std::int64_t{1}}, {"exclusive", true}, {"reverse", true}};
  CHECK(floats(run(Op::cumsum, {f32({2, 3}, {1, 2, 3, 4, 5, 6})}, a)) == Floats{5, 3, 0, 11, 6, 0});
  CHECK(integers(run(Op::cumsum, {i32({2, 2}, {1, 2, 3, 4})}, {{"axis", std::int64_t{0}}})) == Ints{1, 2, 4, 6});
}

TEST_CASE("softmax") {
  Tensor x = f32({2, 2}, {1, 1000, 2, 1000});
  check_near(run(Op::softmax, {x}, {{"axis", std::int64_t{0}}}), {0.268941f, 0.5f, 0.731059f, 0.5f}, 1e-6f);
  check_near(run(Op::softmax, {x}), {0, 1, 0, 1}, 1e-6f);
  check_near(run(Op::log_softmax, {x}, {{"axis", std::int64_t{0}}}), {-1.313262f, -0.693147f, -0.313262f, -0.693147f},
             1e-6f);
  CHECK(code_of(Op::softmax, {x}, {{"axis", std::int64_t{2}}}) == Code::invalid_model);
}

// (x - mean) / sqrt(variance + epsilon), in double.
Floats normalized(const Floats& x, std::size_t length, double epsilon) {
  Floats y;
  for (std::size_t begin = 0; begin < x.size(); begin += length) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < length; ++i) mean += static_cast<double>(x[begin + i]) / static_cast<double>(length);
    for (std::size_t i = 0; i < length; ++i) {
      double d = static_cast<double>(x[begin + i]) - mean;
      variance += d * d / static_cast<double>(length);
    }
    for (std::size_t i = 0; i < length; ++i) {
      y.push_back(static_cast<float>((static_cast<double>(x[begin + i]) - mean) / std::sqrt(variance + epsilon)));
    }
  }
  return y;
}

TEST_CASE("normalisation over rows, groups and instances") {
  Tensor x = wave({2, 4, 6}, 1.7f, 3.0f);
  check_near(run(Op::layer_norm, {x}), normalized(floats(x), 6, 1e-5), 1e-5f);
  check_near(run(Op::layer_norm, {x}, {{"axis", std::int64_t{1}}, {"epsilon", 0.1}}), normalized(floats(x), 24, 0.1),
             1e-5f);
  check_near(run(Op::group_norm, {x}, {{"groups", std::int64_t{2}}}), normalized(floats(x), 12, 1e-5), 1e-5f);
  check_near(run(Op::instance_norm, {x}), normalized(floats(x), 6, 1e-5), 1e-5f);
  Floats scaled = normalized(floats(x), 12, 1e-5);
  Tensor weight = f32({4}, {1, 2, 3, 4});
  Tensor bias = f32({4}, {0, 0, 5, -5});
  for (std::size_t i = 0; i < scaled.size(); ++i) {
    std::size_t channel = i / 6 % 4;
    scaled[i] = scaled[i] * weight.as<float>()[channel] + bias.as<float>()[channel];
  }
  check_near(run(Op::group_norm, {x, weight, bias}, {{"groups", std::int64_t{2}}}), scaled, 1e-5f);
  check_near(run(Op::rms_norm, {f32({2}, {3, 4}), f32({2}, {1, 10})}), {0.848528f, 11.31371f}, 1e-5f);
  CHECK(code_of(Op::group_norm, {x}, {{"groups", std::int64_t{3}}}) == Code::invalid_model);
  CHECK(code_of(Op::layer_norm, {x, weight}) == Code::invalid_model);
  CHECK(code_of(Op::layer_norm, {x}, {{"epsilon", -1.0}}) == Code::invalid_model);
}

TEST_CASE("batch_norm and local_response_norm") {
  Tensor x = f32({1, 2, 2}, {1, 2, 3, 4});
  Operands in{x, f32({2}, {2, 1}), f32({2}, {1, 0}), f32({2}, {1, 3}), f32({2}, {4, 1})};
  CHECK(floats(run(Op::batch_norm, in, {{"epsilon", 0.0}})) == Floats{1, 2, 0, 1});
  CHECK(floats(run(Op::batch_norm, in, {{"epsilon", 0.0}, {"channels_last", true}})) == Floats{1, -1, 3, 1});
  Tensor r = run(Op::local_response_norm, {f32({1, 3, 1}, {1, 2, 3})},
                 {{"size", std::int64_t{2}}, {"alpha", 2.0}, {"beta", 1.0}, {"bias", 0.0}});
  check_near(r, {1.0f / 5, 2.0f / 13, 3.0f / 9}, 1e-6f);
}

}  // namespace
}  // namespace aoq
