#include "ir/nn/functional.h"

#include "ir/nn/build.h"

namespace aoq::nn {

using Unit = Tracer::Unit;

Proxy relu(const Proxy& x) {
  return build::unary("torch.relu", x, Op::relu);
}
Proxy sigmoid(const Proxy& x) {
  return build::unary("torch.sigmoid", x, Op::sigmoid);
}
Proxy tanh(const Proxy& x) {
  return build::unary("torch.tanh", x, Op::tanh);
}
Proxy exp(const Proxy& x) {
  return build::unary("torch.exp", x, Op::exp);
}
Proxy log(const Proxy& x) {
  return build::unary("torch.log", x, Op::log);
}
Proxy sqrt(const Proxy& x) {
  return build::unary("torch.sqrt", x, Op::sqrt);
}
Proxy rsqrt(const Proxy& x) {
  return build::unary("torch.rsqrt", x, Op::rsqrt);
}
Proxy sin(const Proxy& x) {
  return build::unary("torch.sin", x, Op::sin);
}
Proxy cos(const Proxy& x) {
  return build::unary("torch.cos", x, Op::cos);
}
Proxy abs(const Proxy& x) {
  return build::unary("torch.abs", x, Op::abs);
}

Proxy clamp(const Proxy& x, double min, double max) {
  Unit unit(x.tracer(), "torch.clamp");
  return build::clamp(x, min, max);
}
Proxy softmax(const Proxy& x, std::int64_t dim) {
  Unit unit(x.tracer(), "torch.softmax");
  return build::softmax(x, dim);
}
Proxy flatten(const Proxy& x, std::int64_t start, std::int64_t end) {
  Unit unit(x.tracer(), "torch.flatten");
  return build::flatten(x, start, end);
}
Proxy cat(const Proxies& xs, std::int64_t dim) {
  Unit unit(xs.empty() ? nullptr : xs[0].tracer(), "torch.cat");
  return build::cat(xs, dim);
}
Proxy stack(const Proxies& xs, std::int64_t dim) {
  Unit unit(xs.empty() ? nullptr : xs[0].tracer(), "torch.stack");
  Proxies raised;
  for (const Proxy& x : xs) {
    Shape shape = x.sizes();
    shape.insert(shape.begin() + build::axis_of(x, dim, 1), Dim(1));
    raised.push_back(build::reshape(x, std::move(shape)));
  }
  return build::cat(raised, dim < 0 && !xs.empty() ? dim + xs[0].rank() + 1 : dim);
}
Proxies chunk(const Proxy& x, std::int64_t parts, std::int64_t dim) {
  return build::chunk("torch.chunk", x, parts, dim);
}
Proxy matmul(const Proxy& a, const Proxy& b) {
  return build::binary("torch.matmul", a, b, Op::matmul);
}
Proxy bmm(const Proxy& a, const Proxy& b) {
  return build::binary("torch.bmm", a, b, Op::matmul);
}
Proxy add(const Proxy& a, const Proxy& b) {
  return build::binary("torch.add", a, b, Op::add);
}
Proxy mul(const Proxy& a, const Proxy& b) {
  return build::binary("torch.mul", a, b, Op::mul);
}
Proxy mean(const Proxy& x, const std::vector<std::int64_t>& dims, bool keepdim) {
  Unit unit(x.tracer(), "torch.mean");
  return build::reduce(Op::reduce_mean, x, dims, keepdim);
}
Proxy where(const Proxy& condition, const Proxy& a, const Proxy& b) {
  Unit unit(condition.tracer(), "torch.where");
  return condition.tracer() == nullptr ? Proxy() : condition.tracer()->emit(Op::where, {condition, a, b});
}

namespace F {

Proxy relu(const Proxy& x) {
  return build::unary("F.relu", x, Op::relu);
}
Proxy relu6(const Proxy& x) {
  return build::unary("F.relu6", x, Op::clamp, {{"min", 0.0}, {"max", 6.0}});
}
Proxy sigmoid(const Proxy& x) {
  return build::unary("F.sigmoid", x, Op::sigmoid);
}
Proxy tanh(const Proxy& x) {
  return build::unary("F.tanh", x, Op::tanh);
}
Proxy hardswish(const Proxy& x) {
  return build::unary("F.hardswish", x, Op::hardswish);
}
Proxy hardsigmoid(const Proxy& x) {
  return build::unary("F.hardsigmoid", x, Op::hardsigmoid);
}
Proxy hardtanh(const Proxy& x, double min, double max) {
  return build::unary("F.hardtanh", x, Op::clamp, {{"min", min}, {"max", max}});
}
Proxy leaky_relu(const Proxy& x, double negative_slope) {
  return build::unary("F.leaky_relu", x, Op::leaky_relu, {{"alpha", negative_slope}});
}
Proxy elu(const Proxy& x, double alpha) {
  return build::unary("F.elu", x, Op::elu, {{"alpha", alpha}});
}
Proxy gelu(const Proxy& x, const std::string& approximate) {
  return build::unary("F.gelu", x, Op::gelu, {{"approximate", approximate}});
}
Proxy silu(const Proxy& x) {
  return build::unary("F.silu", x, Op::silu);
}
Proxy mish(const Proxy& x) {
  return build::unary("F.mish", x, Op::mish);
}
Proxy softplus(const Proxy& x) {
  return build::unary("F.softplus", x, Op::softplus);
}
Proxy softmax(const Proxy& x, std::int64_t dim) {
  Unit unit(x.tracer(), "F.softmax");
  return build::softmax(x, dim);
}
Proxy log_softmax(const Proxy& x, std::int64_t dim) {
  Unit unit(x.tracer(), "F.log_softmax");
  return build::softmax(x, dim, Op::log_softmax);
}
Proxy prelu(const Proxy& x, const Proxy& weight) {
  return build::binary("F.prelu", x, weight, Op::prelu);
}
Proxy dropout(const Proxy& x) {
  Unit unit(x.tracer(), "F.dropout");
  return build::same(x);
}
Proxy linear(const Proxy& x, const Proxy& weight, const Proxy& bias) {
  Unit unit(x.tracer(), "F.linear");
  return build::linear(x, weight, bias);
}
namespace {

// "F.conv" and 2 -> "F.conv2d".
std::string callee_of(const char* base, const Proxy& x) {
  return std::string(base) + std::to_string(x.rank() > 2 ? x.rank() - 2 : 1) + "d";
}

}  // namespace

Proxy conv(const Proxy& x, const Proxy& weight, const Proxy& bias, const ConvOptions& options) {
  Unit unit(x.tracer(), callee_of("F.conv", x));
  return build::conv(Op::conv, x, weight, bias, options);
}
Proxy conv_transpose(const Proxy& x, const Proxy& weight, const Proxy& bias, const ConvOptions& options) {
  Unit unit(x.tracer(), callee_of("F.conv_transpose", x));
  return build::conv(Op::conv_transpose, x, weight, bias, options);
}
Proxy max_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options) {
  Unit unit(x.tracer(), callee_of("F.max_pool", x));
  return build::max_pool(x, kernel, options);
}
Proxy avg_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options) {
  Unit unit(x.tracer(), callee_of("F.avg_pool", x));
  return build::avg_pool(x, kernel, options);
}
Proxy adaptive_avg_pool(const Proxy& x, const Sizes& output) {
  Unit unit(x.tracer(), callee_of("F.adaptive_avg_pool", x));
  return build::adaptive_avg_pool(x, output);
}
Proxy batch_norm(const Proxy& x, const Proxy& mean, const Proxy& variance, const Proxy& weight, const Proxy& bias,
                 double eps) {
  Unit unit(x.tracer(), "F.batch_norm");
  return build::batch_norm(x, mean, variance, weight, bias, eps);
}
Proxy layer_norm(const Proxy& x, std::size_t normalized_rank, const Proxy& weight, const Proxy& bias, double eps) {
  Unit unit(x.tracer(), "F.layer_norm");
  return build::layer_norm(x, normalized_rank, weight, bias, eps);
}
Proxy group_norm(const Proxy& x, std::int64_t groups, const Proxy& weight, const Proxy& bias, double eps) {
  Unit unit(x.tracer(), "F.group_norm");
  return build::group_norm(x, groups, weight, bias, eps);
}
Proxy instance_norm(const Proxy& x, const Proxy& weight, const Proxy& bias, double eps) {
  Unit unit(x.tracer(), "F.instance_norm");
  return build::instance_norm(x, weight, bias, eps);
}
Proxy embedding(const Proxy& indices, const Proxy& weight) {
  Unit unit(indices.tracer(), "F.embedding");
  if (indices.tracer() == nullptr) return {};
  return indices.tracer()->emit(Op::gather, {weight, indices}, {{"axis", std::int64_t{0}}});
}
Proxy embedding_bag(const Proxy& indices, const Proxy& weight, const Proxy& offsets, const std::string& mode) {
  Unit unit(indices.tracer(), "F.embedding_bag");
  if (indices.tracer() == nullptr) return {};
  return indices.tracer()->emit(Op::embedding_bag, {weight, indices, offsets}, {{"mode", mode}});
}
Proxy interpolate(const Proxy& x, double scale_factor, const std::string& mode) {
  Unit unit(x.tracer(), "F.interpolate");
  return build::interpolate(x, scale_factor, mode);
}

}  // namespace F
}  // namespace aoq::nn
