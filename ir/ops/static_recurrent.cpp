#include "ir/ops/static_recurrent.h"

#include <algorithm>

#include "ir/epilogue.h"
#include "ir/math.h"
#include "ir/ops/lowered.h"

namespace aoq::ops {

namespace {

Status check_weight(const InferContext& c, std::size_t weight, std::size_t scale, std::string_view name) {
  const Type& codes = c.input(weight);
  const Type& scales = c.input(scale);
  AOQ_TRY(require(codes.dtype == DType::i8, codes, "an i8 weight"));
  AOQ_TRY(require_rank(codes, 3, 3));
  AOQ_TRY(require(scales.dtype == DType::f32, scales, "f32 scales"));
  std::vector<Dim> shape{codes.shape[0]};
  if (scales.rank() == 2) shape.push_back(codes.shape[1]);
  return require_shape(name, scales, shape);
}

Status check_initial(const InferContext& c, std::size_t input, const std::string& name) {
  AOQ_TRY(read_code_qparams(c.attributes, name).status());
  if (c.has(input)) AOQ_TRY(require(c.input(input).dtype == DType::u8, c.input(input), "u8"));
  if (c.has(input) == c.attributes.has(name + "_scale")) return {};
  return error(Code::invalid_model, "{} and {}_scale go together, found one of them", name, name);
}

Status check_inner(const Attributes& a, const StaticForm& form, std::int64_t directions) {
  const auto& scales = a.get<std::vector<double>>("scales");
  const std::vector<std::int64_t>& zero_points = a.integers("zero_points");
  const std::size_t expected = form.values.size() * static_cast<std::size_t>(directions);
  if (scales.size() != expected || zero_points.size() != expected) {
    return error(Code::invalid_model, "has {} scales and {} zero points, expected {}", scales.size(),
                 zero_points.size(), expected);
  }
  for (std::size_t i = 0; i < expected; ++i) {
    AOQ_TRY(check_code_qparams(form.values[i % form.values.size()].name, scales[i], zero_points[i]));
  }
  return {};
}

}  // namespace

InferResult infer_static_recurrent(const InferContext& c, const StaticForm& form) {
  AOQ_TRY(require(c.input(kSX).dtype == DType::u8, c.input(kSX), "u8"));
  AOQ_TRY(check_weight(c, kSW, kSWScale, "w_scale"));
  AOQ_TRY(check_weight(c, kSR, kSRScale, "r_scale"));
  AOQ_TRY(check_code_qparams("x", c.attributes.real("x_scale"), c.attributes.integer("x_zero_point")));
  AOQ_TRY(check_initial(c, kSInitialH, "initial_h"));
  if (form.form.has_cell_state) AOQ_TRY(check_initial(c, kSInitialC, "initial_c"));
  // Shapes are the float op's.
  auto real = [&](std::size_t i) {
    return Type{DType::f32, c.has(i) ? c.input(i).shape : std::vector<Dim>{}, std::nullopt};
  };
  const Type x = real(kSX), w = real(kSW), r = real(kSR), h = real(kSInitialH), cell = real(kSInitialC);
  const std::vector<const Type*> inputs{&x,
                                        &w,
                                        &r,
                                        c.has(kSBias) ? &c.input(kSBias) : nullptr,
                                        nullptr,
                                        c.has(kSInitialH) ? &h : nullptr,
                                        c.has(kSInitialC) ? &cell : nullptr};
  AOQ_ASSIGN(std::vector<Type> types, infer_recurrent({c.op, inputs, c.attributes}, form.form));
  AOQ_TRY(check_inner(c.attributes, form, types[0].shape[1].constant()));
  for (Type& type : types) type.dtype = DType::u8;
  return types;
}

StaticQParams read_static_qparams(const Attributes& attributes, const StaticForm& form) {
  StaticQParams q;
  auto read = [&](const std::string& name) {
    Result<std::optional<CodeQParams>> found = read_code_qparams(attributes, name);
    AOQ_CHECK(found.ok());
    return found->value_or(CodeQParams{});
  };
  q.x = read("x");
  q.initial_h = read("initial_h");
  q.initial_c = read("initial_c");
  const auto& scales = attributes.get<std::vector<double>>("scales");
  const std::vector<std::int64_t>& zero_points = attributes.integers("zero_points");
  const std::size_t count = form.values.size();
  for (std::size_t i = 0; i < scales.size(); ++i) {
    if (i % count == 0) q.inner.emplace_back();
    q.inner.back().push_back({static_cast<float>(scales[i]), static_cast<std::int32_t>(zero_points[i])});
  }
  return q;
}

namespace {

std::uint8_t code_of(float v, const CodeQParams& q) {
  return static_cast<std::uint8_t>(quantize_value(v, 1.0f / q.scale, q.zero_point, 0, 255));
}

CodeTable table(const CodeQParams& x, const CodeQParams& y, float (*f)(float)) {
  CodeTable out;
  for (std::int32_t code = 0; code < 256; ++code) {
    out[static_cast<std::size_t>(code)] = code_of(f(dequantize_value(code, x.scale, x.zero_point)), y);
  }
  return out;
}

}  // namespace

CodeTable sigmoid_table(const CodeQParams& x) {
  return table(x, kSigmoidQParams, math::sigmoid);
}

CodeTable tanh_table(const CodeQParams& x) {
  return table(x, kTanhQParams, math::tanh);
}

CodeTable complement_table() {
  CodeTable out;
  for (std::size_t code = 0; code < out.size(); ++code) {
    out[code] = static_cast<std::uint8_t>(std::min<std::size_t>(256 - code, 255));
  }
  return out;
}

CodeTable requantize_table(const CodeQParams& from, const CodeQParams& to) {
  return table(from, to, [](float v) { return v; });
}

namespace {

struct Codes8 {
  std::vector<std::uint8_t> codes;
  CodeQParams q;
};

RequantBounds bounds_of(const CodeQParams& q) {
  return {static_cast<float>(-q.zero_point), static_cast<float>(255 - q.zero_point), q.zero_point};
}

// Columns [first, first + columns) of rows of `width` codes, for each of `rows` rows.
Codes8 columns_of(const Codes8& x, std::int64_t width, std::int64_t first, std::int64_t columns) {
  Codes8 out{{}, x.q};
  for (std::size_t row = 0; row * static_cast<std::size_t>(width) < x.codes.size(); ++row) {
    auto at = x.codes.begin() + static_cast<std::int64_t>(row) * width + first;
    out.codes.insert(out.codes.end(), at, at + columns);
  }
  return out;
}

// qadd and qmul of two values of one size.
Codes8 add(const Codes8& a, const Codes8& b, const CodeQParams& out) {
  Codes8 y{{}, out};
  for (std::size_t i = 0; i < a.codes.size(); ++i) {
    float v = dequantize_value(a.codes[i], a.q.scale, a.q.zero_point);
    v = v + dequantize_value(b.codes[i], b.q.scale, b.q.zero_point);
    y.codes.push_back(static_cast<std::uint8_t>(round_and_clamp(v * (1.0f / out.scale), bounds_of(out))));
  }
  return y;
}

Codes8 multiply(const Codes8& a, const Codes8& b, const CodeQParams& out) {
  const float multiplier = a.q.scale * b.q.scale / out.scale;
  Codes8 y{{}, out};
  for (std::size_t i = 0; i < a.codes.size(); ++i) {
    const std::int32_t product = (a.codes[i] - a.q.zero_point) * (b.codes[i] - b.q.zero_point);
    const std::int32_t code = round_and_clamp(static_cast<float>(product) * multiplier, bounds_of(out));
    y.codes.push_back(static_cast<std::uint8_t>(code));
  }
  return y;
}

Codes8 look_up(const Codes8& x, const CodeTable& table, const CodeQParams& out) {
  Codes8 y{{}, out};
  for (std::uint8_t code : x.codes) y.codes.push_back(table[code]);
  return y;
}

Codes8 sigmoid(const Codes8& x) {
  return look_up(x, sigmoid_table(x.q), kSigmoidQParams);
}

Codes8 tanh(const Codes8& x) {
  return look_up(x, tanh_table(x.q), kTanhQParams);
}

struct StaticWeights {
  const std::int8_t* codes = nullptr;
  std::int64_t rows = 0, depth = 0;
  std::vector<float> scale;
  const float* bias = nullptr;  // null: none
};

// qlinear: x [n, depth] to [n, rows].
Result<Codes8> linear(const Codes8& x, const StaticWeights& w, const CodeQParams& out) {
  Codes8 y{{}, out};
  std::vector<float> b, m;
  for (std::int64_t i = 0; i < w.rows; ++i) {
    const float scale = x.q.scale * w.scale[static_cast<std::size_t>(i)];
    b.push_back(w.bias == nullptr ? 0.0f : w.bias[i] / scale);
    m.push_back(scale / out.scale);
    if (std::isfinite(b.back()) && std::isfinite(m.back()) && scale > 0.0f) continue;
    return error(Code::invalid_data, "output {} has the weight scale {}, out of the range of f32", i,
                 w.scale[static_cast<std::size_t>(i)]);
  }
  std::vector<std::int16_t> values, weights(w.codes, w.codes + w.rows * w.depth);
  for (std::uint8_t code : x.codes) values.push_back(static_cast<std::int16_t>(code - x.q.zero_point));
  const std::int64_t n = w.depth == 0 ? 0 : static_cast<std::int64_t>(values.size()) / w.depth;
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t i = 0; i < w.rows; ++i) {
      const std::int32_t sum = integer_dot(values.data() + r * w.depth, weights.data() + i * w.depth, w.depth);
      const auto at = static_cast<std::size_t>(i);
      y.codes.push_back(static_cast<std::uint8_t>(requantize(sum, b[at], m[at], bounds_of(out))));
    }
  }
  return y;
}

struct State {
  Codes8 h, cell;
};

using Step = State (*)(const std::vector<CodeQParams>& q, std::int64_t n, const Codes8& x, const Codes8& h,
                       const State& state);

// x and h are igates and hgates, [B, gates * n].
State lstm_step(const std::vector<CodeQParams>& q, std::int64_t n, const Codes8& x, const Codes8& h,
                const State& state) {
  const Codes8 gates = add(x, h, q[kLstmGates]);
  auto gate = [&](std::int64_t k) { return columns_of(gates, 4 * n, k * n, n); };
  const Codes8 i = sigmoid(gate(0)), o = sigmoid(gate(1)), f = sigmoid(gate(2)), g = tanh(gate(3));
  const Codes8 cell = add(multiply(f, state.cell, q[kForgetCell]), multiply(i, g, q[kInputCell]), q[kCell]);
  return {multiply(o, tanh(cell), q[kLstmHidden]), cell};
}

State gru_step(const std::vector<CodeQParams>& q, std::int64_t n, const Codes8& x, const Codes8& h,
               const State& state) {
  const Codes8 gates = add(columns_of(x, 3 * n, 0, 2 * n), columns_of(h, 3 * n, 0, 2 * n), q[kGruGates]);
  const Codes8 z = sigmoid(columns_of(gates, 2 * n, 0, n)), r = sigmoid(columns_of(gates, 2 * n, n, n));
  const Codes8 reset = multiply(r, columns_of(h, 3 * n, 2 * n, n), q[kResetHgates]);
  const Codes8 candidate = tanh(add(columns_of(x, 3 * n, 2 * n, n), reset, q[kCandidateGates]));
  const Codes8 fresh = multiply(look_up(z, complement_table(), kSigmoidQParams), candidate, q[kInverseCandidate]);
  return {add(fresh, multiply(z, state.h, q[kUpdateHidden]), q[kGruHidden]), {}};
}

class StaticRun {
 public:
  StaticRun(const EvalContext& c, const StaticForm& form)
      : c_(c),
        form_(form),
        q_(read_static_qparams(c.attributes, form)),
        steps_(c.inputs[kSX].shape[0]),
        batch_(c.inputs[kSX].shape[1]),
        input_(c.inputs[kSX].shape[2]),
        hidden_(c.attributes.integer("hidden")),
        directions_(c.inputs[kSW].shape[0]) {}

  Status run() {
    for (std::int64_t d = 0; d < directions_; ++d) AOQ_TRY(run_direction(d));
    return {};
  }

 private:
  const std::uint8_t* codes(std::size_t input) const {
    return reinterpret_cast<const std::uint8_t*>(c_.inputs[input].data);
  }

  Codes8 initial(std::size_t input, const CodeQParams& q, std::int64_t d) const {
    const std::int64_t n = batch_ * hidden_;
    if (!c_.has(input)) return {std::vector<std::uint8_t>(static_cast<std::size_t>(n)), {}};
    return {{codes(input) + d * n, codes(input) + (d + 1) * n}, q};
  }

  StaticWeights weights(std::int64_t d, bool of_state) const {
    const std::size_t input = of_state ? kSR : kSW, scale = of_state ? kSRScale : kSWScale;
    StaticWeights w;
    w.rows = form_.form.gates * hidden_;
    w.depth = of_state ? hidden_ : input_;
    w.codes = reinterpret_cast<const std::int8_t*>(c_.inputs[input].data) + d * w.rows * w.depth;
    const auto* scales = reinterpret_cast<const float*>(c_.inputs[scale].data);
    const bool per_channel = c_.inputs[scale].shape.size() == 2;
    for (std::int64_t i = 0; i < w.rows; ++i) w.scale.push_back(scales[per_channel ? d * w.rows + i : d]);
    if (c_.has(kSBias)) {
      w.bias = reinterpret_cast<const float*>(c_.inputs[kSBias].data) + (2 * d + of_state) * w.rows;
    }
    return w;
  }

  void store(std::size_t output, std::int64_t offset, const Codes8& value) const {
    const CodeQParams& to = q_.inner[0][output == 2 ? form_.cell : form_.hidden];
    const CodeTable table = requantize_table(value.q, to);
    std::byte* at = c_.outputs[output].data + offset;
    for (std::uint8_t code : value.codes) *at++ = static_cast<std::byte>(table[code]);
  }

  Status run_direction(std::int64_t d) {
    const std::vector<CodeQParams>& q = q_.inner[static_cast<std::size_t>(d)];
    const Codes8 x{{codes(kSX), codes(kSX) + c_.inputs[kSX].element_count()}, q_.x};
    AOQ_ASSIGN(const Codes8 igates, linear(x, weights(d, false), q[kLstmIgates]));
    const StaticWeights r = weights(d, true);
    State state{initial(kSInitialH, q_.initial_h, d), {}};
    if (form_.form.has_cell_state) state.cell = initial(kSInitialC, q_.initial_c, d);
    const Step step = form_.form.has_cell_state ? lstm_step : gru_step;
    const bool reverse = d == 1 || c_.attributes.string("direction") == "reverse";
    const std::int64_t row = form_.form.gates * hidden_;
    for (std::int64_t k = 0; k < steps_; ++k) {
      const std::int64_t t = reverse ? steps_ - 1 - k : k;
      AOQ_ASSIGN(const Codes8 hgates, linear(state.h, r, q[kLstmHgates]));
      auto first = igates.codes.begin() + t * batch_ * row;
      state = step(q, hidden_, {{first, first + batch_ * row}, igates.q}, hgates, state);
      store(0, (t * directions_ + d) * batch_ * hidden_, state.h);
    }
    store(1, d * batch_ * hidden_, state.h);
    if (form_.form.has_cell_state) store(2, d * batch_ * hidden_, state.cell);
    return {};
  }

  const EvalContext& c_;
  const StaticForm& form_;
  const StaticQParams q_;
  const std::int64_t steps_, batch_, input_, hidden_, directions_;
};

}  // namespace

Status run_static_recurrent(const EvalContext& c, const StaticForm& form) {
  return StaticRun(c, form).run();
}

}  // namespace aoq::ops
