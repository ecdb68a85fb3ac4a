#include "passes/quantize/observer.h"

#include "passes/quantize/observer_factories.h"

namespace aoq {
namespace {

constexpr ObserverKind kKinds[] = {
#define AOQ_OBSERVER(kind, summary) {#kind, summary, &observers::make_##kind},
#include "passes/quantize/observers.def"
#undef AOQ_OBSERVER
};

}  // namespace

std::span<const ObserverKind> observer_kinds() {
  return kKinds;
}

Result<std::unique_ptr<Observer>> make_observer(const ObserverSpec& spec) {
  for (const ObserverKind& k : kKinds) {
    if (k.name != spec.kind) continue;
    Result<std::unique_ptr<Observer>> observer = k.make(spec);
    if (!observer.ok()) return std::move(observer).status().with_context("observer " + spec.kind);
    return observer;
  }
  return error(Code::not_found, "there is no observer \"{}\"", spec.kind);
}

Status Observer::merge(const Observer& other) {
  if (!(spec_ == other.spec_)) {
    return error(Code::invalid_argument, "observers of different specs cannot be merged: {} and {}",
                 dump_json(spec_to_json(spec_)), dump_json(spec_to_json(other.spec_)));
  }
  return merge_state(other.state_);
}

Status Observer::check_state(const ObserverState& state) const {
  if (state.min.size() != state.max.size()) {
    return error(Code::invalid_data, "observer state: {} minima, {} maxima", state.min.size(), state.max.size());
  }
  if (!state.histogram.empty()) return error(Code::invalid_data, "observer state: {} has no histogram", spec_.kind);
  return {};
}

Status Observer::restore(ObserverState state) {
  AOQ_TRY(check_state(state));
  state_ = std::move(state);
  return {};
}

namespace observers {

Result<ObserverFormula> formula_of(const ObserverSpec& spec) {
  ObserverFormula f;
  f.qscheme = spec.qscheme;
  f.dtype = spec.dtype;
  f.has_custom_range = spec.quant_min.has_value() || spec.quant_max.has_value();
  f.eps = static_cast<float>(spec.eps);
  if (!(f.eps > 0)) return error(Code::invalid_argument, "eps {} is not above zero", spec.eps);
  const bool is_affine = spec.qscheme == QScheme::per_tensor_affine || spec.qscheme == QScheme::per_channel_affine;
  const QRangeRequest request{spec.dtype, spec.quant_min, spec.quant_max,
                              spec.reduce_range ? ReduceRange::yes : ReduceRange::no, is_affine};
  AOQ_ASSIGN(f.range, observer_qrange(request));
  return f;
}

Result<std::span<const float>> f32_elements(const TensorView& x) {
  if (x.dtype != DType::f32) return error(Code::invalid_argument, "observers take f32, found {}", dtype_name(x.dtype));
  return std::span(reinterpret_cast<const float*>(x.data), static_cast<std::size_t>(x.element_count()));
}

}  // namespace observers
}  // namespace aoq
