#include "ir/nn/build.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace aoq::nn::build {

namespace {

Sizes spread(const Sizes& sizes, std::size_t spatial) {
  return sizes.size() == 1 ? Sizes(spatial, sizes[0]) : sizes;
}

// The same at the beginning and the end of every dimension.
Sizes pads_of(const Sizes& padding, std::size_t spatial) {
  Sizes pads = spread(padding, spatial);
  const Sizes ends = pads;
  pads.insert(pads.end(), ends.begin(), ends.end());
  return pads;
}

std::size_t spatial_rank(const Proxy& x) {
  const std::int64_t rank = x.rank();
  return rank > 2 ? static_cast<std::size_t>(rank - 2) : 0;
}

Proxy fail(const Proxy& x, Status status) {
  if (x.tracer() != nullptr) x.tracer()->fail(std::move(status));
  return {x.tracer(), nullptr};
}

bool is_ready(const Proxy& x) {
  return x.is_present() && x.tracer() != nullptr;
}

Proxy nothing(const Proxy& x) {
  if (x.tracer() != nullptr && !x.tracer()->has_failed()) {
    x.tracer()->fail(error(Code::invalid_argument, "an absent value was used as an input"));
  }
  return {x.tracer(), nullptr};
}

}  // namespace

std::int64_t axis_of(const Proxy& x, std::int64_t dim, std::int64_t extra) {
  const std::int64_t rank = x.rank() + extra;
  if (dim >= -rank && dim < rank) return dim < 0 ? dim + rank : dim;
  fail(x, error(Code::invalid_argument, "dimension {} is outside a tensor of rank {}", dim, x.rank()));
  return 0;
}

Proxy unary(std::string_view callee, const Proxy& x, Op op, Attributes attributes) {
  if (!is_ready(x)) return nothing(x);
  Tracer::Unit unit(x.tracer(), callee);
  return x.tracer()->emit(op, {x}, std::move(attributes));
}

Proxy binary(std::string_view callee, const Proxy& a, const Proxy& b, Op op) {
  if (!is_ready(a)) return nothing(a);
  Tracer::Unit unit(a.tracer(), callee);
  return a.tracer()->emit(op, {a, b});
}

Proxy with_scalar(std::string_view callee, const Proxy& a, double b, Op op) {
  if (!is_ready(a)) return nothing(a);
  Tracer::Unit unit(a.tracer(), callee);
  return a.tracer()->emit(op, {a, a.tracer()->scalar(b, a)});
}

Proxy reshape(const Proxy& x, Shape shape) {
  if (!is_ready(x)) return nothing(x);
  Dim known = 1;
  std::optional<std::size_t> free;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == Dim(-1)) {
      if (free) return fail(x, error(Code::invalid_argument, "shape {} has more than one -1", to_string(shape)));
      free = i;
    } else {
      known = known * shape[i];
    }
  }
  if (free) {
    if (known == Dim(0)) return fail(x, error(Code::invalid_argument, "shape {}: -1 beside 0", to_string(shape)));
    shape[*free] = floor_div(product(x.sizes()), known);
  }
  return x.tracer()->emit(Op::reshape, {x}, {{"shape", std::move(shape)}});
}

Proxy permute(const Proxy& x, std::vector<std::int64_t> perm) {
  if (!is_ready(x)) return nothing(x);
  for (std::int64_t& p : perm) p = axis_of(x, p);
  return x.tracer()->emit(Op::permute, {x}, {{"perm", std::move(perm)}});
}

Proxy transpose(const Proxy& x, std::int64_t a, std::int64_t b) {
  if (!is_ready(x)) return nothing(x);
  std::vector<std::int64_t> perm(static_cast<std::size_t>(x.rank()));
  std::iota(perm.begin(), perm.end(), 0);
  if (perm.empty()) return permute(x, perm);
  std::swap(perm[static_cast<std::size_t>(axis_of(x, a))], perm[static_cast<std::size_t>(axis_of(x, b))]);
  return permute(x, perm);
}

Proxy flatten(const Proxy& x, std::int64_t start, std::int64_t end) {
  if (!is_ready(x)) return nothing(x);
  if (x.rank() == 0) return reshape(x, {1});
  const std::int64_t first = axis_of(x, start), last = axis_of(x, end);
  if (last < first) return fail(x, error(Code::invalid_argument, "flatten: end {} lies before start {}", end, start));
  const Shape from = x.sizes();
  Shape to(from.begin(), from.begin() + first);
  to.push_back(product(
      std::span<const Dim>(from).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first + 1))));
  to.insert(to.end(), from.begin() + last + 1, from.end());
  return reshape(x, std::move(to));
}

Proxy slice(const Proxy& x, std::int64_t dim, const Dim& start, const Dim& end, std::int64_t step) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(
      Op::slice, {x},
      {{"axes", Sizes{axis_of(x, dim)}}, {"starts", Shape{start}}, {"ends", Shape{end}}, {"steps", Sizes{step}}});
}

Proxy same(const Proxy& x) {
  return is_ready(x) ? reshape(x, x.sizes()) : nothing(x);
}

Proxy select(const Proxy& x, std::int64_t dim, std::int64_t index) {
  if (!is_ready(x)) return nothing(x);
  const std::int64_t axis = axis_of(x, dim);
  const Dim start = index < 0 ? x.size(axis) + Dim(index) : Dim(index);
  const Proxy one = slice(x, axis, start, start + Dim(1));
  Shape shape = x.sizes();
  if (!shape.empty()) shape.erase(shape.begin() + axis);
  return reshape(one, std::move(shape));
}

Proxies chunk(std::string_view callee, const Proxy& x, std::int64_t parts, std::int64_t dim) {
  const Proxies none(static_cast<std::size_t>(std::max<std::int64_t>(parts, 1)), Proxy(x.tracer(), nullptr));
  if (!is_ready(x)) return Proxies(none.size(), nothing(x));
  const std::int64_t axis = axis_of(x, dim);
  const Dim length = x.size(axis);
  if (parts < 1 || !length.is_constant()) {
    fail(x, error(Code::unsupported, "chunk: {} parts of a dimension of {}: expected a number to divide", parts,
                  length.to_string()));
    return none;
  }
  Proxy whole;
  {
    Tracer::Unit unit(x.tracer(), callee);
    whole = same(x);
  }
  const std::int64_t each = std::max<std::int64_t>((length.constant() + parts - 1) / parts, 1);
  Proxies out;
  for (std::int64_t start = 0; start < length.constant(); start += each) {
    Tracer::Unit unit(x.tracer(), "operator.getitem");
    out.push_back(slice(whole, axis, start, std::min(start + each, length.constant())));
  }
  return out;
}

Proxy clamp(const Proxy& x, double min, double max) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(Op::clamp, {x}, {{"min", min}, {"max", max}});
}

Proxy softmax(const Proxy& x, std::int64_t dim, Op op) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(op, {x}, {{"axis", axis_of(x, dim)}});
}

Proxy linear(const Proxy& x, const Proxy& weight, const Proxy& bias) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(Op::linear, {x, weight, bias});
}

Proxy conv(Op op, const Proxy& x, const Proxy& weight, const Proxy& bias, const ConvOptions& options) {
  if (!is_ready(x)) return nothing(x);
  const std::size_t n = spatial_rank(x);
  Attributes a{{"stride", spread(options.stride, n)},
               {"dilation", spread(options.dilation, n)},
               {"pads", pads_of(options.padding, n)},
               {"groups", options.groups}};
  if (op == Op::conv_transpose) a.set("output_padding", spread(options.output_padding, n));
  return x.tracer()->emit(op, {x, weight, bias}, std::move(a));
}

namespace {

Attributes pool_attributes(const Proxy& x, const Sizes& kernel, const PoolOptions& options) {
  const std::size_t n = spatial_rank(x);
  return {{"kernel", spread(kernel, n)},
          {"stride", spread(options.stride.empty() ? kernel : options.stride, n)},
          {"dilation", spread(options.dilation, n)},
          {"pads", pads_of(options.padding, n)},
          {"ceil_mode", options.ceil_mode}};
}

}  // namespace

Proxy max_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(Op::max_pool, {x}, pool_attributes(x, kernel, options));
}

Proxy avg_pool(const Proxy& x, const Sizes& kernel, const PoolOptions& options) {
  if (!is_ready(x)) return nothing(x);
  Attributes a = pool_attributes(x, kernel, options);
  a.set("count_include_pad", options.count_include_pad);
  return x.tracer()->emit(Op::avg_pool, {x}, std::move(a));
}

Proxy adaptive_avg_pool(const Proxy& x, const Sizes& output) {
  if (!is_ready(x)) return nothing(x);
  const std::size_t n = spatial_rank(x);
  const Sizes sizes = spread(output, n);
  if (std::all_of(sizes.begin(), sizes.end(), [](std::int64_t s) { return s == 1; })) {
    std::vector<std::int64_t> dims(n);
    std::iota(dims.begin(), dims.end(), 2);
    return reduce(Op::reduce_mean, x, dims, true);
  }
  Sizes kernel;
  for (std::size_t i = 0; i < n && i < sizes.size(); ++i) {
    const Dim in = x.size(static_cast<std::int64_t>(i) + 2);
    // Windows of one size only: PyTorch's differ in size otherwise.
    if (!in.is_constant() || sizes[i] <= 0 || in.constant() % sizes[i] != 0) {
      return fail(x, error(Code::unsupported,
                           "adaptive_avg_pool: {} does not divide the dimension {}: expected an "
                           "output size of 1 or a divisor; use avg_pool with a kernel and a stride",
                           sizes[i], in.to_string()));
    }
    kernel.push_back(in.constant() / sizes[i]);
  }
  PoolOptions options;
  options.stride = kernel;
  return avg_pool(x, kernel, options);
}

Proxy batch_norm(const Proxy& x, const Proxy& mean, const Proxy& variance, Proxy weight, Proxy bias, double eps) {
  if (!is_ready(x) || !is_ready(mean)) return nothing(x);
  auto filled = [&](double value) {
    Result<Tensor> t = Tensor::make(DType::f32, {mean.size(0).is_constant() ? mean.size(0).constant() : 0});
    if (!t.ok()) return fail(x, std::move(t).status());
    for (float& v : t->mutable_as<float>()) v = static_cast<float>(value);
    return x.tracer()->constant(std::move(*t));
  };
  if (!weight.is_present()) weight = filled(1);
  if (!bias.is_present()) bias = filled(0);
  return x.tracer()->emit(Op::batch_norm, {x, weight, bias, mean, variance}, {{"epsilon", eps}});
}

Proxy layer_norm(const Proxy& x, std::size_t normalized_rank, const Proxy& weight, const Proxy& bias, double eps) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(Op::layer_norm, {x, weight, bias},
                          {{"axis", -static_cast<std::int64_t>(normalized_rank)}, {"epsilon", eps}});
}

Proxy group_norm(const Proxy& x, std::int64_t groups, const Proxy& weight, const Proxy& bias, double eps) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(Op::group_norm, {x, weight, bias}, {{"groups", groups}, {"epsilon", eps}});
}

Proxy instance_norm(const Proxy& x, const Proxy& weight, const Proxy& bias, double eps) {
  if (!is_ready(x)) return nothing(x);
  return x.tracer()->emit(Op::instance_norm, {x, weight, bias}, {{"epsilon", eps}});
}

Proxy interpolate(const Proxy& x, double scale_factor, const std::string& mode) {
  if (!is_ready(x)) return nothing(x);
  Shape sizes = x.sizes();
  std::vector<double> scales(sizes.size(), 1.0);
  const auto whole = static_cast<std::int64_t>(scale_factor);
  for (std::size_t i = 2; i < sizes.size(); ++i) {
    scales[i] = scale_factor;
    if (static_cast<double>(whole) == scale_factor) {
      sizes[i] = sizes[i] * Dim(whole);
    } else if (sizes[i].is_constant()) {
      sizes[i] = Dim(static_cast<std::int64_t>(static_cast<double>(sizes[i].constant()) * scale_factor));
    } else {
      return fail(x, error(Code::unsupported, "interpolate: a factor of {} needs dimensions that are numbers, found {}",
                           scale_factor, sizes[i].to_string()));
    }
  }
  const bool nearest = mode == "nearest";
  if (!nearest && mode != "bilinear" && mode != "linear") {
    return fail(x, error(Code::unsupported, "interpolate: mode is \"{}\", expected nearest, linear or bilinear", mode));
  }
  return x.tracer()->emit(Op::resize, {x},
                          {{"sizes", std::move(sizes)},
                           {"scales", std::move(scales)},
                           {"mode", std::string(nearest ? "nearest" : "linear")},
                           {"coordinates", std::string(nearest ? "asymmetric" : "half_pixel")},
                           {"nearest", std::string("floor")}});
}

Proxy cat(const Proxies& xs, std::int64_t dim) {
  if (xs.empty()) return {};
  if (!is_ready(xs[0])) return nothing(xs[0]);
  return xs[0].tracer()->emit(Op::concat, std::span<const Proxy>(xs), {{"axis", axis_of(xs[0], dim)}});
}

Proxy reduce(Op op, const Proxy& x, const std::vector<std::int64_t>& dims, bool keepdim) {
  if (!is_ready(x)) return nothing(x);
  std::vector<std::int64_t> axes;
  for (std::int64_t d : dims) axes.push_back(axis_of(x, d));
  std::sort(axes.begin(), axes.end());
  return x.tracer()->emit(op, {x}, {{"axes", std::move(axes)}, {"keepdims", keepdim}});
}

}  // namespace aoq::nn::build
