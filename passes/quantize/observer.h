// Observers watch the values of one tensor over many samples and say how to quantize it.
//
// They keep state of constant size. What they do with NaN, infinity and no data is what PyTorch's observers do (spec
// C.3): min-max observers let NaN through into their state and then fail in qparams(); histogram observers drop
// infinities; empty tensors are ignored; without data the scale is 1 and the zero point 0.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json/json.h"
#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/qparams.h"

namespace aoq {

// Which observer, and every option any of them takes; the defaults are PyTorch's.
struct ObserverSpec {
  std::string kind = "min_max";  // a row of observers.def
  DType dtype = DType::u8;
  QScheme qscheme = QScheme::per_tensor_affine;
  bool reduce_range = false;
  std::optional<std::int64_t> quant_min;
  std::optional<std::int64_t> quant_max;
  double eps = 0x1p-23;
  double averaging_constant = 0.01;               // moving averages
  int ch_axis = 0;                                // per channel
  int bins = 2048;                                // histograms
  double scale = 1;                               // fixed_qparams
  std::int64_t zero_point = 0;                    // fixed_qparams
  double percentile = 99.99;                      // percentile: the share of values kept, in percent
  MappingType mapping = MappingType::asymmetric;  // affine_*
  Granularity granularity;                        // affine_*
  int steps = 100;                                // affine_mse

  bool operator==(const ObserverSpec&) const = default;
};

// Everything an observer has learnt. Empty vectors: nothing yet.
struct ObserverState {
  std::vector<float> min;  // one per tensor, channel or block
  std::vector<float> max;
  std::vector<float> histogram;  // counts of equal bins over [min, max]
};

class Observer {
 public:
  explicit Observer(ObserverSpec spec) : spec_(std::move(spec)) {}
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  virtual ~Observer() = default;

  // Takes one batch of f32 values; invalid_data when it does not fit what was seen before.
  virtual Status observe(const TensorView& x) = 0;
  virtual Result<QParams> qparams() const = 0;
  // Takes in what `other` has learnt, as if it had come after our own: exactly for min-max, by re-binning for
  // histograms. unsupported where the order of batches matters (moving averages); invalid_argument when the specs
  // differ.
  Status merge(const Observer& other);

  const ObserverSpec& spec() const { return spec_; }
  const ObserverState& state() const { return state_; }
  // invalid_data for a state this observer could not have had.
  Status restore(ObserverState state);

 protected:
  virtual Status merge_state(const ObserverState& other) = 0;
  virtual Status check_state(const ObserverState& state) const;

  const ObserverSpec spec_;
  ObserverState state_;
};

// invalid_argument for options that do not go together, not_found for an unknown kind.
Result<std::unique_ptr<Observer>> make_observer(const ObserverSpec& spec);

struct ObserverKind {
  std::string_view name;
  std::string_view summary;
  Result<std::unique_ptr<Observer>> (*make)(const ObserverSpec& spec);
};
std::span<const ObserverKind> observer_kinds();

// Exact text forms: floats as hexadecimal strings. {"spec": {...}, "state": {"min": [...], "max": [...], ...}}
Json observer_to_json(const Observer& observer);
Result<std::unique_ptr<Observer>> observer_from_json(const Json& json);
Json spec_to_json(const ObserverSpec& spec);
// Options that are left out have their defaults; unknown ones are invalid_data.
Result<ObserverSpec> spec_from_json(const Json& json);

}  // namespace aoq
