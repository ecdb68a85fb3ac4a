#include <algorithm>

#include "ir/math.h"
#include "ir/ops/embedding.h"
#include "ir/ops/indexing.h"

namespace aoq {

namespace {

enum class Mode : std::uint8_t { sum, mean, max };

Result<Mode> read_mode(const Attributes& attributes) {
  const std::string& mode = attributes.string("mode");
  if (mode == "sum") return Mode::sum;
  if (mode == "mean") return Mode::mean;
  if (mode == "max") return Mode::max;
  return error(Code::invalid_model, "mode is \"{}\", expected sum, mean or max", mode);
}

Status reference(const EvalContext& c) {
  AOQ_ASSIGN(const Mode mode, read_mode(c.attributes));
  AOQ_ASSIGN(const std::vector<std::int64_t> begin, ops::read_bags(c, 1));
  ops::FloatInput table(c.inputs[0]);
  ops::FloatOutput y(c.outputs[0]);
  const std::int64_t rows = c.inputs[0].shape[0], columns = c.inputs[0].shape[1];
  std::fill_n(y.data(), c.outputs[0].element_count(), 0.0f);
  for (std::size_t b = 0; b + 1 < begin.size(); ++b) {
    float* acc = y.data() + static_cast<std::int64_t>(b) * columns;
    for (std::int64_t i = begin[b]; i < begin[b + 1]; ++i) {
      AOQ_ASSIGN(const std::int64_t row, ops::load_index(c.inputs[1], i, rows));
      const float* x = table.data() + row * columns;
      const bool replaces = mode == Mode::max && i == begin[b];
      for (std::int64_t k = 0; k < columns; ++k) {
        acc[k] = replaces ? x[k] : mode == Mode::max ? math::maximum(acc[k], x[k]) : acc[k] + x[k];
      }
    }
    if (mode != Mode::mean || begin[b] == begin[b + 1]) continue;
    const float share = 1.0f / static_cast<float>(begin[b + 1] - begin[b]);
    for (std::int64_t k = 0; k < columns; ++k) acc[k] = acc[k] * share;
  }
  return {};
}

}  // namespace

const OpDef kOpDef_embedding_bag = {
    .op = Op::embedding_bag,
    .name = "embedding_bag",
    .doc =
        "The sum, mean or maximum of the table's rows that a bag of indices names; 0 for an empty bag. Indices [B, L] "
        "are B bags; with indices [n] bag b begins at offsets[b] and ends where the next one begins. Negative indices "
        "count from the end. Sums are in the order of the indices; a mean is the sum times 1 / length.",
    .inputs = {{{"table"}, {"indices"}, {"offsets", Arity::optional}}},
    .attributes = {{{"mode", AttributeKind::string, "mean", "sum, mean or max"}, ops::kIncludeLastOffset}},
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::require_float(c.input(0)));
      AOQ_TRY(ops::require_rank(c.input(0), 2, 2));
      AOQ_TRY(read_mode(c.attributes).status());
      AOQ_ASSIGN(Dim bags, ops::infer_bags(c, 1));
      return ops::one_result(c.input(0).dtype, {std::move(bags), c.input(0).shape[1]});
    },
    .reference = reference,
};

}  // namespace aoq
