#include "passes/quantize/weights.h"

#include <algorithm>
#include <cmath>

#include "ir/epilogue.h"
#include "ir/error_id.h"
#include "passes/quantize/check_recipe.h"
#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

constexpr float kMaxHalf = 65504.0f;

float to_f16_and_back(float v) {
  v = std::clamp(v, -kMaxHalf, kMaxHalf);
  float back = 0;
  std::byte half[2];
  dtype_info(DType::f16).from_float({&v, 1}, half, 0);
  dtype_info(DType::f16).to_float(half, 0, {&back, 1});
  return back;
}

// The name of a constant in the source model; empty where it has none.
std::string origin_of(const Value* constant) {
  const std::vector<std::string>& origins = constant->def()->origins;
  return origins.empty() ? std::string() : origins.front();
}

std::string scale_origin(const std::string& origin) {
  return origin.empty() ? origin : origin + ".scale";
}

}  // namespace

void decline(Node* n, std::string_view figures) {
  n->requested = "int8";
  n->reason = std::string(kDeclined) + std::string(figures);
}

bool is_declined(const Node& n) {
  return n.requested == "int8" && n.reason.starts_with(kDeclined);
}

WeightForm weight_form(const QConfig& config) {
  if (config.activation.kind != "placeholder") return WeightForm::static_int8;
  if (is_dynamic(config.activation)) return WeightForm::dynamic_int8;
  if (config.weight.kind == "placeholder") return WeightForm::float16;
  return config.weight.qscheme == QScheme::per_channel_affine_float_qparams ? WeightForm::rows
                                                                            : WeightForm::weight_only;
}

bool is_recurrent(const Node& n) {
  return is_one_of(n, {Op::lstm, Op::gru, Op::rnn});
}

bool is_embedding(const Node& n) {
  if (!n.is(Op::embedding_bag) && !n.is(Op::gather)) return false;
  const Tensor* table = constant_tensor(n.input(0));
  if (table == nullptr || table->dtype() != DType::f32 || table->shape().size() != 2) return false;
  if (n.is(Op::embedding_bag)) return true;
  const std::int64_t axis = n.attributes().integer("axis");
  return axis == 0 || axis == -2;
}

Result<IntegerWeight> quantize_weight(const Tensor& weight, const ObserverSpec& spec) {
  AOQ_ASSIGN(std::unique_ptr<Observer> observer, make_observer(spec));
  AOQ_TRY(observer->observe(weight.view()));
  AOQ_ASSIGN(const QParams q, observer->qparams());
  return quantize_weight(weight, q);
}

Result<IntegerWeight> quantize_weight(const Tensor& weight, const QParams& q) {
  if (q.scale.empty() || weight.element_count() % static_cast<std::int64_t>(q.scale.size()) != 0) {
    return error(ErrorId::ranges_mismatch, "{} scales for a weight {}", q.scale.size(),
                 shape_to_string(weight.shape()));
  }
  AOQ_TRY(check_weight_qparams(q, weight.shape().empty() ? 1 : weight.shape()[0]));
  IntegerWeight out;
  AOQ_ASSIGN(out.codes, Tensor::make(DType::i8, weight.shape()));
  out.scale = q.scale;
  std::span<const float> w = weight.as<float>();
  std::span<std::int8_t> codes = out.codes.mutable_as<std::int8_t>();
  out.error.resize(w.size());
  std::size_t per_scale = w.size() / q.scale.size();
  for (std::size_t i = 0; i < w.size(); ++i) {
    float scale = q.scale[i / per_scale];
    std::int32_t code = quantize_value(w[i], 1.0f / scale, 0, static_cast<std::int32_t>(q.range.min),
                                       static_cast<std::int32_t>(q.range.max));
    codes[i] = static_cast<std::int8_t>(code);
    out.error[i] = w[i] - dequantize_value(code, scale, 0);
  }
  return out;
}

namespace {

Status check_integer_weight(const ObserverSpec& spec) {
  const bool is_symmetric =
      spec.qscheme == QScheme::per_tensor_symmetric || spec.qscheme == QScheme::per_channel_symmetric;
  if (spec.dtype == DType::i8 && is_symmetric && (!is_per_channel(spec.qscheme) || spec.ch_axis == 0)) return {};
  return error(ErrorId::recipe_invalid,
               "weights of recurrent ops are i8 and symmetric, per tensor or per channel of axis 0; the recipe has {}",
               print_observer_spec(spec));
}

// Matrix d of w [directions, M, K].
Result<Tensor> matrix_of(const Tensor& w, std::int64_t d) {
  const std::int64_t rows = w.shape()[1], columns = w.shape()[2];
  const auto bytes = static_cast<std::size_t>(rows * columns * 4);
  return Tensor::copy_of(DType::f32, {rows, columns}, w.bytes().subspan(static_cast<std::size_t>(d) * bytes, bytes));
}

Status quantize_recurrent_weight(Graph& graph, Node* n, std::size_t input, const ObserverSpec& spec) {
  const Tensor& w = *constant_tensor(n->input(input));
  const std::int64_t directions = w.shape()[0];
  AOQ_ASSIGN(Tensor codes, Tensor::make(DType::i8, w.shape()));
  std::vector<float> scale;
  auto at = codes.mutable_as<std::int8_t>().begin();
  for (std::int64_t d = 0; d < directions; ++d) {
    AOQ_ASSIGN(const Tensor matrix, matrix_of(w, d));
    AOQ_ASSIGN(const IntegerWeight one, quantize_weight(matrix, spec));
    at = std::ranges::copy(one.codes.as<std::int8_t>(), at).out;
    scale.insert(scale.end(), one.scale.begin(), one.scale.end());
  }
  const bool per_channel = is_per_channel(spec.qscheme);
  const std::string origin = origin_of(n->input(input));
  std::vector<std::int64_t> shape{directions};
  if (per_channel) shape = {directions, w.shape()[1], 1};
  Value* code_value = graph.constant(std::move(codes), n, origin);
  Value* scale_value = graph.constant(float_tensor(shape, scale), n, scale_origin(origin));
  AOQ_ASSIGN(Node * dequantize, graph.create(Op::dequantize, {code_value, scale_value},
                                             {{"granularity", std::string(per_channel ? "token" : "axis")}}, n));
  dequantize->scope = n->scope;
  if (!origin.empty()) dequantize->origins = {origin};
  graph.set_input(n, input, dequantize->output());
  return {};
}

}  // namespace

Status quantize_recurrent_weights(Graph& graph, Node* n, const ObserverSpec& spec) {
  AOQ_TRY(check_integer_weight(spec));
  AOQ_TRY(quantize_recurrent_weight(graph, n, 1, spec));
  return quantize_recurrent_weight(graph, n, 2, spec);
}

namespace {

struct Rows {
  Tensor codes;
  std::vector<float> scale, bias;
};

Result<Rows> quantize_rows(const Tensor& table, const ObserverSpec& spec) {
  const int bits = dtype_info(spec.dtype).bits;
  if ((spec.dtype != DType::u8 && spec.dtype != DType::u4) || spec.ch_axis != 0) {
    return error(ErrorId::recipe_invalid, "tables of embeddings have codes of u8 or u4 and axis 0; the recipe has {}",
                 print_observer_spec(spec));
  }
  AOQ_ASSIGN(std::unique_ptr<Observer> observer, make_observer(spec));
  AOQ_TRY(observer->observe(table.view()));
  AOQ_ASSIGN(const QParams q, observer->qparams());
  const std::int64_t rows = table.shape()[0], columns = table.shape()[1], row_bytes = (columns * bits + 7) / 8;
  Rows out;
  AOQ_ASSIGN(out.codes, Tensor::make(DType::u8, {rows, row_bytes}));
  std::span<std::uint8_t> codes = out.codes.mutable_as<std::uint8_t>();
  std::ranges::fill(codes, std::uint8_t{0});
  for (std::int64_t r = 0; r < rows; ++r) {
    const float scale = q.scale[static_cast<std::size_t>(r)];
    const float zero_point = q.float_zero_point[static_cast<std::size_t>(r)];
    const float bias = -(zero_point * scale);
    out.scale.push_back(bits == 4 ? to_f16_and_back(scale) : scale);
    out.bias.push_back(bits == 4 ? to_f16_and_back(bias) : bias);
    for (std::int64_t k = 0; k < columns; ++k) {
      // With a float zero point rounding comes last.
      const float v =
          std::nearbyintf(table.as<float>()[static_cast<std::size_t>(r * columns + k)] * (1.0f / scale) + zero_point);
      const float code = std::clamp(v, static_cast<float>(q.range.min), static_cast<float>(q.range.max));
      const std::int64_t at = k * bits / 8, shift = k * bits % 8;
      codes[static_cast<std::size_t>(r * row_bytes + at)] |=
          static_cast<std::uint8_t>(static_cast<int>(code) << static_cast<int>(shift));
    }
  }
  return out;
}

// The rows that another reader of the table has got already: their codes are the constant right behind it.
Value* quantized_before(const Value* table, std::int64_t bits) {
  const Node* codes = table->def()->next();
  if (!codes->is(Op::constant)) return nullptr;
  for (const Use& use : codes->output()->uses()) {
    const Node& rows = *use.user;
    if (rows.is(Op::dequantize_rows) && use.operand == 0 && rows.attributes().integer("bits") == bits &&
        rows.output()->type().shape == table->type().shape && codes->label() == table->def()->label()) {
      return rows.output();
    }
  }
  return nullptr;
}

}  // namespace

Status quantize_table(Graph& graph, Node* n, const ObserverSpec& spec) {
  Value* table = n->input(0);
  const std::int64_t bits = dtype_info(spec.dtype).bits;
  if (Value* before = quantized_before(table, bits)) {
    graph.set_input(n, 0, before);
    return {};
  }
  const Tensor& floats = *constant_tensor(table);
  AOQ_ASSIGN(const Rows rows, quantize_rows(floats, spec));
  const std::string label = table->def()->label();
  // Right behind the table, where every reader of it can read them.
  Node* before = table->def()->next();
  const std::vector<std::int64_t> shape{floats.shape()[0]};
  Value* codes = graph.constant(rows.codes, before, label);
  Value* scale = graph.constant(float_tensor(shape, rows.scale), before, label + ".scale");
  Value* bias = graph.constant(float_tensor(shape, rows.bias), before, label + ".bias");
  AOQ_ASSIGN(Node * dequantize, graph.create(Op::dequantize_rows, {codes, scale, bias},
                                             {{"bits", bits}, {"columns", floats.shape()[1]}}, before));
  dequantize->scope = n->scope;
  dequantize->origins = {label};
  graph.set_input(n, 0, dequantize->output());
  return {};
}

Status round_weights_to_f16(Graph& graph, Node* n) {
  for (std::size_t i = 1; i <= (is_recurrent(*n) ? 2u : 1u); ++i) {
    const Tensor& w = *constant_tensor(n->input(i));
    AOQ_ASSIGN(Tensor rounded, Tensor::make(DType::f32, w.shape()));
    std::ranges::transform(w.as<float>(), rounded.mutable_as<float>().begin(), to_f16_and_back);
    graph.set_input(n, i, graph.constant(std::move(rounded), n, origin_of(n->input(i))));
  }
  return {};
}

}  // namespace aoq
