#include "ir/ops/space.h"

#include "ir/ops/elements.h"

namespace aoq::ops {

namespace {

Status check(const InferContext& c) {
  AOQ_TRY(require_rank(c.input(0), 4, 4));
  return require_range("block", c.attributes.integer("block"), 1, std::int64_t{1} << 15);
}

Result<Dim> divide(const Dim& dim, std::int64_t by) {
  if (dim.is_constant() && dim.constant() % by != 0) {
    return error(Code::invalid_model, "dimension {} is not a multiple of {}", dim.constant(), by);
  }
  return floor_div(dim, Dim(by));
}

}  // namespace

InferResult infer_depth_to_space(const InferContext& c) {
  AOQ_TRY(check(c));
  const std::string& mode = c.attributes.string("mode");
  if (mode != "DCR" && mode != "CRD") return error(Code::invalid_model, "mode is \"{}\", expected DCR or CRD", mode);
  std::int64_t b = c.attributes.integer("block");
  const std::vector<Dim>& x = c.input(0).shape;
  AOQ_ASSIGN(Dim channels, divide(x[1], b * b));
  return std::vector<Type>{moved(c.input(0), {x[0], channels, x[2] * Dim(b), x[3] * Dim(b)})};
}

InferResult infer_space_to_depth(const InferContext& c) {
  AOQ_TRY(check(c));
  std::int64_t b = c.attributes.integer("block");
  const std::vector<Dim>& x = c.input(0).shape;
  AOQ_ASSIGN(Dim height, divide(x[2], b));
  AOQ_ASSIGN(Dim width, divide(x[3], b));
  return std::vector<Type>{moved(c.input(0), {x[0], x[1] * Dim(b * b), height, width})};
}

void move_blocks(const EvalContext& c, Direction direction, BlockOrder order) {
  bool to_space = direction == Direction::to_space;
  std::int64_t b = c.attributes.integer("block");
  std::span<const std::int64_t> shallow = to_space ? c.outputs[0].shape : c.inputs[0].shape;
  std::int64_t channels = shallow[1];
  std::int64_t h = shallow[2] / b;
  std::int64_t w = shallow[3] / b;
  // Both forms seen as [n, channel, row, row in block, column, column in block].
  Sizes box{shallow[0], channels, h, b, w, b};
  std::int64_t plane = h * w;
  std::int64_t channel = order == BlockOrder::depth_first ? plane : plane * b * b;
  std::int64_t block_row = order == BlockOrder::depth_first ? channels * b * plane : b * plane;
  std::int64_t block_column = order == BlockOrder::depth_first ? channels * plane : plane;
  Sizes deep{channels * b * b * plane, channel, w, block_row, 1, block_column};
  StridedCopy copy{box, row_major_strides(box), deep};
  if (to_space) std::swap(copy.from_strides, copy.to_strides);
  copy_strided(c.inputs[0].dtype, c.inputs[0].data, c.outputs[0].data, copy);
}

}  // namespace aoq::ops
