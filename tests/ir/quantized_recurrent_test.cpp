#include <algorithm>

#include "ir/dynamic_qparams.h"
#include "tests/ir/op_test_support.h"

// The dynamic recurrent ops against their definition written down again: codes one by one, sums in integers, gates in
// double.

namespace aoq {
namespace {

using Doubles = std::vector<double>;
using Matrix = std::vector<Doubles>;

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

constexpr std::int64_t kSteps = 4, kBatch = 3, kInput = 3, kHidden = 5;

struct Model {
  std::int64_t gates = 1;
  bool reduce_range = false;
  bool per_channel = false;
  Tensor w, r, w_scale, r_scale, bias;
};

double at(const Tensor& t, std::int64_t i) {
  return load_as_double(t.dtype(), t.bytes().data(), i);
}

// Rows x through the weights [direction d, rows first and on], with one scale for all rows.
Matrix dynamic_linear(const Model& m, bool is_state, std::int64_t d, std::int64_t first, const Matrix& x) {
  const Tensor& weight = is_state ? m.r : m.w;
  const Tensor& scales = is_state ? m.r_scale : m.w_scale;
  const std::int64_t rows = m.gates * kHidden, depth = weight.shape()[2];
  float lo = 0, hi = 0;
  for (const Doubles& row : x) {
    for (double v : row) {
      lo = std::min(lo, static_cast<float>(v));
      hi = std::max(hi, static_cast<float>(v));
    }
  }
  const auto reduce = m.reduce_range ? ReduceRange::yes : ReduceRange::no;
  const TensorQParams q = choose_quantization_params(lo, hi, {.range = {0, 255}, .reduce = reduce});
  Matrix y;
  for (const Doubles& row : x) {
    y.emplace_back();
    for (std::int64_t i = first; i < rows; ++i) {
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        const double steps = std::nearbyint(row[static_cast<std::size_t>(k)] / q.scale);
        const auto code = std::clamp<std::int64_t>(static_cast<std::int64_t>(steps) + q.zero_point, 0, 255);
        sum += (code - q.zero_point) * static_cast<std::int64_t>(at(weight, (d * rows + i) * depth + k));
      }
      const double scale = at(scales, m.per_channel ? d * rows + i : d);
      y.back().push_back(static_cast<double>(sum) * q.scale * scale +
                         at(m.bias, d * 2 * rows + (is_state ? rows : 0) + i));
    }
  }
  return y;
}

// One step of all active rows: h and c become the next ones. `x` are the rows' parts of x.
using Cell = void (*)(const Model& m, std::int64_t d, const Matrix& x, Matrix& h, Matrix& c);

void lstm_cell(const Model& m, std::int64_t d, const Matrix& x, Matrix& h, Matrix& c) {
  const Matrix r = dynamic_linear(m, true, d, 0, h);
  for (std::size_t b = 0; b < h.size(); ++b) {
    for (std::size_t k = 0; k < kHidden; ++k) {
      auto gate = [&](std::size_t g) { return x[b][g * kHidden + k] + r[b][g * kHidden + k]; };
      c[b][k] = sigmoid(gate(2)) * c[b][k] + sigmoid(gate(0)) * std::tanh(gate(3));
      h[b][k] = sigmoid(gate(1)) * std::tanh(c[b][k]);
    }
  }
}

template <bool kLinearBeforeReset>
void gru_cell(const Model& m, std::int64_t d, const Matrix& x, Matrix& h, Matrix&) {
  const Matrix r = dynamic_linear(m, true, d, 0, h);
  Matrix reset = h;
  auto gate = [&](std::size_t b, std::size_t g, std::size_t k) {
    return sigmoid(x[b][g * kHidden + k] + r[b][g * kHidden + k]);
  };
  for (std::size_t b = 0; b < h.size(); ++b) {
    for (std::size_t k = 0; k < kHidden; ++k) reset[b][k] *= gate(b, 1, k);
  }
  const Matrix candidate = dynamic_linear(m, true, d, 2 * kHidden, reset);
  for (std::size_t b = 0; b < h.size(); ++b) {
    for (std::size_t k = 0; k < kHidden; ++k) {
      const double recurrent = kLinearBeforeReset ? gate(b, 1, k) * r[b][2 * kHidden + k] : candidate[b][k];
      const double z = gate(b, 0, k);
      h[b][k] = (1 - z) * std::tanh(x[b][2 * kHidden + k] + recurrent) + z * h[b][k];
    }
  }
}

void rnn_cell(const Model& m, std::int64_t d, const Matrix& x, Matrix& h, Matrix&) {
  const Matrix r = dynamic_linear(m, true, d, 0, h);
  for (std::size_t b = 0; b < h.size(); ++b) {
    for (std::size_t k = 0; k < kHidden; ++k) h[b][k] = std::tanh(x[b][k] + r[b][k]);
  }
}

const std::vector<std::int32_t> kLengths = {4, 2, 3};

struct Expected {
  Floats y, last;
};

Doubles row_of(const Tensor& t, std::int64_t first, std::int64_t n) {
  Doubles row;
  for (std::int64_t k = 0; k < n; ++k) row.push_back(at(t, first + k));
  return row;
}

Expected expect(const Model& m, const Tensor& x, const Tensor& h0, Cell cell) {
  Expected e{Floats(kSteps * 2 * kBatch * kHidden), {}};
  Matrix rows;  // of all steps of all sequences
  std::vector<std::vector<std::size_t>> row_at(kSteps);
  for (std::int64_t t = 0; t < kSteps; ++t) {
    for (std::int64_t b = 0; b < kBatch; ++b) {
      row_at[static_cast<std::size_t>(t)].push_back(rows.size());
      if (t < kLengths[static_cast<std::size_t>(b)]) rows.push_back(row_of(x, (t * kBatch + b) * kInput, kInput));
    }
  }
  for (std::int64_t d = 0; d < 2; ++d) {
    const Matrix parts = dynamic_linear(m, false, d, 0, rows);
    Matrix h, c(kBatch, Doubles(kHidden));
    for (std::int64_t b = 0; b < kBatch; ++b) h.push_back(row_of(h0, (d * kBatch + b) * kHidden, kHidden));
    for (std::int64_t k = 0; k < kSteps; ++k) {
      const std::int64_t t = d == 0 ? k : kSteps - 1 - k;
      Matrix active_x, active_h, active_c;
      std::vector<std::size_t> active;
      for (std::size_t b = 0; b < kBatch; ++b) {
        if (t >= kLengths[b]) continue;
        active.push_back(b);
        active_x.push_back(parts[row_at[static_cast<std::size_t>(t)][b]]);
        active_h.push_back(h[b]);
        active_c.push_back(c[b]);
      }
      cell(m, d, active_x, active_h, active_c);
      for (std::size_t i = 0; i < active.size(); ++i) {
        h[active[i]] = active_h[i];
        c[active[i]] = active_c[i];
        const auto first = ((t * 2 + d) * kBatch + static_cast<std::int64_t>(active[i])) * kHidden;
        for (std::size_t n = 0; n < kHidden; ++n) {
          e.y[static_cast<std::size_t>(first) + n] = static_cast<float>(active_h[i][n]);
        }
      }
    }
    for (const Doubles& state : h) {
      for (double v : state) e.last.push_back(static_cast<float>(v));
    }
  }
  return e;
}

Tensor codes(Shape shape, float frequency) {
  return run(Op::cast, {wave(std::move(shape), frequency, 127.0f)}, {{"dtype", DType::i8}});
}

Tensor positive(Shape shape, float frequency) {
  Tensor t = wave(std::move(shape), frequency, 0.003f);
  for (float& v : t.mutable_as<float>()) v = std::fabs(v) + 0.001f;
  return t;
}

void check_dynamic(Op op, std::int64_t gates, Cell cell, Attributes attributes) {
  for (bool per_channel : {false, true}) {
    for (bool reduce_range : {false, true}) {
      const std::int64_t rows = gates * kHidden;
      const Shape scales = per_channel ? Shape{2, rows} : Shape{2};
      Model m{gates, reduce_range, per_channel};
      m.w = codes({2, rows, kInput}, 0.9f);
      m.r = codes({2, rows, kHidden}, 1.7f);
      m.w_scale = positive(scales, 0.7f);
      m.r_scale = positive(scales, 1.3f);
      m.bias = wave({2, 2 * rows}, 2.3f, 0.3f);
      const Tensor x = wave({kSteps, kBatch, kInput}, 1.1f), h0 = wave({2, kBatch, kHidden}, 0.4f, 0.5f);
      attributes.set("hidden", kHidden);
      attributes.set("direction", std::string("bidirectional"));
      attributes.set("reduce_range", reduce_range);
      const Operands operands{x, m.w, m.r, m.w_scale, m.r_scale, m.bias, i32({kBatch}, kLengths), h0};
      const std::vector<Tensor> found = run_op(op, operands, attributes).value();
      const Expected e = expect(m, x, h0, cell);
      check_near(found[0], e.y, 1e-5f);
      check_near(found[1], e.last, 1e-5f);
    }
  }
}

TEST_CASE("qlstm quantizes the states of the sequences that have a step") {
  check_dynamic(Op::qlstm, 4, lstm_cell, {});
}
TEST_CASE("qgru quantizes the reset states by themselves unless it is linear before reset") {
  check_dynamic(Op::qgru, 3, gru_cell<false>, {});
  check_dynamic(Op::qgru, 3, gru_cell<true>, {{"linear_before_reset", true}});
}
TEST_CASE("qrnn") {
  check_dynamic(Op::qrnn, 1, rnn_cell, {});
}

TEST_CASE("padding behind a sequence does not change the scale of x") {
  const Tensor w = codes({1, 2, 3}, 0.9f), r = codes({1, 2, 2}, 1.7f), scale = f32({1}, {0.01f});
  Tensor x = wave({2, 1, 3}, 1.1f);
  const Attributes a{{"hidden", std::int64_t{2}}};
  const Operands operands{x, w, r, scale, scale, {}, i32({1}, {1})};
  const Floats before = floats(run(Op::qrnn, operands, a));
  x.mutable_as<float>()[4] = 1000.0f;
  const Operands padded{x, w, r, scale, scale, {}, i32({1}, {1})};
  CHECK(floats(run(Op::qrnn, padded, a)) == before);
}

TEST_CASE("qrnn checks weights, scales and data") {
  const Tensor x = wave({2, 1, 3}, 1.0f), w = codes({1, 2, 3}, 0.9f), r = codes({1, 2, 2}, 1.7f);
  const Tensor scale = f32({1}, {0.01f});
  const Attributes a{{"hidden", std::int64_t{2}}};
  CHECK(code_of(Op::qrnn, {x, w, r, scale, f32({1, 2}, {1, 2})}, a) == Code::ok);
  CHECK(code_of(Op::qrnn, {x, wave({1, 2, 3}, 1), r, scale, scale}, a) == Code::invalid_model);
  CHECK(code_of(Op::qrnn, {x, w, r, scale, f32({2}, {1, 2})}, a) == Code::invalid_model);
  CHECK(code_of(Op::qrnn, {x, w, w, scale, scale}, a) == Code::invalid_model);
  CHECK(code_of(Op::qrnn, {x, w, r, f32({1}, {0}), scale}, a) == Code::invalid_data);
  CHECK(code_of(Op::qrnn, {f32({1, 1, 3}, {0, std::nanf(""), 0}), w, r, scale, scale}, a) == Code::invalid_data);
}

}  // namespace
}  // namespace aoq
