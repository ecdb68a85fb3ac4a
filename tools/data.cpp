#include "tools/data.h"

#include <algorithm>

#include <fmt/format.h>

#include "formats/io/file.h"
#include "formats/npy/npy.h"
#include "ir/error_id.h"
#include "tools/suggest.h"

namespace aoq::tools {

namespace {

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string type_text(const Tensor& t) {
  return fmt::format("{}{}", dtype_name(t.dtype()), shape_to_string(t.shape()));
}

std::vector<std::string> names_of(const std::map<std::string, Tensor>& arrays) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : arrays) names.push_back(name);
  return names;
}

std::string quoted_list(const std::vector<std::string>& names) {
  return names.empty() ? "none" : fmt::format("\"{}\"", fmt::join(names, "\", \""));
}

Result<std::map<std::string, Tensor>> read_npz(const std::shared_ptr<const MappedFile>& file) {
  AOQ_ASSIGN(NpzReader reader, NpzReader::open(file->bytes(), file));
  AOQ_ASSIGN(std::vector<NamedTensor> all, reader.read_all());
  std::map<std::string, Tensor> arrays;
  for (NamedTensor& t : all) arrays.emplace(t.name, std::move(t.tensor));
  return arrays;
}

}  // namespace

void declare(Flags& flags, DataOptions& options, Flags::Need input) {
  flags.text("-i,--input", "DATA", options.input,
             "Data: .npz with one array per model input, or .npy where the model has one; axis 0 counts samples",
             input);
  flags.integer("--batch", "B", options.batch, 1,
                "Samples that are run at once (default: the model's own size, else 1)");
  flags.integer("--samples", "N", options.samples, 1, "Use the first N samples only");
  flags.list("--constant", "NAME=FILE.npy", options.constants,
             "The value of an input without a sample axis; repeatable");
}

std::vector<InputPort> input_ports(const Graph& graph) {
  std::vector<InputPort> ports;
  for (const Node* n : graph.input_nodes()) ports.push_back({n->attributes().string("name"), n->output()->type()});
  return ports;
}

Result<Tensor> read_array(const std::string& path) {
  AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  Result<Tensor> tensor = read_npy(file->bytes(), file);
  if (!tensor.ok()) return std::move(tensor).status().with_context(path);
  return tensor;
}

Result<DataSet> DataSet::open(std::vector<InputPort> ports, const DataOptions& options) {
  DataSet data;
  data.ports_ = std::move(ports);
  data.path_ = options.input;
  AOQ_TRY(data.read_constants(options));
  std::map<std::string, Tensor> arrays;
  if (!options.input.empty()) {
    Status status = data.read_arrays(options, arrays);
    if (status.ok()) status = data.take_arrays(arrays);
    if (!status.ok()) {
      bool names_file = status.message().starts_with(options.input);
      return names_file ? std::move(status) : std::move(status).with_context(options.input);
    }
  }
  for (const InputPort& port : data.ports_) {
    if (!data.sources_.contains(port.name)) {
      return error(ErrorId::input_missing, "input \"{}\" has no data; give it with --input or --constant {}=FILE.npy",
                   port.name, port.name);
    }
  }
  AOQ_TRY(data.count_samples(options));
  AOQ_TRY(data.choose_batch(options));
  return data;
}

Status DataSet::read_arrays(const DataOptions& options, std::map<std::string, Tensor>& arrays) const {
  AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open(options.input));
  std::string_view text = as_text(file->bytes());
  if (text.starts_with("PK")) {
    AOQ_ASSIGN(arrays, read_npz(file));
    return {};
  }
  if (!text.starts_with("\x93NUMPY")) {
    return error(Code::invalid_data, "is neither .npz nor .npy, as numpy.savez and numpy.save write them");
  }
  std::vector<std::string> open_inputs;
  for (const InputPort& port : ports_) {
    if (!sources_.contains(port.name)) open_inputs.push_back(port.name);
  }
  if (open_inputs.size() != 1) {
    return error(Code::invalid_data,
                 "is one array, but the model has {} inputs without a constant: {}; expected a .npz with "
                 "these names",
                 open_inputs.size(), quoted_list(open_inputs));
  }
  AOQ_ASSIGN(Tensor tensor, read_npy(file->bytes(), file));
  arrays.emplace(open_inputs[0], std::move(tensor));
  return {};
}

Status DataSet::read_constants(const DataOptions& options) {
  for (const std::string& entry : options.constants) {
    std::size_t equals = entry.find('=');
    if (equals == std::string::npos) {
      return error(Code::invalid_argument, "--constant is \"{}\", expected NAME=FILE.npy", entry);
    }
    std::string name = entry.substr(0, equals);
    std::vector<std::string> known;
    for (const InputPort& port : ports_) known.push_back(port.name);
    auto port = std::find_if(ports_.begin(), ports_.end(), [&](const InputPort& p) { return p.name == name; });
    if (port == ports_.end()) {
      return error(ErrorId::input_unknown, "--constant {}: the model has no such input{}; it has {}", name,
                   did_you_mean(name, known), quoted_list(known));
    }
    AOQ_ASSIGN(Tensor tensor, read_array(entry.substr(equals + 1)));
    bool fits = tensor.dtype() == port->type.dtype && tensor.shape().size() == port->type.shape.size();
    if (!fits) {
      return error(Code::invalid_data, "--constant {}: found {}, expected {}", name, type_text(tensor),
                   to_string(port->type));
    }
    sources_[name] = {std::make_shared<const Tensor>(std::move(tensor)), true};
  }
  return {};
}

Status DataSet::take_arrays(std::map<std::string, Tensor>& arrays) {
  std::vector<std::string> names = names_of(arrays), known;
  for (const InputPort& port : ports_) {
    known.push_back(port.name);
    if (sources_.contains(port.name)) continue;
    auto it = arrays.find(port.name);
    if (it == arrays.end()) {
      return error(ErrorId::input_missing, "input \"{}\" is missing: expected an array of this name; found {}",
                   port.name, quoted_list(names));
    }
    AOQ_TRY(check_array(port, it->second));
    bool is_constant = it->second.shape().empty();
    sources_[port.name] = {std::make_shared<const Tensor>(std::move(it->second)), is_constant};
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return error(ErrorId::input_unknown, "array \"{}\" is for no input{}; the model has {}", name,
                 did_you_mean(name, known), quoted_list(known));
  }
  return {};
}

Status DataSet::check_array(const InputPort& port, const Tensor& tensor) const {
  const std::vector<Dim>& shape = port.type.shape;
  if (tensor.dtype() != port.type.dtype) {
    return error(ErrorId::input_dtype, "input \"{}\": found {}, expected {}; convert the array with .astype", port.name,
                 type_text(tensor), to_string(port.type));
  }
  if (tensor.shape().empty() && shape.empty()) return {};
  if (shape.empty()) {
    return error(ErrorId::input_shape, "input \"{}\": found {}, expected a 0-d array: the input has no sample axis",
                 port.name, type_text(tensor));
  }
  bool fits = tensor.shape().size() == shape.size();
  for (std::size_t d = 1; fits && d < shape.size(); ++d) {
    fits = !shape[d].is_constant() || shape[d].constant() == tensor.shape()[d];
  }
  if (fits) return {};
  std::vector<Dim> expected = shape;
  expected[0] = Dim::symbol("samples");
  return error(ErrorId::input_shape, "input \"{}\": found {}, expected {}{}", port.name, type_text(tensor),
               dtype_name(port.type.dtype), to_string(std::span<const Dim>(expected)));
}

Status DataSet::count_samples(const DataOptions& options) {
  const InputPort* first = nullptr;
  for (const InputPort& port : ports_) {
    const Source& source = sources_[port.name];
    if (source.is_constant) continue;
    std::int64_t count = source.tensor->shape()[0];
    if (first != nullptr && count != total_samples_) {
      return error(Code::invalid_data, "{}: input \"{}\" has {} samples, input \"{}\" has {}; expected the same number",
                   path_, first->name, total_samples_, port.name, count);
    }
    first = &port;
    total_samples_ = count;
  }
  if (total_samples_ == 0) return error(Code::invalid_data, "{}: has no samples", path_);
  samples_ = options.samples > 0 ? std::min(options.samples, total_samples_) : total_samples_;
  return {};
}

Status DataSet::choose_batch(const DataOptions& options) {
  const InputPort* fixed = nullptr;
  for (const InputPort& port : ports_) {
    if (sources_[port.name].is_constant) continue;
    const Dim& dim = port.type.shape[0];
    if (!dim.is_constant() && !dim.is_symbol()) {
      return error(Code::invalid_data,
                   "input \"{}\" is {}: its first dimension does not count samples; give it with "
                   "--constant {}=FILE.npy",
                   port.name, to_string(port.type), port.name);
    }
    if (!dim.is_constant()) continue;
    if (fixed != nullptr && !(fixed->type.shape[0] == dim)) {
      return error(Code::invalid_data,
                   "inputs \"{}\" ({}) and \"{}\" ({}) take batches of different sizes; give the one "
                   "without a sample axis with --constant",
                   fixed->name, to_string(fixed->type), port.name, to_string(port.type));
    }
    fixed = &port;
  }
  batch_size_ = options.batch > 0 ? options.batch : 1;
  if (fixed == nullptr) return {};
  std::int64_t own = fixed->type.shape[0].constant();
  if (own < 1)
    return error(Code::invalid_data, "input \"{}\" is {}: it takes no samples", fixed->name, to_string(fixed->type));
  if (options.batch > 0 && options.batch != own) {
    return error(Code::invalid_argument, "--batch is {}, but input \"{}\" is {}: the model takes batches of {}",
                 options.batch, fixed->name, to_string(fixed->type), own);
  }
  batch_size_ = own;
  if (samples_ % own != 0) {
    return error(Code::invalid_data,
                 "{}: {} samples are no whole number of batches of {}, the fixed size of input \"{}\" "
                 "({}); use --samples {} or export the model with a symbolic first dimension",
                 path_, samples_, own, fixed->name, to_string(fixed->type), samples_ / own * own);
  }
  return {};
}

Result<std::vector<Tensor>> DataSet::batch(std::int64_t i) const {
  std::vector<Tensor> tensors;
  for (const InputPort& port : ports_) {
    const Source& source = sources_.at(port.name);
    if (source.is_constant) {
      tensors.push_back(*source.tensor);
      continue;
    }
    std::vector<std::int64_t> shape = source.tensor->shape();
    std::int64_t row_bytes = source.tensor->byte_size() / shape[0];
    shape[0] = batch_samples(i);
    const std::byte* data = source.tensor->bytes().data() + first_sample(i) * row_bytes;
    AOQ_ASSIGN(Tensor cut, Tensor::borrow(port.type.dtype, std::move(shape), data, source.tensor));
    tensors.push_back(std::move(cut));
  }
  return tensors;
}

CalibrationStream::CalibrationStream(const DataSet& data, const Console& console)
    : data_(data), progress_(console, "calibrating", data.samples()) {}

Result<bool> CalibrationStream::next(std::vector<Tensor>& batch) {
  if (next_ > 0) progress_.advance(data_.batch_samples(next_ - 1));
  if (next_ == data_.batch_count()) return false;
  AOQ_ASSIGN(batch, data_.batch(next_));
  ++next_;
  return true;
}

bool CalibrationStream::rewind() {
  next_ = 0;
  return true;
}

std::string CalibrationStream::position() const {
  if (next_ == 0) return {};
  std::int64_t first = data_.first_sample(next_ - 1), count = data_.batch_samples(next_ - 1);
  return count == 1 ? fmt::format("sample {}", first) : fmt::format("samples {} to {}", first, first + count - 1);
}

}  // namespace aoq::tools
