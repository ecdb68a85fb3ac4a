#include <algorithm>

#include "ir/ops/convolution.h"
#include "ir/ops/lowered.h"

namespace aoq {

namespace {

Result<std::vector<Type>> infer(const InferContext& c) {
  std::array<const Type*, 3> shaped = ops::dot_shape_inputs(c);
  AOQ_ASSIGN(std::vector<Dim> shape,
             ops::infer_conv_shape({c.op, shaped, c.attributes}, ops::WindowDirection::forward));
  AOQ_TRY(ops::check_dot(c, c.input(1).shape[0], shape));
  return ops::one_result(ops::output_dtype(c), std::move(shape));
}

// [output channel][position][input channel], less the zero point.
std::vector<std::int16_t> pack_weight(const EvalContext& c, const ops::ConvGeometry& g, const ops::DotEpilogue& e) {
  std::vector<std::int16_t> packed;
  packed.reserve(static_cast<std::size_t>(c.inputs[1].element_count()));
  for (std::int64_t channel = 0; channel < g.groups * g.out_channels; ++channel) {
    ops::Codes weight{c.inputs[1].data, true, e.weight_zero_point(channel)};
    for (std::int64_t p = 0; p < g.positions; ++p) {
      for (std::int64_t i = 0; i < g.in_channels; ++i) {
        packed.push_back(static_cast<std::int16_t>(weight[(channel * g.in_channels + i) * g.positions + p]));
      }
    }
  }
  return packed;
}

Status reference(const EvalContext& c) {
  AOQ_ASSIGN(ops::DotEpilogue epilogue, ops::DotEpilogue::read(c));
  if (c.outputs[0].element_count() == 0) return {};
  ops::ConvGeometry g = ops::conv_geometry(c, ops::WindowDirection::forward);
  ops::Codes x{c.inputs[0].data, c.inputs[0].dtype == DType::i8, epilogue.x_zero_point()};
  std::vector<std::int16_t> weight = pack_weight(c, g, epilogue);
  std::int64_t depth = g.positions * g.in_channels;
  std::vector<std::int16_t> patch(static_cast<std::size_t>(depth));
  for (std::int64_t pixel = 0; pixel < g.out.pixels; ++pixel) {
    const std::vector<ops::Tap>& taps = g.taps.at(pixel);
    for (std::int64_t i = 0; i < g.in.batch * g.groups; ++i) {
      std::int64_t n = i / g.groups;
      std::int64_t group = i % g.groups;
      // Positions in the padding hold the zero point.
      std::fill(patch.begin(), patch.end(), std::int16_t{0});
      for (const ops::Tap& tap : taps) {
        std::int16_t* to = patch.data() + tap.position * g.in_channels;
        for (std::int64_t k = 0; k < g.in_channels; ++k) {
          to[k] = static_cast<std::int16_t>(x[g.in.index(n, group * g.in_channels + k, tap.pixel)]);
        }
      }
      for (std::int64_t o = group * g.out_channels; o < (group + 1) * g.out_channels; ++o) {
        epilogue.store(g.out.index(n, o, pixel), o, ops::integer_dot(patch.data(), weight.data() + o * depth, depth));
      }
    }
  }
  return {};
}

}  // namespace

const OpDef kOpDef_qconv = {
    .op = Op::qconv,
    .name = "qconv",
    .doc =
        "conv on codes: exact int32 sums of (x - x_zero_point) * (weight - weight_zero_point), where padding adds 0, "
        "then the epilogue of ir/epilogue.h. A residual of an f32 result may be f32.",
    .inputs = ops::kDotInputs,
    .attributes = {{ops::kStride, ops::kDilation, ops::kPads, ops::kGroups, ops::kChannelsLast, ops::kXScale,
                    ops::kXZeroPoint, ops::kOutDtype, ops::kOutScale, ops::kOutZeroPoint, ops::kResidualScale,
                    ops::kResidualZeroPoint, ops::kActivation, ops::kActivationMin, ops::kActivationMax}},
    .traits = kLoweredOnly,
    .rule = QuantRule::float_only,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
