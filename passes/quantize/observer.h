// Observers watch the values of one tensor over many samples and say how to quantize it.
//
// They keep state of constant size, all but `recording`. What they do with NaN, infinity and no data is what PyTorch's
// observers do (spec C.3): min-max observers let NaN through into their state and then fail in qparams(); histogram
// observers drop infinities; empty tensors are ignored; without data the scale is 1 and the zero point 0.
#pragma once

#include <cstdint>
#include <map>
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
  std::string kind = "min_max";  // a row of observers.def, or a registered one
  DType dtype = DType::u8;       // in JSON also by PyTorch's names: "quint8", "quint4x2", "float16", ...
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
  // Raises every scale to the next power of two, after eps; affine zero points follow from the raised scale. The scale
  // of fixed_qparams must be one already, and placeholders, which choose no scale, refuse it.
  bool power_of_two_scale = false;
  std::map<std::string, std::string> options = {};  // for registered kinds; the built-in ones refuse any

  bool operator==(const ObserverSpec&) const = default;
};

// Everything an observer has learnt. Empty vectors: nothing yet.
struct ObserverState {
  struct Batch {
    std::vector<std::int64_t> shape;
    std::vector<float> values;
    bool operator==(const Batch&) const = default;
  };

  std::vector<float> min = {};  // one per tensor, channel or block
  std::vector<float> max = {};
  std::vector<float> histogram = {};                      // counts of equal bins over [min, max]
  std::vector<Batch> batches = {};                        // recording: all of them, in order
  std::map<std::string, std::vector<float>> values = {};  // what a registered kind keeps besides

  bool operator==(const ObserverState&) const = default;
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
  // False where qparams() would have to guess because no element was seen.
  virtual bool has_data() const;
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

// invalid_argument for options that do not go together, AOQ-0705 for an unknown kind.
Result<std::unique_ptr<Observer>> make_observer(const ObserverSpec& spec);

struct ObserverKind {
  std::string name;
  std::string summary;
  Result<std::unique_ptr<Observer>> (*make)(const ObserverSpec& spec) = nullptr;
};
// The rows of observers.def, then the registered ones. Thread-safe, as all of these are.
std::vector<ObserverKind> observer_kinds();
// Makes an observer of the program's own known to recipes and ranges files, until the process ends. invalid_argument
// when the name is taken or something is missing.
Status register_observer(ObserverKind kind);
// AOQ-0705, with the nearest known name, for a kind that is none.
Status check_observer_kind(std::string_view name);

// For makers of observers.
namespace observers {

// The codes and the formula that a spec of torch.ao's observers asks for.
Result<ObserverFormula> formula_of(const ObserverSpec& spec);

// The f32 elements of a batch; invalid_argument for another type.
Result<std::span<const float>> f32_elements(const TensorView& x);

}  // namespace observers

// Exact text forms: floats as hexadecimal strings. {"spec": {...}, "state": {"min": [...], "max": [...], ...}}
Json observer_to_json(const Observer& observer);
Result<std::unique_ptr<Observer>> observer_from_json(const Json& json);
Json spec_to_json(const ObserverSpec& spec);
// Options that are left out have their defaults; unknown ones are invalid_data.
Result<ObserverSpec> spec_from_json(const Json& json);

}  // namespace aoq
