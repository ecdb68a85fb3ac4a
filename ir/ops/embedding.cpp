#include "ir/ops/embedding.h"

#include "ir/ops/fma.h"

namespace aoq::ops {

Result<Dim> infer_bags(const InferContext& c, std::size_t indices) {
  const Type& type = c.input(indices);
  AOQ_TRY(require_index(type));
  const bool last = c.attributes.boolean("include_last_offset");
  if (!c.has(indices + 1)) {
    if (last) return error(Code::invalid_model, "include_last_offset is true, but there are no offsets");
    AOQ_TRY(require_rank(type, 2, 2));
    return type.shape[0];
  }
  const Type& offsets = c.input(indices + 1);
  AOQ_TRY(require_rank(type, 1, 1));
  AOQ_TRY(require_index(offsets));
  AOQ_TRY(require_rank(offsets, 1, 1));
  if (!last) return offsets.shape[0];
  if (offsets.shape[0].is_constant() && offsets.shape[0].constant() < 1) {
    return error(Code::invalid_model, "include_last_offset is true, but there are no offsets");
  }
  return offsets.shape[0] - Dim(1);
}

Result<std::vector<std::int64_t>> read_bags(const EvalContext& c, std::size_t indices) {
  const TensorView& all = c.inputs[indices];
  const std::int64_t n = all.element_count();
  std::vector<std::int64_t> begin;
  if (!c.has(indices + 1)) {
    for (std::int64_t b = 0; b <= all.shape[0]; ++b) begin.push_back(b * all.shape[1]);
    return begin;
  }
  const TensorView& offsets = c.inputs[indices + 1];
  for (std::int64_t b = 0; b < offsets.element_count(); ++b) {
    const std::int64_t offset = load_integer(offsets.dtype, offsets.data, b);
    const std::int64_t low = b == 0 ? 0 : begin.back(), high = b == 0 ? 0 : n;
    if (offset < low || offset > high) {
      return error(Code::invalid_data, "offsets element {} is {}, expected a value in [{}, {}]", b, offset, low, high);
    }
    begin.push_back(offset);
  }
  if (!c.attributes.boolean("include_last_offset")) begin.push_back(n);
  return begin;
}

Status check_rows(const InferContext& c) {
  const Type& codes = c.input(0);
  AOQ_TRY(require(codes.dtype == DType::u8 && !codes.quantization, codes, "u8 codes"));
  AOQ_TRY(require_rank(codes, 2, 2));
  const std::int64_t bits = c.attributes.integer("bits");
  if (bits != 8 && bits != 4) return error(Code::invalid_model, "bits is {}, expected 8 or 4", bits);
  const std::int64_t columns = c.attributes.integer("columns");
  AOQ_TRY(require_range("columns", columns, 1, std::int64_t{1} << 31));
  const std::vector<Dim> shape{codes.shape[0], Dim((columns * bits + 7) / 8)};
  AOQ_TRY(require_shape("codes", codes, shape));
  for (std::size_t i : {std::size_t{1}, std::size_t{2}}) {
    AOQ_TRY(require(c.input(i).dtype == DType::f32, c.input(i), "f32"));
    AOQ_TRY(require_shape(i == 1 ? "scale" : "bias", c.input(i), std::span(shape).first(1)));
  }
  return {};
}

QuantizedRows::QuantizedRows(const EvalContext& c)
    : codes(c.inputs[0].data),
      scale(reinterpret_cast<const float*>(c.inputs[1].data)),
      bias(reinterpret_cast<const float*>(c.inputs[2].data)),
      rows(c.inputs[0].shape[0]),
      columns(c.attributes.integer("columns")),
      row_bytes(c.inputs[0].shape[1]),
      bits(static_cast<int>(c.attributes.integer("bits"))) {}

void QuantizedRows::accumulate(std::int64_t row, float* values, float* acc) const {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(codes) + row * row_bytes;
  for (std::int64_t i = 0; i < columns; ++i) {
    const int code = bits == 8 ? bytes[i] : (bytes[i / 2] >> (i % 2 * 4)) & 15;
    values[i] = static_cast<float>(code);
    acc[i] = acc[i] + bias[row];
  }
  fma_accumulate(scale[row], values, acc, columns);
}

}  // namespace aoq::ops
