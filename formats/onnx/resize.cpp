// Resize and Upsample in the forms of all opsets.
#include <cmath>

#include "formats/onnx/move.h"
#include "ir/error_id.h"

namespace aoq::onnx {

namespace {

struct ResizeArguments {
  std::vector<double> scales;  // one per dimension; empty when the sizes are given
  std::vector<Dim> sizes;
  std::string mode = "nearest";
  std::string coordinates = "asymmetric";
  std::string nearest = "floor";
  double cubic_a = -0.75;
};

// floor(dim * scale) for a scale that is a whole number or one over a whole number, or a known dimension.
Result<Dim> scaled(const Dim& dim, double scale) {
  if (!(scale > 0 && scale < 1e6)) return error(Code::invalid_model, "scale {} is out of range", scale);
  if (dim.is_constant()) {
    // In single precision, as the exporters' runtimes do.
    return Dim(static_cast<std::int64_t>(std::floor(static_cast<float>(dim.constant()) * static_cast<float>(scale))));
  }
  for (std::int64_t divisor = 1; divisor <= 64; ++divisor) {
    double times = scale * static_cast<double>(divisor);
    if (times == std::floor(times)) return floor_div(dim * Dim(static_cast<std::int64_t>(times)), Dim(divisor));
  }
  return error(ErrorId::onnx_open_dimension, "scale {} of dimension {}: bind its symbols to numbers", scale,
               dim.to_string());
}

Status emit_resize(NodeContext& c, ResizeArguments a) {
  AOQ_ASSIGN(Value * x, c.input(0));
  const std::vector<Dim>& dims = x->type().shape;
  if (a.sizes.empty()) {
    if (a.scales.size() != dims.size()) return c.invalid("{} scales for rank {}", a.scales.size(), dims.size());
    for (std::size_t i = 0; i < dims.size(); ++i) {
      AOQ_ASSIGN(Dim d, scaled(dims[i], a.scales[i]));
      a.sizes.push_back(std::move(d));
    }
  }
  if (a.sizes.size() != dims.size()) return c.invalid("{} sizes for rank {}", a.sizes.size(), dims.size());
  Attributes attributes{{"sizes", a.sizes},     {"scales", a.scales},  {"mode", a.mode}, {"coordinates", a.coordinates},
                        {"nearest", a.nearest}, {"cubic_a", a.cubic_a}};
  return c.result(c.emit(Op::resize, {x}, std::move(attributes)));
}

Result<std::vector<double>> constant_reals(NodeContext& c, std::size_t i, std::string_view what) {
  if (const Tensor* t = c.constant(i)) {
    std::vector<double> values;
    for (std::int64_t k = 0; k < t->element_count(); ++k)
      values.push_back(load_as_double(t->dtype(), t->bytes().data(), k));
    return values;
  }
  return error(Code::unsupported, "{} depends on data", what);
}

std::string mode_name(const std::string& onnx) {
  // Upsample called the linear mode "bilinear" for a while.
  return onnx == "bilinear" ? "linear" : onnx;
}

// Values for `axes` only, the others keep their dimension.
template <class T>
Result<std::vector<T>> spread(std::vector<T> given, const std::vector<std::int64_t>& axes, std::vector<T> all) {
  if (given.size() != axes.size())
    return error(Code::invalid_model, "{} values for {} axes", given.size(), axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i) all[static_cast<std::size_t>(axes[i])] = given[i];
  return all;
}

// "not_larger" and "not_smaller" choose one scale for all the axes.
Status keep_aspect_ratio(const std::string& policy, const std::vector<Dim>& dims, const std::vector<std::int64_t>& axes,
                         ResizeArguments& a) {
  double chosen = 0;
  for (std::int64_t axis : axes) {
    const Dim& in = dims[static_cast<std::size_t>(axis)];
    const Dim& out = a.sizes[static_cast<std::size_t>(axis)];
    if (!in.is_constant() || !out.is_constant() || in.constant() == 0) {
      return error(Code::unsupported, "keep_aspect_ratio_policy needs known sizes");
    }
    double scale = static_cast<double>(out.constant()) / static_cast<double>(in.constant());
    bool is_better = policy == "not_larger" ? scale < chosen : scale > chosen;
    if (chosen == 0 || is_better) chosen = scale;
  }
  a.scales.assign(dims.size(), 1.0);
  for (std::int64_t axis : axes) {
    auto at = static_cast<std::size_t>(axis);
    a.scales[at] = chosen;
    a.sizes[at] = static_cast<std::int64_t>(std::floor(static_cast<double>(dims[at].constant()) * chosen + 0.5));
  }
  return {};
}

Status read_resize_attributes(NodeContext& c, ResizeArguments& a) {
  c.only("antialias", 0);
  c.only("exclude_outside", 0);
  c.ignore({"extrapolation_value"});
  a.mode = mode_name(c.string("mode", "nearest"));
  a.coordinates = c.string("coordinate_transformation_mode", "half_pixel");
  a.nearest = c.string("nearest_mode", "round_prefer_floor");
  a.cubic_a = c.real("cubic_coeff_a", -0.75);
  if (a.coordinates == "tf_crop_and_resize") return c.unsupported("coordinate_transformation_mode tf_crop_and_resize");
  return {};
}

}  // namespace

Status import_resize(NodeContext& c) {
  ResizeArguments a;
  AOQ_TRY(read_resize_attributes(c, a));
  std::vector<Dim> dims = c.type(0).shape;
  std::vector<std::int64_t> axes;
  for (std::size_t i = 0; i < dims.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  if (c.has_attribute("axes")) {
    AOQ_ASSIGN(axes, normalized(c.integers("axes"), static_cast<std::int64_t>(dims.size())));
  }
  std::string policy = c.string("keep_aspect_ratio_policy", "stretch");
  auto is_given = [&](std::size_t i) { return c.has(i) && c.type(i).shape != std::vector<Dim>{Dim(0)}; };
  if (is_given(3)) {
    AOQ_ASSIGN(std::vector<Dim> sizes, c.dims_of_input(3, "sizes"));
    AOQ_ASSIGN(a.sizes, spread(std::move(sizes), axes, dims));
    if (policy != "stretch") AOQ_TRY(keep_aspect_ratio(policy, dims, axes, a));
    return emit_resize(c, std::move(a));
  }
  if (!is_given(2)) return c.invalid("neither scales nor sizes are given");
  AOQ_ASSIGN(std::vector<double> scales, constant_reals(c, 2, "scales"));
  AOQ_ASSIGN(a.scales, spread(std::move(scales), axes, std::vector<double>(dims.size(), 1.0)));
  return emit_resize(c, std::move(a));
}

Status import_resize_10(NodeContext& c) {
  ResizeArguments a;
  a.mode = mode_name(c.string("mode", "nearest"));
  AOQ_ASSIGN(a.scales, constant_reals(c, 1, "scales"));
  return emit_resize(c, std::move(a));
}

Status import_upsample(NodeContext& c) {
  ResizeArguments a;
  a.mode = mode_name(c.string("mode", "nearest"));
  if (c.opset() < 9) {
    a.scales = c.reals("scales");
  } else {
    AOQ_ASSIGN(a.scales, constant_reals(c, 1, "scales"));
  }
  return emit_resize(c, std::move(a));
}

}  // namespace aoq::onnx
