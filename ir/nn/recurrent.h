// Recurrent modules with PyTorch's parameters (weight_ih_l0, weight_hh_l0_reverse, ...) and order of gates; the graph
// has the IR's order (ir/ops/recurrent.h).
#pragma once

#include "ir/nn/modules.h"

namespace aoq::nn {

struct RecurrentOptions {
  std::int64_t layers = 1;
  bool bias = true;
  bool batch_first = false;
  bool bidirectional = false;
  std::string nonlinearity = "tanh";  // RNN: tanh or relu
};

struct RecurrentResult {
  Proxy output;  // [T, B, D*H], or [B, T, D*H] with batch_first
  Proxy h, c;    // [layers*D, B, H]; c of an LSTM only
};

// What LSTM, GRU and RNN share. x [T, B, I] or [B, T, I]; initial states [layers*D, B, H], absent: zeros.
class RecurrentBase : public Layer {
 public:
  struct Form {
    const char* type_name;
    Op op;
    std::vector<int> order;  // the IR's gate g is PyTorch's gate order[g]
  };
  RecurrentBase(Slot slot, Form form, std::int64_t input, std::int64_t hidden, RecurrentOptions options);
  const char* type_name() const override { return form_.type_name; }
  // The outputs only.
  Proxy forward(const Proxy& x) override { return run(x, {}, {}).output; }
  using Module::operator();
  RecurrentResult operator()(const Proxy& x, const Proxy& h, const Proxy& c = {});
  std::int64_t hidden() const { return hidden_; }

 private:
  RecurrentResult run(const Proxy& x, const Proxy& h, const Proxy& c);
  RecurrentResult run_layer(std::int64_t layer, const Proxy& x, const Proxy& h, const Proxy& c);
  // The parameter of every direction of a layer, gates reordered: [D, G*H, ...].
  Proxy gates(const Proxy& like, std::int64_t layer, const char* first, const char* second);

  Form form_;
  std::int64_t hidden_;
  RecurrentOptions options_;
  std::map<std::string, std::unique_ptr<Parameter>> weights_;
};

class LSTM : public RecurrentBase {
 public:
  LSTM(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options = {});
};
class GRU : public RecurrentBase {
 public:
  GRU(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options = {});
};
class RNN : public RecurrentBase {
 public:
  RNN(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options = {});
};

// One step: x [B, I], states [B, H].
class RecurrentCell : public Layer {
 public:
  RecurrentCell(Slot slot, RecurrentBase::Form form, std::int64_t input, std::int64_t hidden, RecurrentOptions options);
  const char* type_name() const override { return form_.type_name; }
  Proxy forward(const Proxy& x) override { return run(x, {}, {}).h; }
  using Module::operator();
  RecurrentResult operator()(const Proxy& x, const Proxy& h, const Proxy& c = {});

 private:
  RecurrentResult run(const Proxy& x, const Proxy& h, const Proxy& c);

  RecurrentBase::Form form_;
  std::int64_t hidden_;
  RecurrentOptions options_;

 public:
  Parameter weight_ih, weight_hh, bias_ih, bias_hh;
};

class LSTMCell : public RecurrentCell {
 public:
  LSTMCell(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options = {});
};
class GRUCell : public RecurrentCell {
 public:
  GRUCell(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options = {});
};
class RNNCell : public RecurrentCell {
 public:
  RNNCell(Slot slot, std::int64_t input, std::int64_t hidden, RecurrentOptions options = {});
};

// Scaled dot-product attention over heads, batch first: query [B, L, E], key and value [B, S, E]. Parameters as
// PyTorch's: in_proj_weight [3E, E], in_proj_bias, out_proj.weight, out_proj.bias.
class MultiheadAttention : public Layer {
 public:
  MultiheadAttention(Slot slot, std::int64_t embed, std::int64_t heads, Bias bias = Bias::with);
  const char* type_name() const override { return "MultiheadAttention"; }
  // Self attention.
  Proxy forward(const Proxy& x) override { return run(x, x, x); }
  using Module::operator();
  Proxy operator()(const Proxy& query, const Proxy& key, const Proxy& value);

 private:
  Proxy run(const Proxy& query, const Proxy& key, const Proxy& value);

  std::int64_t embed_, heads_;

 public:
  Parameter in_proj_weight, in_proj_bias;
  Linear out_proj;
};

}  // namespace aoq::nn
