#include <algorithm>

#include "ir/ops/embedding.h"
#include "ir/ops/indexing.h"

namespace aoq {

namespace {

constexpr std::size_t kIndices = 3, kOffsets = 4;

Result<std::vector<Type>> infer(const InferContext& c) {
  AOQ_TRY(ops::check_rows(c));
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

Status reference(const EvalContext& c) {
  const ops::QuantizedRows table(c);
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

}  // namespace

const OpDef kOpDef_qembedding = {
    .op = Op::qembedding,
    .name = "qembedding",
    .doc =
        "Rows of a quantized table (dequantize_rows): one for each index (mode none), or the sum or mean of a bag of "
        "them as in embedding_bag. Each row is added as acc = fma(code, scale, acc + bias) from 0.",
    .inputs = {{{"codes"}, {"scale"}, {"bias"}, {"indices"}, {"offsets", Arity::optional}}},
    .attributes = {{ops::kBits,
                    ops::kColumns,
                    {"mode", AttributeKind::string, "none", "none, sum or mean"},
                    ops::kIncludeLastOffset}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
