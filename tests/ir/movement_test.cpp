#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

Tensor counting(Shape shape) {
  Tensor t = Tensor::make(DType::i64, std::move(shape)).value();
  for (std::int64_t i = 0; i < t.element_count(); ++i) store_integer(DType::i64, t.mutable_bytes().data(), i, i);
  return t;
}

TEST_CASE("permute, reshape, expand, flip, tile") {
  Tensor x = counting({2, 3});
  CHECK(integers(run(Op::permute, {x}, {{"perm", Ints{1, 0}}})) == Ints{0, 3, 1, 4, 2, 5});
  CHECK(run(Op::reshape, {x}, {{"shape", std::vector<Dim>{3, 2}}}).shape() == Shape{3, 2});
  CHECK(integers(run(Op::expand, {counting({2, 1})}, {{"shape", std::vector<Dim>{2, 2, 3}}})) ==
        Ints{0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1});
  CHECK(integers(run(Op::flip, {x}, {{"axes", Ints{-1}}})) == Ints{2, 1, 0, 5, 4, 3});
  CHECK(integers(run(Op::tile, {x}, {{"repeats", Ints{2, 2}}})) ==
        Ints{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  CHECK(code_of(Op::permute, {x}, {{"perm", Ints{1, 1}}}) == Code::invalid_model);
  CHECK(code_of(Op::permute, {x}, {{"perm", Ints{1, 2}}}) == Code::invalid_model);
  CHECK(code_of(Op::reshape, {x}, {{"shape", std::vector<Dim>{4}}}) == Code::invalid_model);
  CHECK(code_of(Op::expand, {x}, {{"shape", std::vector<Dim>{3}}}) == Code::invalid_model);
}

TEST_CASE("movement keeps sub-byte elements") {
  Tensor x = run(Op::cast, {counting({2, 3})}, {{"dtype", DType::u3}});
  CHECK(integers(run(Op::permute, {x}, {{"perm", Ints{1, 0}}})) == Ints{0, 3, 1, 4, 2, 5});
  CHECK(integers(run(Op::concat, {x, x}, {{"axis", std::int64_t{1}}})) == Ints{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  Tensor f4 = run(Op::cast, {f32({3}, {-6, 0.5f, 3})}, {{"dtype", DType::f4_e2m1}});
  CHECK(floats(run(Op::flip, {f4}, {{"axes", Ints{0}}})) == Floats{3, 0.5f, -6});
}

TEST_CASE("concat and slice") {
  Tensor x = counting({2, 4});
  CHECK(integers(run(Op::concat, {counting({1, 2}), counting({2, 2})}, {{"axis", std::int64_t{-2}}})) ==
        Ints{0, 1, 0, 1, 2, 3});
  CHECK(code_of(Op::concat, {counting({1, 2}), counting({1, 3})}, {{"axis", std::int64_t{0}}}) == Code::invalid_model);
  auto slice = [&](Ints axes, std::vector<Dim> starts, std::vector<Dim> ends, Ints steps) {
    return Attributes{{"axes", axes}, {"starts", starts}, {"ends", ends}, {"steps", steps}};
  };
  CHECK(integers(run(Op::slice, {x}, slice({1}, {1}, {4}, {2}))) == Ints{1, 3, 5, 7});
  CHECK(integers(run(Op::slice, {x}, slice({1, 0}, {3, 1}, {-1, 2}, {-2, 1}))) == Ints{7, 5});
  CHECK(run(Op::slice, {x}, slice({0}, {2}, {1}, {})).shape() == Shape{0, 4});
  CHECK(code_of(Op::slice, {x}, slice({0}, {0}, {3}, {})) == Code::invalid_model);
  CHECK(code_of(Op::slice, {x}, slice({0}, {-1}, {1}, {})) == Code::invalid_model);
  CHECK(code_of(Op::slice, {x}, slice({0}, {0}, {1}, {0})) == Code::invalid_model);
  CHECK(code_of(Op::slice, {x}, slice({0, 0}, {0, 0}, {1, 1}, {})) == Code::invalid_model);
}

TEST_CASE("pad") {
  Tensor x = counting({4});
  auto pads = [](Ints amounts, const char* mode) { return Attributes{{"pads", amounts}, {"mode", std::string(mode)}}; };
  CHECK(integers(run(Op::pad, {x}, pads({2, 1}, "constant"))) == Ints{0, 0, 0, 1, 2, 3, 0});
  CHECK(integers(run(Op::pad, {x}, pads({2, 5}, "reflect"))) == Ints{2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2});
  CHECK(integers(run(Op::pad, {x}, pads({2, 1}, "edge"))) == Ints{0, 0, 0, 1, 2, 3, 3});
  CHECK(integers(run(Op::pad, {x}, pads({5, 1}, "wrap"))) == Ints{3, 0, 1, 2, 3, 0, 1, 2, 3, 0});
  CHECK(integers(run(Op::pad, {x}, pads({-1, -2}, "constant"))) == Ints{1});
  CHECK(integers(run(Op::pad, {counting({1, 2})}, {{"pads", Ints{1, 0, 0, 1}}, {"value", 7.0}})) ==
        Ints{7, 7, 7, 0, 1, 7});
  CHECK(code_of(Op::pad, {x}, pads({-3, -2}, "constant")) == Code::invalid_model);
  CHECK(code_of(Op::pad, {counting({0})}, pads({1, 0}, "edge")) == Code::invalid_data);
}

TEST_CASE("gather and scatter") {
  Tensor x = counting({2, 3});
  Tensor picked = run(Op::gather, {x, i64({2, 1}, {-1, 0})}, {{"axis", std::int64_t{1}}});
  CHECK(picked.shape() == Shape{2, 2, 1});
  CHECK(integers(picked) == Ints{2, 0, 5, 3});
  CHECK(integers(run(Op::gather_elements, {x, i32({1, 3}, {1, 0, -1})})) == Ints{3, 1, 5});
  CHECK(integers(run(Op::gather_nd, {x, i64({2, 2}, {0, 1, 1, -1})})) == Ints{1, 5});
  CHECK(integers(run(Op::gather_nd, {x, i64({2, 1}, {2, 0})}, {{"batch_dims", std::int64_t{1}}})) == Ints{2, 3});
  CHECK(integers(run(Op::scatter_elements, {x, i64({1, 2}, {1, 0}), i64({1, 2}, {70, 80})})) ==
        Ints{0, 80, 2, 70, 4, 5});
  CHECK(integers(run(Op::scatter_elements, {i64({2}, {1, 2}), i64({3}, {0, 0, 1}), i64({3}, {5, 6, 7})},
                     {{"reduction", std::string("add")}})) == Ints{12, 9});
  CHECK(integers(run(Op::scatter_nd, {x, i64({1, 1}, {-2}), i64({1, 3}, {7, 8, 9})})) == Ints{7, 8, 9, 3, 4, 5});
  CHECK(code_of(Op::gather, {x, i64({1}, {2})}) == Code::invalid_data);
  CHECK(code_of(Op::gather_elements, {x, i64({1, 1}, {-3})}) == Code::invalid_data);
  CHECK(code_of(Op::gather_elements, {x, i64({1, 4}, {0, 0, 0, 0})}) == Code::invalid_model);
  CHECK(code_of(Op::gather_nd, {x, i64({1, 2}, {0, 3})}) == Code::invalid_data);
  CHECK(code_of(Op::scatter_nd, {x, i64({1, 1}, {2}), i64({1, 3}, {7, 8, 9})}) == Code::invalid_data);
  CHECK(code_of(Op::gather, {x, f32({1}, {0})}) == Code::invalid_model);
}

TEST_CASE("the rest of the movers") {
  Tensor x = counting({1, 8, 1, 2});
  auto block = [](const char* mode) { return Attributes{{"block", std::int64_t{2}}, {"mode", std::string(mode)}}; };
  CHECK(integers(run(Op::depth_to_space, {x}, block("DCR"))) ==
        Ints{0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15});
  CHECK(integers(run(Op::depth_to_space, {x}, block("CRD"))) ==
        Ints{0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15});
  Tensor deep = run(Op::space_to_depth, {run(Op::depth_to_space, {x}, block("DCR"))}, {{"block", std::int64_t{2}}});
  CHECK(integers(deep) == integers(x));
  CHECK(code_of(Op::depth_to_space, {x}, {{"block", std::int64_t{3}}}) == Code::invalid_model);
  CHECK(integers(run(Op::trilu, {counting({3, 3})}, {{"k", std::int64_t{1}}})) == Ints{0, 1, 2, 0, 0, 5, 0, 0, 0});
  CHECK(integers(run(Op::trilu, {counting({2, 3})}, {{"upper", false}})) == Ints{0, 0, 0, 3, 4, 0});
  CHECK(integers(run(Op::iota, {},
                     {{"length", std::vector<Dim>{3}}, {"start", std::int64_t{5}}, {"step", std::int64_t{-2}}})) ==
        Ints{5, 3, 1});
  CHECK(integers(run(Op::dims, {}, {{"values", std::vector<Dim>{3, 0}}})) == Ints{3, 0});
  CHECK(floats(run(Op::one_hot, {i64({3}, {1, -1, 7})}, {{"depth", std::int64_t{2}}, {"off", -1.0}})) ==
        Floats{-1, 1, -1, 1, -1, -1});
  CHECK(floats(run(Op::one_hot, {i64({2}, {1, 0})}, {{"depth", std::int64_t{2}}, {"axis", std::int64_t{0}}})) ==
        Floats{0, 1, 1, 0});
}

Attributes resize(const char* mode, const char* coordinates, std::vector<Dim> sizes) {
  return {{"mode", std::string(mode)}, {"coordinates", std::string(coordinates)}, {"sizes", std::move(sizes)}};
}

TEST_CASE("resize follows ONNX's reference") {
  Floats squares;
  for (int i = 1; i <= 16; ++i) squares.push_back(static_cast<float>(i * i) * 0.1f);
  Tensor x = f32({1, 1, 4, 4}, squares);
  std::vector<Dim> small{1, 1, 3, 5};
  check_near(run(Op::resize, {x}, resize("linear", "half_pixel", small)),
             {0.5f, 0.803333f, 1.25f, 1.81667f, 2.4f, 5.3f, 6.35f, 7.65f, 9.07f, 10.4f, 15.4333f, 17.23f, 19.3833f,
              21.6567f, 23.7333f},
             1e-5f);
  check_near(run(Op::resize, {x}, resize("linear", "asymmetric", small)),
             {0.1f, 0.34f, 0.7f, 1.18f, 1.6f, 4.36667f, 5.46f, 6.67333f, 8.00667f, 9.06667f, 13.9667f, 15.9133f, 17.98f,
              20.1667f, 21.8667f},
             1e-5f);
  check_near(run(Op::resize, {x}, resize("cubic", "half_pixel", small)),
             {0.32287f, 0.570042f, 1.01112f, 1.63879f, 2.19866f, 4.60888f, 5.59408f, 7.0125f, 8.61753f, 9.91543f,
              15.5764f, 17.2996f, 19.6954f, 22.2778f, 24.3137f},
             1e-5f);
  check_near(run(Op::resize, {x}, resize("cubic", "align_corners", small)),
             {0.1f, 0.279297f, 0.6125f, 1.11133f, 1.6f, 4.7f, 5.68086f, 7.0125f, 8.50977f, 9.8f, 16.9f, 18.6824f,
              21.0125f, 23.5082f, 25.6f},
             1e-5f);
  std::vector<Dim> wide{1, 1, 3, 7};
  check_near(run(Op::resize, {x}, resize("nearest", "half_pixel", wide)),
             {0.1f, 0.1f, 0.4f, 0.4f,  0.9f,  1.6f,  1.6f,  2.5f,  2.5f,  3.6f, 3.6f,
              4.9f, 6.4f, 6.4f, 16.9f, 16.9f, 19.6f, 19.6f, 22.5f, 25.6f, 25.6f},
             1e-6f);
  Attributes ceil = resize("nearest", "asymmetric", wide);
  ceil.set("nearest", std::string("ceil"));
  check_near(run(Op::resize, {x}, ceil), {0.1f,  0.4f,  0.9f,  0.9f,  1.6f,  1.6f,  1.6f,  8.1f,  10.0f, 12.1f, 12.1f,
                                          14.4f, 14.4f, 14.4f, 16.9f, 19.6f, 22.5f, 22.5f, 25.6f, 25.6f, 25.6f},
             1e-6f);
  Attributes scaled = resize("linear", "half_pixel", {1, 1, 2, 6});
  scaled.set("scales", std::vector<double>{1, 1, 0.6, 1.7});
  check_near(
      run(Op::resize, {x}, scaled),
      {0.9f, 1.11667f, 1.45f, 1.8951f, 2.37549f, 2.94412f, 8.1f, 8.82647f, 9.94412f, 11.1735f, 12.4382f, 13.7912f},
      1e-5f);
  CHECK(code_of(Op::resize, {x}, resize("linear", "sideways", small)) == Code::invalid_model);
  CHECK(code_of(Op::resize, {x}, resize("linear", "half_pixel", {1, 1, 3})) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
