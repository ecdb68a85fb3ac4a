// ONNX ops that ask for shapes or change them.
#include <algorithm>
#include <cmath>

#include "formats/onnx/move.h"

namespace aoq::onnx {

namespace {

Status shape(NodeContext& c) {
  std::vector<Dim> dims = c.type(0).shape;
  auto rank = static_cast<std::int64_t>(dims.size());
  auto clamp = [rank](std::int64_t v) { return std::clamp<std::int64_t>(v < 0 ? v + rank : v, 0, rank); };
  std::int64_t start = clamp(c.integer("start", 0));
  std::int64_t end = std::max(start, clamp(c.integer("end", rank)));
  std::vector<Dim> part(dims.begin() + start, dims.begin() + end);
  return c.result(Binding::of(Known{DType::i64, {end - start}, std::move(part)}));
}

Status size(NodeContext& c) {
  return c.result(Binding::of(Known{DType::i64, {}, {product(c.type(0).shape)}}));
}

// Zero copies a dimension, -1 takes what is left.
Result<std::vector<Dim>> reshape_target(NodeContext& c, const std::vector<Dim>& from, std::vector<Dim> to,
                                        bool keep_zero) {
  std::optional<std::size_t> open;
  for (std::size_t i = 0; i < to.size(); ++i) {
    if (to[i] == Dim(0) && !keep_zero) {
      if (i >= from.size())
        return error(Code::invalid_model, "shape entry {} is 0, but the input has rank {}", i, from.size());
      to[i] = from[i];
    } else if (to[i] == Dim(-1)) {
      if (open) return error(Code::invalid_model, "shape {} has two entries of -1", to_string(to));
      open = i;
    } else if (to[i].is_constant() && to[i].constant() < 0) {
      return error(Code::invalid_model, "shape entry {} is {}", i, to[i].constant());
    }
  }
  if (!open) return to;
  to[*open] = Dim(1);
  Dim total = product(from);
  Dim others = product(to);
  if (others == Dim(0)) return error(Code::invalid_model, "shape {}: -1 beside 0 has no meaning", to_string(to));
  to[*open] = floor_div(total, others);
  if (total.is_constant() && others.is_constant() && !(to[*open] * others == total)) {
    return error(Code::invalid_model, "cannot reshape {} to {}", to_string(from), to_string(to));
  }
  return to;
}

Status reshape(NodeContext& c) {
  bool keep_zero = c.integer("allowzero", 0) != 0;
  AOQ_ASSIGN(std::vector<Dim> wanted, c.dims_of_input(1, "shape"));
  AOQ_ASSIGN(std::vector<Dim> target, reshape_target(c, c.type(0).shape, std::move(wanted), keep_zero));
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.reshape(x, std::move(target)));
}

Status flatten(NodeContext& c) {
  std::vector<Dim> dims = c.type(0).shape;
  auto rank = static_cast<std::int64_t>(dims.size());
  std::int64_t axis = c.integer("axis", 1);
  if (axis < -rank || axis > rank) return c.invalid("axis {} is out of range for rank {}", axis, rank);
  auto at = static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
  std::span<const Dim> all(dims);
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.reshape(x, {product(all.first(at)), product(all.subspan(at))}));
}

// Axes come as an attribute before opset 13, as an input since.
Result<std::optional<std::vector<std::int64_t>>> axes_of(NodeContext& c) {
  if (c.opset() >= 13) {
    if (!c.has(1)) return std::optional<std::vector<std::int64_t>>();
    AOQ_ASSIGN(std::vector<std::int64_t> axes, c.integers_of(1, "axes"));
    return std::optional(std::move(axes));
  }
  if (!c.has_attribute("axes")) return std::optional<std::vector<std::int64_t>>();
  return std::optional(c.integers("axes"));
}

Status squeeze(NodeContext& c) {
  std::vector<Dim> dims = c.type(0).shape;
  AOQ_ASSIGN(std::optional<std::vector<std::int64_t>> axes, axes_of(c));
  if (!axes) {
    axes.emplace();
    for (std::size_t i = 0; i < dims.size(); ++i) {
      if (!dims[i].is_constant())
        return c.unsupported("without axes, dimension {} may or may not be 1", dims[i].to_string());
      if (dims[i] == Dim(1)) axes->push_back(static_cast<std::int64_t>(i));
    }
  }
  AOQ_ASSIGN(std::vector<std::int64_t> at, normalized(*axes, static_cast<std::int64_t>(dims.size())));
  std::vector<Dim> kept;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (std::find(at.begin(), at.end(), static_cast<std::int64_t>(i)) == at.end()) {
      kept.push_back(dims[i]);
    } else if (!dims[i].is_constant()) {
      return c.unsupported("axis {} of {} must be 1: bind its symbols to numbers", i, to_string(dims));
    } else if (dims[i] != Dim(1)) {
      return c.invalid("axis {} of {} is not 1", i, to_string(dims));
    }
  }
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.reshape(x, std::move(kept)));
}

Status unsqueeze(NodeContext& c) {
  std::vector<Dim> dims = c.type(0).shape;
  AOQ_ASSIGN(std::optional<std::vector<std::int64_t>> axes, axes_of(c));
  if (!axes) return c.invalid("axes are missing");
  if (axes->size() > kMaxRank) return c.invalid("{} axes, at most {} are allowed", axes->size(), kMaxRank);
  AOQ_ASSIGN(std::vector<std::int64_t> at, normalized(*axes, static_cast<std::int64_t>(dims.size() + axes->size())));
  std::sort(at.begin(), at.end());
  for (std::int64_t axis : at) dims.insert(dims.begin() + axis, Dim(1));
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.reshape(x, std::move(dims)));
}

Status transpose(NodeContext& c) {
  std::int64_t rank = c.rank(0);
  std::vector<std::int64_t> reversed;
  for (std::int64_t i = rank; i-- > 0;) reversed.push_back(i);
  AOQ_ASSIGN(std::vector<std::int64_t> perm, normalized(c.integers("perm", reversed), rank));
  if (static_cast<std::int64_t>(perm.size()) != rank)
    return c.invalid("perm has {} entries for rank {}", perm.size(), rank);
  AOQ_ASSIGN(Value * x, c.input(0));
  return c.result(c.permute(x, std::move(perm)));
}

Status expand(NodeContext& c) {
  AOQ_ASSIGN(std::vector<Dim> wanted, c.dims_of_input(1, "shape"));
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(std::vector<Dim> shape, broadcast(x->type().shape, wanted));
  return c.result(c.expand(x, std::move(shape)));
}

Status constant_of_shape(NodeContext& c) {
  AOQ_ASSIGN(std::vector<Dim> shape, c.dims_of_input(0, "shape"));
  for (const Dim& d : shape) {
    if (d.is_constant() && d.constant() < 0) return c.invalid("shape {} has a negative entry", to_string(shape));
  }
  Value* value = nullptr;
  if (const AttributeProto* a = c.raw("value")) {
    if (a->tensors.size() != 1) return c.invalid("attribute value is not a tensor");
    AOQ_ASSIGN(Tensor t, to_tensor(a->tensors[0], c.importer().options()));
    if (t.element_count() != 1) return c.invalid("value has {} elements, expected 1", t.element_count());
    AOQ_ASSIGN(t, t.reshaped({}));
    value = c.constant_value(std::move(t));
  } else {
    value = c.scalar(DType::f32, 0);
  }
  return c.result(c.expand(value, std::move(shape)));
}

Result<Tensor> constant_tensor_of(NodeContext& c, const AttributeProto& a) {
  auto count = [](const auto& v) { return std::vector<std::int64_t>{static_cast<std::int64_t>(v.size())}; };
  if (a.name == "value_float") return Tensor::from_values<float>(DType::f32, {}, std::span(&a.f, 1));
  if (a.name == "value_floats") return Tensor::from_values<float>(DType::f32, count(a.floats), a.floats);
  if (a.name == "value_int") return Tensor::from_values<std::int64_t>(DType::i64, {}, std::span(&a.i, 1));
  if (a.name == "value_ints") return Tensor::from_values<std::int64_t>(DType::i64, count(a.ints), a.ints);
  if (a.name == "value" && a.tensors.size() == 1) return to_tensor(a.tensors[0], c.importer().options());
  return error(Code::unsupported, "a constant given by attribute {} is not supported", a.name);
}

Status constant(NodeContext& c) {
  if (c.node().attributes.size() != 1) return c.invalid("has {} attributes, expected 1", c.node().attributes.size());
  const AttributeProto* a = c.raw(c.node().attributes[0].name);
  AOQ_ASSIGN(Tensor t, constant_tensor_of(c, *a));
  return c.result(Binding::of(std::move(t)));
}

template <class T>
Result<Tensor> range_values(DType dtype, double start, double step, std::int64_t count) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<T>(static_cast<T>(start) + static_cast<T>(i) * static_cast<T>(step)));
  }
  return Tensor::from_values<T>(dtype, {count}, values);
}

Status float_range(NodeContext& c) {
  AOQ_ASSIGN(double start, c.number_of(0, "start"));
  AOQ_ASSIGN(double limit, c.number_of(1, "limit"));
  AOQ_ASSIGN(double delta, c.number_of(2, "delta"));
  double count = std::ceil((limit - start) / delta);
  if (!(count > 0)) count = 0;
  if (!(count < 1e8)) return c.invalid("range from {} to {} by {} is too long", start, limit, delta);
  auto n = static_cast<std::int64_t>(count);
  DType dtype = c.type(0).dtype;
  if (dtype != DType::f32 && dtype != DType::f64)
    return c.unsupported("range of {} is not supported", dtype_name(dtype));
  AOQ_ASSIGN(Tensor t, dtype == DType::f32 ? range_values<float>(dtype, start, delta, n)
                                           : range_values<double>(dtype, start, delta, n));
  return c.result(Binding::of(std::move(t)));
}

Status range(NodeContext& c) {
  if (is_float(c.type(0).dtype)) return float_range(c);
  AOQ_ASSIGN(std::vector<Dim> start, c.dims_of_input(0, "start"));
  AOQ_ASSIGN(std::vector<Dim> limit, c.dims_of_input(1, "limit"));
  AOQ_ASSIGN(std::vector<std::int64_t> delta, c.integers_of(2, "delta"));
  if (start.size() != 1 || limit.size() != 1 || delta.size() != 1)
    return c.invalid("start, limit and delta must be scalars");
  if (delta[0] == 0 || delta[0] == INT64_MIN) return c.invalid("delta is {}", delta[0]);
  if (!start[0].is_constant()) return c.unsupported("start is {}, which is not constant", start[0].to_string());
  Dim span = delta[0] > 0 ? limit[0] - start[0] : start[0] - limit[0];
  Dim length = ceil_div(span, Dim(std::abs(delta[0])));
  if (decide_less(length, Dim(0)) != false) length = length.is_constant() ? Dim(0) : max(length, Dim(0));
  return c.result(c.emit(Op::iota, {},
                         {{"length", std::vector<Dim>{length}},
                          {"start", start[0].constant()},
                          {"step", delta[0]},
                          {"dtype", c.type(0).dtype}}));
}

Status eye_like(NodeContext& c) {
  Type type = c.type(0);
  std::int64_t k = c.integer("k", 0);
  std::optional<DType> dtype = type.dtype;
  if (c.has_attribute("dtype")) dtype = dtype_from_onnx(c.required_integer("dtype"));
  if (!dtype || type.rank() != 2 || !all_constant(type.shape)) return c.unsupported("only for matrices of known shape");
  AOQ_ASSIGN(Tensor t, Tensor::make(*dtype, constants(type.shape)));
  for (std::int64_t row = 0; row < t.shape()[0]; ++row) {
    if (k < -row || k >= t.shape()[1] - row) continue;
    store_from_double(*dtype, t.mutable_bytes().data(), row * t.shape()[1] + row + k, 1.0);
  }
  return c.result(Binding::of(std::move(t)));
}

constexpr unsigned kFirst = 1;

const Handler kHandlers[] = {
    {"Compress", 9, 0, 2, 2, 1, import_compress},
    {"Concat", 7, 0, 1, kAnyNumber, 1, import_concat, nullptr, kMovesAll},
    {"Constant", 7, 0, 0, 0, 1, constant},
    {"ConstantOfShape", 9, 0, 1, 1, 1, constant_of_shape},
    {"DepthToSpace", 7, 0, 1, 1, 1, import_depth_to_space},
    {"Expand", 8, 0, 2, 2, 1, expand, nullptr, kFirst},
    {"EyeLike", 9, 0, 1, 1, 1, eye_like},
    {"Flatten", 7, 0, 1, 1, 1, flatten, nullptr, kFirst},
    {"Gather", 7, 0, 2, 2, 1, import_gather, nullptr, kFirst},
    {"GatherElements", 11, 0, 2, 2, 1, import_gather_elements, nullptr, kFirst},
    {"GatherND", 11, 0, 2, 2, 1, import_gather_nd, nullptr, kFirst},
    {"NonZero", 9, 0, 1, 1, 1, import_non_zero},
    {"OneHot", 9, 0, 3, 3, 1, import_one_hot},
    {"Pad", 7, 0, 1, 4, 1, import_pad},
    {"Range", 11, 0, 3, 3, 1, range},
    {"Reshape", 7, 0, 2, 2, 1, reshape, nullptr, kFirst},
    {"Resize", 10, 10, 2, 2, 1, import_resize_10},
    {"Resize", 11, 0, 1, 4, 1, import_resize},
    {"Scatter", 9, 10, 3, 3, 1, import_scatter_elements, nullptr, 0b101},
    {"ScatterElements", 11, 0, 3, 3, 1, import_scatter_elements, nullptr, 0b101},
    {"ScatterND", 11, 0, 3, 3, 1, import_scatter_nd, nullptr, 0b101},
    {"Shape", 7, 0, 1, 1, 1, shape},
    {"Size", 7, 0, 1, 1, 1, size},
    {"Slice", 7, 0, 1, 5, 1, import_slice, nullptr, kFirst},
    {"SpaceToDepth", 7, 0, 1, 1, 1, import_space_to_depth},
    {"Split", 7, 0, 1, 2, kAnyNumber, import_split, nullptr, kFirst},
    {"Squeeze", 7, 0, 1, 2, 1, squeeze, nullptr, kFirst},
    {"Tile", 7, 0, 2, 2, 1, import_tile, nullptr, kFirst},
    {"Transpose", 7, 0, 1, 1, 1, transpose, nullptr, kFirst},
    {"Trilu", 14, 0, 1, 2, 1, import_trilu},
    {"Unsqueeze", 7, 0, 1, 2, 1, unsqueeze, nullptr, kFirst},
    {"Upsample", 7, 9, 1, 2, 1, import_upsample},
};

}  // namespace

std::span<const Handler> shape_handlers() {
  return kHandlers;
}

}  // namespace aoq::onnx
