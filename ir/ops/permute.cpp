#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

namespace {

Result<std::vector<std::int64_t>> permutation(const Attributes& attributes, std::int64_t rank) {
  const std::vector<std::int64_t>& perm = attributes.integers("perm");
  if (static_cast<std::int64_t>(perm.size()) != rank) {
    return error(Code::invalid_model, "perm has {} entries, expected {}", perm.size(), rank);
  }
  std::vector<std::int64_t> out;
  for (std::int64_t p : perm) {
    AOQ_ASSIGN(std::int64_t axis, ops::normalize_axis(p, rank));
    out.push_back(axis);
  }
  if (rank > 0) AOQ_TRY(ops::normalize_axes(out, rank).status());
  return out;
}

}  // namespace

const OpDef kOpDef_permute = {
    .op = Op::permute,
    .name = "permute",
    .doc = "x with its dimensions in another order: dimension i of the result is dimension perm[i] of x.",
    .inputs = {{{"x"}}},
    .attributes = {{{"perm", AttributeKind::integers, ops::kRequired, "each axis once"}}},
    .traits = kDataMovement,
    .rule = QuantRule::passthrough,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_ASSIGN(std::vector<std::int64_t> perm, permutation(c.attributes, c.input(0).rank()));
      std::vector<Dim> shape;
      for (std::int64_t p : perm) shape.push_back(c.input(0).shape[static_cast<std::size_t>(p)]);
      return std::vector<Type>{ops::moved(c.input(0), std::move(shape))};
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      const MutableTensorView& y = c.outputs[0];
      AOQ_ASSIGN(std::vector<std::int64_t> perm, permutation(c.attributes, static_cast<std::int64_t>(x.shape.size())));
      ops::Sizes strides = ops::row_major_strides(x.shape);
      ops::StridedCopy copy{{y.shape.begin(), y.shape.end()}, {}, ops::row_major_strides(y.shape)};
      for (std::int64_t p : perm) copy.from_strides.push_back(strides[static_cast<std::size_t>(p)]);
      ops::copy_strided(x.dtype, x.data, y.data, copy);
      return {};
    },
};

}  // namespace aoq
