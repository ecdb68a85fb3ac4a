// aoq run: every sample through the model, the results into one .npz.
#include <fmt/format.h>

#include "formats/npy/npy.h"
#include "tools/output_file.h"
#include "tools/runner.h"

namespace aoq::tools {

namespace {

// The results of all batches, joined along axis 0; results without dimensions become one element a batch.
class Joined {
 public:
  Status add(const std::string& name, const TensorView& part) {
    std::vector<std::int64_t> shape(part.shape.begin(), part.shape.end());
    if (shape.empty()) shape = {1};
    if (bytes_.empty() && shape_.empty()) {
      dtype_ = part.dtype;
      shape_ = shape;
    } else {
      bool fits = std::equal(shape.begin() + 1, shape.end(), shape_.begin() + 1, shape_.end());
      if (!fits) {
        return error(Code::invalid_data,
                     "result \"{}\" is {} here and {} before: batches of different shapes cannot be joined", name,
                     shape_to_string(part.shape), shape_to_string(shape_));
      }
      shape_[0] += shape[0];
    }
    auto size = static_cast<std::size_t>(part.element_count() * dtype_info(part.dtype).bits / 8);
    bytes_.insert(bytes_.end(), part.data, part.data + size);
    return {};
  }
  Result<Tensor> tensor() const { return Tensor::copy_of(dtype_, shape_, bytes_); }

 private:
  DType dtype_ = DType::f32;
  std::vector<std::int64_t> shape_;
  std::vector<std::byte> bytes_;
};

class Run : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", model_, "Model: .aoq, .onnx or .aoqir");
    tools::declare(flags, data_);
    flags.text("-o,--output", "OUT.npz", output_, "The file to write: one array per model output",
               Flags::Need::required);
    tools::declare(flags, run_);
    declare_batch_loops(flags, run_);
  }

  Status run(Console& console) override {
    AOQ_TRY(check_output(output_));
    AOQ_ASSIGN(OpenModel opened, open_model(model_, run_));
    const std::vector<Port>& outputs = opened.model().outputs();
    for (const Port& port : outputs) {
      // numpy must have the type; known before the first run.
      TensorView probe{port.type.dtype, {}, nullptr};
      Result<std::vector<std::byte>> header = npy_header(probe);
      if (!header.ok()) return std::move(header).status().with_context(fmt::format("result \"{}\"", port.name));
    }
    AOQ_ASSIGN(DataSet data, DataSet::open(input_ports(opened.graph()), data_));
    std::vector<Joined> joined(outputs.size());
    BatchDone join = [&](std::int64_t, std::span<const TensorView> results) -> Status {
      for (std::size_t i = 0; i < joined.size(); ++i) AOQ_TRY(joined[i].add(outputs[i].name, results[i]));
      return {};
    };
    AOQ_TRY(run_batches(opened.session, data, console, "running", join));
    std::vector<NamedTensor> arrays;
    for (std::size_t i = 0; i < joined.size(); ++i) {
      AOQ_ASSIGN(Tensor tensor, joined[i].tensor());
      arrays.push_back({outputs[i].name, std::move(tensor)});
    }
    AOQ_TRY(write_output(output_, [&](const ByteSink& sink) { return write_npz(arrays, sink); }));
    report(console, data, arrays);
    return {};
  }

 private:
  void report(Console& console, const DataSet& data, const std::vector<NamedTensor>& arrays) const {
    Json list = Json::array();
    std::string text = fmt::format("{}: {} samples\n", output_, data.samples());
    for (const NamedTensor& a : arrays) {
      list.push_back(
          {{"name", a.name}, {"dtype", std::string(dtype_name(a.tensor.dtype()))}, {"shape", a.tensor.shape()}});
      text += fmt::format("  {}: {}{}\n", a.name, dtype_name(a.tensor.dtype()), shape_to_string(a.tensor.shape()));
    }
    if (console.json) {
      console.document({{"samples", data.samples()}, {"outputs", list}, {"output", output_}});
    } else {
      console.print(text);
    }
  }

  std::string model_, output_;
  DataOptions data_;
  RunOptions run_;
};

}  // namespace

extern const CommandDef kCommand_run;
const CommandDef kCommand_run = {
    .name = "run",
    .summary = "Run a model on every sample of the data",
    .examples = {"run int8.aoq --input data.npz -o out.npz", "run model.onnx --input x.npy --batch 8 -o out.npz"},
    .make = make_command<Run>};

}  // namespace aoq::tools
