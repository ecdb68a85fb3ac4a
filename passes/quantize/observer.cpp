#include "passes/quantize/observer.h"

#include <algorithm>
#include <iterator>
#include <mutex>

#include "ir/error_id.h"
#include "ir/nearest_name.h"
#include "passes/quantize/observer_factories.h"

namespace aoq {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<ObserverKind> kinds = {
#define AOQ_OBSERVER(kind, summary) {#kind, summary, &observers::make_##kind},
#include "passes/quantize/observers.def"
#undef AOQ_OBSERVER
  };
  const std::size_t built_in = kinds.size();
};

Registry& registry() {
  static Registry r;
  return r;
}

// Under the registry's lock.
std::vector<ObserverKind>::const_iterator find_kind(const Registry& r, std::string_view name) {
  return std::find_if(r.kinds.begin(), r.kinds.end(), [&](const ObserverKind& k) { return k.name == name; });
}

Status unknown_kind(const Registry& r, std::string_view name) {
  std::vector<std::string> known;
  std::string list;
  for (const ObserverKind& k : r.kinds) {
    list += (list.empty() ? "" : ", ") + k.name;
    known.push_back(k.name);
  }
  return error(ErrorId::observer_unknown, "there is no observer \"{}\"{}; known: {}", name, did_you_mean(name, known),
               list);
}

Status check_options(const ObserverSpec& spec) {
  if (spec.options.empty()) return {};
  return error(Code::invalid_argument, "\"options\" has \"{}\": only registered observers have options of their own",
               spec.options.begin()->first);
}

}  // namespace

std::vector<ObserverKind> observer_kinds() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  return r.kinds;
}

Status register_observer(ObserverKind kind) {
  if (kind.name.empty() || kind.make == nullptr) {
    return error(Code::invalid_argument, "observer \"{}\": a name and a maker are required", kind.name);
  }
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  if (find_kind(r, kind.name) != r.kinds.end()) {
    return error(Code::invalid_argument, "an observer is named \"{}\" already: choose another name", kind.name);
  }
  r.kinds.push_back(std::move(kind));
  return {};
}

Status check_observer_kind(std::string_view name) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  return find_kind(r, name) != r.kinds.end() ? Status() : unknown_kind(r, name);
}

Result<std::unique_ptr<Observer>> make_observer(const ObserverSpec& spec) {
  Result<std::unique_ptr<Observer>> (*make)(const ObserverSpec&) = nullptr;
  {
    Registry& r = registry();
    std::lock_guard lock(r.mutex);
    const auto kind = find_kind(r, spec.kind);
    if (kind == r.kinds.end()) return unknown_kind(r, spec.kind);
    const bool is_built_in = static_cast<std::size_t>(kind - r.kinds.begin()) < r.built_in;
    if (is_built_in) AOQ_TRY(check_options(spec));
    make = kind->make;
  }
  Result<std::unique_ptr<Observer>> observer = make(spec);
  if (!observer.ok()) return std::move(observer).status().with_context("observer " + spec.kind);
  if (*observer == nullptr) return error(Code::internal, "observer {}: its maker gave none", spec.kind);
  return observer;
}

bool Observer::has_data() const {
  return !(state_ == ObserverState());
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
  if (!state.batches.empty()) return error(Code::invalid_data, "observer state: {} keeps no batches", spec_.kind);
  if (!state.values.empty()) {
    return error(Code::invalid_data, "observer state: {} has no \"{}\"", spec_.kind, state.values.begin()->first);
  }
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
  f.power_of_two_scale = spec.power_of_two_scale;
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
