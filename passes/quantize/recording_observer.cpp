// PyTorch's RecordingObserver (spec C.3): every batch in full, for looking at values rather than for quantizing them.
#include "passes/quantize/observer_factories.h"

namespace aoq::observers {
namespace {

// Its memory grows with the data.
class RecordingObserver final : public Observer {
 public:
  using Observer::Observer;

  Status observe(const TensorView& x) override {
    AOQ_ASSIGN(const std::span<const float> values, f32_elements(x));
    state_.batches.push_back({{x.shape.begin(), x.shape.end()}, {values.begin(), values.end()}});
    return {};
  }

  Result<QParams> qparams() const override {
    return error(Code::invalid_argument,
                 "recording keeps values and has no scale: read them from the ranges file, and quantize with another "
                 "observer");
  }

 protected:
  Status merge_state(const ObserverState& other) override {
    state_.batches.insert(state_.batches.end(), other.batches.begin(), other.batches.end());
    return {};
  }

  Status check_state(const ObserverState& state) const override {
    ObserverState rest = state;
    rest.batches.clear();
    AOQ_TRY(Observer::check_state(rest));
    if (!rest.min.empty()) return error(Code::invalid_data, "observer state: recording has no ranges");
    for (const ObserverState::Batch& b : state.batches) AOQ_TRY(check_batch(b));
    return {};
  }

 private:
  static Status check_batch(const ObserverState::Batch& b) {
    // Divides rather than multiplies: the shape comes from a file.
    std::uint64_t left = b.values.size();
    bool fits = true, is_empty = false;
    for (std::int64_t d : b.shape) {
      is_empty = is_empty || d == 0;
      fits = fits && d >= 0 && (d == 0 || left % static_cast<std::uint64_t>(d) == 0);
      if (fits && d > 0) left /= static_cast<std::uint64_t>(d);
    }
    if (fits && (is_empty ? b.values.empty() : left == 1)) return {};
    return error(Code::invalid_data, "observer state: a batch of shape {} has {} values", shape_to_string(b.shape),
                 b.values.size());
  }
};

}  // namespace

Result<std::unique_ptr<Observer>> make_recording(const ObserverSpec& spec) {
  return std::unique_ptr<Observer>(new RecordingObserver(spec));
}

}  // namespace aoq::observers
