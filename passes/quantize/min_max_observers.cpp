// The min-max family of torch.ao.quantization (spec C.3), per tensor and per channel, running and moving average.
#include <limits>

#include "passes/quantize/granularity.h"
#include "passes/quantize/observer_factories.h"
#include "passes/quantize/torch_math.h"

namespace aoq::observers {
namespace {

enum class Averaging : std::uint8_t { running, moving };

class MinMaxObserver final : public Observer {
 public:
  MinMaxObserver(ObserverSpec spec, ObserverFormula formula, Averaging averaging)
      : Observer(std::move(spec)), formula_(formula), averaging_(averaging) {}

  Status observe(const TensorView& x) override {
    AOQ_ASSIGN(const std::span<const float> values, f32_elements(x));
    if (values.empty()) return {};
    ObserverState batch;
    if (is_per_channel(spec_.qscheme)) {
      AOQ_TRY(channel_ranges(x, batch));
    } else {
      const torch_math::Range r = torch_math::aminmax(values);
      batch.min = {r.min};
      batch.max = {r.max};
    }
    return take_in(batch);
  }

  Result<QParams> qparams() const override {
    AOQ_ASSIGN(QParams q, observer_qparams(formula_, state_.min, state_.max));
    if (is_per_channel(spec_.qscheme)) q.axis = spec_.ch_axis;
    return q;
  }

 protected:
  Status merge_state(const ObserverState& other) override {
    if (averaging_ == Averaging::moving) {
      return error(Code::unsupported, "{}: a moving average depends on the order of batches and cannot be merged",
                   spec_.kind);
    }
    if (other.min.empty()) return {};
    return take_in(other);
  }

  Status check_state(const ObserverState& state) const override {
    AOQ_TRY(Observer::check_state(state));
    if (is_per_channel(spec_.qscheme) || state.min.size() <= 1) return {};
    return error(Code::invalid_data, "observer state: {} ranges for one tensor", state.min.size());
  }

 private:
  Status channel_ranges(const TensorView& x, ObserverState& batch) const {
    const Granularity axis{Granularity::Kind::axis, spec_.ch_axis};
    AOQ_ASSIGN(const std::vector<std::int64_t> block, block_size_of(axis, x.shape));
    AOQ_ASSIGN(const Blocks blocks, Blocks::make(x.shape, block));
    AOQ_ASSIGN(BlockRanges ranges, block_ranges(x, blocks));
    batch.min = std::move(ranges.min);
    batch.max = std::move(ranges.max);
    return {};
  }

  Status take_in(const ObserverState& batch) {
    if (state_.min.empty()) {
      state_ = batch;
      return {};
    }
    if (state_.min.size() != batch.min.size()) {
      return error(Code::invalid_data, "{}: {} channels after batches of {}", spec_.kind, batch.min.size(),
                   state_.min.size());
    }
    const float c = static_cast<float>(spec_.averaging_constant);
    for (std::size_t i = 0; i < batch.min.size(); ++i) {
      float &lo = state_.min[i], &hi = state_.max[i];
      const bool is_moving = averaging_ == Averaging::moving;
      lo = is_moving ? lo + c * (batch.min[i] - lo) : torch_math::min(batch.min[i], lo);
      hi = is_moving ? hi + c * (batch.max[i] - hi) : torch_math::max(batch.max[i], hi);
    }
    return {};
  }

  const ObserverFormula formula_;
  const Averaging averaging_;
};

Result<std::unique_ptr<Observer>> make(const ObserverSpec& spec, Averaging averaging) {
  AOQ_ASSIGN(const ObserverFormula formula, formula_of(spec));
  return std::unique_ptr<Observer>(new MinMaxObserver(spec, formula, averaging));
}

// PyTorch refuses the same combination: half of an unsigned range has no symmetric zero point.
Status check_per_tensor(const ObserverSpec& spec) {
  if (is_per_channel(spec.qscheme)) return error(Code::invalid_argument, "a per-channel scheme");
  if (spec.qscheme == QScheme::per_tensor_symmetric && spec.reduce_range && spec.dtype == DType::u8) {
    return error(Code::invalid_argument, "u8, symmetric and reduce_range do not go together");
  }
  return {};
}

Status check_per_channel(const ObserverSpec& spec) {
  if (is_per_channel(spec.qscheme)) return {};
  return error(Code::invalid_argument, "a per-tensor scheme");
}

}  // namespace

Result<std::unique_ptr<Observer>> make_min_max(const ObserverSpec& spec) {
  AOQ_TRY(check_per_tensor(spec));
  return make(spec, Averaging::running);
}

Result<std::unique_ptr<Observer>> make_moving_average_min_max(const ObserverSpec& spec) {
  AOQ_TRY(check_per_tensor(spec));
  return make(spec, Averaging::moving);
}

Result<std::unique_ptr<Observer>> make_per_channel_min_max(const ObserverSpec& spec) {
  AOQ_TRY(check_per_channel(spec));
  return make(spec, Averaging::running);
}

Result<std::unique_ptr<Observer>> make_moving_average_per_channel_min_max(const ObserverSpec& spec) {
  AOQ_TRY(check_per_channel(spec));
  return make(spec, Averaging::moving);
}

}  // namespace aoq::observers
