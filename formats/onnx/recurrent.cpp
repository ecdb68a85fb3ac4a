// LSTM, GRU and RNN. Layout 1 (batch first) becomes permutations around the op.
#include "formats/onnx/context.h"

namespace aoq::onnx {

namespace {

// Only the activations that need no parameters, or whose parameters are the defaults, are understood.
Status check_activations(NodeContext& c) {
  if (!c.reals("activation_alpha").empty() || !c.reals("activation_beta").empty()) {
    return c.unsupported("activation_alpha and activation_beta are not supported");
  }
  return {};
}

Attributes common_attributes(NodeContext& c, const Type& recurrence) {
  c.ignore({"output_sequence"});
  std::int64_t hidden =
      recurrence.rank() == 3 && recurrence.shape[2].is_constant() ? recurrence.shape[2].constant() : 0;
  Attributes a{{"hidden", c.integer("hidden_size", hidden)},
               {"direction", c.string("direction", "forward")},
               {"activations", c.strings("activations")},
               {"clip", c.real("clip", 0.0)}};
  return a;
}

// Swaps time and batch of what the op reads or gives.
Result<Value*> swapped(NodeContext& c, Value* v, bool is_batch_first) {
  if (v == nullptr || !is_batch_first) return v;
  if (v->type().rank() != 3) return error(Code::invalid_model, "an operand has rank {}, expected 3", v->type().rank());
  return c.permute(v, {1, 0, 2});
}

Status import_recurrent(NodeContext& c, Op op, std::size_t first_state, std::size_t states) {
  AOQ_TRY(check_activations(c));
  Attributes attributes = common_attributes(c, c.type(2));
  if (op == Op::lstm) attributes.set("input_forget", c.integer("input_forget", 0) != 0);
  if (op == Op::gru) attributes.set("linear_before_reset", c.integer("linear_before_reset", 0) != 0);
  std::int64_t layout = c.integer("layout", 0);
  if (layout != 0 && layout != 1) return c.invalid("layout is {}", layout);
  bool is_batch_first = layout == 1;
  std::vector<Value*> inputs;
  for (std::size_t i = 0; i < c.input_count(); ++i) {
    AOQ_ASSIGN(Value * v, c.optional_input(i));
    bool has_batch = i == 0 || (i >= first_state && i < first_state + states);
    if (has_batch) {
      AOQ_ASSIGN(v, swapped(c, v, is_batch_first));
    }
    inputs.push_back(v);
  }
  AOQ_ASSIGN(std::vector<Value*> y, c.emit_all(op, std::move(inputs), std::move(attributes)));
  if (is_batch_first) {
    AOQ_ASSIGN(y[0], c.permute(y[0], {2, 0, 1, 3}));
    for (std::size_t i = 1; i < y.size(); ++i) {
      AOQ_ASSIGN(y[i], swapped(c, y[i], true));
    }
  }
  for (std::size_t i = 0; i < y.size(); ++i) AOQ_TRY(c.result(y[i], i));
  return {};
}

Status lstm(NodeContext& c) {
  return import_recurrent(c, Op::lstm, 5, 2);
}
Status gru(NodeContext& c) {
  return import_recurrent(c, Op::gru, 5, 1);
}
Status rnn(NodeContext& c) {
  return import_recurrent(c, Op::rnn, 5, 1);
}

const Handler kHandlers[] = {
    {"GRU", 7, 0, 3, 6, 2, gru},
    {"LSTM", 7, 0, 3, 8, 3, lstm},
    {"RNN", 7, 0, 3, 6, 2, rnn},
};

}  // namespace

std::span<const Handler> recurrent_handlers() {
  return kHandlers;
}

}  // namespace aoq::onnx
