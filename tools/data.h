// Data: arrays in .npz or .npy files, as batches for a model.
//
// One array per model input, named like it; axis 0 counts samples. An input that has no sample axis gets its one value
// from --constant NAME=FILE.npy or from a 0-d array.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/quantize/calibration.h"
#include "tools/command.h"

namespace aoq::tools {

struct DataOptions {
  std::string input;                   // .npz or .npy
  std::vector<std::string> constants;  // NAME=FILE.npy
  std::int64_t batch = 0;              // 0: the model's own size, else 1
  std::int64_t samples = 0;            // use the first N; 0: all
};
// --input, --batch, --constant and --samples.
void declare(Flags& flags, DataOptions& options, Flags::Need input = Flags::Need::required);

// A model input as data sees it.
struct InputPort {
  std::string name;
  Type type;
};
std::vector<InputPort> input_ports(const Graph& graph);

class DataSet {
 public:
  // Everything that can be wrong with the data's names, shapes and types is found here, before anything runs.
  static Result<DataSet> open(std::vector<InputPort> ports, const DataOptions& options);

  std::int64_t samples() const { return samples_; }
  std::int64_t total_samples() const { return total_samples_; }  // in the file
  std::int64_t batch_count() const { return (samples_ + batch_size_ - 1) / batch_size_; }
  // The first sample of batch i, and their number.
  std::int64_t first_sample(std::int64_t i) const { return i * batch_size_; }
  std::int64_t batch_samples(std::int64_t i) const { return std::min(batch_size_, samples_ - i * batch_size_); }
  // One tensor per port; they share the data's buffers.
  Result<std::vector<Tensor>> batch(std::int64_t i) const;

 private:
  struct Source {
    // Owners: the data set and the batches cut from it.
    std::shared_ptr<const Tensor> tensor;
    bool is_constant = false;
  };

  Status read_arrays(const DataOptions& options, std::map<std::string, Tensor>& arrays) const;
  Status read_constants(const DataOptions& options);
  Status take_arrays(std::map<std::string, Tensor>& arrays);
  Status check_array(const InputPort& port, const Tensor& tensor) const;
  Status count_samples(const DataOptions& options);
  Status choose_batch(const DataOptions& options);
  bool is_sampled(const std::string& name) const;

  std::vector<InputPort> ports_;
  std::map<std::string, Source> sources_;
  std::string path_;
  std::int64_t samples_ = 1;
  std::int64_t total_samples_ = 1;
  std::int64_t batch_size_ = 1;
};

// The batches of a data set for calibration, with progress; errors of a run can say which samples were the last.
class CalibrationStream : public CalibrationData {
 public:
  CalibrationStream(const DataSet& data, const Console& console);
  Result<bool> next(std::vector<Tensor>& batch) override;
  bool rewind() override;
  // "samples 8 to 15 of data.npz"
  std::string position() const;

 private:
  const DataSet& data_;
  std::int64_t next_ = 0;
  Progress progress_;
};

// A single array file.
Result<Tensor> read_array(const std::string& path);

}  // namespace aoq::tools
