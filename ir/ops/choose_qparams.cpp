#include <algorithm>

#include "ir/ops/common.h"
#include "ir/ops/elements.h"

namespace aoq {

namespace {

struct Range {
  std::int32_t min, max;
};

Range code_range(const Attributes& attributes) {
  const DTypeInfo& info = dtype_info(attributes.dtype("dtype"));
  Range range{static_cast<std::int32_t>(info.min), static_cast<std::int32_t>(info.max)};
  if (attributes.boolean("reduce_range")) range = {range.min / 2, range.max / 2};
  return range;
}

struct Chosen {
  float scale;
  std::int32_t zero_point;
};

Chosen choose_symmetric(float lo, float hi, const Range& range, float eps) {
  float divisor = static_cast<float>(static_cast<double>(range.max - range.min) / 2.0);
  float scale = std::max(std::max(-lo, hi) / divisor, eps);
  return {scale, range.min < 0 ? 0 : (range.min + range.max + 1) / 2};
}

Chosen choose_affine(float lo, float hi, const Range& range, float eps) {
  float scale = std::max((hi - lo) / static_cast<float>(range.max - range.min), eps);
  auto offset = static_cast<std::int32_t>(std::nearbyint(std::max(lo / scale, -65536.0f)));
  return {scale, std::clamp(range.min - offset, range.min, range.max)};
}

Result<Chosen> choose(const Attributes& attributes, std::span<const float> x) {
  float lo = 0.0f;
  float hi = 0.0f;
  for (float v : x) {
    if (!std::isfinite(v)) return error(Code::invalid_data, "input has the element {}, expected finite numbers", v);
    lo = std::min(lo, v);
    hi = std::max(hi, v);
  }
  if (x.empty()) return Chosen{1.0f, 0};
  auto eps = static_cast<float>(attributes.real("eps"));
  Range range = code_range(attributes);
  Chosen chosen =
      attributes.boolean("symmetric") ? choose_symmetric(lo, hi, range, eps) : choose_affine(lo, hi, range, eps);
  if (std::isfinite(chosen.scale)) return chosen;
  return error(Code::invalid_data, "input covers [{}, {}], too wide for a scale", lo, hi);
}

}  // namespace

const OpDef kOpDef_choose_qparams = {
    .op = Op::choose_qparams,
    .name = "choose_qparams",
    .doc =
        "Scale and zero point for the range of x, widened to hold 0: symmetric max(|x|) / ((qmax - qmin) / 2), or "
        "affine "
        "(max - min) / (qmax - qmin) with zero point qmin - round_half_even(min / scale). The scale is at least eps.",
    .inputs = {{{"x"}}},
    .attributes = {{{"dtype", AttributeKind::dtype, ops::kRequired, "of the codes"},
                    {"granularity", AttributeKind::string, "tensor", "tensor, or token: each row of the last axis"},
                    {"symmetric", AttributeKind::boolean, "false", ""},
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
      for (std::int64_t i = 0; i < parts; ++i) {
        AOQ_ASSIGN(Chosen chosen, choose(c.attributes, {x.data() + i * n, static_cast<std::size_t>(n)}));
        reinterpret_cast<float*>(c.outputs[0].data)[i] = chosen.scale;
        reinterpret_cast<std::int32_t*>(c.outputs[1].data)[i] = chosen.zero_point;
      }
      return {};
    },
};

}  // namespace aoq
