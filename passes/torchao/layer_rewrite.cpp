#include "passes/torchao/layer_rewrite.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "ir/narrow_linear.h"
#include "passes/quantize/arithmetic.h"
#include "passes/rewrite/common.h"

namespace aoq::torchao {

namespace {

// Codes of blocks with one scale for each row and group of K, as the ops read them.
struct Parameters {
  Tensor scale;                      // [N, groups] in f32, or what is narrower and exact
  std::optional<Tensor> zero_point;  // integers or floats [N, groups]; absent where all are the codes' own zero
  std::int64_t group = 1;
};

// The numbers in the narrowest of the types that holds every one of them exactly; f32 if none does.
Result<Tensor> narrowest(const std::vector<std::int64_t>& shape, const std::vector<float>& values,
                         std::initializer_list<DType> types) {
  for (DType dtype : types) {
    AOQ_ASSIGN(Tensor narrow, Tensor::make(dtype, shape));
    std::vector<float> back(values.size());
    dtype_info(dtype).from_float(values, narrow.mutable_bytes().data(), 0);
    dtype_info(dtype).to_float(narrow.bytes().data(), 0, back);
    if (back == values) return narrow;
  }
  return rewrite::float_tensor(shape, values);
}

Result<Parameters> parameters_of(const QuantizedWeight& weight) {
  const std::int64_t rows = weight.codes.shape()[0], depth = weight.codes.shape()[1];
  const std::vector<std::int64_t> given = weight.parameter_shape();
  Parameters out;
  out.group = weight.block_size[1];
  const std::int64_t groups = depth / out.group, rows_per_scale = rows / given[0];
  const auto spread = [&](const auto& values, auto* to) {
    for (std::int64_t n = 0; n < rows; ++n) {
      for (std::int64_t g = 0; g < groups; ++g) {
        to->push_back(values[static_cast<std::size_t>(n / rows_per_scale * groups + g)]);
      }
    }
  };
  const std::vector<std::int64_t> shape{rows, groups};
  std::vector<float> scale;
  spread(weight.qparams.scale, &scale);
  AOQ_ASSIGN(out.scale, narrowest(shape, scale, {DType::f8_e8m0, DType::f8_e4m3fn, weight.dtype}));
  if (is_float(weight.codes.dtype())) return out;
  if (!weight.qparams.float_zero_point.empty()) {
    std::vector<float> zeros;
    spread(weight.qparams.float_zero_point, &zeros);
    AOQ_ASSIGN(out.zero_point, narrowest(shape, zeros, {weight.dtype}));
    return out;
  }
  const DType dtype = weight.codes.dtype();
  const std::int64_t own_zero = is_signed_integer(dtype) ? 0 : std::int64_t{1} << (dtype_info(dtype).bits - 1);
  std::vector<std::int64_t> zeros;
  spread(weight.qparams.zero_point, &zeros);
  if (std::ranges::all_of(zeros, [&](std::int64_t z) { return z == own_zero; })) return out;
  const DType zero_dtype = is_signed_integer(dtype) ? DType::i8 : DType::u8;
  AOQ_ASSIGN(out.zero_point, Tensor::make(zero_dtype, shape));
  for (std::size_t i = 0; i < zeros.size(); ++i) {
    store_integer(zero_dtype, out.zero_point->mutable_bytes().data(), static_cast<std::int64_t>(i), zeros[i]);
  }
  return out;
}

std::string requested_name(const QuantizedWeight& weight) {
  const DTypeInfo& info = dtype_info(weight.codes.dtype());
  if (info.kind == DTypeKind::floating) return std::string(info.name);
  return fmt::format("int{}", info.bits);
}

// The name in the source model of the constant that is operand `i`; empty where it has none.
std::string origin_of(std::size_t i, const Node& n) {
  const std::vector<std::string>& origins = n.input(i)->def()->origins;
  return origins.empty() ? std::string() : origins.front();
}

// The constants of a weight.
struct TableParts {
  const Tensor& codes;
  const Parameters& parameters;
  std::string origin;
};
struct Table {
  Value* codes;
  Value* scale;
  Value* zero_point;  // null without
};

Table add_table(Graph& graph, Node* before, const TableParts& parts, NarrowConstants& constants) {
  const auto constant = [&](const Tensor& tensor, const char* suffix) {
    return constants.get(graph, tensor, before, parts.origin.empty() ? parts.origin : parts.origin + suffix);
  };
  const Parameters& p = parts.parameters;
  return {constant(parts.codes, ""), constant(p.scale, ".scale"),
          p.zero_point ? constant(*p.zero_point, ".zero_point") : nullptr};
}

std::int64_t bits_of(const Value* v) {
  const Tensor* t = v == nullptr ? nullptr : constant_tensor(v);
  return t == nullptr ? 0 : static_cast<std::int64_t>(t->bytes().size()) * 8;
}

// `operands` of the reader hold the weight, the first of them its codes.
RewrittenLayer rewritten(const Node& reader, const QuantizedWeight& w, std::initializer_list<std::size_t> operands) {
  std::int64_t bits = 0;
  for (std::size_t i : operands) bits += i < reader.inputs().size() ? bits_of(reader.input(i)) : 0;
  RewrittenLayer layer;
  layer.codes = reader.input(*operands.begin());
  layer.bits_per_weight = static_cast<double>(bits) / static_cast<double>(w.inputs() * w.outputs());
  return layer;
}

class LinearRewrite {
 public:
  LinearRewrite(Graph& graph, Node* linear, NarrowConstants& constants)
      : graph_(graph), linear_(linear), constants_(constants) {}

  // Gives the op that reads the weight.
  Result<const Node*> run(const QuantizedWeight& weight) {
    if (weight.codebook) return run_codebook(weight);
    AOQ_ASSIGN(const Parameters parameters, parameters_of(weight));
    AOQ_ASSIGN(Value * x, cast(linear_->input(0), DType::f32));
    if (!weight.pre_scale.empty()) {
      Value* factors = constant(rewrite::float_tensor({weight.inputs()}, weight.pre_scale), ".pre_scale");
      AOQ_ASSIGN(Node * scaled, rewrite::node_beside(graph_, *linear_, Op::mul, {x, factors}, linear_));
      x = scaled->output();
    }
    const Table table = add_table(graph_, linear_, {weight.codes, parameters, origin_of(1, *linear_)}, constants_);
    std::vector<Value*> inputs{x, table.codes, table.scale, table.zero_point, nullptr};
    AOQ_ASSIGN(inputs[4], cast(linear_->input(2), DType::f32));
    Attributes attributes{{"group", parameters.group}};
    const bool is_float8 = weight.activation && is_float(weight.activation->dtype);
    if (is_float8) {
      AOQ_ASSIGN(inputs[0], through_float8(*weight.activation, x));
    } else if (weight.activation)
      AOQ_TRY(add_activation(*weight.activation, inputs, attributes));
    const Op op = weight.activation && !is_float8 ? Op::linear_dynamic : Op::linear_weight_only;
    AOQ_ASSIGN(Node * made, graph_.create_like(*linear_, op, std::move(inputs), std::move(attributes), linear_));
    made->requested = requested_name(weight);
    if (op == Op::linear_weight_only) made->reason = "its weight is narrow, its arithmetic is float";
    Node* last = made;
    AOQ_ASSIGN(Value * y, cast(made->output(), linear_->output()->type().dtype));
    last = y->def();
    if (linear_->input(3) != nullptr) {
      AOQ_ASSIGN(last, rewrite::node_beside(graph_, *linear_, Op::add, {last->output(), linear_->input(3)}, linear_));
    }
    AOQ_ASSIGN(last, rewrite::split_activation(graph_, *linear_, last, linear_));
    graph_.replace_uses(linear_->output(), last->output());
    graph_.erase(linear_);
    return made;
  }

 private:
  Value* constant(const Tensor& tensor, const char* suffix) {
    const std::string origin = origin_of(1, *linear_);
    Value* v = graph_.constant(tensor, linear_, origin.empty() ? origin : origin + suffix);
    v->def()->scope = linear_->scope;
    return v;
  }

  // The layer stays a float one: its weight is looked up when the model is loaded.
  Result<const Node*> run_codebook(const QuantizedWeight& weight) {
    const Codebook& codebook = *weight.codebook;
    std::vector<Value*> inputs{constant(weight.codes, ""), constant(codebook.entries, ".codebook"),
                               constant(codebook.scales, ".scale")};
    AOQ_ASSIGN(Node * looked_up, graph_.create_like(*linear_, Op::dequantize_codebook, std::move(inputs), {}, linear_));
    looked_up->requested.clear();
    AOQ_ASSIGN(Value * w, cast(looked_up->output(), linear_->input(1)->type().dtype));
    graph_.set_input(linear_, 1, w);
    linear_->reason = "its weight is looked up in a codebook when the model is loaded";
    return looked_up;
  }

  Result<Value*> through_float8(const ActivationQuantization& activation, Value* x) {
    Attributes attributes{{"dtype", activation.dtype}};
    const Granularity& g = activation.granularity;
    if (g.kind == Granularity::Kind::group) {
      attributes.set("granularity", std::string("group"));
      attributes.set("group", g.value);
    } else if (g.kind != Granularity::Kind::tensor) {
      attributes.set("granularity", std::string("token"));
    }
    if (activation.amax_min) attributes.set("amax_min", static_cast<double>(*activation.amax_min));
    if (activation.amax_max) attributes.set("amax_max", static_cast<double>(*activation.amax_max));
    std::vector<Value*> inputs{x};
    if (activation.fixed) {
      const float scale = static_cast<float>(activation.fixed->scale);
      inputs.push_back(constant(rewrite::float_tensor({1}, {&scale, 1}), ".x_scale"));
    }
    AOQ_ASSIGN(Node * made, rewrite::node_beside(graph_, *linear_, Op::fake_quantize, std::move(inputs), linear_,
                                                 std::move(attributes)));
    return made->output();
  }

  Status add_activation(const ActivationQuantization& activation, std::vector<Value*>& inputs, Attributes& attributes) {
    attributes.set("symmetric", activation.mapping != MappingType::asymmetric);
    if (!activation.fixed) {
      if (activation.granularity.kind != Granularity::Kind::tensor) return {};
      return error(Code::unsupported, "a scale for the whole input, chosen in every run: use PerRow, or a static one");
    }
    AOQ_ASSIGN(Tensor scale, Tensor::make(DType::f32, {1}));
    scale.mutable_as<float>()[0] = static_cast<float>(activation.fixed->scale);
    inputs.push_back(constant(scale, ".x_scale"));
    // The op's codes are i8: u8 codes less 128.
    const std::int64_t shift = activation.dtype == DType::u8 ? 128 : 0;
    if (activation.fixed->zero_point == shift) return {};
    AOQ_ASSIGN(Tensor zero_point, Tensor::make(DType::i32, {1}));
    zero_point.mutable_as<std::int32_t>()[0] = static_cast<std::int32_t>(activation.fixed->zero_point - shift);
    inputs.push_back(constant(zero_point, ".x_zero_point"));
    return {};
  }

  // The value in another dtype; itself where it has it, or is absent.
  Result<Value*> cast(Value* v, DType dtype) {
    if (v == nullptr || v->type().dtype == dtype) return v;
    AOQ_ASSIGN(Node * made, rewrite::node_beside(graph_, *linear_, Op::cast, {v}, linear_, {{"dtype", dtype}}));
    return made->output();
  }

  Graph& graph_;
  Node* linear_;
  NarrowConstants& constants_;
};

// The zero point that a weight without any has, as tables say it.
Result<Tensor> common_zero_point(DType codes) {
  const DType dtype = is_float(codes) ? DType::f32 : is_signed_integer(codes) ? DType::i8 : DType::u8;
  AOQ_ASSIGN(Tensor zero, Tensor::make(dtype, {1, 1}));
  if (is_float(dtype)) {
    zero.mutable_as<float>()[0] = 0.0f;
  } else {
    store_integer(dtype, zero.mutable_bytes().data(), 0, code_centre(codes));
  }
  return zero;
}

}  // namespace

const Tensor* embedding_table(const Node& n) {
  if (!n.is(Op::gather)) return nullptr;
  const Tensor* table = constant_tensor(n.input(0));
  if (table == nullptr || table->shape().size() != 2) return nullptr;
  const std::int64_t axis = n.attributes().integer("axis");
  const DType dtype = table->dtype();
  const bool is_plain = dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
  return is_plain && (axis == 0 || axis == -2) ? table : nullptr;
}

Value* NarrowConstants::get(Graph& graph, const Tensor& tensor, Node* before, const std::string& origin) {
  for (Value* v : made_) {
    const Tensor& found = *constant_tensor(v);
    const bool is_same = found.dtype() == tensor.dtype() && found.shape() == tensor.shape() &&
                         std::ranges::equal(found.bytes(), tensor.bytes());
    if (is_same) return v;
  }
  Value* v = graph.constant(tensor, before, origin);
  v->def()->scope = before->scope;
  made_.push_back(v);
  return v;
}

Result<RewrittenLayer> rewrite_linear(Graph& graph, Node* linear, const QuantizedWeight& weight,
                                      NarrowConstants& constants) {
  AOQ_ASSIGN(const Node* reader, LinearRewrite(graph, linear, constants).run(weight));
  if (weight.codebook) return rewritten(*reader, weight, {0, 1, 2});
  return rewritten(*reader, weight, {1, 2, 3, 5, 6});
}

Result<RewrittenLayer> rewrite_embedding(Graph& graph, Node* gather, const QuantizedWeight& weight,
                                         NarrowConstants& constants) {
  AOQ_ASSIGN(Parameters parameters, parameters_of(weight));
  if (!parameters.zero_point) {
    AOQ_ASSIGN(parameters.zero_point, common_zero_point(weight.codes.dtype()));
  }
  const Table table = add_table(graph, gather, {weight.codes, parameters, origin_of(0, *gather)}, constants);
  const DType dtype = gather->output()->type().dtype;
  AOQ_ASSIGN(Node * made,
             graph.create_like(*gather, Op::qembedding, {table.codes, table.scale, table.zero_point, gather->input(1)},
                               {{"columns", weight.inputs()}, {"group", parameters.group}}, gather));
  made->requested = requested_name(weight);
  made->reason = "its table is narrow, its rows are float";
  Node* last = made;
  if (dtype != DType::f32) {
    AOQ_ASSIGN(last, rewrite::node_beside(graph, *gather, Op::cast, {made->output()}, gather, {{"dtype", dtype}}));
  }
  graph.replace_uses(gather->output(), last->output());
  graph.erase(gather);
  return rewritten(*made, weight, {0, 1, 2});
}

}  // namespace aoq::torchao
