#include "formats/onnx/move.h"
#include "ir/error_id.h"

#include <algorithm>

namespace aoq::onnx {

namespace {

// Exporters write "up to the end" as 2^31 - 1, 2^63 - 1 or, in tf2onnx, 10^9: no axis is longer.
constexpr std::int64_t kToTheEnd = 1'000'000'000;

// A slice bound as ONNX counts it, negative from the end, to one in [low, high].
Result<Dim> slice_bound(const Dim& bound, const Dim& dim, const Dim& low, const Dim& high) {
  if (bound.is_constant()) {
    std::int64_t v = bound.constant();
    if (v >= kToTheEnd) return high;
    if (v <= -kToTheEnd) return low;
    return clamp_dim(v < 0 ? dim + bound : bound, low, high);
  }
  if (decide_less(bound, Dim(0)) == true) return clamp_dim(dim + bound, low, high);
  std::optional<std::int64_t> least = bound.lower_bound();
  if (least && *least >= 0) return clamp_dim(bound, low, high);
  return error(ErrorId::onnx_open_dimension, "the bound {} may be negative or not: bind its symbols to numbers",
               bound.to_string());
}

struct SliceArguments {
  std::vector<Dim> starts, ends;
  std::vector<std::int64_t> axes, steps;
};

Result<SliceArguments> slice_arguments(NodeContext& c) {
  SliceArguments a;
  bool has_axes = false;
  if (c.opset() < 10) {
    a.starts = dims_of(c.required_integers("starts"));
    a.ends = dims_of(c.required_integers("ends"));
    has_axes = c.has_attribute("axes");
    a.axes = c.integers("axes");
  } else {
    AOQ_ASSIGN(a.starts, c.dims_of_input(1, "starts"));
    AOQ_ASSIGN(a.ends, c.dims_of_input(2, "ends"));
    has_axes = c.has(3);
    if (has_axes) {
      AOQ_ASSIGN(a.axes, c.integers_of(3, "axes"));
    }
    if (c.has(4)) {
      AOQ_ASSIGN(a.steps, c.integers_of(4, "steps"));
    }
  }
  if (!has_axes) {
    for (std::size_t i = 0; i < a.starts.size(); ++i) a.axes.push_back(static_cast<std::int64_t>(i));
  }
  if (a.steps.empty()) a.steps.assign(a.axes.size(), 1);
  if (a.starts.size() != a.axes.size() || a.ends.size() != a.axes.size() || a.steps.size() != a.axes.size()) {
    return error(Code::invalid_model, "{} starts, {} ends, {} axes and {} steps must be as many", a.starts.size(),
                 a.ends.size(), a.axes.size(), a.steps.size());
  }
  return a;
}

}  // namespace

Status import_slice(NodeContext& c) {
  AOQ_ASSIGN(SliceArguments a, slice_arguments(c));
  std::vector<Dim> dims = c.type(0).shape;
  AOQ_ASSIGN(a.axes, normalized(a.axes, static_cast<std::int64_t>(dims.size())));
  bool changes = false;
  for (std::size_t i = 0; i < a.axes.size(); ++i) {
    const Dim& dim = dims[static_cast<std::size_t>(a.axes[i])];
    if (a.steps[i] == 0) return c.invalid("step {} is 0", i);
    a.steps[i] = std::clamp<std::int64_t>(a.steps[i], -INT32_MAX, INT32_MAX);
    bool is_forward = a.steps[i] > 0;
    Dim low = is_forward ? Dim(0) : Dim(-1);
    Dim high = is_forward ? dim : dim - Dim(1);
    AOQ_ASSIGN(a.starts[i], slice_bound(a.starts[i], dim, Dim(0), high));
    AOQ_ASSIGN(a.ends[i], slice_bound(a.ends[i], dim, low, high));
    if (is_forward && decide_less(a.ends[i], a.starts[i]) == true) a.ends[i] = a.starts[i];
    if (!is_forward && decide_less(a.starts[i], a.ends[i]) == true) a.ends[i] = a.starts[i];
    changes = changes || a.steps[i] != 1 || !(a.starts[i] == Dim(0)) || !(a.ends[i] == dim);
  }
  AOQ_ASSIGN(Value * x, c.input(0));
  if (!changes) return c.result(x);
  return c.result(
      c.emit(Op::slice, {x}, {{"axes", a.axes}, {"starts", a.starts}, {"ends", a.ends}, {"steps", a.steps}}));
}

Status import_concat(NodeContext& c) {
  std::int64_t axis = c.required_integer("axis");
  std::vector<Value*> inputs;
  for (std::size_t i = 0; i < c.input_count(); ++i) {
    AOQ_ASSIGN(Value * x, c.input(i));
    inputs.push_back(x);
  }
  if (inputs.size() == 1) return c.result(inputs[0]);
  return c.result(c.emit(Op::concat, std::move(inputs), {{"axis", axis}}));
}

namespace {

Result<std::vector<Dim>> split_sizes(NodeContext& c, const Dim& dim, std::size_t outputs) {
  if (c.opset() < 13 && c.has_attribute("split")) return dims_of(c.integers("split"));
  if (c.opset() >= 13 && c.has(1)) return c.dims_of_input(1, "split");
  std::int64_t parts = static_cast<std::int64_t>(outputs);
  if (c.has_attribute("num_outputs")) parts = c.integer("num_outputs", parts);
  if (parts != static_cast<std::int64_t>(outputs))
    return error(Code::invalid_model, "num_outputs is {} for {} outputs", parts, outputs);
  Dim part = ceil_div(dim, Dim(parts));
  std::vector<Dim> sizes(outputs, part);
  if (dim.is_constant()) {
    std::int64_t last = dim.constant() - part.constant() * (parts - 1);
    if (last < 0) return error(Code::invalid_model, "a dimension of {} does not split into {}", dim.constant(), parts);
    sizes.back() = last;
  } else if (!(part * Dim(parts) == dim)) {
    return error(Code::unsupported, "a dimension of {} may not split evenly into {}", dim.to_string(), parts);
  }
  return sizes;
}

}  // namespace

Status import_split(NodeContext& c) {
  AOQ_ASSIGN(std::int64_t axis, normalized(c.integer("axis", 0), c.rank(0)));
  Dim dim = c.type(0).shape[static_cast<std::size_t>(axis)];
  AOQ_ASSIGN(std::vector<Dim> sizes, split_sizes(c, dim, c.node().outputs.size()));
  if (sizes.size() != c.node().outputs.size()) {
    return c.invalid("{} sizes for {} outputs", sizes.size(), c.node().outputs.size());
  }
  if (dim.is_constant()) {
    Dim sum;
    for (const Dim& s : sizes) sum = sum + s;
    if (sum.is_constant() && !(sum == dim))
      return c.invalid("sizes add up to {}, expected {}", sum.to_string(), dim.to_string());
  }
  AOQ_ASSIGN(Value * x, c.input(0));
  Dim at;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i].is_constant() && sizes[i].constant() < 0) return c.invalid("size {} is {}", i, sizes[i].constant());
    Dim end = at + sizes[i];
    if (c.wants(i)) {
      AOQ_TRY(c.result(c.emit(Op::slice, {x},
                              {{"axes", std::vector<std::int64_t>{axis}},
                               {"starts", std::vector<Dim>{at}},
                               {"ends", std::vector<Dim>{end}}}),
                       i));
    }
    at = end;
  }
  return {};
}

Status import_gather(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * indices, c.input(1));
  return c.result(c.emit(Op::gather, {x, indices}, {{"axis", c.integer("axis", 0)}}));
}

Status import_gather_elements(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * indices, c.input(1));
  return c.result(c.emit(Op::gather_elements, {x, indices}, {{"axis", c.integer("axis", 0)}}));
}

Status import_gather_nd(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * indices, c.input(1));
  return c.result(c.emit(Op::gather_nd, {x, indices}, {{"batch_dims", c.integer("batch_dims", 0)}}));
}

Status import_scatter_elements(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * indices, c.input(1));
  AOQ_ASSIGN(Value * updates, c.input(2));
  Attributes attributes{{"axis", c.integer("axis", 0)}, {"reduction", c.string("reduction", "none")}};
  return c.result(c.emit(Op::scatter_elements, {x, indices, updates}, std::move(attributes)));
}

Status import_scatter_nd(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * indices, c.input(1));
  AOQ_ASSIGN(Value * updates, c.input(2));
  return c.result(c.emit(Op::scatter_nd, {x, indices, updates}, {{"reduction", c.string("reduction", "none")}}));
}

Status import_tile(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(std::vector<Dim> repeats, c.dims_of_input(1, "repeats"));
  const std::vector<Dim>& dims = x->type().shape;
  if (repeats.size() != dims.size()) return c.invalid("{} repeats for rank {}", repeats.size(), dims.size());
  if (all_constant(repeats)) return c.result(c.emit(Op::tile, {x}, {{"repeats", constants(repeats)}}));
  std::vector<Dim> shape = dims;
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    numbers.push_back(repeats[i].is_constant() ? repeats[i].constant() : 1);
    if (repeats[i].is_constant()) continue;
    if (dims[i] != Dim(1)) return c.unsupported("repeats are {}: bind their symbols to numbers", to_string(repeats));
    shape[i] = repeats[i];
  }
  AOQ_ASSIGN(Value * tiled, c.expand(x, std::move(shape)));
  return c.result(c.emit(Op::tile, {tiled}, {{"repeats", numbers}}));
}

Status import_trilu(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  std::int64_t k = 0;
  if (c.has(1)) {
    AOQ_ASSIGN(std::vector<std::int64_t> given, c.integers_of(1, "k"));
    if (given.size() != 1) return c.invalid("k has {} elements, expected 1", given.size());
    k = given[0];
  }
  bool upper = c.integer("upper", 1) != 0;
  return c.result(c.emit(Op::trilu, {x}, {{"upper", upper}, {"k", k}}));
}

Status import_depth_to_space(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  Attributes attributes{{"block", c.required_integer("blocksize")}, {"mode", c.string("mode", "DCR")}};
  return c.result(c.emit(Op::depth_to_space, {x}, std::move(attributes)));
}

Status import_space_to_depth(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.emit(Op::space_to_depth, {x}, {{"block", c.required_integer("blocksize")}}));
}

Status import_one_hot(NodeContext& c) {
  AOQ_ASSIGN(Value * indices, c.input(0));
  AOQ_ASSIGN(double depth, c.number_of(1, "depth"));
  const Tensor* values = c.constant(2);
  if (values == nullptr) return c.unsupported("values are not constant");
  if (values->element_count() != 2) return c.invalid("values has {} elements, expected 2", values->element_count());
  if (!(depth >= 1 && depth < 1e9)) return c.invalid("depth is {}", depth);
  if (!is_integer(indices->type().dtype)) {
    AOQ_ASSIGN(indices, c.cast(indices, DType::i64));
  }
  const std::byte* data = values->bytes().data();
  return c.result(c.emit(Op::one_hot, {indices},
                         {{"depth", static_cast<std::int64_t>(depth)},
                          {"axis", c.integer("axis", -1)},
                          {"off", load_as_double(values->dtype(), data, 0)},
                          {"on", load_as_double(values->dtype(), data, 1)},
                          {"dtype", values->dtype()}}));
}

namespace {

Result<std::vector<std::int64_t>> pad_amounts(NodeContext& c, std::int64_t rank) {
  if (c.opset() < 11) return c.required_integers("pads");
  AOQ_ASSIGN(std::vector<std::int64_t> given, c.integers_of(1, "pads"));
  if (!c.has(3)) return given;
  AOQ_ASSIGN(std::vector<std::int64_t> axes, c.integers_of(3, "axes"));
  AOQ_ASSIGN(axes, normalized(axes, rank));
  if (given.size() != 2 * axes.size())
    return error(Code::invalid_model, "{} pads for {} axes", given.size(), axes.size());
  std::vector<std::int64_t> pads(static_cast<std::size_t>(2 * rank));
  for (std::size_t i = 0; i < axes.size(); ++i) {
    pads[static_cast<std::size_t>(axes[i])] = given[i];
    pads[static_cast<std::size_t>(axes[i] + rank)] = given[i + axes.size()];
  }
  return pads;
}

}  // namespace

Status import_pad(NodeContext& c) {
  AOQ_ASSIGN(std::vector<std::int64_t> pads, pad_amounts(c, c.rank(0)));
  if (static_cast<std::int64_t>(pads.size()) != 2 * c.rank(0))
    return c.invalid("{} pads for rank {}", pads.size(), c.rank(0));
  std::string mode = c.string("mode", "constant");
  double value = c.opset() < 11 ? c.real("value", 0.0) : 0.0;
  if (c.has(2)) {
    AOQ_ASSIGN(value, c.number_of(2, "constant_value"));
  }
  AOQ_ASSIGN(Value * x, c.input(0));
  if (std::all_of(pads.begin(), pads.end(), [](std::int64_t p) { return p == 0; })) return c.result(x);
  return c.result(c.emit(Op::pad, {x}, {{"pads", pads}, {"mode", mode}, {"value", value}}));
}

// The rest has results whose size depends on data, so the data must be constant.

Status import_non_zero(NodeContext& c) {
  const Tensor* x = c.constant(0);
  if (x == nullptr) return c.unsupported("the size of the result depends on data");
  std::vector<std::int64_t> found;
  for (std::int64_t i = 0; i < x->element_count(); ++i) {
    if (load_as_double(x->dtype(), x->bytes().data(), i) != 0) found.push_back(i);
  }
  const std::vector<std::int64_t>& shape = x->shape();
  auto count = static_cast<std::int64_t>(found.size());
  auto rank = static_cast<std::int64_t>(shape.size());
  std::vector<std::int64_t> indices(found.size() * shape.size());
  for (std::size_t n = 0; n < found.size(); ++n) {
    std::int64_t rest = found[n];
    for (std::size_t d = shape.size(); d-- > 0;) {
      indices[d * found.size() + n] = rest % shape[d];
      rest /= shape[d];
    }
  }
  AOQ_ASSIGN(Tensor t, Tensor::from_values<std::int64_t>(DType::i64, {rank, count}, indices));
  return c.result(Binding::of(std::move(t)));
}

Status import_compress(NodeContext& c) {
  const Tensor* condition = c.constant(1);
  if (condition == nullptr) return c.unsupported("the size of the result depends on data");
  AOQ_ASSIGN(Value * x, c.input(0));
  std::int64_t axis = 0;
  if (c.has_attribute("axis")) {
    axis = c.required_integer("axis");
  } else {
    AOQ_ASSIGN(x, c.reshape(x, {product(x->type().shape)}));
  }
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < condition->element_count(); ++i) {
    if (load_as_double(condition->dtype(), condition->bytes().data(), i) != 0) kept.push_back(i);
  }
  AOQ_ASSIGN(Tensor t, Tensor::from_values<std::int64_t>(DType::i64, {static_cast<std::int64_t>(kept.size())}, kept));
  return c.result(c.emit(Op::gather, {x, c.constant_value(std::move(t))}, {{"axis", axis}}));
}

}  // namespace aoq::onnx
