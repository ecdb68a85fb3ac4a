#include "ir/ops/linear.h"

namespace aoq::ops {

Result<std::vector<Dim>> infer_linear_shape(const InferContext& c) {
  const Type& x = c.input(0);
  const Type& weight = c.input(1);
  AOQ_TRY(require_rank(x, 1, static_cast<std::int64_t>(kMaxRank)));
  AOQ_TRY(require_rank(weight, 2, 2));
  if (!may_equal(x.shape.back(), weight.shape[1])) {
    return error(Code::invalid_model, "x is {} and weight is {}, expected one length K in their last dimensions",
                 to_string(x), to_string(weight));
  }
  std::vector<Dim> bias_shape{weight.shape[0]};
  if (c.has(2)) AOQ_TRY(require_shape("bias", c.input(2), bias_shape));
  std::vector<Dim> shape = x.shape;
  shape.back() = weight.shape[0];
  return shape;
}

Result<std::vector<Dim>> infer_matmul_shape(const InferContext& c) {
  std::vector<Dim> a = c.input(0).shape;
  std::vector<Dim> b = c.input(1).shape;
  if (a.empty() || b.empty()) {
    return error(Code::invalid_model, "inputs are {} and {}, expected at least one dimension", to_string(c.input(0)),
                 to_string(c.input(1)));
  }
  bool a_is_vector = a.size() == 1;
  bool b_is_vector = b.size() == 1;
  if (a_is_vector) a.insert(a.begin(), Dim(1));
  if (b_is_vector) b.push_back(Dim(1));
  if (!may_equal(a.back(), b[b.size() - 2])) {
    return error(Code::invalid_model, "inputs are {} and {}, whose inner dimensions {} and {} differ",
                 to_string(c.input(0)), to_string(c.input(1)), a.back().to_string(), b[b.size() - 2].to_string());
  }
  AOQ_ASSIGN(std::vector<Dim> shape,
             broadcast_shapes(std::span(a).first(a.size() - 2), std::span(b).first(b.size() - 2)));
  if (!a_is_vector) shape.push_back(a[a.size() - 2]);
  if (!b_is_vector) shape.push_back(b.back());
  return shape;
}

MatmulSizes matmul_sizes(const EvalContext& c) {
  std::span<const std::int64_t> a = c.inputs[0].shape;
  std::span<const std::int64_t> b = c.inputs[1].shape;
  std::size_t a_matrix = a.size() == 1 ? 1 : 2;
  std::size_t b_matrix = b.size() == 1 ? 1 : 2;
  MatmulSizes sizes{a_matrix == 1 ? 1 : a[a.size() - 2], a.back(), b_matrix == 1 ? 1 : b.back(), {}};
  TensorView batches[] = {{DType::f32, a.first(a.size() - a_matrix)}, {DType::f32, b.first(b.size() - b_matrix)}};
  std::size_t out_matrix = (a_matrix - 1) + (b_matrix - 1);
  std::span<const std::int64_t> out = c.outputs[0].shape.first(c.outputs[0].shape.size() - out_matrix);
  BroadcastIndex at(out, batches);
  for (std::int64_t i = 0, n = count(out, 0, out.size()); i < n; ++i, at.next()) {
    sizes.batches.push_back({at.index(0) * sizes.rows * sizes.depth, at.index(1) * sizes.depth * sizes.columns,
                             i * sizes.rows * sizes.columns});
  }
  return sizes;
}

}  // namespace aoq::ops
