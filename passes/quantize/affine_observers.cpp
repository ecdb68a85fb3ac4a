#include "passes/quantize/affine_observers.h"

#include <algorithm>
#include <cmath>

#include "passes/quantize/observer_factories.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace observers {
namespace {

Result<AffineFormula> affine_formula_of(const ObserverSpec& spec) {
  AffineFormula f;
  f.mapping = spec.mapping;
  f.dtype = spec.dtype;
  f.eps = static_cast<float>(spec.eps);
  f.power_of_two_scale = spec.power_of_two_scale;
  QRangeRequest request{spec.dtype, spec.quant_min, spec.quant_max, ReduceRange::no, false};
  AOQ_ASSIGN(f.range, observer_qrange(request));
  if (f.mapping == MappingType::symmetric_no_clipping_error && (f.range.min == 0 || f.range.max == 0)) {
    return error(Code::invalid_argument, "symmetric_no_clipping_error divides by quant_min and quant_max, one is zero");
  }
  return f;
}

Result<Blocks> blocks_of(const ObserverSpec& spec, std::span<const std::int64_t> shape) {
  AOQ_ASSIGN(const std::vector<std::int64_t> block, block_size_of(spec.granularity, shape));
  return Blocks::make(shape, block);
}

class AffineObserver : public Observer {
 public:
  AffineObserver(ObserverSpec spec, AffineFormula formula) : Observer(std::move(spec)), formula_(formula) {}

  Result<QParams> qparams() const override {
    if (state_.min.empty()) return error(Code::invalid_data, "{}: no batch was observed", spec_.kind);
    AOQ_ASSIGN(QParams q, choose_qparams_affine_with_min_max(formula_, state_.min, state_.max));
    if (spec_.granularity.kind == Granularity::Kind::axis) q.axis = static_cast<int>(spec_.granularity.value);
    return q;
  }

 protected:
  const AffineFormula formula_;
};

class AffineMinMaxObserver final : public AffineObserver {
 public:
  using AffineObserver::AffineObserver;

  Status observe(const TensorView& x) override {
    AOQ_ASSIGN(const std::span<const float> values, f32_elements(x));
    if (values.empty()) return {};
    AOQ_ASSIGN(const Blocks blocks, blocks_of(spec_, x.shape));
    AOQ_ASSIGN(BlockRanges ranges, block_ranges(x, blocks));
    return merge_state({std::move(ranges.min), std::move(ranges.max), {}});
  }

 protected:
  Status merge_state(const ObserverState& batch) override {
    if (batch.min.empty()) return {};
    if (state_.min.empty()) {
      state_ = batch;
      return {};
    }
    if (batch.min.size() != state_.min.size()) {
      return error(Code::invalid_data, "{}: {} blocks after batches of {}", spec_.kind, batch.min.size(),
                   state_.min.size());
    }
    for (std::size_t i = 0; i < batch.min.size(); ++i) {
      state_.min[i] = torch_math::min(state_.min[i], batch.min[i]);
      state_.max[i] = torch_math::max(state_.max[i], batch.max[i]);
    }
    return {};
  }
};

class AffineMseObserver final : public AffineObserver {
 public:
  using AffineObserver::AffineObserver;

  Status observe(const TensorView& x) override {
    AOQ_ASSIGN(const std::span<const float> values, f32_elements(x));
    if (values.empty()) return {};
    AOQ_ASSIGN(const Blocks blocks, blocks_of(spec_, x.shape));
    AOQ_ASSIGN(BlockRanges best, block_ranges(x, blocks));
    std::vector<float> radius, low, high;
    for (std::size_t b = 0; b < best.min.size(); ++b)
      radius.push_back(torch_math::max(std::fabs(best.min[b]), best.max[b]));
    std::vector<float> least(radius.size(), 1e9f);
    for (int step = 1; step <= spec_.steps; ++step) {
      low.clear();
      high.clear();
      for (float r : radius) {
        const float threshold = r / static_cast<float>(spec_.steps) * static_cast<float>(step);
        low.push_back(-threshold);
        high.push_back(threshold);
      }
      AOQ_ASSIGN(const std::vector<float> losses, affine_mse_losses(spec_, x, low, high));
      for (std::size_t b = 0; b < radius.size(); ++b) {
        if (!(losses[b] < least[b])) continue;
        least[b] = losses[b];
        best.min[b] = low[b];
        best.max[b] = high[b];
      }
    }
    state_ = {std::move(best.min), std::move(best.max), {}};
    return {};
  }

 protected:
  Status merge_state(const ObserverState&) override {
    return error(Code::unsupported, "{} keeps the latest batch only and cannot be merged", spec_.kind);
  }
};

template <class T>
Result<std::unique_ptr<Observer>> make(const ObserverSpec& spec) {
  AOQ_ASSIGN(const AffineFormula formula, affine_formula_of(spec));
  return std::unique_ptr<Observer>(new T(spec, formula));
}

}  // namespace

Result<std::unique_ptr<Observer>> make_affine_min_max(const ObserverSpec& spec) {
  return make<AffineMinMaxObserver>(spec);
}

Result<std::unique_ptr<Observer>> make_affine_mse(const ObserverSpec& spec) {
  if (spec.steps < 1) return error(Code::invalid_argument, "{} steps", spec.steps);
  return make<AffineMseObserver>(spec);
}

}  // namespace observers

Result<std::vector<float>> affine_mse_losses(const ObserverSpec& spec, TensorView x, std::span<const float> min,
                                             std::span<const float> max) {
  AOQ_ASSIGN(const AffineFormula formula, observers::affine_formula_of(spec));
  AOQ_ASSIGN(const Blocks blocks, observers::blocks_of(spec, x.shape));
  AOQ_ASSIGN(const std::span<const float> values, observers::f32_elements(x));
  AOQ_ASSIGN(const QParams q, choose_qparams_affine_with_min_max(formula, min, max));
  if (static_cast<std::int64_t>(min.size()) != blocks.count()) {
    return error(Code::invalid_argument, "{} ranges for {} blocks", min.size(), blocks.count());
  }
  const float lo = static_cast<float>(q.range.min), hi = static_cast<float>(q.range.max);
  std::vector<std::vector<float>> errors(static_cast<std::size_t>(blocks.count()));
  blocks.for_each_run([&](std::int64_t b, std::int64_t begin, std::int64_t size) {
    const float inverse = 1.0f / q.scale[b], zero_point = static_cast<float>(q.zero_point[b]);
    for (std::int64_t i = begin; i < begin + size; ++i) {
      const float code = std::clamp(std::nearbyintf(values[i] * inverse) + zero_point, lo, hi);
      const float e = (code - zero_point) * q.scale[b] - values[i];
      errors[b].push_back(e * e);
    }
  });
  std::vector<float> losses;
  for (const std::vector<float>& e : errors) losses.push_back(torch_math::sum(e) / static_cast<float>(e.size()));
  return losses;
}

}  // namespace aoq
