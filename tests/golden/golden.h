// What the sections of the golden vectors share: a case with its tensors, and the comparison of what was found.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json/json.h"
#include "formats/npy/npy.h"
#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq::golden {

class Case {
 public:
  Case(const Json& json, const NpzReader& archive, std::string directory)
      : json_(json), archive_(archive), directory_(std::move(directory)) {}

  std::string text(const char* key) const {
    return json_string(json_, key).ok() ? *json_string(json_, key) : std::string();
  }
  std::string id() const { return text("id"); }
  std::string op() const { return text("op"); }
  // Where the golden files lie, for cases that name files.
  const std::string& directory() const { return directory_; }
  const Json& args() const { return member("args"); }
  const Json& inputs_json() const { return member("inputs"); }
  const Json& outputs_json() const { return member("outputs"); }
  bool has_output(const char* name) const { return member("outputs").contains(name); }

  Result<Tensor> input(const char* name) const { return named("inputs", name); }
  // A list of tensors.
  Result<std::vector<Tensor>> inputs(const char* name) const;
  Result<Tensor> output(const char* name) const { return named("outputs", name); }
  // The entry itself, for plain values and for the qparams of quantized tensors.
  const Json& input_json(const char* name) const;
  const Json& output_json(const char* name) const;
  // The tensor that an entry inside another names.
  Result<Tensor> tensor(const Json& info) const;

  // Compare and remember what differs. Numbers must be equal (NaN equals NaN) or within `ulps` steps of fp32.
  void equal(const char* output, std::span<const double> found, int ulps = 0);
  template <class T>
  void equal(const char* output, const std::vector<T>& found, int ulps = 0) {
    const std::vector<double> wide(found.begin(), found.end());
    equal(output, std::span<const double>(wide), ulps);
  }
  void equal(const char* output, const Tensor& found, int ulps = 0);
  // Also compares the shape.
  void equal_shape(const char* output, std::span<const std::int64_t> found);
  // Differences of at most `tolerance` times the largest expected number of each stretch of `row` elements. `output` is
  // the tensor's entry, as output_json gives it.
  void equal_relative(const Json& output, const Tensor& found, double tolerance, std::size_t row);
  void equal_number(std::string_view what, double expected, double found);
  void fail(std::string text);
  // The case cannot be run, for this reason.
  Status skip(std::string reason);
  const std::string& skipped() const { return skipped_; }
  // Drops what differs so far: the case's own tolerance allows it.
  void forgive() { failures_.clear(); }

  const std::string& failures() const { return failures_; }

 private:
  const Json& member(const char* key) const;
  Result<Tensor> named(const char* group, const char* name) const;

  const Json& json_;
  const NpzReader& archive_;
  const std::string directory_;
  std::string failures_;
  std::string skipped_;
};

using RunCase = Status (*)(Case& c);

struct OpRunner {
  std::string_view op;
  RunCase run;  // null: skipped because of `missing`
  std::string_view missing;
};

struct Section {
  std::string_view name;
  std::span<const OpRunner> ops;
  std::string_view missing;  // why an op that is not listed is skipped
};

std::span<const Section> sections();

// Helpers for arguments; wrong or missing ones are an error of the golden file.
Result<DType> dtype_of(std::string_view torch_name);
Result<std::vector<std::int64_t>> integers_of(const Json& args, const char* key);

std::vector<double> to_doubles(const Tensor& tensor);

}  // namespace aoq::golden
