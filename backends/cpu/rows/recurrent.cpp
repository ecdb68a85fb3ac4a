// lstm, gru and rnn with their default activations, and qlstm, qgru and qrnn: the products of the reference by the
// linear kernels, so equal bit for bit. One product for all time steps of x, then one for h at every step.
#include "backends/cpu/kernels/elementwise_f32.h"
#include "backends/cpu/rows/recurrent_product.h"
#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

// Positions of the operands, which the scales of quantized weights move.
struct Operands {
  bool is_quantized = false;
  std::size_t x = 0, w = 1, r = 2, w_scale = 3, r_scale = 4;
  std::size_t bias, lengths, initial_h, initial_c, peephole;

  explicit Operands(Op op)
      : is_quantized(op == Op::qlstm || op == Op::qgru || op == Op::qrnn),
        bias(is_quantized ? 5 : 3),
        lengths(bias + 1),
        initial_h(bias + 2),
        initial_c(bias + 3),
        peephole(bias + 4) {}
};

struct Direction {
  std::unique_ptr<Product> x, h;
  std::unique_ptr<Product> candidate;  // gru whose reset gate multiplies the state: r * h with the last gate's weights
  bool reverse = false;
};

struct Recurrent {
  Operands operands;
  std::int64_t steps, batch, input, hidden, gates, directions;
  bool linear_before_reset = false;
  std::vector<float> bias;  // [directions, 2 * gates * hidden]; zeros where the node has none
  bool has_bias = false;
  std::vector<Direction> all;
  // Parts of scratch, in bytes: products of x [steps, batch, gates * hidden], of h, more of h, state, cell, row.
  std::uint64_t x_bytes = 0, h_bytes = 0, state_bytes = 0, kernel_bytes = 0;

  std::int64_t columns() const { return gates * hidden; }
  std::uint64_t scratch_bytes() const { return x_bytes + h_bytes + 4 * state_bytes + kernel_bytes; }
};

Status check_form(const PrepareContext& context, const Operands& operands) {
  if (context.node.input(operands.lengths) != nullptr) return refuse("the kernel has one length for the whole batch");
  if (!operands.is_quantized) AOQ_TRY(require_f32(context));
  const Attributes& a = context.attributes;
  if (!operands.is_quantized && a.has("state_scale")) return refuse("the kernel keeps the state in float");
  if (!a.get<std::vector<std::string>>("activations").empty()) return refuse("the kernel has the default activations");
  if (a.real("clip") != 0.0) return refuse("the kernel does not clip");
  if (a.has("input_forget") && a.boolean("input_forget")) return refuse("the kernel does not couple gates");
  if (context.node.input(operands.peephole) != nullptr) return refuse("the kernel has no peepholes");
  return {};
}

// The weights of one product: all of a direction's, or those of its last gate.
struct WeightRows {
  bool of_state = false;  // r and not w
  std::int64_t direction = 0, first = 0;
};

Result<std::unique_ptr<Product>> product_of(const PrepareContext& context, const Recurrent& n, const WeightRows& rows) {
  const Operands& o = n.operands;
  const std::int64_t depth = rows.of_state ? n.hidden : n.input, columns = n.columns();
  const ProductShape shape{rows.of_state ? n.batch : n.steps * n.batch, depth, columns - rows.first};
  const std::int64_t first = rows.direction * columns + rows.first;
  const std::size_t weight = rows.of_state ? o.r : o.w;
  if (!o.is_quantized) {
    AOQ_ASSIGN(const std::vector<float> w, float_constants(context, weight, n.directions * columns * depth));
    return make_float_product(context, shape, w.data() + first * depth);
  }
  AOQ_ASSIGN(const DynamicWeights all,
             dynamic_weights(context, weight, rows.of_state ? o.r_scale : o.w_scale, n.directions * columns));
  AOQ_ASSIGN(std::vector<float> bias, float_constants(context, o.bias, n.directions * 2 * columns));
  bias.resize(static_cast<std::size_t>(n.directions * 2 * columns));
  const float* own = bias.data() + (2 * rows.direction + rows.of_state) * columns + rows.first;
  AOQ_ASSIGN(const std::optional<ops::CodeQParams> scale,
             ops::read_code_qparams(context.attributes, rows.of_state ? "state" : "x"));
  return make_dynamic_product(context, shape, {all.codes + first * depth, all.scale.data() + first, own, scale});
}

Result<Direction> direction_of(const PrepareContext& context, const Recurrent& n, std::int64_t d) {
  Direction direction;
  AOQ_ASSIGN(direction.x, product_of(context, n, {false, d, 0}));
  AOQ_ASSIGN(direction.h, product_of(context, n, {true, d, 0}));
  if (n.gates == 3 && !n.linear_before_reset) {
    AOQ_ASSIGN(direction.candidate, product_of(context, n, {true, d, 2 * n.hidden}));
  }
  direction.reverse = d == 1 || context.attributes.string("direction") == "reverse";
  return direction;
}

Result<Recurrent> prepare(const PrepareContext& context, std::int64_t gates) {
  const Operands operands(context.node.op());
  AOQ_TRY(check_form(context, operands));
  const std::vector<std::int64_t>& x = context.inputs[operands.x].shape;
  Recurrent n{
      operands, x[0], x[1], x[2], context.attributes.integer("hidden"), gates, context.inputs[operands.w].shape[0]};
  if (n.steps == 0 || n.batch == 0 || n.input == 0) return refuse("there is nothing to do");
  std::int64_t columns = n.columns();
  // Quantized products add the bias themselves.
  if (!operands.is_quantized) {
    AOQ_ASSIGN(n.bias, float_constants(context, operands.bias, n.directions * 2 * columns));
  }
  n.has_bias = !n.bias.empty();
  n.bias.resize(static_cast<std::size_t>(n.directions * 2 * columns));
  n.linear_before_reset = gates == 3 && context.attributes.boolean("linear_before_reset");
  for (std::int64_t d = 0; d < n.directions; ++d) {
    AOQ_ASSIGN(Direction direction, direction_of(context, n, d));
    for (const auto* p : {&direction.x, &direction.h, &direction.candidate}) {
      if (*p != nullptr) n.kernel_bytes = std::max(n.kernel_bytes, (*p)->scratch_bytes());
    }
    n.all.push_back(std::move(direction));
  }
  n.x_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(n.steps * n.batch * columns * 4));
  n.h_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(n.batch * columns * 4));
  n.state_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(n.batch * n.hidden * 4));
  return n;
}

// One step of one direction: x_part and h_part are [batch, gates * hidden] and are overwritten.
struct Step {
  const Recurrent& n;
  const Direction& direction;
  const float* bias;
  float* x_part;
  float* h_part;
  float* h;     // [batch, hidden]
  float* cell;  // lstm
  float* spare[2];
  std::byte* kernel_scratch;
};

// x_part = ((x part + h part) + w bias) + r bias for the first `count` columns of every row.
void add_gates(const Step& s, std::int64_t count) {
  std::int64_t columns = s.n.columns();
  for (std::int64_t b = 0; b < s.n.batch; ++b) {
    float* x = s.x_part + b * columns;
    const float* h = s.h_part + b * columns;
    for (std::int64_t i = 0; i < count; ++i) x[i] = x[i] + h[i];
    for (std::int64_t i = 0; s.n.has_bias && i < count; ++i) x[i] = (x[i] + s.bias[i]) + s.bias[columns + i];
  }
}

Status lstm_step(const RunContext&, const Step& s) {
  std::int64_t n = s.n.hidden;
  Isa isa = best_isa();
  add_gates(s, 4 * n);
  for (std::int64_t b = 0; b < s.n.batch; ++b) {
    float* gates = s.x_part + b * 4 * n;  // i, o, f, c
    float* cell = s.cell + b * n;
    float* h = s.h + b * n;
    unary_f32(isa, {UnaryOp::sigmoid}, gates, gates, 3 * n);
    unary_f32(isa, {UnaryOp::tanh}, gates + 3 * n, gates + 3 * n, n);
    for (std::int64_t k = 0; k < n; ++k) cell[k] = gates[2 * n + k] * cell[k] + gates[k] * gates[3 * n + k];
    unary_f32(isa, {UnaryOp::tanh}, cell, h, n);
    for (std::int64_t k = 0; k < n; ++k) h[k] = gates[n + k] * h[k];
  }
  return {};
}

Status gru_step(const RunContext& c, const Step& s) {
  std::int64_t n = s.n.hidden;
  Isa isa = best_isa();
  add_gates(s, 2 * n);
  for (std::int64_t b = 0; b < s.n.batch; ++b) {
    float* gates = s.x_part + b * 3 * n;  // z, r, candidate
    unary_f32(isa, {UnaryOp::sigmoid}, gates, gates, 2 * n);
    for (std::int64_t k = 0; k < n; ++k) s.spare[0][b * n + k] = gates[n + k] * s.h[b * n + k];
  }
  if (!s.n.linear_before_reset) {
    AOQ_TRY(s.direction.candidate->run(c, s.spare[0], s.spare[1], s.kernel_scratch));
  }
  const float* w_bias = s.bias + 2 * n;
  const float* r_bias = s.bias + 5 * n;
  for (std::int64_t b = 0; b < s.n.batch; ++b) {
    float* gates = s.x_part + b * 3 * n;
    float* v = gates + 2 * n;
    const float* recurrent = s.h_part + b * 3 * n + 2 * n;
    float* h = s.h + b * n;
    for (std::int64_t k = 0; k < n; ++k) {
      v[k] = s.n.linear_before_reset ? (v[k] + gates[n + k] * (recurrent[k] + r_bias[k])) + w_bias[k]
                                     : ((v[k] + s.spare[1][b * n + k]) + w_bias[k]) + r_bias[k];
    }
    unary_f32(isa, {UnaryOp::tanh}, v, v, n);
    for (std::int64_t k = 0; k < n; ++k) h[k] = (1.0f - gates[k]) * v[k] + gates[k] * h[k];
  }
  return {};
}

Status rnn_step(const RunContext&, const Step& s) {
  std::int64_t n = s.n.batch * s.n.hidden;
  add_gates(s, s.n.hidden);
  unary_f32(best_isa(), {UnaryOp::tanh}, s.x_part, s.h, n);
  return {};
}

using StepFunction = Status (*)(const RunContext&, const Step&);

void start_state(const RunContext& c, std::size_t operand, std::int64_t offset, std::int64_t count, float* state) {
  const float* initial = input_of<float>(c, operand);
  if (initial == nullptr) {
    std::fill_n(state, count, 0.0f);
  } else {
    std::copy_n(initial + offset, count, state);
  }
}

Status run_recurrent(const Recurrent& n, StepFunction step, const RunContext& c) {
  std::int64_t columns = n.columns();
  std::int64_t state = n.batch * n.hidden;
  std::byte* at = c.scratch;
  auto part = [&](std::uint64_t bytes) { return reinterpret_cast<float*>(std::exchange(at, at + bytes)); };
  float* x_part = part(n.x_bytes);
  float* h_part = part(n.h_bytes);
  float* h = part(n.state_bytes);
  float* cell = part(n.state_bytes);
  float* spare[2] = {part(n.state_bytes), part(n.state_bytes)};
  for (std::int64_t d = 0; d < n.directions; ++d) {
    const Direction& direction = n.all[static_cast<std::size_t>(d)];
    AOQ_TRY(direction.x->run(c, input_of<float>(c, n.operands.x), x_part, at));
    start_state(c, n.operands.initial_h, d * state, state, h);
    if (n.gates == 4) start_state(c, n.operands.initial_c, d * state, state, cell);
    for (std::int64_t k = 0; k < n.steps; ++k) {
      std::int64_t t = direction.reverse ? n.steps - 1 - k : k;
      AOQ_TRY(direction.h->run(c, h, h_part, at));
      AOQ_TRY(step(c, {n,
                       direction,
                       n.bias.data() + d * 2 * columns,
                       x_part + t * n.batch * columns,
                       h_part,
                       h,
                       cell,
                       {spare[0], spare[1]},
                       at}));
      std::copy_n(h, state, output_of<float>(c) + (t * n.directions + d) * state);
    }
    std::copy_n(h, state, output_of<float>(c, 1) + d * state);
    if (n.gates == 4) std::copy_n(cell, state, output_of<float>(c, 2) + d * state);
  }
  return {};
}

KernelResult recurrent_kernel(const PrepareContext& context, std::int64_t gates, StepFunction step) {
  AOQ_ASSIGN(Recurrent n, prepare(context, gates));
  KernelNeeds needs{.scratch_bytes = n.scratch_bytes()};
  return make_kernel([n = std::move(n), step](const RunContext& c) { return run_recurrent(n, step, c); }, needs);
}

}  // namespace

KernelResult make_lstm(const PrepareContext& context) {
  return recurrent_kernel(context, 4, lstm_step);
}

KernelResult make_gru(const PrepareContext& context) {
  return recurrent_kernel(context, 3, gru_step);
}

KernelResult make_rnn(const PrepareContext& context) {
  return recurrent_kernel(context, 1, rnn_step);
}

}  // namespace aoq::cpu
