#include "ir/ops/qparams.h"

namespace aoq {

namespace {

// The type of x says it all when its scale is immediate; else the attributes or operands do.
Result<Quantization> infer_quantization(const InferContext& c) {
  const Type& x = c.input(0);
  bool fits = is_integer(x.dtype) ? dtype_info(x.dtype).bits <= 32 : is_float(x.dtype) && dtype_info(x.dtype).bits <= 8;
  AOQ_TRY(ops::require(fits, x, "integer codes of at most 32 bits or floats of at most 8"));
  bool is_given = c.has(1) || c.attributes.has("scale");
  if (x.quantization && x.quantization->is_immediate && !is_given) return *x.quantization;
  AOQ_ASSIGN(Quantization q, ops::infer_qparams(c, x.dtype));
  if (!x.quantization) return q;
  bool agree = x.quantization->is_immediate == q.is_immediate && x.quantization->granularity == q.granularity &&
               x.quantization->axis == q.axis && x.quantization->group == q.group;
  if (agree && (!q.is_immediate || q == *x.quantization)) return q;
  return error(Code::invalid_model, "input is {}, which its attributes and operands contradict", to_string(x));
}

}  // namespace

const OpDef kOpDef_dequantize = {
    .op = Op::dequantize,
    .name = "dequantize",
    .doc =
        "(code - zero_point) * scale as f32. Scale and zero point come from the type of x, or from attributes or "
        "operands with one element for each part that shares them.",
    .inputs = {{{"x"}, {"scale", Arity::optional}, {"zero_point", Arity::optional}}},
    .attributes = {{ops::kScale, ops::kZeroPoint, ops::kGranularity, ops::kQuantAxis, ops::kGroup}},
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      AOQ_TRY(infer_quantization(c).status());
      return ops::one_result(DType::f32, c.input(0).shape);
    },
    .reference = [](const EvalContext& c) -> Status {
      const TensorView& x = c.inputs[0];
      AOQ_ASSIGN(Quantization quantization, infer_quantization({c.op, c.types, c.attributes}));
      AOQ_ASSIGN(ops::Qparams qparams, ops::Qparams::read(c, quantization, x.dtype));
      auto* y = reinterpret_cast<float*>(c.outputs[0].data);
      for (std::int64_t i = 0, n = x.element_count(); i < n; ++i) {
        std::size_t part = qparams.part(i);
        float v = is_integer(x.dtype) ? static_cast<float>(load_integer(x.dtype, x.data, i) - qparams.zero_point(part))
                                      : static_cast<float>(load_as_double(x.dtype, x.data, i));
        y[i] = v * qparams.scale(part);
      }
      return {};
    },
};

}  // namespace aoq
