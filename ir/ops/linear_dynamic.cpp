#include <algorithm>

#include "ir/dynamic_qparams.h"
#include "ir/epilogue.h"
#include "ir/ops/lowered.h"
#include "ir/ops/narrow_linear.h"
#include "ir/ops/qparams.h"

namespace aoq {

namespace {

using ops::kNarrowBias, ops::kNarrowScale, ops::kNarrowX;
constexpr std::size_t kXScale = 5, kXZeroPoint = 6;

Status check_scalar(const InferContext& c, std::size_t i, const char* name, DType dtype) {
  const Type& type = c.input(i);
  const bool is_one = type.shape.empty() || type.shape == std::vector<Dim>{1};
  if (type.dtype == dtype && is_one) return {};
  return error(Code::invalid_model, "{} is {}, expected {}[]", name, to_string(type), dtype_name(dtype));
}

Result<std::vector<Type>> infer(const InferContext& c) {
  AOQ_ASSIGN(std::vector<Dim> shape, ops::infer_narrow_linear(c, ops::FloatZeroPoints::no));
  const auto eps = static_cast<float>(c.attributes.real("eps"));
  if (!(std::isfinite(eps) && eps > 0.0f)) return error(Code::invalid_model, "eps is {}, expected above 0", eps);
  if (c.has(kXScale)) AOQ_TRY(check_scalar(c, kXScale, "x_scale", DType::f32));
  if (!c.has(kXZeroPoint)) return ops::one_result(DType::f32, std::move(shape));
  if (!c.has(kXScale)) return error(Code::invalid_model, "has an x_zero_point without an x_scale");
  AOQ_TRY(check_scalar(c, kXZeroPoint, "x_zero_point", DType::i32));
  return ops::one_result(DType::f32, std::move(shape));
}

// Scale and zero point of a row of x.
class RowQuantizer {
 public:
  static Result<RowQuantizer> read(const EvalContext& c) {
    RowQuantizer q;
    q.how_ = DynamicQParams::narrow_linear(c.attributes);
    q.is_static_ = c.has(kXScale);
    if (!q.is_static_) return q;
    q.fixed_.scale = *reinterpret_cast<const float*>(c.inputs[kXScale].data);
    const std::int64_t zero_point = c.has(kXZeroPoint) ? load_integer(DType::i32, c.inputs[kXZeroPoint].data, 0) : 0;
    q.fixed_.zero_point = static_cast<std::int32_t>(zero_point);
    if (ops::check_scale("x_scale", static_cast<double>(q.fixed_.scale)).ok() &&
        ops::check_zero_point("x_zero_point", zero_point, DType::i8).ok()) {
      return q;
    }
    return error(Code::invalid_data, "x_scale is {} and x_zero_point {}, out of range for i8", q.fixed_.scale,
                 zero_point);
  }

  Result<ChosenQParams> choose(const float* x, std::int64_t n) const {
    if (is_static_) return fixed_;
    float lo = 0.0f, hi = 0.0f;
    for (std::int64_t k = 0; k < n; ++k) {
      if (!std::isfinite(x[k])) {
        return error(Code::invalid_data, "input has the element {}, expected finite numbers", x[k]);
      }
      lo = std::min(lo, x[k]);
      hi = std::max(hi, x[k]);
    }
    return choose_dynamic_qparams(how_, lo, hi);
  }

 private:
  DynamicQParams how_;
  ChosenQParams fixed_;
  bool is_static_ = false;
};

Status reference(const EvalContext& c) {
  const ops::NarrowLinearSizes sizes(c);
  const std::vector<std::int16_t> codes = ops::centred_codes(c, sizes, ops::centred_zero_points(c, sizes));
  const ops::FloatInput scale(c.inputs[kNarrowScale]);
  AOQ_ASSIGN(const RowQuantizer quantizer, RowQuantizer::read(c));
  const auto* x = reinterpret_cast<const float*>(c.inputs[kNarrowX].data);
  auto* y = reinterpret_cast<float*>(c.outputs[0].data);
  const auto* bias = reinterpret_cast<const float*>(c.has(kNarrowBias) ? c.inputs[kNarrowBias].data : nullptr);
  std::vector<std::int16_t> line(static_cast<std::size_t>(sizes.depth));
  for (std::int64_t r = 0; r < sizes.rows; ++r, x += sizes.depth, y += sizes.columns) {
    AOQ_ASSIGN(const ChosenQParams chosen, quantizer.choose(x, sizes.depth));
    for (std::int64_t k = 0; k < sizes.depth; ++k) {
      const std::int32_t q = quantize_value(x[k], 1.0f / chosen.scale, chosen.zero_point, -128, 127);
      line[static_cast<std::size_t>(k)] = static_cast<std::int16_t>(q - chosen.zero_point);
    }
    for (std::int64_t j = 0; j < sizes.columns; ++j) {
      float acc = 0.0f;
      for (std::int64_t g = 0; g < sizes.groups; ++g) {
        const std::int64_t begin = sizes.group_begin(g);
        const std::int32_t sum =
            ops::integer_dot(line.data() + begin, codes.data() + j * sizes.depth + begin, sizes.group_end(g) - begin);
        acc = std::fma(static_cast<float>(sum), scale[j * sizes.groups + g], acc);
      }
      acc = acc * chosen.scale;
      y[j] = bias == nullptr ? acc : acc + bias[j];
    }
  }
  return {};
}

}  // namespace

const OpDef kOpDef_linear_dynamic = {
    .op = Op::linear_dynamic,
    .name = "linear_dynamic",
    .doc =
        "linear with a weight of narrow integer codes and x quantized to i8 inside, in the order of "
        "ir/narrow_linear.h. Each row of the last axis of x has its own scale and zero point, as choose_qparams has "
        "them (granularity token), unless x_scale and x_zero_point are given. Integer zero points of the weight are i8 "
        "for signed codes and u8 for unsigned ones, which without them have 2^(bits - 1) for zero. Scale and "
        "zero_point are [N, ceil(K / group)].",
    .inputs = {{{"x"},
                {"weight"},
                {"scale"},
                {"zero_point", Arity::optional},
                {"bias", Arity::optional},
                {"x_scale", Arity::optional},
                {"x_zero_point", Arity::optional}}},
    .attributes = {{ops::kWeightGroup,
                    {"symmetric", AttributeKind::boolean, "false", "of x, unless it has a given scale"},
                    {"eps", AttributeKind::real, "1.1920928955078125e-07", "the smallest scale of a row of x"}}},
    .rule = QuantRule::float_only,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
