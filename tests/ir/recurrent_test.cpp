#include "tests/ir/op_test_support.h"

// The recurrent ops against the equations written down again in double, one sequence and direction at a time.

namespace aoq {
namespace {

using Doubles = std::vector<double>;

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

struct Model {
  std::int64_t input, hidden, gates;
  Tensor w, r, bias;
};

double at(const Tensor& t, std::int64_t i) {
  return static_cast<double>(t.as<float>()[static_cast<std::size_t>(i)]);
}

double dot(const Tensor& m, std::int64_t row, const Doubles& v) {
  double sum = 0;
  auto n = static_cast<std::int64_t>(v.size());
  for (std::int64_t k = 0; k < n; ++k) sum += at(m, row * n + k) * v[static_cast<std::size_t>(k)];
  return sum;
}

// Gate g of unit k in direction d: the parts of x and of the state, with their biases.
double x_part(const Model& m, std::int64_t d, std::int64_t g, std::int64_t k, const Doubles& x) {
  std::int64_t rows = m.gates * m.hidden;
  std::int64_t row = g * m.hidden + k;
  return dot(m.w, d * rows + row, x) + at(m.bias, d * 2 * rows + row);
}
double r_part(const Model& m, std::int64_t d, std::int64_t g, std::int64_t k, const Doubles& h) {
  std::int64_t rows = m.gates * m.hidden;
  std::int64_t row = g * m.hidden + k;
  return dot(m.r, d * rows + row, h) + at(m.bias, d * 2 * rows + rows + row);
}

using Cell = void (*)(const Model& m, std::int64_t d, const Doubles& x, Doubles& h, Doubles& c);

void lstm_cell(const Model& m, std::int64_t d, const Doubles& x, Doubles& h, Doubles& c) {
  Doubles old = h;
  for (std::int64_t k = 0; k < m.hidden; ++k) {
    auto gate = [&](std::int64_t g) { return x_part(m, d, g, k, x) + r_part(m, d, g, k, old); };
    auto u = static_cast<std::size_t>(k);
    c[u] = sigmoid(gate(2)) * c[u] + sigmoid(gate(0)) * std::tanh(gate(3));
    h[u] = sigmoid(gate(1)) * std::tanh(c[u]);
  }
}

template <bool kLinearBeforeReset>
void gru_cell(const Model& m, std::int64_t d, const Doubles& x, Doubles& h, Doubles&) {
  Doubles old = h;
  Doubles reset_state = h;
  auto gate = [&](std::int64_t g, std::int64_t k) { return sigmoid(x_part(m, d, g, k, x) + r_part(m, d, g, k, old)); };
  for (std::int64_t k = 0; k < m.hidden; ++k) reset_state[static_cast<std::size_t>(k)] *= gate(1, k);
  for (std::int64_t k = 0; k < m.hidden; ++k) {
    auto u = static_cast<std::size_t>(k);
    double recurrent = kLinearBeforeReset ? gate(1, k) * r_part(m, d, 2, k, old) : r_part(m, d, 2, k, reset_state);
    double candidate = std::tanh(x_part(m, d, 2, k, x) + recurrent);
    h[u] = (1 - gate(0, k)) * candidate + gate(0, k) * old[u];
  }
}

void rnn_cell(const Model& m, std::int64_t d, const Doubles& x, Doubles& h, Doubles&) {
  Doubles old = h;
  for (std::int64_t k = 0; k < m.hidden; ++k) {
    h[static_cast<std::size_t>(k)] = std::tanh(x_part(m, d, 0, k, x) + r_part(m, d, 0, k, old));
  }
}

constexpr std::int64_t kSteps = 4, kBatch = 2, kInput = 3, kHidden = 5;

// Runs the op bidirectionally on sequences of lengths 4 and 2 and compares y and the last state.
void check_recurrent(Op op, std::int64_t gates, Cell cell, const Attributes& extra) {
  Model m{kInput,
          kHidden,
          gates,
          wave({2, gates * kHidden, kInput}, 0.9f, 0.6f),
          wave({2, gates * kHidden, kHidden}, 1.7f, 0.6f),
          wave({2, 2 * gates * kHidden}, 2.3f, 0.3f)};
  Tensor x = wave({kSteps, kBatch, kInput}, 1.1f);
  Tensor h0 = wave({2, kBatch, kHidden}, 0.4f, 0.5f);
  Attributes a = extra;
  a.set("hidden", kHidden);
  a.set("direction", std::string("bidirectional"));
  Operands operands{x, m.w, m.r, m.bias, i32({kBatch}, {4, 2}), h0};
  std::vector<Tensor> found = run_op(op, operands, a).value();
  Floats y(static_cast<std::size_t>(kSteps * 2 * kBatch * kHidden));
  Floats last;
  for (std::int64_t d = 0; d < 2; ++d) {
    for (std::int64_t b = 0; b < kBatch; ++b) {
      Doubles h, c(kHidden);
      for (std::int64_t k = 0; k < kHidden; ++k) h.push_back(at(h0, (d * kBatch + b) * kHidden + k));
      std::int64_t length = b == 0 ? 4 : 2;
      for (std::int64_t s = 0; s < length; ++s) {
        std::int64_t t = d == 0 ? s : length - 1 - s;
        Doubles row;
        for (std::int64_t k = 0; k < kInput; ++k) row.push_back(at(x, (t * kBatch + b) * kInput + k));
        cell(m, d, row, h, c);
        for (std::int64_t k = 0; k < kHidden; ++k) {
          y[static_cast<std::size_t>(((t * 2 + d) * kBatch + b) * kHidden + k)] =
              static_cast<float>(h[static_cast<std::size_t>(k)]);
        }
      }
      for (double v : h) last.push_back(static_cast<float>(v));
    }
  }
  check_near(found[0], y, 1e-5f);
  check_near(found[1], last, 1e-5f);
}

TEST_CASE("lstm") {
  check_recurrent(Op::lstm, 4, lstm_cell, {});
  check_recurrent(Op::lstm, 4, lstm_cell, {{"clip", 100.0}});
}
TEST_CASE("gru resets before or after the product") {
  check_recurrent(Op::gru, 3, gru_cell<false>, {});
  check_recurrent(Op::gru, 3, gru_cell<true>, {{"linear_before_reset", true}});
}
TEST_CASE("rnn") {
  check_recurrent(Op::rnn, 1, rnn_cell, {});
}

TEST_CASE("lstm with peepholes, coupled gates and other activations") {
  // One unit, one step, weights of 0: gates are bias and peephole.
  Tensor x = f32({1, 1, 1}, {0});
  Tensor w = f32({1, 4, 1}, {0, 0, 0, 0});
  Tensor bias = f32({1, 8}, {0.1f, 0.2f, 0.3f, 0.4f, 0, 0, 0, 0});
  Tensor c0 = f32({1, 1, 1}, {0.5f});
  Tensor peephole = f32({1, 3}, {1, 2, 3});
  Operands in{x, w, w, bias, {}, {}, c0, peephole};
  std::vector<Tensor> r = run_op(Op::lstm, in, {{"hidden", std::int64_t{1}}}).value();
  double c = sigmoid(0.3 + 1.5) * 0.5 + sigmoid(0.1 + 0.5) * std::tanh(0.4);
  CHECK(floats(r[2])[0] == doctest::Approx(c));
  CHECK(floats(r[1])[0] == doctest::Approx(sigmoid(0.2 + 2 * c) * std::tanh(c)));
  Attributes coupled{{"hidden", std::int64_t{1}},
                     {"input_forget", true},
                     {"activations", std::vector<std::string>{"Sigmoid", "Relu", "softsign"}}};
  r = run_op(Op::lstm, in, coupled).value();
  double i = sigmoid(0.1 + 0.5);
  c = (1 - i) * 0.5 + i * 0.4;
  CHECK(floats(r[2])[0] == doctest::Approx(c));
  CHECK(floats(r[1])[0] == doctest::Approx(sigmoid(0.2 + 2 * c) * c / (1 + c)));
}

TEST_CASE("recurrent shapes are checked") {
  Tensor x = wave({2, 1, 3}, 1.0f);
  Tensor w = wave({1, 2, 3}, 1.0f);
  Tensor r = wave({1, 2, 2}, 1.0f);
  Attributes a{{"hidden", std::int64_t{2}}};
  CHECK(code_of(Op::rnn, {x, w, r}, a) == Code::ok);
  CHECK(code_of(Op::rnn, {x, r, r}, a) == Code::invalid_model);
  CHECK(code_of(Op::rnn, {x, w, r, {}, i32({1}, {3})}, a) == Code::invalid_data);
  CHECK(code_of(Op::rnn, {x, w, r}, {{"hidden", std::int64_t{0}}}) == Code::invalid_model);
  CHECK(
      code_of(Op::rnn, {x, w, r}, {{"hidden", std::int64_t{2}}, {"activations", std::vector<std::string>{"swish"}}}) ==
      Code::unsupported);
  CHECK(code_of(Op::rnn, {x, w, r}, {{"hidden", std::int64_t{2}}, {"direction", std::string("up")}}) ==
        Code::invalid_model);
}

}  // namespace
}  // namespace aoq
