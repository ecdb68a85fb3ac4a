#include "ir/ops/linear.h"
#include "ir/ops/lowered.h"

namespace aoq {

namespace {

bool gives_sums(const Attributes& attributes) {
  return attributes.dtype("out_dtype") == DType::i32;
}

Status check_result(const InferContext& c) {
  if (!gives_sums(c.attributes)) return ops::check_output(c);
  for (const char* name : {"out_scale", "out_zero_point"}) {
    if (c.attributes.has(name)) return error(Code::invalid_model, "the result is i32 but has an attribute {}", name);
  }
  return {};
}

}  // namespace

const OpDef kOpDef_qmatmul = {
    .op = Op::qmatmul,
    .name = "qmatmul",
    .doc =
        "matmul on codes: exact int32 sums of (a - a_zero_point) * (b - b_zero_point), times (a_scale * b_scale) / "
        "out_scale; f32 results are not divided, and i32 results are the sums themselves, modulo 2^32.",
    .inputs = {{{"a"}, {"b"}}},
    .attributes = {{{"a_scale", AttributeKind::real, ops::kRequired, ""},
                    {"a_zero_point", AttributeKind::integer, "0", ""},
                    {"b_scale", AttributeKind::real, ops::kRequired, ""},
                    {"b_zero_point", AttributeKind::integer, "0", ""},
                    {"out_dtype", AttributeKind::dtype, "u8", "u8, i8, f32 or i32"},
                    ops::kOutScale,
                    ops::kOutZeroPoint}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(ops::check_codes(c, 0, "a"));
      AOQ_TRY(ops::check_codes(c, 1, "b"));
      AOQ_TRY(check_result(c));
      AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_matmul_shape(c));
      return ops::one_result(ops::output_dtype(c), std::move(shape));
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::Codes a = ops::read_codes(c, 0, "a");
      ops::Codes b = ops::read_codes(c, 1, "b");
      const bool is_sum = gives_sums(c.attributes);
      const ops::Output out = is_sum ? ops::Output{} : ops::read_output(c);
      const float multiplier = a.scale * b.scale / out.scale;
      if (!is_sum && !std::isfinite(multiplier))
        return error(Code::invalid_data, "the scales are out of the range of f32");
      ops::MatmulSizes s = ops::matmul_sizes(c);
      for (const ops::MatmulSizes::Batch& at : s.batches) {
        for (std::int64_t i = 0; i < s.rows * s.columns; ++i) {
          std::uint32_t sum = 0;
          for (std::int64_t k = 0; k < s.depth; ++k) {
            sum += static_cast<std::uint32_t>(a[at.a + i / s.columns * s.depth + k] *
                                              b[at.b + k * s.columns + i % s.columns]);
          }
          const auto total = static_cast<std::int32_t>(sum);
          if (is_sum) {
            reinterpret_cast<std::int32_t*>(c.outputs[0].data)[at.y + i] = total;
          } else {
            out.store_product(at.y + i, total, multiplier);
          }
        }
      }
      return {};
    },
};

}  // namespace aoq
