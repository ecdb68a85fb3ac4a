// Section "ops": quantized operators. Each case becomes a graph of dequantize - float op - quantize, goes through the
// lowering and runs on the CPU backend, as a model would.
#include <cmath>

#include "passes/pipeline.h"
#include "passes/quantize/embedding_rows.h"
#include "passes/quantize/scalar_qparams.h"
#include "tests/golden/run.h"
#include "tests/golden/sections.h"
#include "tools/machine.h"

namespace aoq::golden {
namespace {

struct Affine {
  float scale = 1;
  std::int64_t zero_point = 0;
};

Result<Affine> affine_of(const Json& json) {
  AOQ_ASSIGN(double scale, json_number(json, "scale"));
  AOQ_ASSIGN(std::int64_t zero_point, json_integer(json, "zero_point"));
  return Affine{static_cast<float>(scale), zero_point};
}

Tensor scalar(float v) {
  return Tensor::from_values<float>(DType::f32, {}, std::vector<float>{v}).value();
}

// A quantized graph under construction, then run. The first error is kept.
class Net {
 public:
  Net() { graph_.stage = Stage::quantized; }

  Value* op(Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
    Result<Node*> node = graph_.create(op, std::move(inputs), std::move(attributes));
    if (!node.ok()) {
      if (status_.ok()) status_ = node.status();
      return graph_.constant(scalar(0));
    }
    return (*node)->output();
  }
  Node* node(Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
    Value* v = this->op(op, std::move(inputs), std::move(attributes));
    return v->def();
  }
  Value* constant(Tensor t) { return graph_.constant(std::move(t)); }

  Value* input(const Tensor& t) {
    std::vector<Dim> shape(t.shape().begin(), t.shape().end());
    Value* v = graph_.input(fmt::format("x{}", data_.size()), Type{t.dtype(), std::move(shape), std::nullopt});
    data_.push_back(t);
    return v;
  }
  // An input of codes, dequantized.
  Value* activation(const Tensor& codes, const Affine& a) {
    return op(Op::dequantize, {input(codes)}, {{"scale", static_cast<double>(a.scale)}, {"zero_point", a.zero_point}});
  }
  Value* quantize(Value* v, const Affine& a) {
    return op(Op::quantize, {v},
              {{"dtype", DType::u8}, {"scale", static_cast<double>(a.scale)}, {"zero_point", a.zero_point}});
  }

  // Lowers and runs; the result. `kernels`: every op but quantize and dequantize must be one on codes.
  Result<Tensor> run(Value* result, bool on_codes = true) {
    AOQ_TRY(status_);
    AOQ_TRY(graph_.output({result}, {"y"}));
    const std::unique_ptr<TargetInfo> target = tools::make_target();
    PassContext context;
    context.target = target.get();
    AOQ_TRY(run_pipeline(graph_, context, {}));
    for (const Node* n : graph_.nodes()) {
      if (on_codes && n->output_count() > 0 && n->output()->type().dtype == DType::f32 && !n->inputs().empty() &&
          !n->is(Op::dequantize) && !n->def().has_trait(kLoweredOnly) && !n->def().has_trait(kDataMovement) &&
          !n->is(Op::choose_qparams)) {
        return error(Code::check_failed, "{} runs in float: {}", n->def().name, n->reason);
      }
    }
    return run_on_cpu(std::move(graph_), data_);
  }

 private:
  Graph graph_;
  Status status_;
  std::vector<Tensor> data_;
};

Result<Value*> activation_of(Net& net, const Case& c, const char* name) {
  AOQ_ASSIGN(const Tensor codes, c.input(name));
  AOQ_ASSIGN(const Affine a, affine_of(c.input_json(name)));
  return net.activation(codes, a);
}

// Equal but for at most `share` of the elements, which differ by at most `step`.
void equal_within(Case& c, const Tensor& found, double step, double share) {
  const Result<Tensor> expected = c.output("y");
  if (!expected.ok()) return c.fail(expected.status().message());
  c.equal_shape("y", found.shape());
  const std::vector<double> a = to_doubles(*expected), b = to_doubles(found);
  if (a.size() != b.size()) return;
  std::size_t differing = 0;
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    differing += a[i] != b[i];
    worst = std::max(worst, std::fabs(a[i] - b[i]));
  }
  // A single element of a small case may differ.
  const double allowed = std::max(1.0, share * static_cast<double>(a.size()));
  if (worst > step || static_cast<double>(differing) > allowed) {
    c.fail(fmt::format("y: {} of {} elements differ, by up to {}", differing, a.size(), worst));
  }
}

Result<Affine> output_affine(const Case& c) {
  return affine_of(c.args().contains("scale") ? c.args() : c.output_json("y"));
}

bool is_relu(const Case& c) {
  return c.op().find("_relu") != std::string::npos;
}

// What weights are multiplied by: codes, and a scale per channel or one.
Result<Value*> weight_of(Net& net, const Case& c, bool with_scales) {
  AOQ_ASSIGN(const Tensor codes, c.input("w"));
  const std::int64_t n = codes.shape()[0];
  Tensor scales = Tensor::make(DType::f32, {n}).value();
  std::span<float> s = scales.mutable_as<float>();
  std::fill(s.begin(), s.end(), 1.0f);
  const Json& info = c.input_json("w");
  if (with_scales && info.contains("scales")) {
    AOQ_ASSIGN(const Tensor given, c.tensor(info["scales"]));
    const std::vector<double> values = to_doubles(given);
    for (std::size_t i = 0; i < s.size(); ++i) s[i] = static_cast<float>(values[i]);
  } else if (with_scales) {
    AOQ_ASSIGN(const double scale, json_number(info, "scale"));
    std::fill(s.begin(), s.end(), static_cast<float>(scale));
  }
  return net.op(Op::dequantize, {net.constant(codes), net.constant(scales)},
                {{"granularity", std::string("axis")}, {"axis", std::int64_t{0}}});
}

Result<Value*> bias_of(Net& net, const Case& c) {
  if (!c.input_json("bias").is_object()) return static_cast<Value*>(nullptr);
  AOQ_ASSIGN(const Tensor bias, c.input("bias"));
  return net.constant(bias);
}

Result<Attributes> weighted_attributes(const Case& c, bool is_conv) {
  Attributes a;
  if (is_relu(c)) a.set("activation", std::string("relu"));
  if (!is_conv) return a;
  auto pair = [&](const char* key) -> Result<std::vector<std::int64_t>> {
    AOQ_ASSIGN(const std::int64_t v, json_integer(c.args(), key));
    return std::vector<std::int64_t>{v, v};
  };
  AOQ_ASSIGN(std::vector<std::int64_t> stride, pair("stride"));
  AOQ_ASSIGN(std::vector<std::int64_t> dilation, pair("dilation"));
  AOQ_ASSIGN(std::vector<std::int64_t> padding, pair("padding"));
  AOQ_ASSIGN(const std::int64_t groups, json_integer(c.args(), "groups"));
  a.set("pads", std::vector<std::int64_t>(4, padding[0]));
  a.set("stride", std::move(stride));
  a.set("dilation", std::move(dilation));
  a.set("groups", groups);
  return a;
}

// The exact sums, read through scales of 1.
Status check_accumulator(Case& c, Op op) {
  Net net;
  AOQ_ASSIGN(const Tensor codes, c.input("x"));
  AOQ_ASSIGN(Affine a, affine_of(c.input_json("x")));
  a.scale = 1;
  Value* x = net.activation(codes, a);
  AOQ_ASSIGN(Value * w, weight_of(net, c, false));
  AOQ_ASSIGN(Attributes attributes, weighted_attributes(c, op == Op::conv));
  attributes.set("activation", std::string("none"));
  AOQ_ASSIGN(const Tensor found, net.run(net.op(op, {x, w}, std::move(attributes))));
  c.equal("accumulator", found);
  return {};
}

template <Op kOp>
Status weighted(Case& c) {
  Net net;
  AOQ_ASSIGN(Value * x, activation_of(net, c, "x"));
  AOQ_ASSIGN(Value * w, weight_of(net, c, true));
  AOQ_ASSIGN(Value * bias, bias_of(net, c));
  AOQ_ASSIGN(Attributes attributes, weighted_attributes(c, kOp == Op::conv));
  AOQ_ASSIGN(const Affine out, output_affine(c));
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(net.op(kOp, {x, w, bias}, std::move(attributes)), out)));
  equal_within(c, found, 1, 0.005);
  return check_accumulator(c, kOp);
}

Status linear_dynamic(Case& c) {
  Net net;
  AOQ_ASSIGN(const Tensor data, c.input("x"));
  Value* x = net.input(data);
  Attributes attributes{{"dtype", DType::u8}, {"formula", std::string("aten")}};
  AOQ_ASSIGN(const bool reduce_range, json_bool(c.args(), "reduce_range"));
  attributes.set("reduce_range", reduce_range);
  Node* q = net.node(Op::choose_qparams, {x}, std::move(attributes));
  if (q->output_count() != 2) return net.run(x).status();
  Value* codes = net.op(Op::quantize, {x, q->output(0), q->output(1)}, {{"dtype", DType::u8}});
  Value* xd = net.op(Op::dequantize, {codes, q->output(0), q->output(1)});
  AOQ_ASSIGN(Value * w, weight_of(net, c, true));
  AOQ_ASSIGN(Value * bias, bias_of(net, c));
  AOQ_ASSIGN(Attributes linear_attributes, weighted_attributes(c, false));
  AOQ_ASSIGN(const Tensor found, net.run(net.op(Op::linear, {xd, w, bias}, std::move(linear_attributes))));
  c.equal_relative(c.output_json("y"), found, 2e-6, static_cast<std::size_t>(found.shape().back()));
  // What was chosen.
  Net chooser;
  Node* chosen = chooser.node(Op::choose_qparams, {chooser.input(data)},
                              {{"dtype", DType::u8}, {"formula", std::string("aten")}, {"reduce_range", reduce_range}});
  AOQ_ASSIGN(const Tensor scale, chooser.run(chosen->output(0), false));
  AOQ_ASSIGN(const double expected, json_number(c.args(), "x_scale"));
  c.equal_number("x_scale", static_cast<float>(expected), to_doubles(scale)[0]);
  return {};
}

Status linear_dynamic_fp16(Case& c) {
  Net net;
  AOQ_ASSIGN(const Tensor data, c.input("x"));
  AOQ_ASSIGN(const Tensor w, c.input("w"));
  Value* half = net.op(Op::cast, {net.constant(w)}, {{"dtype", DType::f16}});
  Value* rounded = net.op(Op::cast, {half}, {{"dtype", DType::f32}});
  AOQ_ASSIGN(const Tensor found, net.run(net.op(Op::linear, {net.input(data), rounded}), false));
  c.equal_relative(c.output_json("y"), found, 1e-5, static_cast<std::size_t>(found.shape().back()));
  return {};
}

template <Op kOp>
Status binary(Case& c) {
  Net net;
  AOQ_ASSIGN(Value * a, activation_of(net, c, "a"));
  AOQ_ASSIGN(Value * b, activation_of(net, c, "b"));
  AOQ_ASSIGN(const Affine out, output_affine(c));
  Value* y = net.op(kOp, {a, b});
  if (is_relu(c)) y = net.op(Op::relu, {y});
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(y, out)));
  c.equal("y", found);
  return {};
}

template <Op kOp>
Status with_scalar(Case& c) {
  Net net;
  AOQ_ASSIGN(Value * a, activation_of(net, c, "a"));
  AOQ_ASSIGN(const Affine in, affine_of(c.input_json("a")));
  AOQ_ASSIGN(const double scale, json_number(c.input_json("a"), "scale"));
  AOQ_ASSIGN(const double other, json_number(c.args(), "other"));
  const TensorQParams given{scale, in.zero_point};
  const TensorQParams out =
      kOp == Op::add ? add_scalar_qparams(given, other, {0, 255}) : mul_scalar_qparams(given, other, {0, 255});
  AOQ_ASSIGN(const double expected_scale, json_number(c.output_json("y"), "scale"));
  AOQ_ASSIGN(const double expected_zero_point, json_number(c.output_json("y"), "zero_point"));
  c.equal_number("scale", expected_scale, out.scale);
  c.equal_number("zero_point", expected_zero_point, static_cast<double>(out.zero_point));
  Value* y = net.op(kOp, {a, net.constant(scalar(static_cast<float>(other)))});
  if (is_relu(c)) y = net.op(Op::relu, {y});
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(y, {static_cast<float>(out.scale), out.zero_point})));
  c.equal("y", found);
  return {};
}

Status cat(Case& c) {
  Net net;
  AOQ_ASSIGN(const std::vector<Tensor> parts, c.inputs("parts"));
  std::vector<Value*> values;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    AOQ_ASSIGN(const Affine a, affine_of(c.input_json("parts")[i]));
    values.push_back(net.activation(parts[i], a));
  }
  AOQ_ASSIGN(const std::int64_t axis, json_integer(c.args(), "dim"));
  AOQ_ASSIGN(const Affine out, output_affine(c));
  Value* y = net.op(Op::concat, values, {{"axis", axis}});
  if (is_relu(c)) {
    y = net.op(Op::dequantize, {net.quantize(y, out)},
               {{"scale", static_cast<double>(out.scale)}, {"zero_point", out.zero_point}});
    y = net.op(Op::relu, {y});
  }
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(y, out)));
  c.equal("y", found);
  return {};
}

Status matmul(Case& c) {
  Net net;
  AOQ_ASSIGN(Value * a, activation_of(net, c, "a"));
  AOQ_ASSIGN(Value * b, activation_of(net, c, "b"));
  AOQ_ASSIGN(const Affine out, output_affine(c));
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(net.op(Op::matmul, {a, b}), out), false));
  equal_within(c, found, 1, 1);
  return {};
}

// The result has the scale of the input.
Status same_scale(Case& c, Op op, Attributes attributes, double step = 0) {
  Net net;
  AOQ_ASSIGN(Value * x, activation_of(net, c, "x"));
  AOQ_ASSIGN(const Affine out, affine_of(c.output_json("y")));
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(net.op(op, {x}, std::move(attributes)), out), step == 0));
  if (step == 0) {
    c.equal("y", found);
  } else {
    equal_within(c, found, step, 1);
  }
  return {};
}

template <Op kOp>
Status pool(Case& c) {
  Attributes a;
  for (const auto& [from, to] : {std::pair{"kernel", "kernel"}, {"stride", "stride"}}) {
    AOQ_ASSIGN(const std::int64_t v, json_integer(c.args(), from));
    a.set(to, std::vector<std::int64_t>{v, v});
  }
  AOQ_ASSIGN(const std::int64_t padding, json_integer(c.args(), "padding"));
  a.set("pads", std::vector<std::int64_t>(4, padding));
  if (kOp == Op::avg_pool) {
    AOQ_ASSIGN(const bool include, json_bool(c.args(), "count_include_pad"));
    a.set("count_include_pad", include);
  }
  return same_scale(c, kOp, std::move(a));
}

// Each window by itself: begin = floor(i * in / out), end = ceil((i + 1) * in / out).
Status adaptive_avg_pool(Case& c) {
  AOQ_ASSIGN(const Tensor x, c.input("x"));
  AOQ_ASSIGN(const std::vector<std::int64_t> size, integers_of(c.args(), "output_size"));
  Net net;
  AOQ_ASSIGN(Value * v, activation_of(net, c, "x"));
  AOQ_ASSIGN(const Affine in, affine_of(c.input_json("x")));
  AOQ_ASSIGN(const Affine out, affine_of(c.output_json("y")));
  const std::int64_t h = x.shape()[2], w = x.shape()[3];
  std::vector<Value*> rows;
  for (std::int64_t i = 0; i < size[0]; ++i) {
    std::vector<Value*> columns;
    for (std::int64_t j = 0; j < size[1]; ++j) {
      const std::int64_t top = i * h / size[0], bottom = ((i + 1) * h + size[0] - 1) / size[0];
      const std::int64_t left = j * w / size[1], right = ((j + 1) * w + size[1] - 1) / size[1];
      Value* window = net.op(Op::slice, {v},
                             {{"axes", std::vector<std::int64_t>{2, 3}},
                              {"starts", std::vector<Dim>{top, left}},
                              {"ends", std::vector<Dim>{bottom, right}}});
      window = net.op(Op::dequantize, {net.quantize(window, in)});
      Value* mean = net.op(Op::avg_pool, {window}, {{"kernel", std::vector<std::int64_t>{bottom - top, right - left}}});
      columns.push_back(net.op(Op::dequantize, {net.quantize(mean, out)}));  // the scale is in the type
    }
    rows.push_back(columns.size() == 1 ? columns[0] : net.op(Op::concat, columns, {{"axis", std::int64_t{3}}}));
  }
  Value* y = rows.size() == 1 ? rows[0] : net.op(Op::concat, rows, {{"axis", std::int64_t{2}}});
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(y, out)));
  c.equal("y", found);
  return {};
}

Status mean(Case& c) {
  AOQ_ASSIGN(std::vector<std::int64_t> axes, integers_of(c.args(), "dim"));
  return same_scale(c, Op::reduce_mean, {{"axes", std::move(axes)}, {"keepdims", false}});
}

Status upsample(Case& c) {
  AOQ_ASSIGN(const Tensor y, c.output("y"));
  const bool is_nearest = c.op().find("nearest") != std::string::npos;
  Attributes a{{"sizes", std::vector<Dim>(y.shape().begin(), y.shape().end())}};
  a.set("mode", std::string(is_nearest ? "nearest" : "linear"));
  a.set("coordinates", std::string(is_nearest ? "asymmetric" : "half_pixel"));
  if (is_nearest) a.set("nearest", std::string("floor"));
  return same_scale(c, Op::resize, std::move(a), is_nearest ? 0 : 1);
}

// Functions of one element. `step`: what the vector code of an engine may differ by.
Status function(Case& c, Op op, Attributes attributes, double step) {
  Net net;
  AOQ_ASSIGN(Value * x, activation_of(net, c, "x"));
  AOQ_ASSIGN(const Affine out, output_affine(c));
  AOQ_ASSIGN(const Tensor found, net.run(net.quantize(net.op(op, {x}, std::move(attributes)), out)));
  if (step == 0) {
    c.equal("y", found);
  } else {
    equal_within(c, found, step, 1);
  }
  return {};
}
Status sigmoid(Case& c) {
  return function(c, Op::sigmoid, {}, 1);
}
Status tanh(Case& c) {
  return function(c, Op::tanh, {}, 1);
}
Status relu(Case& c) {
  return function(c, Op::relu, {}, 0);
}
Status relu6(Case& c) {
  return function(c, Op::clamp, {{"min", 0.0}, {"max", 6.0}}, 0);
}
Status clamp(Case& c) {
  AOQ_ASSIGN(const double low, json_number(c.args(), "min"));
  AOQ_ASSIGN(const double high, json_number(c.args(), "max"));
  return function(c, Op::clamp, {{"min", low}, {"max", high}}, 0);
}
Status hardsigmoid(Case& c) {
  return function(c, Op::hardsigmoid, {}, 0);
}
Status hardswish(Case& c) {
  return function(c, Op::hardswish, {}, 1);
}
Status leaky_relu(Case& c) {
  AOQ_ASSIGN(const double slope, json_number(c.args(), "negative_slope"));
  return function(c, Op::leaky_relu, {{"alpha", slope}}, 0);
}
Status elu(Case& c) {
  AOQ_ASSIGN(const double alpha, json_number(c.args(), "alpha"));
  return function(c, Op::elu, {{"alpha", alpha}}, 1);
}

// Ops that dequantize, compute in float and quantize.
Status through_float(Case& c, Op op, std::initializer_list<const char*> parameters, Attributes attributes) {
  Net net;
  AOQ_ASSIGN(Value * x, activation_of(net, c, "x"));
  std::vector<Value*> inputs{x};
  for (const char* name : parameters) {
    AOQ_ASSIGN(const Tensor t, c.input(name));
    inputs.push_back(net.constant(t));
  }
  AOQ_ASSIGN(const Affine out, output_affine(c));
  AOQ_ASSIGN(const Tensor found,
             net.run(net.quantize(net.op(op, std::move(inputs), std::move(attributes)), out), false));
  equal_within(c, found, 1, 1);
  return {};
}
Status softmax(Case& c) {
  AOQ_ASSIGN(const std::int64_t axis, json_integer(c.args(), "dim"));
  return through_float(c, Op::softmax, {}, {{"axis", axis}});
}
Status layer_norm(Case& c) {
  AOQ_ASSIGN(const double eps, json_number(c.args(), "eps"));
  return through_float(c, Op::layer_norm, {"weight", "bias"}, {{"axis", std::int64_t{-1}}, {"epsilon", eps}});
}
Status batch_norm(Case& c) {
  AOQ_ASSIGN(const double eps, json_number(c.args(), "eps"));
  return through_float(c, Op::batch_norm, {"weight", "bias", "mean", "var"}, {{"epsilon", eps}});
}

Status embedding_rows(Case& c) {
  AOQ_ASSIGN(const Tensor w, c.input("w"));
  AOQ_ASSIGN(const std::int64_t bits, json_integer(c.args(), "bits"));
  AOQ_ASSIGN(const Tensor rows, pack_embedding_rows(w.view(), static_cast<int>(bits)));
  c.equal("rows", rows);
  return {};
}

constexpr OpRunner kRunners[] = {
    {"quantized.linear", weighted<Op::linear>, {}},
    {"quantized.linear_relu", weighted<Op::linear>, {}},
    {"quantized.conv2d", weighted<Op::conv>, {}},
    {"quantized.conv2d_relu", weighted<Op::conv>, {}},
    {"quantized.linear_dynamic", linear_dynamic, {}},
    {"quantized.linear_relu_dynamic", linear_dynamic, {}},
    {"quantized.linear_dynamic_fp16", linear_dynamic_fp16, {}},
    {"quantized.add", binary<Op::add>, {}},
    {"quantized.add_relu", binary<Op::add>, {}},
    {"quantized.mul", binary<Op::mul>, {}},
    {"quantized.mul_relu", binary<Op::mul>, {}},
    {"quantized.add_scalar", with_scalar<Op::add>, {}},
    {"quantized.add_scalar_relu", with_scalar<Op::add>, {}},
    {"quantized.mul_scalar", with_scalar<Op::mul>, {}},
    {"quantized.mul_scalar_relu", with_scalar<Op::mul>, {}},
    {"quantized.cat", cat, {}},
    {"quantized.cat_relu", cat, {}},
    {"quantized.matmul", matmul, {}},
    {"quantized.max_pool2d", pool<Op::max_pool>, {}},
    {"quantized.avg_pool2d", pool<Op::avg_pool>, {}},
    {"quantized.adaptive_avg_pool2d", adaptive_avg_pool, {}},
    {"quantized.mean", mean, {}},
    {"quantized.upsample_nearest2d", upsample, {}},
    {"quantized.upsample_bilinear2d", upsample, {}},
    {"quantized.sigmoid", sigmoid, {}},
    {"quantized.tanh", tanh, {}},
    {"quantized.relu", relu, {}},
    {"quantized.relu6", relu6, {}},
    {"quantized.clamp", clamp, {}},
    {"quantized.hardsigmoid", hardsigmoid, {}},
    {"quantized.hardswish", hardswish, {}},
    {"quantized.leaky_relu", leaky_relu, {}},
    {"quantized.elu", elu, {}},
    {"quantized.softmax", softmax, {}},
    {"quantized.layer_norm", layer_norm, {}},
    {"quantized.batch_norm2d", batch_norm, {}},
    {"quantized.embedding_bag_byte_prepack", embedding_rows, {}},
    {"quantized.embedding_bag_4bit_prepack", embedding_rows, {}},
    {"quantized.embedding_bag_2bit_prepack", embedding_rows, {}},
};

}  // namespace

const Section kOps{"ops", kRunners, "no runner for this operator"};

}  // namespace aoq::golden
