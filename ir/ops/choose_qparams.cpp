#include <algorithm>

#include "ir/dynamic_qparams.h"
#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

namespace {

Result<ChosenQParams> choose(const DynamicQParams& how, std::span<const float> x) {
  if (x.empty()) return ChosenQParams{};
  float lo = 0.0f;
  float hi = 0.0f;
  for (float v : x) {
    if (!std::isfinite(v)) return error(Code::invalid_data, "input has the element {}, expected finite numbers", v);
    lo = std::min(lo, v);
    hi = std::max(hi, v);
  }
  return choose_dynamic_qparams(how, lo, hi);
}

}  // namespace

const OpDef kOpDef_choose_qparams = {
    .op = Op::choose_qparams,
    .name = "choose_qparams",
    .doc =
        "Scale and zero point for the range of x, widened to hold 0: symmetric max(|x|) / ((qmax - qmin) / 2), or "
        "affine "
        "(max - min) / (qmax - qmin) with zero point qmin - round_half_even(min / scale). The scale is at least eps. "
        "Formula \"aten\" is that of PyTorch's dynamic quantization (ir/dynamic_qparams.h), affine and without eps.",
    .inputs = {{{"x"}}},
    .attributes = {{{"dtype", AttributeKind::dtype, ops::kRequired, "of the codes"},
                    {"granularity", AttributeKind::string, "tensor", "tensor, or token: each row of the last axis"},
                    {"symmetric", AttributeKind::boolean, "false", ""},
                    {"formula", AttributeKind::string, "observer", "observer or aten"},
                    {"reduce_range", AttributeKind::boolean, "false", "half the range of the codes"},
                    {"eps", AttributeKind::real, "1.1920928955078125e-07", "the smallest scale"}}},
    .outputs = 2,
    .rule = QuantRule::boundary,
    .infer = [](const InferContext& c) -> Result<std::vector<Type>> {
      const Type& x = c.input(0);
      AOQ_TRY(ops::require_float(x));
      DType dtype = c.attributes.dtype("dtype");
      if (!is_integer(dtype) || dtype_info(dtype).bits < 2 || dtype_info(dtype).bits > 16) {
        return error(Code::invalid_model, "dtype is {}, expected an integer of 2 to 16 bits", dtype_name(dtype));
      }
      auto eps = static_cast<float>(c.attributes.real("eps"));
      if (!(std::isfinite(eps) && eps > 0.0f)) return error(Code::invalid_model, "eps is {}, expected above 0", eps);
      const std::string& formula = c.attributes.string("formula");
      if (formula != "observer" && (formula != "aten" || c.attributes.boolean("symmetric"))) {
        return error(Code::invalid_model, "formula is \"{}\", expected observer, or aten without symmetric", formula);
      }
      const std::string& granularity = c.attributes.string("granularity");
      std::vector<Dim> shape;
      if (granularity == "token") {
        AOQ_TRY(ops::require_rank(x, 1, static_cast<std::int64_t>(kMaxRank)));
        shape = x.shape;
        shape.back() = Dim(1);
      } else if (granularity != "tensor") {
        return error(Code::invalid_model, "granularity is \"{}\", expected tensor or token", granularity);
      }
      return std::vector<Type>{Type{DType::f32, shape, std::nullopt}, Type{DType::i32, shape, std::nullopt}};
    },
    .reference = [](const EvalContext& c) -> Status {
      ops::FloatInput x(c.inputs[0]);
      std::int64_t parts = c.outputs[0].element_count();
      if (parts == 0) return {};
      std::int64_t n = c.inputs[0].element_count() / parts;
      const DynamicQParams how = DynamicQParams::from(c.attributes);
      for (std::int64_t i = 0; i < parts; ++i) {
        AOQ_ASSIGN(ChosenQParams chosen, choose(how, {x.data() + i * n, static_cast<std::size_t>(n)}));
        reinterpret_cast<float*>(c.outputs[0].data)[i] = chosen.scale;
        reinterpret_cast<std::int32_t*>(c.outputs[1].data)[i] = chosen.zero_point;
      }
      return {};
    },
};

}  // namespace aoq
