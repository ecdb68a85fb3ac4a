// Reductions, arg functions, cumulative sums and top-k.
#include "formats/onnx/context.h"

namespace aoq::onnx {

namespace {

// The axes to reduce; empty optional: nothing is to be done.
Result<std::optional<std::vector<std::int64_t>>> reduced_axes(NodeContext& c, int axes_input_since) {
  std::vector<std::int64_t> axes;
  if (c.opset() < axes_input_since) {
    axes = c.integers("axes");
  } else if (c.has(1)) {
    AOQ_ASSIGN(axes, c.integers_of(1, "axes"));
  }
  bool is_noop = c.integer("noop_with_empty_axes", 0) != 0;
  if (axes.empty() && is_noop) return std::optional<std::vector<std::int64_t>>();
  AOQ_ASSIGN(axes, normalized(std::move(axes), c.rank(0)));
  return std::optional(std::move(axes));
}

// What each function is of the single element that an empty list of axes reduces.
Result<Value*> of_one_element(NodeContext& c, Op op, Value* x) {
  if (op == Op::reduce_l1 || op == Op::reduce_l2) return c.emit(Op::abs, {x});
  if (op == Op::reduce_sum_square) return c.emit(Op::mul, {x, x});
  return x;
}

Result<Value*> reduced(NodeContext& c, Op op, int axes_input_since) {
  AOQ_ASSIGN(std::optional<std::vector<std::int64_t>> axes, reduced_axes(c, axes_input_since));
  bool keepdims = c.integer("keepdims", 1) != 0;
  AOQ_ASSIGN(Value * x, c.input(0));
  if (!axes || x->type().rank() == 0) return of_one_element(c, op, x);
  return c.emit(op, {x}, {{"axes", *axes}, {"keepdims", keepdims}});
}

template <Op op, int axes_input_since = 18>
Status reduce(NodeContext& c) {
  return c.result(reduced(c, op, axes_input_since));
}

Status reduce_log_sum(NodeContext& c) {
  AOQ_ASSIGN(Value * sum, reduced(c, Op::reduce_sum, 18));
  return c.result(c.emit(Op::log, {sum}));
}

// Of booleans: all and any. The least and the largest number stand for them where nothing is reduced.
template <Op op>
Status reduce_extreme(NodeContext& c) {
  if (c.type(0).dtype != DType::boolean) return reduce<op>(c);
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(Value * wide, c.cast(x, DType::i32));
  AOQ_ASSIGN(std::optional<std::vector<std::int64_t>> axes, reduced_axes(c, 18));
  bool keepdims = c.integer("keepdims", 1) != 0;
  if (!axes) return c.result(x);
  AOQ_ASSIGN(Value * y, c.emit(op, {wide}, {{"axes", *axes}, {"keepdims", keepdims}}));
  return c.result(c.emit(Op::greater, {y, c.scalar(DType::i32, 0)}));
}

// Over a whole vector of dimensions: how many elements, the largest one, ...
Result<bool> known_reduce(NodeContext& c, Dim (*f)(const Dim&, const Dim&), Dim start) {
  const Known* k = c.known(0);
  if (k == nullptr || k->is_constant() || k->shape.size() != 1) return false;
  AOQ_ASSIGN(std::optional<std::vector<std::int64_t>> axes, reduced_axes(c, c.node().op_type == "ReduceSum" ? 13 : 18));
  bool keepdims = c.integer("keepdims", 1) != 0;
  if (!axes) return false;
  AOQ_TRY(c.finish_attributes());
  for (const Dim& d : k->elements) start = f(start, d);
  std::vector<std::int64_t> shape;
  if (keepdims) shape.push_back(1);
  AOQ_TRY(c.result(Binding::of(Known{k->dtype, std::move(shape), {start}})));
  return true;
}

Result<bool> known_prod(NodeContext& c) {
  return known_reduce(c, [](const Dim& a, const Dim& b) { return a * b; }, Dim(1));
}
Result<bool> known_sum(NodeContext& c) {
  return known_reduce(c, [](const Dim& a, const Dim& b) { return a + b; }, Dim(0));
}

template <Op op>
Status arg_function(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  Attributes attributes{{"axis", c.integer("axis", 0)},
                        {"keepdims", c.integer("keepdims", 1) != 0},
                        {"select_last", c.integer("select_last_index", 0) != 0}};
  return c.result(c.emit(op, {x}, std::move(attributes)));
}

Status cumsum(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  AOQ_ASSIGN(std::vector<std::int64_t> axis, c.integers_of(1, "axis"));
  if (axis.size() != 1) return c.invalid("axis has {} elements, expected 1", axis.size());
  Attributes attributes{
      {"axis", axis[0]}, {"exclusive", c.integer("exclusive", 0) != 0}, {"reverse", c.integer("reverse", 0) != 0}};
  return c.result(c.emit(Op::cumsum, {x}, std::move(attributes)));
}

Status topk(NodeContext& c) {
  AOQ_ASSIGN(Value * x, c.input(0));
  std::int64_t k = 0;
  if (c.opset() < 10) {
    k = c.required_integer("k");
  } else {
    AOQ_ASSIGN(std::vector<std::int64_t> given, c.integers_of(1, "k"));
    if (given.size() != 1) return c.invalid("k has {} elements, expected 1", given.size());
    k = given[0];
  }
  Attributes attributes{{"k", k},
                        {"axis", c.integer("axis", -1)},
                        {"largest", c.integer("largest", 1) != 0},
                        {"sorted", c.integer("sorted", 1) != 0}};
  AOQ_ASSIGN(std::vector<Value*> y, c.emit_all(Op::topk, {x}, std::move(attributes)));
  AOQ_TRY(c.result(y[0], 0));
  return c.result(y[1], 1);
}

const Handler kHandlers[] = {
    {"ArgMax", 7, 0, 1, 1, 1, arg_function<Op::argmax>},
    {"ArgMin", 7, 0, 1, 1, 1, arg_function<Op::argmin>},
    {"CumSum", 11, 0, 2, 2, 1, cumsum},
    {"ReduceL1", 7, 0, 1, 2, 1, reduce<Op::reduce_l1>},
    {"ReduceL2", 7, 0, 1, 2, 1, reduce<Op::reduce_l2>},
    {"ReduceLogSum", 7, 0, 1, 2, 1, reduce_log_sum},
    {"ReduceLogSumExp", 7, 0, 1, 2, 1, reduce<Op::reduce_log_sum_exp>},
    {"ReduceMax", 7, 0, 1, 2, 1, reduce_extreme<Op::reduce_max>},
    {"ReduceMean", 7, 0, 1, 2, 1, reduce<Op::reduce_mean>},
    {"ReduceMin", 7, 0, 1, 2, 1, reduce_extreme<Op::reduce_min>},
    {"ReduceProd", 7, 0, 1, 2, 1, reduce<Op::reduce_prod>, known_prod},
    {"ReduceSum", 7, 0, 1, 2, 1, reduce<Op::reduce_sum, 13>, known_sum},
    {"ReduceSumSquare", 7, 0, 1, 2, 1, reduce<Op::reduce_sum_square>},
    {"TopK", 7, 0, 1, 2, 2, topk},
};

}  // namespace

std::span<const Handler> reduce_handlers() {
  return kHandlers;
}

}  // namespace aoq::onnx
