#include "formats/onnx/window.h"
#include "ir/error_id.h"

#include <algorithm>

namespace aoq::onnx {

namespace {

constexpr std::int64_t kMostSize = std::int64_t{1} << 31;

Status check_sizes(const std::vector<std::int64_t>& values, std::size_t count, std::int64_t least,
                   std::string_view what) {
  if (values.size() != count)
    return error(Code::invalid_model, "{} has {} entries, expected {}", what, values.size(), count);
  for (std::int64_t v : values) {
    if (v < least || v >= kMostSize) return error(Code::invalid_model, "{} {} is out of range", what, v);
  }
  return {};
}

std::int64_t covered(const WindowAttributes& w, std::size_t i) {
  return w.dilation[i] * (w.kernel[i] - 1) + 1;
}

// The padding that makes out = ceil(in / stride).
Result<std::int64_t> same_padding(const Dim& in, const WindowAttributes& w, std::size_t i) {
  if (w.stride[i] == 1) return covered(w, i) - 1;
  if (!in.is_constant()) {
    return error(ErrorId::onnx_open_dimension,
                 "auto_pad with stride {} depends on dimension {}: bind its symbols to numbers", w.stride[i],
                 in.to_string());
  }
  std::int64_t out = (in.constant() + w.stride[i] - 1) / w.stride[i];
  return std::max<std::int64_t>((out - 1) * w.stride[i] + covered(w, i) - in.constant(), 0);
}

void set_padding(WindowAttributes& w, std::size_t i, std::int64_t total, bool more_at_end) {
  std::int64_t less = total / 2;
  w.pads[i] = more_at_end ? less : total - less;
  w.pads[i + w.kernel.size()] = total - w.pads[i];
}

Result<WindowAttributes> read_sizes(NodeContext& c, const Type& x, std::vector<std::int64_t> kernel) {
  if (x.rank() < 3 || x.rank() > 5) return error(Code::unsupported, "rank {} is not supported, only 3 to 5", x.rank());
  auto spatial = static_cast<std::size_t>(x.rank() - 2);
  WindowAttributes w;
  w.kernel = std::move(kernel);
  w.stride = c.integers("strides", std::vector<std::int64_t>(spatial, 1));
  w.dilation = c.integers("dilations", std::vector<std::int64_t>(spatial, 1));
  w.pads = c.integers("pads", std::vector<std::int64_t>(2 * spatial, 0));
  AOQ_TRY(check_sizes(w.kernel, spatial, 1, "kernel size"));
  AOQ_TRY(check_sizes(w.stride, spatial, 1, "stride"));
  AOQ_TRY(check_sizes(w.dilation, spatial, 1, "dilation"));
  AOQ_TRY(check_sizes(w.pads, 2 * spatial, 0, "padding"));
  return w;
}

std::vector<std::int64_t> kernel_of_weight(const Type& weight) {
  std::vector<std::int64_t> kernel;
  for (std::size_t i = 2; i < weight.shape.size(); ++i) {
    kernel.push_back(weight.shape[i].is_constant() ? weight.shape[i].constant() : -1);
  }
  return kernel;
}

Result<std::vector<std::int64_t>> conv_kernel(NodeContext& c) {
  std::vector<std::int64_t> kernel = kernel_of_weight(c.type(1));
  std::vector<std::int64_t> declared = c.integers("kernel_shape", kernel);
  if (declared == kernel) return kernel;
  return error(Code::invalid_model, "kernel_shape is {}, but the weight has {}", shape_to_string(declared),
               shape_to_string(kernel));
}

}  // namespace

Result<WindowAttributes> read_window(NodeContext& c, const Type& x, std::vector<std::int64_t> kernel) {
  AOQ_ASSIGN(WindowAttributes w, read_sizes(c, x, std::move(kernel)));
  std::string mode = c.string("auto_pad", "NOTSET");
  if (mode == "NOTSET" || mode.empty()) return w;
  w.pads.assign(w.pads.size(), 0);
  if (mode == "VALID") return w;
  if (mode != "SAME_UPPER" && mode != "SAME_LOWER") return error(Code::invalid_model, "auto_pad is \"{}\"", mode);
  for (std::size_t i = 0; i < w.kernel.size(); ++i) {
    AOQ_ASSIGN(std::int64_t total, same_padding(x.shape[i + 2], w, i));
    set_padding(w, i, total, mode == "SAME_UPPER");
  }
  return w;
}

Status import_conv(NodeContext& c) {
  AOQ_ASSIGN(std::vector<std::int64_t> kernel, conv_kernel(c));
  AOQ_ASSIGN(WindowAttributes w, read_window(c, c.type(0), std::move(kernel)));
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * weight, c.input(1));
  AOQ_ASSIGN(Value * bias, c.optional_input(2));
  Attributes attributes{
      {"stride", w.stride}, {"dilation", w.dilation}, {"pads", w.pads}, {"groups", c.integer("group", 1)}};
  return c.result(c.emit(Op::conv, {x, weight, bias}, std::move(attributes)));
}

namespace {

// output_shape and auto_pad say how large the result is; what does not fit is padding that is cut off.
Status transposed_padding(NodeContext& c, const Type& x, WindowAttributes& w, std::vector<std::int64_t>& extra) {
  std::string mode = c.string("auto_pad", "NOTSET");
  std::vector<std::int64_t> wanted = c.integers("output_shape");
  std::size_t spatial = w.kernel.size();
  if (mode == "VALID") w.pads.assign(w.pads.size(), 0);
  bool is_same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (wanted.empty() && !is_same) return {};
  if (wanted.size() == spatial + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
  if (!wanted.empty()) AOQ_TRY(check_sizes(wanted, spatial, 1, "output size"));
  for (std::size_t i = 0; i < spatial; ++i) {
    std::int64_t total = covered(w, i) - w.stride[i] + extra[i];
    if (!wanted.empty()) {
      const Dim& in = x.shape[i + 2];
      if (!in.is_constant()) {
        return error(Code::unsupported, "output_shape with dimension {}: bind its symbols to numbers", in.to_string());
      }
      if (in.constant() >= kMostSize) return error(Code::invalid_model, "dimension {} is out of range", in.constant());
      total += w.stride[i] * in.constant() - wanted[i];
    }
    if (total < 0) extra[i] -= std::exchange(total, 0);
    set_padding(w, i, total, mode == "SAME_UPPER");
  }
  return {};
}

}  // namespace

Status import_conv_transpose(NodeContext& c) {
  AOQ_ASSIGN(std::vector<std::int64_t> kernel, conv_kernel(c));
  Type type = c.type(0);
  AOQ_ASSIGN(WindowAttributes w, read_sizes(c, type, std::move(kernel)));
  std::vector<std::int64_t> extra = c.integers("output_padding", std::vector<std::int64_t>(w.kernel.size(), 0));
  AOQ_TRY(check_sizes(extra, w.kernel.size(), 0, "output padding"));
  AOQ_TRY(transposed_padding(c, type, w, extra));
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * weight, c.input(1));
  AOQ_ASSIGN(Value * bias, c.optional_input(2));
  Attributes attributes{{"stride", w.stride},
                        {"dilation", w.dilation},
                        {"pads", w.pads},
                        {"output_padding", extra},
                        {"groups", c.integer("group", 1)}};
  return c.result(c.emit(Op::conv_transpose, {x, weight, bias}, std::move(attributes)));
}

namespace {

Result<Attributes> pool_attributes(NodeContext& c, const Type& x) {
  AOQ_ASSIGN(WindowAttributes w, read_window(c, x, c.required_integers("kernel_shape")));
  return Attributes{{"kernel", w.kernel},
                    {"stride", w.stride},
                    {"dilation", w.dilation},
                    {"pads", w.pads},
                    {"ceil_mode", c.integer("ceil_mode", 0) != 0}};
}

}  // namespace

Status import_max_pool(NodeContext& c) {
  c.ignore({"storage_order"});  // orders the indices only
  if (c.wants(1)) return c.unsupported("the output Indices is not supported");
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Attributes attributes, pool_attributes(c, x->type()));
  return c.result(c.emit(Op::max_pool, {x}, std::move(attributes)));
}

Status import_average_pool(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Attributes attributes, pool_attributes(c, x->type()));
  attributes.set("count_include_pad", c.integer("count_include_pad", 0) != 0);
  return c.result(c.emit(Op::avg_pool, {x}, std::move(attributes)));
}

// (sum |x|^p)^(1/p), the sum as an average times the number of positions.
Status import_lp_pool(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Attributes attributes, pool_attributes(c, x->type()));
  if (attributes.boolean("ceil_mode")) return c.unsupported("ceil_mode is not supported here");
  attributes.set("count_include_pad", true);
  double p = static_cast<double>(c.integer("p", 2));
  double positions = 1;
  for (std::int64_t k : attributes.integers("kernel")) positions *= static_cast<double>(k);
  auto number = [&](double v) { return c.scalar(x->type().dtype, v); };
  AOQ_ASSIGN(Value * magnitude, c.emit(Op::abs, {x}));
  AOQ_ASSIGN(Value * power, c.emit(Op::pow, {magnitude, number(p)}));
  AOQ_ASSIGN(Value * mean, c.emit(Op::avg_pool, {power}, std::move(attributes)));
  AOQ_ASSIGN(Value * sum, c.emit(Op::mul, {mean, number(positions)}));
  return c.result(c.emit(Op::pow, {sum, number(1.0 / p)}));
}

}  // namespace aoq::onnx
