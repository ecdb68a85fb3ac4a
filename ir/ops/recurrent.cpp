#include "ir/ops/recurrent.h"

#include <algorithm>
#include <cctype>

#include "ir/epilogue.h"
#include "ir/math.h"
#include "ir/ops/fma.h"

namespace aoq::ops {

namespace {

struct NamedActivation {
  std::string_view name;
  GateActivation function;
};

constexpr NamedActivation kActivationTable[] = {
    {"sigmoid", math::sigmoid},
    {"tanh", math::tanh},
    {"relu", math::relu},
    {"softplus", math::softplus},
    {"softsign", [](float x) { return x / (1.0f + std::fabs(x)); }},
    {"hardsigmoid", [](float x) { return math::hardsigmoid(x, 0.2f, 0.5f); }},
    {"leakyrelu", [](float x) { return x < 0 ? 0.01f * x : x; }},
    {"elu", [](float x) { return x < 0 ? math::exp(x) - 1.0f : x; }},
};

// Names are ONNX's ("HardSigmoid") or ours ("hardsigmoid", "leaky_relu").
Result<NamedActivation> find_activation(std::string_view name) {
  std::string plain_name;
  for (char ch : name) {
    if (ch != '_') plain_name += static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
  }
  for (const NamedActivation& row : kActivationTable) {
    if (row.name == plain_name) return row;
  }
  return error(Code::unsupported, "activation \"{}\" of a recurrent op", name);
}

Result<std::int64_t> direction_count(const Attributes& attributes) {
  const std::string& direction = attributes.string("direction");
  if (direction == "bidirectional") return std::int64_t{2};
  if (direction == "forward" || direction == "reverse") return std::int64_t{1};
  return error(Code::invalid_model, "direction is \"{}\", expected forward, reverse or bidirectional", direction);
}

// Positions of the optional inputs.
constexpr std::size_t kX = 0, kW = 1, kR = 2, kBias = 3, kLengths = 4, kInitialH = 5, kInitialC = 6, kPeephole = 7;

Status check_inputs(const InferContext& c, const RecurrentForm& form, std::int64_t directions) {
  const Type& x = c.input(kX);
  std::int64_t hidden = c.attributes.integer("hidden");
  Dim d(directions);
  Dim h(hidden);
  Dim gates(form.gates * hidden);
  struct Expected {
    std::size_t input;
    const char* name;
    std::vector<Dim> shape;
  };
  std::vector<Expected> all = {{kW, "w", {d, gates, x.shape[2]}},
                               {kR, "r", {d, gates, h}},
                               {kBias, "bias", {d, gates * Dim(2)}},
                               {kLengths, "sequence_lengths", {x.shape[1]}},
                               {kInitialH, "initial_h", {d, x.shape[1], h}},
                               {kInitialC, "initial_c", {d, x.shape[1], h}},
                               {kPeephole, "peephole", {d, Dim(3 * hidden)}}};
  for (const Expected& e : all) {
    if (!c.has(e.input)) continue;
    AOQ_TRY(require_shape(e.name, c.input(e.input), e.shape));
    DType dtype = e.input == kLengths ? DType::i32 : x.dtype;
    AOQ_TRY(require(c.input(e.input).dtype == dtype, c.input(e.input), dtype_name(dtype)));
  }
  return {};
}

}  // namespace

Result<std::vector<GateActivation>> read_activations(const Attributes& attributes, const RecurrentForm& form,
                                                     std::int64_t directions) {
  static const std::vector<std::string> kNone;
  const bool has_names = attributes.has("activations");
  const auto& names = has_names ? attributes.get<std::vector<std::string>>("activations") : kNone;
  std::size_t expected = form.default_activations.size() * static_cast<std::size_t>(directions);
  if (!names.empty() && names.size() != expected) {
    return error(Code::invalid_model, "has {} activations, expected {}", names.size(), expected);
  }
  std::vector<GateActivation> out;
  for (std::size_t i = 0; i < expected; ++i) {
    std::string_view name = form.default_activations[i % form.default_activations.size()];
    AOQ_ASSIGN(NamedActivation activation, find_activation(names.empty() ? name : std::string_view(names[i])));
    out.push_back(activation.function);
  }
  return out;
}

InferResult infer_recurrent(const InferContext& c, const RecurrentForm& form) {
  const Type& x = c.input(kX);
  AOQ_TRY(require_float(x));
  AOQ_TRY(require_rank(x, 3, 3));
  std::int64_t hidden = c.attributes.integer("hidden");
  AOQ_TRY(require_range("hidden", hidden, 1, std::int64_t{1} << 31));
  AOQ_ASSIGN(std::int64_t directions, direction_count(c.attributes));
  AOQ_TRY(read_activations(c.attributes, form, directions).status());
  if (c.attributes.has("clip")) {
    AOQ_TRY(require_finite(c.attributes, "clip"));
    if (c.attributes.real("clip") < 0) return error(Code::invalid_model, "clip is {}", c.attributes.real("clip"));
  }
  AOQ_TRY(read_code_qparams(c.attributes, "state").status());
  AOQ_TRY(check_inputs(c, form, directions));
  Type y{x.dtype, {x.shape[0], Dim(directions), x.shape[1], Dim(hidden)}, std::nullopt};
  Type state{x.dtype, {Dim(directions), x.shape[1], Dim(hidden)}, std::nullopt};
  if (form.has_cell_state) return std::vector<Type>{y, state, state};
  return std::vector<Type>{y, state};
}

Result<std::vector<std::int64_t>> read_lengths(const EvalContext& c, std::size_t input, std::int64_t steps,
                                               std::int64_t batch) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(batch), steps);
  if (!c.has(input)) return lengths;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    lengths[b] = load_integer(DType::i32, c.inputs[input].data, static_cast<std::int64_t>(b));
    if (lengths[b] < 0 || lengths[b] > steps) {
      return error(Code::invalid_data, "sequence_lengths element {} is {}, expected a value in [0, {}]", b, lengths[b],
                   steps);
    }
  }
  return lengths;
}

Status check_code_qparams(std::string_view name, double scale, std::int64_t zero_point) {
  if (!(scale >= kMinScale && scale <= kMaxScale)) {
    return error(Code::invalid_model, "{} has the scale {}, expected one between 2^-40 and 2^40", name, scale);
  }
  if (zero_point >= 0 && zero_point <= 255) return {};
  return error(Code::invalid_model, "{} has the zero point {}, expected a code of u8", name, zero_point);
}

Result<std::optional<CodeQParams>> read_code_qparams(const Attributes& attributes, const std::string& prefix) {
  const Attribute* scale = attributes.find(prefix + "_scale");
  const Attribute* zero_point = attributes.find(prefix + "_zero_point");
  if (scale == nullptr && zero_point != nullptr) {
    return error(Code::invalid_model, "{}_zero_point is given without {}_scale", prefix, prefix);
  }
  if (scale == nullptr) return std::optional<CodeQParams>();
  const std::int64_t z = zero_point == nullptr ? 0 : std::get<std::int64_t>(*zero_point);
  AOQ_TRY(check_code_qparams(prefix, std::get<double>(*scale), z));
  return std::optional(CodeQParams{static_cast<float>(std::get<double>(*scale)), static_cast<std::int32_t>(z)});
}

float RecurrentDirection::seen(float v) const {
  if (!state) return v;
  const std::int32_t code = quantize_value(v, 1.0f / state->scale, state->zero_point, 0, 255);
  return dequantize_value(code, state->scale, state->zero_point);
}

void RecurrentDirection::start_step(const float* x, const float* h) {
  std::int64_t n = gates * hidden;
  x_part.assign(static_cast<std::size_t>(n), 0.0f);
  r_part.assign(static_cast<std::size_t>(n), 0.0f);
  for (std::int64_t k = 0; k < input; ++k) fma_accumulate(x[k], w.data() + k * n, x_part.data(), n);
  for (std::int64_t k = 0; k < hidden; ++k) fma_accumulate(seen(h[k]), r.data() + k * n, r_part.data(), n);
}

float RecurrentDirection::gate(std::int64_t index) const {
  auto i = static_cast<std::size_t>(index);
  float v = x_part[i] + r_part[i];
  if (bias == nullptr) return v;
  return (v + w_bias(index)) + r_bias(index);
}

float RecurrentDirection::clipped(float v) const {
  return clip > 0.0f ? math::clamp(v, -clip, clip) : v;
}

namespace {

// [rows, columns] to [columns, rows].
std::vector<float> transpose(const float* from, std::int64_t rows, std::int64_t columns) {
  std::vector<float> to(static_cast<std::size_t>(rows * columns));
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) to[static_cast<std::size_t>(j * rows + i)] = from[i * columns + j];
  }
  return to;
}

struct Problem {
  std::int64_t steps, batch, input, hidden, directions;
  FloatInput x, w, r, bias, initial_h, initial_c, peephole;
  std::vector<std::int64_t> lengths;

  static TensorView view(const EvalContext& c, std::size_t i) { return c.has(i) ? c.inputs[i] : TensorView{}; }
  explicit Problem(const EvalContext& c)
      : steps(c.inputs[kX].shape[0]),
        batch(c.inputs[kX].shape[1]),
        input(c.inputs[kX].shape[2]),
        hidden(c.attributes.integer("hidden")),
        directions(c.inputs[kW].shape[0]),
        x(view(c, kX)),
        w(view(c, kW)),
        r(view(c, kR)),
        bias(view(c, kBias)),
        initial_h(view(c, kInitialH)),
        initial_c(view(c, kInitialC)),
        peephole(view(c, kPeephole)) {}
};

RecurrentDirection make_direction(const EvalContext& c, const Problem& p, const RecurrentForm& form, std::int64_t d) {
  RecurrentDirection direction;
  std::int64_t rows = form.gates * p.hidden;
  direction.input = p.input;
  direction.hidden = p.hidden;
  direction.gates = form.gates;
  direction.w = transpose(p.w.data() + d * rows * p.input, rows, p.input);
  direction.r = transpose(p.r.data() + d * rows * p.hidden, rows, p.hidden);
  if (c.has(kBias)) direction.bias = p.bias.data() + d * 2 * rows;
  if (c.has(kPeephole)) direction.peephole = p.peephole.data() + d * 3 * p.hidden;
  Result<std::vector<GateActivation>> all = read_activations(c.attributes, form, p.directions);
  AOQ_CHECK(all.ok());
  auto per_direction = static_cast<std::ptrdiff_t>(form.default_activations.size());
  direction.activations.assign(all->begin() + d * per_direction, all->begin() + (d + 1) * per_direction);
  if (c.attributes.has("clip")) direction.clip = static_cast<float>(c.attributes.real("clip"));
  Result<std::optional<CodeQParams>> state = read_code_qparams(c.attributes, "state");
  AOQ_CHECK(state.ok());
  direction.state = *state;
  return direction;
}

}  // namespace

Status run_recurrent(const EvalContext& c, const RecurrentForm& form, const RecurrentStep& step) {
  Problem p(c);
  AOQ_ASSIGN(p.lengths, read_lengths(c, kLengths, p.steps, p.batch));
  FloatOutput y(c.outputs[0]);
  FloatOutput last_h(c.outputs[1]);
  std::vector<float> cells(static_cast<std::size_t>(c.outputs[1].element_count()), 0.0f);
  std::fill(y.data(), y.data() + c.outputs[0].element_count(), 0.0f);
  for (std::int64_t d = 0; d < p.directions; ++d) {
    RecurrentDirection direction = make_direction(c, p, form, d);
    bool reverse = d == 1 || c.attributes.string("direction") == "reverse";
    for (std::int64_t b = 0; b < p.batch; ++b) {
      std::int64_t state = (d * p.batch + b) * p.hidden;
      float* h = last_h.data() + state;
      float* cell = cells.data() + state;
      for (std::int64_t i = 0; i < p.hidden; ++i) {
        h[i] = c.has(kInitialH) ? p.initial_h[state + i] : 0.0f;
        cell[i] = c.has(kInitialC) ? p.initial_c[state + i] : 0.0f;
      }
      std::int64_t length = p.lengths[static_cast<std::size_t>(b)];
      for (std::int64_t k = 0; k < length; ++k) {
        std::int64_t t = reverse ? length - 1 - k : k;
        direction.start_step(p.x.data() + (t * p.batch + b) * p.input, h);
        step.call(step.context, direction, h, cell);
        std::copy(h, h + p.hidden, y.data() + ((t * p.directions + d) * p.batch + b) * p.hidden);
      }
    }
  }
  if (form.has_cell_state) {
    FloatOutput last_cell(c.outputs[2]);
    std::copy(cells.begin(), cells.end(), last_cell.data());
  }
  return {};
}

}  // namespace aoq::ops
