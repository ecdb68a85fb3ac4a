#include <algorithm>

#include "ir/ops/embedding.h"
#include "ir/ops/indexing.h"
#include "ir/ops/narrow_linear.h"
#include "ir/ops/narrow_rows.h"

namespace aoq {

namespace {

constexpr std::size_t kCodes = 0, kRowScale = 1, kBias = 2, kIndices = 3, kOffsets = 4;

Status check_narrow_table(const InferContext& c, std::int64_t group) {
  const Type &codes = c.input(kCodes), &zero_points = c.input(kBias);
  AOQ_TRY(ops::require_range("columns", c.attributes.integer("columns"), 1, std::int64_t{1} << 31));
  AOQ_TRY(ops::check_narrow({codes, c.input(kRowScale), nullptr}, group, ops::FloatZeroPoints::yes));
  AOQ_TRY(ops::require(!codes.quantization, codes, "codes whose scale is an operand"));
  const DType matching = is_signed_integer(codes.dtype) ? DType::i8 : DType::u8;
  const bool is_float_form = is_float(zero_points.dtype) && dtype_info(zero_points.dtype).bits <= 32;
  const bool fits = is_float_form || (is_integer(codes.dtype) && zero_points.dtype == matching);
  AOQ_TRY(ops::require(fits, zero_points, "zero points of floats, or of 8 bits and signed as the codes are"));
  const bool is_one = zero_points.shape == std::vector<Dim>{1, 1};
  if (!is_one) AOQ_TRY(ops::require_shape("bias", zero_points, c.input(kRowScale).shape));
  return ops::require_shape("codes", codes, std::vector<Dim>{codes.shape[0], Dim(c.attributes.integer("columns"))});
}

Status check_table(const InferContext& c) {
  const std::int64_t group = c.attributes.integer("group");
  return group == 0 ? ops::check_rows(c) : check_narrow_table(c, group);
}

Result<std::vector<Type>> infer(const InferContext& c) {
  AOQ_TRY(check_table(c));
  const Dim columns(c.attributes.integer("columns"));
  const std::string& mode = c.attributes.string("mode");
  if (mode == "none") {
    AOQ_TRY(ops::require_index(c.input(kIndices)));
    if (c.has(kOffsets)) return error(Code::invalid_model, "mode is none, which has no bags, but there are offsets");
    std::vector<Dim> shape = c.input(kIndices).shape;
    shape.push_back(columns);
    return ops::one_result(DType::f32, std::move(shape));
  }
  if (mode != "sum" && mode != "mean") {
    return error(Code::invalid_model, "mode is \"{}\", expected none, sum or mean", mode);
  }
  AOQ_ASSIGN(Dim bags, ops::infer_bags(c, kIndices));
  return ops::one_result(DType::f32, {std::move(bags), columns});
}

// Rows of a table of narrow codes.
class NarrowRows {
 public:
  const std::int64_t rows, columns;

  explicit NarrowRows(const EvalContext& c)
      : rows(c.inputs[kCodes].shape[0]), columns(c.inputs[kCodes].shape[1]), codes_(c.inputs[kCodes]) {
    format_ = {codes_.dtype, c.attributes.integer("group"), c.inputs[kBias].dtype};
    scales_ = floats_of(c.inputs[kRowScale]);
    zero_points_ = floats_of(c.inputs[kBias]);
    if (zero_points_.size() == 1) zero_points_.resize(scales_.size(), zero_points_[0]);
  }

  void accumulate(std::int64_t row, float* values, float* acc) const {
    const std::span<float> read(values, static_cast<std::size_t>(columns));
    dtype_info(codes_.dtype).to_float(codes_.data, row * columns, read);
    ops::scale_narrow_row(format_, part(scales_, row), part(zero_points_, row), read);
    for (std::int64_t k = 0; k < columns; ++k) acc[k] = acc[k] + values[k];
  }

 private:
  static std::vector<float> floats_of(const TensorView& numbers) {
    std::vector<float> out(static_cast<std::size_t>(numbers.element_count()));
    dtype_info(numbers.dtype).to_float(numbers.data, 0, out);
    return out;
  }
  std::span<const float> part(const std::vector<float>& numbers, std::int64_t row) const {
    const std::size_t groups = numbers.size() / static_cast<std::size_t>(std::max<std::int64_t>(rows, 1));
    return std::span(numbers).subspan(static_cast<std::size_t>(row) * groups, groups);
  }

  const TensorView& codes_;
  ops::NarrowRowFormat format_;
  std::vector<float> scales_, zero_points_;
};

template <typename Table>
Status add_rows(const EvalContext& c, const Table& table) {
  const std::string& mode = c.attributes.string("mode");
  std::vector<std::int64_t> begin;
  if (mode == "none") {
    for (std::int64_t i = 0; i <= c.inputs[kIndices].element_count(); ++i) begin.push_back(i);
  } else {
    AOQ_ASSIGN(begin, ops::read_bags(c, kIndices));
  }
  auto* y = reinterpret_cast<float*>(c.outputs[0].data);
  std::fill_n(y, c.outputs[0].element_count(), 0.0f);
  std::vector<float> values(static_cast<std::size_t>(table.columns));
  for (std::size_t b = 0; b + 1 < begin.size(); ++b) {
    float* acc = y + static_cast<std::int64_t>(b) * table.columns;
    for (std::int64_t i = begin[b]; i < begin[b + 1]; ++i) {
      AOQ_ASSIGN(const std::int64_t row, ops::load_index(c.inputs[kIndices], i, table.rows));
      table.accumulate(row, values.data(), acc);
    }
    if (mode != "mean" || begin[b] == begin[b + 1]) continue;
    const float share = 1.0f / static_cast<float>(begin[b + 1] - begin[b]);
    for (std::int64_t k = 0; k < table.columns; ++k) acc[k] = acc[k] * share;
  }
  return {};
}

Status reference(const EvalContext& c) {
  if (c.attributes.integer("group") > 0) return add_rows(c, NarrowRows(c));
  return add_rows(c, ops::QuantizedRows(c));
}

}  // namespace

const OpDef kOpDef_qembedding = {
    .op = Op::qembedding,
    .name = "qembedding",
    .doc =
        "Rows of a quantized table: one for each index (mode none), or the sum or mean of a bag of them as in "
        "embedding_bag, from 0. Of a table of bytes (dequantize_rows, group 0) each row is added as acc = fma(code, "
        "scale, acc + bias). With a group the table is one of narrow codes [N, columns], of integers or floats of at "
        "most 8 bits, with a scale [N, ceil(columns / group)] and, in place of bias, zero points of that shape or one "
        "for all [1, 1]: integers of 8 bits, signed as the codes are, or floats. Its rows are (code - zero_point) * "
        "scale, with float ones (code - 2^(bits - 1) of unsigned codes) * scale + zero_point, rounded as "
        "ir/ops/narrow_rows.h says.",
    .inputs = {{{"codes"}, {"scale"}, {"bias"}, {"indices"}, {"offsets", Arity::optional}}},
    .attributes = {{ops::kBits,
                    ops::kColumns,
                    ops::kNarrowGroup,
                    {"mode", AttributeKind::string, "none", "none, sum or mean"},
                    ops::kIncludeLastOffset}},
    .rule = QuantRule::float_only,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
