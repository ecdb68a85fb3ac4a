#include "ir/ops/quantized_recurrent.h"

#include <algorithm>

#include "ir/dynamic_qparams.h"
#include "ir/epilogue.h"
#include "ir/ops/lowered.h"

namespace aoq::ops {

namespace {

Status check_weight(const InferContext& c, std::size_t weight, std::size_t scale, const char* name) {
  const Type& codes = c.input(weight);
  const Type& scales = c.input(scale);
  AOQ_TRY(require(codes.dtype == DType::i8, codes, "an i8 weight"));
  AOQ_TRY(require_rank(codes, 3, 3));
  AOQ_TRY(require(scales.dtype == DType::f32, scales, "f32 scales"));
  std::vector<Dim> shape{codes.shape[0]};
  if (scales.rank() == 2) shape.push_back(codes.shape[1]);
  return require_shape(name, scales, shape);
}

}  // namespace

InferResult infer_quantized_recurrent(const InferContext& c, const RecurrentForm& form) {
  AOQ_TRY(require(c.input(kQX).dtype == DType::f32, c.input(kQX), "f32"));
  AOQ_TRY(check_weight(c, kQW, kQWScale, "w_scale"));
  AOQ_TRY(check_weight(c, kQR, kQRScale, "r_scale"));
  AOQ_TRY(read_code_qparams(c.attributes, "x").status());
  if (c.attributes.has("x_scale") != c.attributes.has("state_scale")) {
    return error(Code::invalid_model, "has one of x_scale and state_scale, expected both or none");
  }
  // The rest is the float op's: the same inputs with float weights.
  Type w{DType::f32, c.input(kQW).shape, std::nullopt}, r{DType::f32, c.input(kQR).shape, std::nullopt};
  std::vector<const Type*> inputs{c.inputs[kQX], &w, &r};
  inputs.insert(inputs.end(), c.inputs.begin() + kQBias, c.inputs.end());
  return infer_recurrent({c.op, inputs, c.attributes}, form);
}

namespace {

struct QuantizedWeights {
  const std::int8_t* codes = nullptr;
  std::int64_t rows = 0, depth = 0;
  std::vector<float> scale;  // one for each row
  std::vector<float> bias;

  // Rows `first` and on.
  QuantizedWeights from(std::int64_t first) const {
    return {codes + first * depth,
            rows - first,
            depth,
            {scale.begin() + first, scale.end()},
            {bias.begin() + first, bias.end()}};
  }
};

// How activations are quantized: with a given scale, or one chosen by what they are.
struct ActivationQParams {
  DynamicQParams how;
  std::optional<CodeQParams> fixed;
};

Result<ChosenQParams> choose(const ActivationQParams& a, std::span<const float> x) {
  float lo = 0.0f, hi = 0.0f;
  for (float v : x) {
    if (!std::isfinite(v)) return error(Code::invalid_data, "an activation is {}, expected finite numbers", v);
    lo = std::min(lo, v);
    hi = std::max(hi, v);
  }
  if (a.fixed) return ChosenQParams{a.fixed->scale, a.fixed->zero_point};
  return choose_dynamic_qparams(a.how, lo, hi);
}

// x [n, depth] to [n, rows].
Result<std::vector<float>> dynamic_linear(const ActivationQParams& how, std::span<const float> x, std::int64_t n,
                                          const QuantizedWeights& w) {
  AOQ_ASSIGN(const ChosenQParams q, choose(how, x));
  std::vector<std::int16_t> codes, weights(w.codes, w.codes + w.rows * w.depth);
  for (float v : x) {
    const std::int32_t code = quantize_value(v, 1.0f / q.scale, q.zero_point, 0, 255);
    codes.push_back(static_cast<std::int16_t>(code - q.zero_point));
  }
  std::vector<float> y;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t m = 0; m < w.rows; ++m) {
      const std::int32_t sum = integer_dot(codes.data() + i * w.depth, weights.data() + m * w.depth, w.depth);
      const auto at = static_cast<std::size_t>(m);
      y.push_back(static_cast<float>(sum) * (q.scale * w.scale[at]) + w.bias[at]);
    }
  }
  return y;
}

// All of one node.
class QuantizedRun {
 public:
  QuantizedRun(const EvalContext& c, const RecurrentForm& form, ResetsState resets, const RecurrentStep& step)
      : c_(c),
        form_(form),
        resets_(resets),
        step_(step),
        steps_(c.inputs[kQX].shape[0]),
        batch_(c.inputs[kQX].shape[1]),
        input_(c.inputs[kQX].shape[2]),
        hidden_(c.attributes.integer("hidden")),
        directions_(c.inputs[kQW].shape[0]) {
    DynamicQParams how;
    how.formula = DynamicQParams::Formula::aten;
    if (c.attributes.boolean("reduce_range")) how.range = {0, 127};
    x_how_.how = state_how_.how = how;
  }

  Status run() {
    AOQ_ASSIGN(x_how_.fixed, read_code_qparams(c_.attributes, "x"));
    AOQ_ASSIGN(state_how_.fixed, read_code_qparams(c_.attributes, "state"));
    AOQ_ASSIGN(lengths_, read_lengths(c_, kQLengths, steps_, batch_));
    AOQ_ASSIGN(activations_, read_activations(c_.attributes, form_, directions_));
    std::fill_n(floats(c_.outputs[0]), c_.outputs[0].element_count(), 0.0f);
    for (std::int64_t d = 0; d < directions_; ++d) AOQ_TRY(run_direction(d));
    return {};
  }

 private:
  static float* floats(const MutableTensorView& view) { return reinterpret_cast<float*>(view.data); }
  const float* floats(std::size_t input) const {
    return c_.has(input) ? reinterpret_cast<const float*>(c_.inputs[input].data) : nullptr;
  }
  std::int64_t gate_count() const { return form_.gates * hidden_; }
  std::int64_t length(std::int64_t b) const { return lengths_[static_cast<std::size_t>(b)]; }

  Result<QuantizedWeights> weights(std::int64_t d, std::size_t codes, std::size_t scale) const {
    QuantizedWeights w;
    w.rows = gate_count();
    w.depth = c_.inputs[codes].shape[2];
    w.codes = reinterpret_cast<const std::int8_t*>(c_.inputs[codes].data) + d * w.rows * w.depth;
    bool per_channel = c_.inputs[scale].shape.size() == 2;
    const float* bias = floats(kQBias);
    for (std::int64_t m = 0; m < w.rows; ++m) {
      w.scale.push_back(floats(scale)[per_channel ? d * w.rows + m : d]);
      w.bias.push_back(bias == nullptr ? 0.0f : bias[(2 * d + (codes == kQR)) * w.rows + m]);
      if (std::isfinite(w.scale.back()) && w.scale.back() > 0.0f) continue;
      return error(Code::invalid_data, "{} of output {} is {}, expected a finite number above 0",
                   codes == kQW ? "w_scale" : "r_scale", m, w.scale.back());
    }
    return w;
  }

  RecurrentDirection direction(std::int64_t d) const {
    RecurrentDirection direction;
    direction.input = input_;
    direction.hidden = hidden_;
    direction.gates = form_.gates;
    if (c_.has(kQPeephole)) direction.peephole = floats(kQPeephole) + d * 3 * hidden_;
    auto count = static_cast<std::ptrdiff_t>(form_.default_activations.size());
    direction.activations.assign(activations_.begin() + d * count, activations_.begin() + (d + 1) * count);
    direction.clip = static_cast<float>(c_.attributes.real("clip"));
    return direction;
  }

  // The sequences that have a step t.
  std::vector<std::int64_t> active(std::int64_t t) const {
    std::vector<std::int64_t> rows;
    for (std::int64_t b = 0; b < batch_; ++b) {
      if (t < length(b)) rows.push_back(b);
    }
    return rows;
  }

  // The parts of x, for every time step the rows of the active sequences.
  Result<std::vector<std::vector<float>>> x_parts(std::int64_t d) const {
    std::vector<float> rows;
    std::int64_t n = 0;
    for (std::int64_t t = 0; t < steps_; ++t) {
      for (std::int64_t b : active(t)) {
        const float* row = floats(kQX) + (t * batch_ + b) * input_;
        rows.insert(rows.end(), row, row + input_);
        ++n;
      }
    }
    AOQ_ASSIGN(const QuantizedWeights w, weights(d, kQW, kQWScale));
    AOQ_ASSIGN(const std::vector<float> all, dynamic_linear(x_how_, rows, n, w));
    std::vector<std::vector<float>> parts;
    auto at = all.begin();
    for (std::int64_t t = 0; t < steps_; ++t) {
      auto end = at + static_cast<std::int64_t>(active(t).size()) * gate_count();
      parts.emplace_back(at, end);
      at = end;
    }
    return parts;
  }

  void start(std::int64_t d, std::vector<float>& h, std::vector<float>& cell) const {
    const std::int64_t n = batch_ * hidden_;
    h.assign(static_cast<std::size_t>(n), 0.0f);
    cell = h;
    if (c_.has(kQInitialH)) std::copy_n(floats(kQInitialH) + d * n, n, h.begin());
    if (form_.has_cell_state && c_.has(kQInitialC)) std::copy_n(floats(kQInitialC) + d * n, n, cell.begin());
  }

  Status run_direction(std::int64_t d) {
    AOQ_ASSIGN(const std::vector<std::vector<float>> x, x_parts(d));
    AOQ_ASSIGN(const QuantizedWeights r, weights(d, kQR, kQRScale));
    const bool reverse = d == 1 || c_.attributes.string("direction") == "reverse";
    RecurrentDirection direction = this->direction(d);
    std::vector<float> h, cell;
    start(d, h, cell);
    for (std::int64_t k = 0; k < steps_; ++k) {
      std::int64_t t = reverse ? steps_ - 1 - k : k;
      const std::vector<std::int64_t> rows = active(t);
      if (rows.empty()) continue;
      AOQ_ASSIGN(const std::vector<float> r_parts,
                 state_product(direction, r, rows, h, x[static_cast<std::size_t>(t)]));
      for (std::size_t i = 0; i < rows.size(); ++i) {
        load_parts(direction, i, x[static_cast<std::size_t>(t)], r_parts);
        float* state = h.data() + rows[i] * hidden_;
        step_.call(step_.context, direction, state, cell.data() + rows[i] * hidden_);
        std::copy_n(state, hidden_, floats(c_.outputs[0]) + ((t * directions_ + d) * batch_ + rows[i]) * hidden_);
      }
    }
    std::copy(h.begin(), h.end(), floats(c_.outputs[1]) + d * batch_ * hidden_);
    if (form_.has_cell_state) std::copy(cell.begin(), cell.end(), floats(c_.outputs[2]) + d * batch_ * hidden_);
    return {};
  }

  void load_parts(RecurrentDirection& direction, std::size_t row, const std::vector<float>& x,
                  const std::vector<float>& r) const {
    auto first = static_cast<std::ptrdiff_t>(row) * gate_count();
    direction.x_part.assign(x.begin() + first, x.begin() + first + gate_count());
    direction.r_part.assign(r.begin() + first, r.begin() + first + gate_count());
  }

  // r_part of every active sequence.
  Result<std::vector<float>> state_product(RecurrentDirection& direction, const QuantizedWeights& r,
                                           const std::vector<std::int64_t>& rows, const std::vector<float>& h,
                                           const std::vector<float>& x) const {
    const auto n = static_cast<std::int64_t>(rows.size());
    std::vector<float> states;
    for (std::int64_t b : rows) states.insert(states.end(), h.begin() + b * hidden_, h.begin() + (b + 1) * hidden_);
    AOQ_ASSIGN(std::vector<float> parts, dynamic_linear(state_how_, states, n, r));
    if (resets_ == ResetsState::no) return parts;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      load_parts(direction, i, x, parts);
      const std::vector<float> reset = gru_reset_gates(direction);
      for (std::size_t k = 0; k < reset.size(); ++k) states[i * reset.size() + k] *= reset[k];
    }
    const std::int64_t first = gate_count() - hidden_;
    AOQ_ASSIGN(const std::vector<float> candidate, dynamic_linear(state_how_, states, n, r.from(first)));
    for (std::int64_t i = 0; i < n; ++i) {
      std::copy_n(candidate.begin() + i * hidden_, hidden_, parts.begin() + i * gate_count() + first);
    }
    return parts;
  }

  const EvalContext& c_;
  const RecurrentForm& form_;
  const ResetsState resets_;
  const RecurrentStep& step_;
  const std::int64_t steps_, batch_, input_, hidden_, directions_;
  ActivationQParams x_how_, state_how_;
  std::vector<std::int64_t> lengths_;
  std::vector<GateActivation> activations_;
};

}  // namespace

Status run_quantized_recurrent(const EvalContext& c, const RecurrentForm& form, ResetsState resets,
                               const RecurrentStep& step) {
  return QuantizedRun(c, form, resets, step).run();
}

}  // namespace aoq::ops
