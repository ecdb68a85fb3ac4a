#include <algorithm>

#include "ir/ops/common.h"
#include "ir/ops/elements.h"
#include "ir/resize.h"

namespace aoq {

namespace {

using namespace resize;

// What one position of the result reads along one dimension.
struct Sample {
  std::int64_t index;
  float weight;
};
using Samples = std::vector<Sample>;

// Keys' cubic kernel at distances 1 + t, t, 1 - t and 2 - t.
Samples cubic_samples(double x, double a, std::int64_t n) {
  double base = std::floor(x);
  double t = x - base;
  auto near = [a](double s) { return ((a + 2.0) * s - (a + 3.0)) * s * s + 1.0; };
  auto far = [a](double s) { return ((a * s - 5.0 * a) * s + 8.0 * a) * s - 4.0 * a; };
  double weights[] = {far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)};
  Samples samples;
  for (int i = 0; i < 4; ++i) samples.push_back({inside(base + i - 1, n), static_cast<float>(weights[i])});
  return samples;
}

Samples samples_at(const Attributes& attributes, const AxisSizes& d, std::int64_t position) {
  const std::string& mode = attributes.string("mode");
  double x = coordinate(attributes.string("coordinates"), d, position);
  if (mode == "nearest") return {{inside(to_nearest(attributes.string("nearest"), x), d.in), 1.0f}};
  if (mode == "cubic") return cubic_samples(x, attributes.real("cubic_a"), d.in);
  double base = std::floor(x);
  auto t = static_cast<float>(x - base);
  return {{inside(base, d.in), 1.0f - t}, {inside(base + 1.0, d.in), t}};
}

std::vector<Samples> samples_along(const EvalContext& c, std::size_t d) {
  std::int64_t in = c.inputs[0].shape[d];
  std::int64_t out = c.outputs[0].shape[d];
  const auto& scales = c.attributes.get<std::vector<double>>("scales");
  double scale = scales.empty() ? static_cast<double>(out) / static_cast<double>(in) : scales[d];
  std::vector<Samples> samples;
  for (std::int64_t i = 0; i < out; ++i) {
    samples.push_back(in == out && scale == 1.0 ? Samples{{i, 1.0f}} : samples_at(c.attributes, {in, out, scale}, i));
  }
  return samples;
}

void resize_nearest(const EvalContext& c, const std::vector<std::vector<Samples>>& samples) {
  const TensorView& x = c.inputs[0];
  const MutableTensorView& y = c.outputs[0];
  ops::Sizes strides = ops::row_major_strides(x.shape);
  ops::Sizes index(y.shape.size());
  for (std::int64_t i = 0, n = y.element_count(); i < n; ++i, ops::next_index(index, y.shape)) {
    std::int64_t from = 0;
    for (std::size_t d = 0; d < index.size(); ++d) {
      from += samples[d][static_cast<std::size_t>(index[d])][0].index * strides[d];
    }
    ops::copy_elements(x.dtype, x.data, from, y.data, i, 1);
  }
}

// Interpolates one dimension after the other, the first one first.
void resize_interpolating(const EvalContext& c, const std::vector<std::vector<Samples>>& samples) {
  ops::FloatInput x(c.inputs[0]);
  ops::FloatOutput y(c.outputs[0]);
  ops::Sizes shape(c.inputs[0].shape.begin(), c.inputs[0].shape.end());
  std::vector<float> values(x.data(), x.data() + c.inputs[0].element_count());
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const std::vector<Samples>& line = samples[d];
    std::int64_t outer = ops::count(shape, 0, d);
    std::int64_t inner = ops::count(shape, d + 1, shape.size());
    std::vector<float> next;
    next.reserve(static_cast<std::size_t>(outer * inner) * line.size());
    for (std::int64_t o = 0; o < outer; ++o) {
      for (const Samples& at : line) {
        for (std::int64_t i = 0; i < inner; ++i) {
          float sum = 0.0f;
          for (const Sample& s : at) {
            sum += s.weight * values[static_cast<std::size_t>((o * shape[d] + s.index) * inner + i)];
          }
          next.push_back(at.size() == 1 ? values[static_cast<std::size_t>((o * shape[d] + at[0].index) * inner + i)]
                                        : sum);
        }
      }
    }
    shape[d] = static_cast<std::int64_t>(line.size());
    values = std::move(next);
  }
  std::copy(values.begin(), values.end(), y.data());
}

Status reference(const EvalContext& c) {
  if (c.outputs[0].element_count() == 0) return {};
  if (c.inputs[0].element_count() == 0) {
    return error(Code::invalid_data, "input {} is empty, the result {} is not", shape_to_string(c.inputs[0].shape),
                 shape_to_string(c.outputs[0].shape));
  }
  std::vector<std::vector<Samples>> samples;
  for (std::size_t d = 0; d < c.inputs[0].shape.size(); ++d) samples.push_back(samples_along(c, d));
  if (c.attributes.string("mode") == "nearest") {
    resize_nearest(c, samples);
  } else {
    resize_interpolating(c, samples);
  }
  return {};
}

Status require_one_of(const Attributes& attributes, const char* name, std::initializer_list<std::string_view> values) {
  const std::string& value = attributes.string(name);
  std::string list;
  for (std::string_view v : values) {
    if (v == value) return {};
    list += (list.empty() ? "" : ", ") + std::string(v);
  }
  return error(Code::invalid_model, "{} is \"{}\", expected one of {}", name, value, list);
}

Result<std::vector<Type>> infer(const InferContext& c) {
  const Type& x = c.input(0);
  const std::vector<Dim>& sizes = c.attributes.dims("sizes");
  const auto& scales = c.attributes.get<std::vector<double>>("scales");
  if (sizes.size() != x.shape.size() || (!scales.empty() && scales.size() != x.shape.size())) {
    return error(Code::invalid_model, "has {} sizes and {} scales, expected {}", sizes.size(), scales.size(), x.rank());
  }
  for (double scale : scales) {
    if (!(scale > 0.0 && std::isfinite(scale))) return error(Code::invalid_model, "scale {} is not above 0", scale);
  }
  AOQ_TRY(require_one_of(c.attributes, "mode", {"nearest", "linear", "cubic"}));
  AOQ_TRY(require_one_of(c.attributes, "coordinates",
                         {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric",
                          "tf_half_pixel_for_nn"}));
  AOQ_TRY(require_one_of(c.attributes, "nearest", {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}));
  AOQ_TRY(ops::require_finite(c.attributes, "cubic_a"));
  if (c.attributes.string("mode") == "nearest") return std::vector<Type>{ops::moved(x, sizes)};
  AOQ_TRY(ops::require_float(x));
  return ops::one_result(x.dtype, sizes);
}

}  // namespace

const OpDef kOpDef_resize = {
    .op = Op::resize,
    .name = "resize",
    .doc =
        "x sampled at another size, as ONNX Resize: each position of the result maps to a coordinate of x, where the "
        "nearest element or 2 or 4 neighbours per dimension give the value; the edge repeats outside.",
    .inputs = {{{"x"}}},
    .attributes = {{{"sizes", AttributeKind::dims, ops::kRequired, "the shape of the result"},
                    {"scales", AttributeKind::reals, "[]", "per dimension; none: size out / size in"},
                    {"mode", AttributeKind::string, "nearest", "nearest, linear or cubic"},
                    {"coordinates", AttributeKind::string, "half_pixel",
                     "half_pixel, asymmetric, align_corners, pytorch_half_pixel, half_pixel_symmetric or "
                     "tf_half_pixel_for_nn"},
                    {"nearest", AttributeKind::string, "round_prefer_floor",
                     "round_prefer_floor, round_prefer_ceil, floor or ceil"},
                    {"cubic_a", AttributeKind::real, "-0.75", "the coefficient of the cubic kernel"},
                    {"channels_last", AttributeKind::boolean, "false", "only informs: sizes cover all dimensions"}}},
    .rule = QuantRule::requantize,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
