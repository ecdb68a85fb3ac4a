#include "ir/checked.h"
#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

namespace {

constexpr std::size_t kCodes = 0, kEntries = 1, kScales = 2;

Result<std::int64_t> number(const Dim& dim, const char* what) {
  if (dim.is_constant()) return dim.constant();
  return error(Code::invalid_model, "{} has a dimension that is no number", what);
}

Result<std::vector<Type>> infer(const InferContext& c) {
  const Type &codes = c.input(kCodes), &entries = c.input(kEntries), &scales = c.input(kScales);
  const bool is_code = is_integer(codes.dtype) && !is_signed_integer(codes.dtype) && dtype_info(codes.dtype).bits <= 8;
  AOQ_TRY(ops::require(is_code, codes, "codes of u1 to u8"));
  AOQ_TRY(ops::require_rank(codes, 2, 2));
  AOQ_TRY(ops::require(entries.dtype == DType::f32, entries, "f32 entries"));
  AOQ_TRY(ops::require_rank(entries, 3, 3));
  AOQ_TRY(ops::require(scales.dtype == DType::f32, scales, "f32 scales"));
  AOQ_TRY(ops::require_rank(scales, 3, 3));
  std::vector<Dim> shape;
  for (std::size_t i = 0; i < 2; ++i) {
    AOQ_ASSIGN(const std::int64_t blocks, number(codes.shape[i], "codes"));
    AOQ_ASSIGN(const std::int64_t extent, number(entries.shape[i + 1], "codebook"));
    AOQ_ASSIGN(const std::int64_t parts, number(scales.shape[i], "scale"));
    const std::int64_t both[] = {blocks, extent};
    const std::optional<std::int64_t> elements = checked::element_count(both);
    const bool divides = elements && extent > 0 && parts > 0 && *elements % parts == 0;
    if (!divides) return error(Code::invalid_model, "blocks of {} in {} with {} scales", extent, blocks, parts);
    shape.emplace_back(*elements);
  }
  AOQ_ASSIGN(const std::int64_t one, number(scales.shape[2], "scale"));
  if (one != 1) return error(Code::invalid_model, "scale is {}, expected [rows, parts, 1]", to_string(scales));
  return ops::one_result(DType::f32, std::move(shape));
}

Status reference(const EvalContext& c) {
  const TensorView &codes = c.inputs[kCodes], &entries = c.inputs[kEntries], &scales = c.inputs[kScales];
  const std::int64_t height = entries.shape[1], width = entries.shape[2], count = entries.shape[0];
  const std::int64_t rows = c.outputs[0].shape[0], columns = c.outputs[0].shape[1];
  const auto* table = reinterpret_cast<const float*>(entries.data);
  const auto* scale = reinterpret_cast<const float*>(scales.data);
  auto* y = reinterpret_cast<float*>(c.outputs[0].data);
  const std::int64_t rows_per_scale = rows == 0 ? 1 : rows / scales.shape[0];
  const std::int64_t columns_per_scale = columns == 0 ? 1 : columns / scales.shape[1];
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < columns; ++k) {
      const std::int64_t code = load_integer(codes.dtype, codes.data, r / height * codes.shape[1] + k / width);
      if (code >= count) return error(Code::invalid_data, "code {} in a codebook of {} entries", code, count);
      const float entry = table[(code * height + r % height) * width + k % width];
      y[r * columns + k] = entry * scale[r / rows_per_scale * scales.shape[1] + k / columns_per_scale];
    }
  }
  return {};
}

}  // namespace

const OpDef kOpDef_dequantize_codebook = {
    .op = Op::dequantize_codebook,
    .name = "dequantize_codebook",
    .doc =
        "The matrix whose blocks are entries of a table, times a scale: element [r, k] is codebook[codes[r / h, k / "
        "w], "
        "r % h, k % w] times the scale of its part. codes are [rows / h, columns / w], codebook is [entries, h, w], "
        "scale [parts of the rows, parts of the columns, 1].",
    .inputs = {{{"codes"}, {"codebook"}, {"scale"}}},
    .rule = QuantRule::boundary,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
