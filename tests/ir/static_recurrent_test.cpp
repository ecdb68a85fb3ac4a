#include <map>

#include "ir/epilogue.h"
#include "ir/math.h"
#include "tests/ir/op_test_support.h"

// The static recurrent ops against the integer ops that they are made of, one step at a time, and the observed ops
// against the float ones.

namespace aoq {
namespace {

constexpr std::int64_t kSteps = 4, kBatch = 2, kInput = 3, kHidden = 5;

struct QValue {
  Tensor codes;
  double scale = 1;
  std::int64_t zero_point = 0;
};

Attributes binary(const QValue& a, const QValue& b, double scale, std::int64_t zero_point) {
  return {{"a_scale", a.scale},           {"a_zero_point", a.zero_point}, {"b_scale", b.scale},
          {"b_zero_point", b.zero_point}, {"out_scale", scale},           {"out_zero_point", zero_point}};
}

// The scales of one direction, by name.
using Scales = std::map<std::string, std::pair<double, std::int64_t>>;

struct Cell {
  Scales scales;
  Tensor w, r, w_scale, r_scale, w_bias, r_bias;

  QValue value(Tensor codes, const std::string& name) const {
    return {std::move(codes), scales.at(name).first, scales.at(name).second};
  }
  QValue linear(const QValue& x, bool of_state, const std::string& name) const {
    const auto [scale, zero_point] = scales.at(name);
    return value(run(Op::qlinear, {x.codes, of_state ? r : w, of_state ? r_scale : w_scale, of_state ? r_bias : w_bias},
                     {{"x_scale", x.scale},
                      {"x_zero_point", x.zero_point},
                      {"out_scale", scale},
                      {"out_zero_point", zero_point}}),
                 name);
  }
  QValue add(const QValue& a, const QValue& b, const std::string& name) const {
    return value(run(Op::qadd, {a.codes, b.codes}, binary(a, b, scales.at(name).first, scales.at(name).second)), name);
  }
  QValue multiply(const QValue& a, const QValue& b, const std::string& name) const {
    return value(run(Op::qmul, {a.codes, b.codes}, binary(a, b, scales.at(name).first, scales.at(name).second)), name);
  }
};

QValue gate(const QValue& x, std::int64_t first, std::int64_t count) {
  using Dims = std::vector<Dim>;
  return {run(Op::slice, {x.codes},
              {{"axes", Ints{1}}, {"starts", Dims{first * kHidden}}, {"ends", Dims{(first + count) * kHidden}}}),
          x.scale, x.zero_point};
}

QValue apply(const QValue& x, float (*f)(float), QValue to) {
  to.codes = x.codes;
  for (std::uint8_t& code : to.codes.mutable_as<std::uint8_t>()) {
    const float v = f(dequantize_value(code, static_cast<float>(x.scale), static_cast<std::int32_t>(x.zero_point)));
    code = static_cast<std::uint8_t>(
        quantize_value(v, 1.0f / static_cast<float>(to.scale), static_cast<std::int32_t>(to.zero_point), 0, 255));
  }
  return to;
}
QValue sigmoid(const QValue& x) {
  return apply(x, math::sigmoid, {{}, 1.0 / 256, 0});
}
QValue tanh(const QValue& x) {
  return apply(x, math::tanh, {{}, 2.0 / 256, 128});
}

struct States {
  QValue h, c;
};

States lstm_step(const Cell& cell, const QValue& x, const States& s) {
  const QValue gates = cell.add(cell.linear(x, false, "igates"), cell.linear(s.h, true, "hgates"), "gates");
  const QValue i = sigmoid(gate(gates, 0, 1)), o = sigmoid(gate(gates, 1, 1)), f = sigmoid(gate(gates, 2, 1)),
               g = tanh(gate(gates, 3, 1));
  const QValue c = cell.add(cell.multiply(f, s.c, "fgate_cx"), cell.multiply(i, g, "igate_cgate"), "cell");
  return {cell.multiply(o, tanh(c), "hidden"), c};
}

States gru_step(const Cell& cell, const QValue& x, const States& s) {
  const QValue igates = cell.linear(x, false, "igates"), hgates = cell.linear(s.h, true, "hgates");
  const QValue gates = cell.add(gate(igates, 0, 2), gate(hgates, 0, 2), "gates");
  const QValue z = sigmoid(gate(gates, 0, 1)), r = sigmoid(gate(gates, 1, 1));
  const QValue reset = cell.multiply(r, gate(hgates, 2, 1), "rgate_hgates");
  const QValue n = tanh(cell.add(gate(igates, 2, 1), reset, "ngates"));
  const QValue rest = apply(z, [](float v) { return 1.0f - v; }, {{}, 1.0 / 256, 0});
  return {cell.add(cell.multiply(rest, n, "inverse_zgate_ngate"), cell.multiply(z, s.h, "zgate_hx"), "hidden"), {}};
}

struct Form {
  Op op, observed, real;
  std::int64_t gates;
  std::vector<std::string> names;
  States (*step)(const Cell&, const QValue&, const States&);
};

const Form kForms[] = {
    {Op::qlstm_static,
     Op::observed_lstm,
     Op::lstm,
     4,
     {"igates", "hgates", "gates", "fgate_cx", "igate_cgate", "cell", "hidden"},
     lstm_step},
    {Op::qgru_static,
     Op::observed_gru,
     Op::gru,
     3,
     {"igates", "hgates", "gates", "rgate_hgates", "ngates", "inverse_zgate_ngate", "zgate_hx", "hidden"},
     gru_step}};

Tensor random_codes(DType dtype, Shape shape, std::uint32_t seed) {
  Tensor t = Tensor::make(dtype, std::move(shape)).value();
  for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>((seed = seed * 1664525u + 1013904223u) >> 24);
  return t;
}

Tensor rows_of(const Tensor& t, std::int64_t first, Shape shape) {
  const std::int64_t n = t.byte_size() / t.element_count();
  std::int64_t count = n;
  for (std::int64_t d : shape) count *= d;
  return Tensor::copy_of(t.dtype(), shape,
                         t.bytes().subspan(static_cast<std::size_t>(first * n), static_cast<std::size_t>(count)))
      .value();
}

struct Instance {
  const Form& form;
  Tensor x, w, r, w_scale, r_scale, bias, h, c;
  Attributes attributes;
  bool has_initial;

  Instance(const Form& f, bool initial) : form(f), has_initial(initial) {
    const std::int64_t rows = f.gates * kHidden;
    x = random_codes(DType::u8, {kSteps, kBatch, kInput}, 1);
    w = random_codes(DType::i8, {2, rows, kInput}, 2);
    r = random_codes(DType::i8, {2, rows, kHidden}, 3);
    w_scale = f32({2, rows}, Floats(static_cast<std::size_t>(2 * rows), 0.007f));
    r_scale = f32({2}, {0.004f, 0.006f});
    bias = wave({2, 2 * rows}, 0.3f, 0.5f);
    h = random_codes(DType::u8, {2, kBatch, kHidden}, 4);
    c = random_codes(DType::u8, {2, kBatch, kHidden}, 5);
    std::vector<double> scales;
    Ints zero_points;
    for (std::size_t i = 0; i < 2 * f.names.size(); ++i) {
      scales.push_back(i % f.names.size() < 3 ? 0.02 + 0.001 * static_cast<double>(i)
                                              : 0.007 + 0.0005 * static_cast<double>(i));
      zero_points.push_back(110 + static_cast<std::int64_t>(i));
    }
    attributes = {{"hidden", kHidden}, {"direction", std::string("bidirectional")},
                  {"x_scale", 0.02},   {"x_zero_point", std::int64_t{100}},
                  {"scales", scales},  {"zero_points", zero_points}};
    if (!initial) return;
    attributes.set("initial_h_scale", 0.008);
    attributes.set("initial_h_zero_point", std::int64_t{120});
    if (f.gates == 4) attributes.set("initial_c_scale", 0.016);
    if (f.gates == 4) attributes.set("initial_c_zero_point", std::int64_t{99});
  }

  std::vector<Tensor> run_all() const {
    Operands operands{x, w, r, w_scale, r_scale, bias, std::nullopt};
    if (has_initial) operands[6] = h;
    if (has_initial && form.gates == 4) operands.push_back(c);
    Result<std::vector<Tensor>> out = run_op(form.op, operands, attributes);
    REQUIRE_MESSAGE(out.ok(), out.status().message());
    return *out;
  }

  Cell cell(std::int64_t d) const {
    Cell cell;
    const std::int64_t rows = form.gates * kHidden;
    for (std::size_t i = 0; i < form.names.size(); ++i) {
      const std::size_t at = static_cast<std::size_t>(d) * form.names.size() + i;
      cell.scales[form.names[i]] = {attributes.get<std::vector<double>>("scales")[at],
                                    attributes.integers("zero_points")[at]};
    }
    cell.w = rows_of(w, d * rows * kInput, {rows, kInput});
    cell.r = rows_of(r, d * rows * kHidden, {rows, kHidden});
    cell.w_scale = rows_of(w_scale, d * rows, {rows});
    cell.r_scale = rows_of(r_scale, d, {1});
    cell.w_bias = rows_of(bias, 2 * d * rows, {rows});
    cell.r_bias = rows_of(bias, (2 * d + 1) * rows, {rows});
    return cell;
  }

  States start(std::int64_t d) const {
    const std::int64_t n = kBatch * kHidden;
    if (!has_initial) {
      const QValue zeros{u8({kBatch, kHidden}, std::vector<std::uint8_t>(n)), 1, 0};
      return {zeros, zeros};
    }
    return {{rows_of(h, d * n, {kBatch, kHidden}), 0.008, 120}, {rows_of(c, d * n, {kBatch, kHidden}), 0.016, 99}};
  }
};

// The codes of a value in the results' scale.
Tensor in_scale_of(const QValue& v, const Cell& forward, const std::string& name) {
  const auto [scale, zero_point] = forward.scales.at(name);
  return apply(v, [](float x) { return x; }, {{}, scale, zero_point}).codes;
}

void check_part(const Tensor& result, std::int64_t first, const Tensor& expected) {
  const Tensor found = rows_of(result, first, {kBatch, kHidden});
  CHECK(integers(found) == integers(expected));
}

TEST_CASE("the static recurrent ops are their integer ops, step by step") {
  for (const Form& form : kForms) {
    for (const bool initial : {false, true}) {
      CAPTURE(std::string(op_name(form.op)));
      CAPTURE(initial);
      const Instance instance(form, initial);
      const std::vector<Tensor> found = instance.run_all();
      const Cell forward = instance.cell(0);
      constexpr std::int64_t kState = kBatch * kHidden;
      for (std::int64_t d = 0; d < 2; ++d) {
        const Cell cell = instance.cell(d);
        States s = instance.start(d);
        for (std::int64_t k = 0; k < kSteps; ++k) {
          const std::int64_t t = d == 1 ? kSteps - 1 - k : k;
          const QValue x{rows_of(instance.x, t * kBatch * kInput, {kBatch, kInput}), 0.02, 100};
          s = form.step(cell, x, s);
          check_part(found[0], (t * 2 + d) * kState, in_scale_of(s.h, forward, "hidden"));
        }
        check_part(found[1], d * kState, in_scale_of(s.h, forward, "hidden"));
        if (form.gates == 4) check_part(found[2], d * kState, in_scale_of(s.c, forward, "cell"));
      }
    }
  }
}

TEST_CASE("the static recurrent ops refuse scales that do not fit") {
  for (const Form& form : kForms) {
    Instance instance(form, false);
    const Operands operands{instance.x, instance.w, instance.r, instance.w_scale, instance.r_scale};
    auto code = [&](const char* name, Attribute value) {
      Attributes a = instance.attributes;
      a.set(name, std::move(value));
      return code_of(form.op, operands, std::move(a));
    };
    CHECK(code_of(form.op, operands, instance.attributes) == Code::ok);
    CHECK(code("scales", std::vector<double>{0.1}) == Code::invalid_model);
    CHECK(code("scales", std::vector<double>(2 * form.names.size(), 1e30)) == Code::invalid_model);
    CHECK(code("zero_points", Ints(2 * form.names.size(), 256)) == Code::invalid_model);
    CHECK(code("x_scale", -1.0) == Code::invalid_model);
    CHECK(code("initial_h_scale", 1.0) == Code::invalid_model);
  }
}

TEST_CASE("the observed ops compute what the float ones do, with their inner values") {
  for (const Form& form : kForms) {
    CAPTURE(std::string(op_name(form.observed)));
    const std::int64_t rows = form.gates * kHidden;
    const Operands operands{wave({kSteps, kBatch, kInput}, 0.4f), wave({2, rows, kInput}, 0.7f),
                            wave({2, rows, kHidden}, 1.1f), wave({2, 2 * rows}, 1.9f)};
    const Attributes a{{"hidden", kHidden}, {"direction", std::string("bidirectional")}};
    Attributes real = a;
    if (form.gates == 3) real.set("linear_before_reset", true);
    const std::vector<Tensor> expected = run_op(form.real, operands, real).value();
    const std::vector<Tensor> found = run_op(form.observed, operands, a).value();
    REQUIRE(found.size() == expected.size() + form.names.size());
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(floats(found[i]) == floats(expected[i]));
    // The last inner value is the state, in the order of each direction's steps.
    const Tensor& h = found.back();
    CHECK(h.shape() == Shape{2, kSteps, kBatch, kHidden});
    for (std::int64_t d = 0; d < 2; ++d) {
      for (std::int64_t k = 0; k < kSteps; ++k) {
        const std::int64_t t = d == 1 ? kSteps - 1 - k : k, n = kBatch * kHidden;
        const Tensor step = rows_of(h, (d * kSteps + k) * n, {n});
        CHECK(floats(step) == floats(rows_of(expected[0], (t * 2 + d) * n, {n})));
      }
    }
  }
}

TEST_CASE("a state with a scale is seen by products as codes") {
  const Tensor x = f32({2, 1, 1}, {0.5f, 0.25f}), w = f32({1, 4, 1}, {1, 1, 1, 1}), r = f32({1, 4, 1}, {1, 1, 1, 1});
  Attributes a{{"hidden", std::int64_t{1}}};
  const Floats plain = floats(run(Op::lstm, {x, w, r}, a));
  a.set("state_scale", 1.0);
  const Floats coarse = floats(run(Op::lstm, {x, w, r}, a));
  CHECK(plain[0] == coarse[0]);  // from the state 0
  CHECK(plain[1] != coarse[1]);  // the state of 0.2 is seen as 0
  a.set("state_zero_point", std::int64_t{300});
  CHECK(code_of(Op::lstm, {x, w, r}, a) == Code::invalid_model);
}

}  // namespace
}  // namespace aoq
