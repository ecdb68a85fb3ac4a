#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

struct Case {
  Shape x, weight;
  Ints stride, dilation, pads;
  std::int64_t groups;
};

// A 2-D convolution written down again, in double.
Floats convolve(const Tensor& x, const Tensor& w, const Case& k, const Shape& out) {
  auto at = [](const Tensor& t, std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
    return static_cast<double>(
        t.as<float>()[static_cast<std::size_t>(((a * t.shape()[1] + b) * t.shape()[2] + c) * t.shape()[3] + d)]);
  };
  Floats y;
  for (std::int64_t n = 0; n < out[0]; ++n) {
    for (std::int64_t o = 0; o < out[1]; ++o) {
      for (std::int64_t i = 0; i < out[2]; ++i) {
        for (std::int64_t j = 0; j < out[3]; ++j) {
          double sum = 0;
          std::int64_t first = o / (out[1] / k.groups) * k.weight[1];
          for (std::int64_t c = 0; c < k.weight[1]; ++c) {
            for (std::int64_t p = 0; p < k.weight[2]; ++p) {
              for (std::int64_t q = 0; q < k.weight[3]; ++q) {
                std::int64_t row = i * k.stride[0] + p * k.dilation[0] - k.pads[0];
                std::int64_t column = j * k.stride[1] + q * k.dilation[1] - k.pads[1];
                if (row < 0 || column < 0 || row >= k.x[2] || column >= k.x[3]) continue;
                sum += at(x, n, first + c, row, column) * at(w, o, c, p, q);
              }
            }
          }
          y.push_back(static_cast<float>(sum));
        }
      }
    }
  }
  return y;
}

Attributes attributes_of(const Case& k) {
  return {{"stride", k.stride}, {"dilation", k.dilation}, {"pads", k.pads}, {"groups", k.groups}};
}

Tensor permuted(const Tensor& x, Ints perm) {
  return run(Op::permute, {x}, {{"perm", std::move(perm)}});
}

TEST_CASE("conv with strides, dilations, pads and groups, in both layouts") {
  const Case cases[] = {
      {{2, 3, 5, 6}, {4, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1},
      {{1, 4, 7, 6}, {6, 2, 3, 2}, {2, 1}, {1, 2}, {0, 2, 1, 1}, 2},
      {{1, 3, 5, 5}, {3, 1, 3, 3}, {1, 2}, {2, 1}, {2, 0, 2, 3}, 3},
      {{1, 2, 1, 1}, {2, 2, 1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1},
  };
  for (const Case& k : cases) {
    Tensor x = wave(k.x, 0.7f);
    Tensor w = wave(k.weight, 1.3f);
    Tensor y = run(Op::conv, {x, w}, attributes_of(k));
    check_near(y, convolve(x, w, k, y.shape()), 1e-5f);
    Attributes last = attributes_of(k);
    last.set("channels_last", true);
    Tensor y_last = run(Op::conv, {permuted(x, {0, 2, 3, 1}), w}, last);
    CHECK(floats(permuted(y_last, {0, 3, 1, 2})) == floats(y));
  }
}

TEST_CASE("conv adds bias and residual and applies the activation") {
  Tensor x = f32({1, 1, 3}, {1, 2, 3});
  Tensor w = f32({2, 1, 2}, {1, 1, -1, 0});
  Tensor bias = f32({2}, {0.5f, 1});
  Tensor residual = f32({1, 2, 2}, {0, -10, 0.25f, 0});
  CHECK(floats(run(Op::conv, {x, w, bias})) == Floats{3.5f, 5.5f, 0, -1});
  CHECK(floats(run(Op::conv, {x, w, bias, residual}, {{"activation", std::string("relu")}})) ==
        Floats{3.5f, 0, 0.25f, 0});
  CHECK(floats(run(Op::conv, {x, w, {}, residual},
                   {{"activation", std::string("clamp")}, {"activation_min", -1.0}, {"activation_max", 2.0}})) ==
        Floats{2, -1, -0.75f, -1});
  CHECK(code_of(Op::conv, {x, w, f32({3}, {1, 2, 3})}) == Code::invalid_model);
  CHECK(code_of(Op::conv, {x, w, bias, f32({1, 2, 1}, {1, 2})}) == Code::invalid_model);
  CHECK(code_of(Op::conv, {x, f32({1, 1, 4}, {1, 1, 1, 1})}) == Code::invalid_model);
  CHECK(code_of(Op::conv, {x, w}, {{"groups", std::int64_t{0}}}) == Code::invalid_model);
  CHECK(code_of(Op::conv, {x, w}, {{"stride", Ints{0}}}) == Code::invalid_model);
  CHECK(code_of(Op::conv, {x, w}, {{"pads", Ints{1}}}) == Code::invalid_model);
  CHECK(code_of(Op::conv, {x, w}, {{"activation", std::string("swish")}}) == Code::invalid_model);
}

TEST_CASE("conv_transpose") {
  Floats weight;
  for (int i = -8; i < 8; ++i) weight.push_back(static_cast<float>(i));
  Tensor x = f32({1, 2, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  Attributes a{
      {"stride", Ints{2, 1}}, {"pads", Ints{1, 0, 0, 1}}, {"output_padding", Ints{1, 0}}, {"dilation", Ints{1, 2}}};
  Floats expected{9,  5,  17, 15, -31, -39, -65, -23, -3, -7, -1,  9,  1, 1, 1, 1,
                  42, 46, 98, 56, 26,  26,  64,  42,  54, 58, 128, 74, 2, 2, 2, 2};
  Tensor w = f32({2, 2, 2, 2}, weight);
  CHECK(floats(run(Op::conv_transpose, {x, w, f32({2}, {1, 2})}, a)) == expected);
  a.set("channels_last", true);
  Tensor last = run(Op::conv_transpose, {permuted(x, {0, 2, 3, 1}), w, f32({2}, {1, 2})}, a);
  CHECK(floats(permuted(last, {0, 3, 1, 2})) == expected);
  Tensor grouped = run(Op::conv_transpose, {x, f32({2, 1, 2, 2}, {-8, -7, -6, -5, 0, 1, 2, 3})},
                       {{"stride", Ints{2, 2}}, {"groups", std::int64_t{2}}});
  CHECK(grouped.shape() == Shape{1, 2, 4, 6});
  CHECK(floats(grouped)[24] == 0);
  CHECK(floats(grouped)[47] == 36);
  CHECK(code_of(Op::conv_transpose, {x, w}, {{"output_padding", Ints{1, 1}}}) == Code::invalid_model);
}

TEST_CASE("max_pool") {
  Tensor x = f32({1, 1, 5}, {1, 5, 2, 4, 3});
  CHECK(floats(run(Op::max_pool, {x}, {{"kernel", Ints{2}}, {"stride", Ints{2}}})) == Floats{5, 4});
  CHECK(floats(run(Op::max_pool, {x}, {{"kernel", Ints{2}}, {"stride", Ints{2}}, {"ceil_mode", true}})) ==
        Floats{5, 4, 3});
  CHECK(floats(run(Op::max_pool, {x}, {{"kernel", Ints{2}}, {"dilation", Ints{3}}, {"pads", Ints{1, 0}}})) ==
        Floats{2, 4, 5});
  // The last window would start in the padding at the end.
  CHECK(run(Op::max_pool, {x}, {{"kernel", Ints{1}}, {"stride", Ints{3}}, {"pads", Ints{0, 2}}, {"ceil_mode", true}})
            .shape() == Shape{1, 1, 2});
  CHECK(integers(run(Op::max_pool, {i8({1, 2, 2}, {-3, -4, 5, 6})}, {{"kernel", Ints{2}}})) == Ints{-3, 6});
  CHECK(integers(run(Op::max_pool, {i8({1, 2, 2}, {-3, -4, 5, 6})}, {{"kernel", Ints{2}}, {"channels_last", true}})) ==
        Ints{5, 6});
  CHECK(std::isnan(floats(run(Op::max_pool, {f32({1, 1, 2}, {NAN, 1})}, {{"kernel", Ints{2}}}))[0]));
  CHECK(code_of(Op::max_pool, {x}, {{"kernel", Ints{6}}}) == Code::invalid_model);
  CHECK(code_of(Op::max_pool, {x}, {{"kernel", Ints{2, 2}}}) == Code::invalid_model);
}

TEST_CASE("avg_pool counts what it is told to") {
  Tensor x = f32({1, 1, 4}, {2, 4, 6, 8});
  Attributes a{{"kernel", Ints{3}}, {"stride", Ints{2}}, {"pads", Ints{1, 0}}, {"ceil_mode", true}};
  CHECK(floats(run(Op::avg_pool, {x}, a)) == Floats{3, 6});
  a.set("count_include_pad", true);
  CHECK(floats(run(Op::avg_pool, {x}, a)) == Floats{2, 6});
  // The window reaches past the padded end: only positions inside it count.
  Attributes over{{"kernel", Ints{3}}, {"stride", Ints{3}}, {"ceil_mode", true}, {"count_include_pad", true}};
  CHECK(floats(run(Op::avg_pool, {x}, over)) == Floats{4, 8});
}

TEST_CASE("matmul and linear") {
  Tensor a = f32({2, 3}, {1, 2, 3, 4, 5, 6});
  Tensor b = f32({3, 2}, {1, 2, 3, 4, 5, 6});
  CHECK(floats(run(Op::matmul, {a, b})) == Floats{22, 28, 49, 64});
  CHECK(run(Op::matmul, {f32({3}, {1, 2, 3}), b}).shape() == Shape{2});
  CHECK(floats(run(Op::matmul, {f32({3}, {1, 2, 3}), f32({3}, {1, 1, 1})})) == Floats{6});
  Tensor batched = run(Op::matmul, {wave({2, 1, 2, 3}, 1.1f), wave({3, 3, 4}, 0.3f)});
  CHECK(batched.shape() == Shape{2, 3, 2, 4});
  // Batch [1, 2]: the second matrix of a with the third of b.
  Floats x = floats(wave({2, 1, 2, 3}, 1.1f));
  Floats z = floats(wave({3, 3, 4}, 0.3f));
  Tensor one = run(Op::matmul, {f32({2, 3}, {x.begin() + 6, x.end()}), f32({3, 4}, {z.begin() + 24, z.end()})});
  Floats all = floats(batched);
  CHECK(floats(one) == Floats(all.begin() + 40, all.end()));
  CHECK(integers(run(Op::matmul, {i32({1, 2}, {3, -4}), i32({2, 1}, {5, 6})})) == Ints{-9});
  CHECK(code_of(Op::matmul, {a, a}) == Code::invalid_model);
  Tensor w = f32({2, 3}, {1, 0, -1, 0.5f, 0.5f, 0.5f});
  CHECK(floats(run(Op::linear, {a, w, f32({2}, {1, -3.5f})}, {{"activation", std::string("relu")}})) ==
        Floats{0, 0, 0, 4});
  CHECK(floats(run(Op::linear, {a, w, {}, f32({2, 2}, {1, 2, 3, 4})})) == Floats{-1, 5, 1, 11.5f});
  CHECK(code_of(Op::linear, {f32({1, 2}, {1, 2}), w}) == Code::invalid_model);
}

TEST_CASE("sums of products are chains of fused multiply-adds") {
  Tensor a = wave({3, 40}, 0.37f);
  Tensor b = wave({5, 40}, 0.91f);
  Tensor y = run(Op::linear, {a, b});
  for (std::size_t i = 0; i < 15; ++i) {
    float sum = 0.0f;
    for (std::size_t k = 0; k < 40; ++k) {
      sum = std::fma(a.as<float>()[i / 5 * 40 + k], b.as<float>()[i % 5 * 40 + k], sum);
    }
    CHECK(y.as<float>()[i] == sum);
  }
}

}  // namespace
}  // namespace aoq
