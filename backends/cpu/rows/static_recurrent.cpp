// qlstm_static and qgru_static: products by the int8 kernels, everything else on bytes, so equal to the reference bit
// for bit. One product for all time steps of x, then one for h at every step.
#include "ir/ops/static_recurrent.h"
#include "backends/cpu/kernels/binary_s8.h"
#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/rows/recurrent_product.h"
#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

using ops::CodeQParams;
using ops::CodeTable;

BinaryS8Params binary_params(const CodeQParams& a, const CodeQParams& b, const CodeQParams& out) {
  BinaryS8Params p;
  p.a_zero_point = a.zero_point;
  p.b_zero_point = b.zero_point;
  p.bounds = full_bounds(DType::u8, out.zero_point);
  return p;
}

BinaryS8Params sum_of(const CodeQParams& a, const CodeQParams& b, const CodeQParams& out) {
  BinaryS8Params p = binary_params(a, b, out);
  p.a_scale = a.scale;
  p.b_scale = b.scale;
  p.inv_out = 1.0f / out.scale;
  return p;
}

BinaryS8Params product_of(const CodeQParams& a, const CodeQParams& b, const CodeQParams& out) {
  BinaryS8Params p = binary_params(a, b, out);
  p.a_scale = a.scale * b.scale / out.scale;
  return p;
}

// What follows the products, ready to run. The first step may see an initial state of another scale: [1] of a pair.
struct LstmSteps {
  BinaryS8Params gates, forget[2], input, cell, hidden;
  CodeTable sigmoid, tanh, tanh_cell;

  LstmSteps(const std::vector<CodeQParams>& q, const ops::StaticQParams& all)
      : gates(sum_of(q[ops::kLstmIgates], q[ops::kLstmHgates], q[ops::kLstmGates])),
        forget{product_of(ops::kSigmoidQParams, q[ops::kCell], q[ops::kForgetCell]),
               product_of(ops::kSigmoidQParams, all.initial_c, q[ops::kForgetCell])},
        input(product_of(ops::kSigmoidQParams, ops::kTanhQParams, q[ops::kInputCell])),
        cell(sum_of(q[ops::kForgetCell], q[ops::kInputCell], q[ops::kCell])),
        hidden(product_of(ops::kSigmoidQParams, ops::kTanhQParams, q[ops::kLstmHidden])),
        sigmoid(ops::sigmoid_table(q[ops::kLstmGates])),
        tanh(ops::tanh_table(q[ops::kLstmGates])),
        tanh_cell(ops::tanh_table(q[ops::kCell])) {}
};

struct GruSteps {
  BinaryS8Params gates, reset, candidate, fresh, kept[2], hidden;
  CodeTable sigmoid, complement, tanh;

  GruSteps(const std::vector<CodeQParams>& q, const ops::StaticQParams& all)
      : gates(sum_of(q[ops::kGruIgates], q[ops::kGruHgates], q[ops::kGruGates])),
        reset(product_of(ops::kSigmoidQParams, q[ops::kGruHgates], q[ops::kResetHgates])),
        candidate(sum_of(q[ops::kGruIgates], q[ops::kResetHgates], q[ops::kCandidateGates])),
        fresh(product_of(ops::kSigmoidQParams, ops::kTanhQParams, q[ops::kInverseCandidate])),
        kept{product_of(ops::kSigmoidQParams, q[ops::kGruHidden], q[ops::kUpdateHidden]),
             product_of(ops::kSigmoidQParams, all.initial_h, q[ops::kUpdateHidden])},
        hidden(sum_of(q[ops::kInverseCandidate], q[ops::kUpdateHidden], q[ops::kGruHidden])),
        sigmoid(ops::sigmoid_table(q[ops::kGruGates])),
        complement(ops::complement_table()),
        tanh(ops::tanh_table(q[ops::kCandidateGates])) {}
};

template <typename Steps>
struct Direction {
  CodeProduct x, h;  // h: scales of the states, then of the initial state
  Steps steps;
  CodeTable to_h, to_c;  // to the results' scales
  bool changes_scale = false, reverse = false;
};

template <typename Steps>
struct StaticRecurrent {
  std::int64_t steps = 0, batch = 0, input = 0, hidden = 0, gates = 0;
  std::vector<Direction<Steps>> all;
  std::uint64_t x_bytes = 0, gate_bytes = 0, state_bytes = 0, kernel_bytes = 0;

  std::int64_t columns() const { return gates * hidden; }
  std::uint64_t scratch_bytes() const { return x_bytes + 2 * gate_bytes + 4 * state_bytes + kernel_bytes; }
};

// Codes [batch, ...] that one step reads and writes.
struct StepCodes {
  std::byte *x, *h_part;  // igates and hgates [batch, gates * hidden]
  std::byte* gates;       // spare of the same size
  std::byte *h, *cell;    // [batch, hidden]
  std::byte* spare[2];
};

// Rows of `columns` codes, `a_row` and `b_row` apart in the operands.
struct Rows {
  std::int64_t rows, columns, a_row, b_row;
  BroadcastShape shape() const {
    return {.rows = rows, .columns = columns, .a_row = a_row, .a_column = 1, .b_row = b_row, .b_column = 1};
  }
};

void step(const StaticRecurrent<LstmSteps>& r, const LstmSteps& s, std::size_t first, const StepCodes& c) {
  const std::int64_t n = r.hidden, wide = 4 * n;
  const Isa isa = best_isa();
  const std::int64_t all = r.batch * wide;
  add_bytes(isa, s.gates, Rows{1, all, all, all}.shape(), c.x, c.h_part, c.gates);
  for (std::int64_t b = 0; b < r.batch; ++b) {
    std::byte* gates = c.gates + b * wide;  // i, o, f, c
    look_up_bytes(isa, s.sigmoid.data(), gates, gates, 3 * n);
    look_up_bytes(isa, s.tanh.data(), gates + 3 * n, gates + 3 * n, n);
  }
  multiply_bytes(isa, s.forget[first], Rows{r.batch, n, wide, n}.shape(), c.gates + 2 * n, c.cell, c.spare[0]);
  multiply_bytes(isa, s.input, Rows{r.batch, n, wide, wide}.shape(), c.gates, c.gates + 3 * n, c.spare[1]);
  add_bytes(isa, s.cell, Rows{1, r.batch * n, 0, 0}.shape(), c.spare[0], c.spare[1], c.cell);
  look_up_bytes(isa, s.tanh_cell.data(), c.cell, c.spare[0], r.batch * n);
  multiply_bytes(isa, s.hidden, Rows{r.batch, n, wide, n}.shape(), c.gates + n, c.spare[0], c.h);
}

void step(const StaticRecurrent<GruSteps>& r, const GruSteps& s, std::size_t first, const StepCodes& c) {
  const std::int64_t n = r.hidden, wide = 3 * n, two = 2 * n, all = r.batch * n;
  const Isa isa = best_isa();
  add_bytes(isa, s.gates, Rows{r.batch, two, wide, wide}.shape(), c.x, c.h_part, c.gates);  // z, r
  look_up_bytes(isa, s.sigmoid.data(), c.gates, c.gates, r.batch * two);
  multiply_bytes(isa, s.reset, Rows{r.batch, n, two, wide}.shape(), c.gates + n, c.h_part + two, c.spare[0]);
  add_bytes(isa, s.candidate, Rows{r.batch, n, wide, n}.shape(), c.x + two, c.spare[0], c.spare[1]);
  look_up_bytes(isa, s.tanh.data(), c.spare[1], c.spare[1], all);
  multiply_bytes(isa, s.kept[first], Rows{r.batch, n, two, n}.shape(), c.gates, c.h, c.spare[0]);
  look_up_bytes(isa, s.complement.data(), c.gates, c.gates, r.batch * two);
  multiply_bytes(isa, s.fresh, Rows{r.batch, n, two, n}.shape(), c.gates, c.spare[1], c.h);
  add_bytes(isa, s.hidden, Rows{1, all, 0, 0}.shape(), c.h, c.spare[0], c.h);
}

void store(const CodeTable* table, const std::byte* codes, std::byte* out, std::int64_t n) {
  if (table == nullptr) {
    std::copy_n(codes, n, out);
  } else {
    look_up_bytes(best_isa(), table->data(), codes, out, n);
  }
}

void start(const RunContext& c, std::size_t operand, std::int64_t offset, std::span<std::byte> state) {
  const std::byte* initial = input_of<std::byte>(c, operand);
  if (initial == nullptr) {
    std::ranges::fill(state, std::byte{0});
  } else {
    std::copy_n(initial + offset, state.size(), state.data());
  }
}

template <typename Steps>
Status run(const StaticRecurrent<Steps>& r, const RunContext& c) {
  const std::int64_t state = r.batch * r.hidden, columns = r.columns();
  const bool has_cell = r.gates == 4;
  std::byte* at = c.scratch;
  auto part = [&](std::uint64_t bytes) { return std::exchange(at, at + bytes); };
  StepCodes codes{};
  std::byte* const x = part(r.x_bytes);
  codes.h_part = part(r.gate_bytes);
  codes.gates = part(r.gate_bytes);
  codes.h = part(r.state_bytes);
  codes.cell = part(r.state_bytes);
  codes.spare[0] = part(r.state_bytes);
  codes.spare[1] = part(r.state_bytes);
  const auto directions = static_cast<std::int64_t>(r.all.size());
  for (std::int64_t d = 0; d < directions; ++d) {
    const Direction<Steps>& direction = r.all[static_cast<std::size_t>(d)];
    const CodeTable* to_h = direction.changes_scale ? &direction.to_h : nullptr;
    direction.x.run(c, 0, input_of<std::byte>(c, ops::kSX), x, at);
    start(c, ops::kSInitialH, d * state, {codes.h, static_cast<std::size_t>(state)});
    if (has_cell) start(c, ops::kSInitialC, d * state, {codes.cell, static_cast<std::size_t>(state)});
    for (std::int64_t k = 0; k < r.steps; ++k) {
      const std::int64_t t = direction.reverse ? r.steps - 1 - k : k;
      codes.x = x + t * r.batch * columns;
      direction.h.run(c, k == 0, codes.h, codes.h_part, at);
      step(r, direction.steps, k == 0, codes);
      store(to_h, codes.h, c.outputs[0] + (t * directions + d) * state, state);
    }
    store(to_h, codes.h, c.outputs[1] + d * state, state);
    if (has_cell)
      store(direction.changes_scale ? &direction.to_c : nullptr, codes.cell, c.outputs[2] + d * state, state);
  }
  return {};
}

struct Operands {
  DynamicWeights w, r;
  std::vector<float> bias;  // empty where there is none
};

Result<Operands> operands_of(const PrepareContext& context, std::int64_t directions, std::int64_t columns) {
  Operands o;
  AOQ_ASSIGN(o.w, dynamic_weights(context, ops::kSW, ops::kSWScale, directions * columns));
  AOQ_ASSIGN(o.r, dynamic_weights(context, ops::kSR, ops::kSRScale, directions * columns));
  AOQ_ASSIGN(o.bias, float_constants(context, ops::kSBias, directions * 2 * columns));
  return o;
}

template <typename Steps>
Result<StaticRecurrent<Steps>> prepare(const PrepareContext& context, const ops::StaticForm& form) {
  const std::vector<std::int64_t>& x = context.inputs[ops::kSX].shape;
  StaticRecurrent<Steps> r;
  r.steps = x[0];
  r.batch = x[1];
  r.input = x[2];
  r.hidden = context.attributes.integer("hidden");
  r.gates = form.form.gates;
  if (r.steps == 0 || r.batch == 0 || r.input == 0) return refuse("there is nothing to do");
  const std::int64_t directions = context.inputs[ops::kSW].shape[0], columns = r.columns();
  const ops::StaticQParams q = ops::read_static_qparams(context.attributes, form);
  AOQ_ASSIGN(const Operands o, operands_of(context, directions, columns));
  for (std::int64_t d = 0; d < directions; ++d) {
    const std::vector<CodeQParams>& inner = q.inner[static_cast<std::size_t>(d)];
    const CodeQParams states[] = {inner[form.hidden], q.initial_h};
    auto bias = [&](std::int64_t part) { return o.bias.empty() ? nullptr : o.bias.data() + (2 * d + part) * columns; };
    const CodeProduct::Data of_x{
        o.w.codes + d * columns * r.input, o.w.scale.data() + d * columns, bias(0), {&q.x, 1}, inner[0]};
    const CodeProduct::Data of_h{o.r.codes + d * columns * r.hidden, o.r.scale.data() + d * columns, bias(1), states,
                                 inner[1]};
    AOQ_ASSIGN(CodeProduct product_x, CodeProduct::make(context, {r.steps * r.batch, r.input, columns}, of_x));
    AOQ_ASSIGN(CodeProduct product_h, CodeProduct::make(context, {r.batch, r.hidden, columns}, of_h));
    r.kernel_bytes = std::max({r.kernel_bytes, product_x.scratch_bytes(), product_h.scratch_bytes()});
    r.all.push_back({std::move(product_x), std::move(product_h), Steps(inner, q),
                     ops::requantize_table(inner[form.hidden], q.inner[0][form.hidden]),
                     ops::requantize_table(inner[form.cell], q.inner[0][form.cell]), d > 0,
                     d == 1 || context.attributes.string("direction") == "reverse"});
  }
  r.x_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(r.steps * r.batch * columns));
  r.gate_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(r.batch * columns));
  r.state_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(r.batch * r.hidden));
  return r;
}

template <typename Steps>
KernelResult static_kernel(const PrepareContext& context, const ops::StaticForm& form) {
  AOQ_ASSIGN(StaticRecurrent<Steps> r, prepare<Steps>(context, form));
  KernelNeeds needs{.scratch_bytes = r.scratch_bytes()};
  return make_kernel([r = std::move(r)](const RunContext& c) { return run(r, c); }, needs);
}

}  // namespace

KernelResult make_lstm_static(const PrepareContext& context) {
  return static_kernel<LstmSteps>(context, ops::kStaticLstm);
}

KernelResult make_gru_static(const PrepareContext& context) {
  return static_kernel<GruSteps>(context, ops::kStaticGru);
}

}  // namespace aoq::cpu
