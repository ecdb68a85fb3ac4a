#include "ir/nn/modules.h"

#include "ir/nn/build.h"

namespace aoq::nn {

namespace {

Sizes spread(Sizes sizes, std::size_t spatial) {
  return sizes.size() == 1 ? Sizes(spatial, sizes[0]) : sizes;
}

// A division by 0 must not happen before anything can report it.
std::int64_t per_group(std::int64_t channels, std::int64_t groups) {
  return groups > 0 ? channels / groups : 0;
}

Sizes weight_shape(const ConvNd::Form& form, std::int64_t in, std::int64_t out, const Sizes& kernel,
                   std::int64_t groups) {
  Sizes shape = form.op == Op::conv ? Sizes{out, per_group(in, groups)} : Sizes{in, per_group(out, groups)};
  for (std::int64_t k : spread(kernel, form.spatial)) shape.push_back(k);
  return shape;
}

}  // namespace

Linear::Linear(Slot slot, std::int64_t in, std::int64_t out, Bias with_bias)
    : Layer(std::move(slot)), weight(*this, "weight", {out, in}), bias(*this, "bias", {out}) {
  if (with_bias == Bias::without) bias.remove();
}

Proxy Linear::forward(const Proxy& x) {
  return build::linear(x, weight(x), bias(x));
}

ConvNd::ConvNd(Slot slot, Form form, std::int64_t in, std::int64_t out, Sizes kernel, ConvOptions options,
               Bias with_bias)
    : Layer(std::move(slot)),
      form_(form),
      options_(std::move(options)),
      weight(*this, "weight", weight_shape(form, in, out, kernel, options_.groups)),
      bias(*this, "bias", {out}) {
  if (with_bias == Bias::without) bias.remove();
}

Proxy ConvNd::forward(const Proxy& x) {
  if (x.is_present() && x.rank() != static_cast<std::int64_t>(form_.spatial) + 2) {
    x.tracer()->fail(error(Code::invalid_argument, "module \"{}\" ({}): x has rank {}, expected {}", path(),
                           type_name(), x.rank(), form_.spatial + 2));
    return {x.tracer(), nullptr};
  }
  return build::conv(form_.op, x, weight(x), bias(x), options_);
}

BatchNormNd::BatchNormNd(Slot slot, const char* type_name, std::int64_t features, double epsilon)
    : Layer(std::move(slot)),
      type_name_(type_name),
      eps(epsilon),
      weight(*this, "weight", {features}),
      bias(*this, "bias", {features}),
      running_mean(*this, "running_mean", {features}),
      running_var(*this, "running_var", {features}) {
  weight.fill(1);
  running_var.fill(1);
}

Proxy BatchNormNd::forward(const Proxy& x) {
  return build::batch_norm(x, running_mean(x), running_var(x), weight(x), bias(x), eps);
}

LayerNorm::LayerNorm(Slot slot, Sizes normalized_shape, double epsilon)
    : Layer(std::move(slot)),
      eps(epsilon),
      weight(*this, "weight", normalized_shape),
      bias(*this, "bias", normalized_shape) {
  weight.fill(1);
}

Proxy LayerNorm::forward(const Proxy& x) {
  return build::layer_norm(x, weight.tensor().shape().size(), weight(x), bias(x), eps);
}

GroupNorm::GroupNorm(Slot slot, std::int64_t group_count, std::int64_t channels, double epsilon)
    : Layer(std::move(slot)),
      groups(group_count),
      eps(epsilon),
      weight(*this, "weight", {channels}),
      bias(*this, "bias", {channels}) {
  weight.fill(1);
}

Proxy GroupNorm::forward(const Proxy& x) {
  return build::group_norm(x, groups, weight(x), bias(x), eps);
}

InstanceNorm2d::InstanceNorm2d(Slot slot, std::int64_t features, double epsilon, Bias affine)
    : Layer(std::move(slot)), eps(epsilon), weight(*this, "weight", {features}), bias(*this, "bias", {features}) {
  weight.fill(1);
  if (affine == Bias::with) return;
  weight.remove();
  bias.remove();
}

Proxy InstanceNorm2d::forward(const Proxy& x) {
  return build::instance_norm(x, weight(x), bias(x), eps);
}

Embedding::Embedding(Slot slot, std::int64_t count, std::int64_t width)
    : Layer(std::move(slot)), weight(*this, "weight", {count, width}) {}

Proxy Embedding::forward(const Proxy& indices) {
  return F::embedding(indices, weight(indices));
}

EmbeddingBag::EmbeddingBag(Slot slot, std::int64_t count, std::int64_t width, std::string bag_mode)
    : Layer(std::move(slot)), mode(std::move(bag_mode)), weight(*this, "weight", {count, width}) {}

Proxy EmbeddingBag::forward(const Proxy& indices) {
  return F::embedding_bag(indices, weight(indices), {}, mode);
}

Proxy EmbeddingBag::operator()(const Proxy& indices, const Proxy& offsets) {
  Tracer::Entered entered(indices.tracer(), *this);
  return F::embedding_bag(indices, weight(indices), offsets, mode);
}

PReLU::PReLU(Slot slot, std::int64_t parameters) : Layer(std::move(slot)), weight(*this, "weight", {parameters}) {
  weight.fill(0.25f);
}

Proxy PReLU::forward(const Proxy& x) {
  Proxy slope = weight(x);
  if (slope.is_present() && x.rank() > 2 && weight.tensor().element_count() > 1) {
    Shape shape(static_cast<std::size_t>(x.rank() - 1), Dim(1));
    shape[0] = Dim(weight.tensor().element_count());
    slope = build::reshape(slope, std::move(shape));
  }
  return F::prelu(x, slope);
}

Proxy Sequential::forward(const Proxy& x) {
  Proxy y = x;
  for (const std::unique_ptr<Module>& module : modules_) y = (*module)(y);
  return y;
}

}  // namespace aoq::nn
