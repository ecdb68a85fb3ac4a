// Observers that learn nothing: fixed parameters, and the two markers (spec C.3).
#include "passes/quantize/observer_factories.h"

namespace aoq::observers {
namespace {

class StatelessObserver : public Observer {
 public:
  using Observer::Observer;

  Status observe(const TensorView&) override { return {}; }
  bool has_data() const override { return true; }

  Result<QParams> qparams() const override {
    return error(Code::invalid_argument, "observer {} gathers no statistics and has no scale", spec_.kind);
  }

 protected:
  Status merge_state(const ObserverState&) override { return {}; }

  Status check_state(const ObserverState& state) const override {
    AOQ_TRY(Observer::check_state(state));
    if (state.min.empty()) return {};
    return error(Code::invalid_data, "observer state: {} has none", spec_.kind);
  }
};

class FixedQParamsObserver final : public StatelessObserver {
 public:
  FixedQParamsObserver(ObserverSpec spec, QRange range) : StatelessObserver(std::move(spec)), range_(range) {}

  Result<QParams> qparams() const override {
    QParams q;
    q.scale = {static_cast<float>(spec_.scale)};
    q.zero_point = {spec_.zero_point};
    q.dtype = spec_.dtype;
    q.range = range_;
    return q;
  }

 private:
  const QRange range_;
};

class ReuseInputObserver final : public StatelessObserver {
 public:
  using StatelessObserver::StatelessObserver;

  Status observe(const TensorView&) override {
    return error(
        Code::invalid_argument,
        "reuse_input observes nothing: it says that a value shares the observer of its producer's first input, "
        "which prepare puts in its place");
  }
};

Status check_chooses_no_scale(const ObserverSpec& spec) {
  if (!spec.power_of_two_scale) return {};
  return error(Code::invalid_argument, "it chooses no scale that power_of_two_scale could round; leave that out");
}

}  // namespace

Result<std::unique_ptr<Observer>> make_fixed_qparams(const ObserverSpec& spec) {
  AOQ_ASSIGN(const ObserverFormula formula, formula_of(spec));
  const float scale = static_cast<float>(spec.scale);
  if (!(scale > 0) || !(scale <= 3.4028235e38f)) return error(Code::invalid_argument, "scale {}", spec.scale);
  if (spec.power_of_two_scale && scale != power_of_two_not_below(scale)) {
    return error(Code::invalid_argument, "scale {} is no power of two, which power_of_two_scale asks for", spec.scale);
  }
  if (spec.zero_point < formula.range.min || spec.zero_point > formula.range.max) {
    return error(Code::invalid_argument, "zero point {} outside [{}, {}]", spec.zero_point, formula.range.min,
                 formula.range.max);
  }
  return std::unique_ptr<Observer>(new FixedQParamsObserver(spec, formula.range));
}

Result<std::unique_ptr<Observer>> make_placeholder(const ObserverSpec& spec) {
  AOQ_TRY(check_chooses_no_scale(spec));
  return std::unique_ptr<Observer>(new StatelessObserver(spec));
}

Result<std::unique_ptr<Observer>> make_noop(const ObserverSpec& spec) {
  AOQ_TRY(check_chooses_no_scale(spec));
  return std::unique_ptr<Observer>(new StatelessObserver(spec));
}

Result<std::unique_ptr<Observer>> make_reuse_input(const ObserverSpec& spec) {
  AOQ_TRY(check_chooses_no_scale(spec));
  return std::unique_ptr<Observer>(new ReuseInputObserver(spec));
}

}  // namespace aoq::observers
