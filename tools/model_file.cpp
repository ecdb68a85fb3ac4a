#include "tools/model_file.h"

#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "formats/onnx/importer.h"
#include "formats/safetensors/safetensors.h"
#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/hash.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "tools/output_file.h"

namespace aoq::tools {

namespace {

namespace fs = std::filesystem;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string weights_path(const std::string& path) {
  return fs::path(path).replace_extension(".safetensors").string();
}

// What an importer fetched from other files.
class ExternalFiles {
 public:
  explicit ExternalFiles(const std::string& model_path) : directory_(fs::path(model_path).parent_path()) {
    if (directory_.empty()) directory_ = ".";
  }

  Result<onnx::Blob> fetch(std::string_view location, std::uint64_t offset, std::uint64_t length) {
    AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, open(std::string(location)));
    std::optional<std::uint64_t> end = checked::add(offset, length);
    if (!end || *end > file->bytes().size()) {
      return error(Code::invalid_model, "{}: has {} bytes, the model asks for {} bytes at {}", location,
                   file->bytes().size(), length, offset);
    }
    return onnx::Blob{file->bytes().subspan(offset, length), file};
  }

  const std::map<std::string, std::shared_ptr<const MappedFile>>& files() const { return files_; }

 private:
  Result<std::shared_ptr<const MappedFile>> open(const std::string& location) {
    auto it = files_.find(location);
    if (it != files_.end()) return it->second;
    AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open_below(directory_.string(), location));
    return files_[location] = file;
  }

  fs::path directory_;
  // Owners: this object and the tensors that borrow from the files.
  std::map<std::string, std::shared_ptr<const MappedFile>> files_;
};

// SYMBOL=N entries.
Result<SymbolValues> parse_bindings(const std::vector<std::string>& entries) {
  SymbolValues values;
  for (const std::string& entry : entries) {
    std::size_t equals = entry.find('=');
    std::int64_t value = -1;
    const char* end = entry.data() + entry.size();
    bool is_number = equals != std::string::npos && equals > 0 &&
                     std::from_chars(entry.data() + equals + 1, end, value).ptr == end && equals + 1 < entry.size();
    if (!is_number || value < 0) {
      return error(Code::invalid_argument, "--bind {}: expected SYMBOL=N, such as batch=1", entry);
    }
    values[entry.substr(0, equals)] = value;
  }
  return values;
}

// The importer's advice, in the words of the command line.
Status with_bind_flag(Status status) {
  if (status.message().find("bind its symbols to numbers") == std::string::npos) return status;
  return Status(status.code(), status.message() + " (--bind SYMBOL=N)");
}

// Reads one form of model. Fills in model.hash where the options say so.
Status load_onnx(const std::string& path, const std::shared_ptr<const MappedFile>& file, const LoadOptions& load,
                 LoadedModel& model) {
  ExternalFiles external(path);
  onnx::OnnxOptions options;
  options.owner = file;
  options.external_data = [&](std::string_view location, std::uint64_t offset, std::uint64_t length) {
    return external.fetch(location, offset, length);
  };
  AOQ_ASSIGN(options.bind, parse_bindings(load.bind));
  Result<Graph> imported = onnx::import_onnx(file->bytes(), options);
  if (!imported.ok()) return with_bind_flag(std::move(imported).status());
  model.graph = std::move(*imported);
  for (const auto& [location, blob] : external.files()) model.file_bytes += blob->bytes().size();
  if (load.hash == ContentHash::skip) return {};
  std::string hashes = hash_text(xxh64(file->bytes()));
  for (const auto& [location, blob] : external.files()) hashes += hash_text(xxh64(blob->bytes()));
  model.hash = external.files().empty() ? hashes : hash_text(xxh64(std::as_bytes(std::span(hashes))));
  return {};
}

Result<std::map<std::string, Tensor>> read_constants(const std::string& path, std::uint64_t& file_bytes) {
  std::map<std::string, Tensor> constants;
  AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  file_bytes += file->bytes().size();
  Result<SafetensorsFile> tensors = read_safetensors(file->bytes(), file);
  if (!tensors.ok()) return std::move(tensors).status().with_context(path);
  for (NamedTensor& t : tensors->tensors) constants.emplace(t.name, std::move(t.tensor));
  return constants;
}

Status load_text(const std::string& path, std::span<const std::byte> bytes, ContentHash hash, LoadedModel& model) {
  std::string beside = weights_path(path);
  std::error_code ignored;
  std::map<std::string, Tensor> constants;
  bool has_weights = fs::exists(beside, ignored);
  if (has_weights) {
    AOQ_ASSIGN(constants, read_constants(beside, model.file_bytes));
  }
  Result<Graph> graph = parse_text(as_text(bytes), constants);
  if (!graph.ok() && !has_weights && as_text(bytes).find("\nweights ") != std::string_view::npos) {
    return error(Code::not_found, "its weights are missing: expected {} beside it", beside);
  }
  AOQ_ASSIGN(model.graph, std::move(graph));
  AOQ_TRY(verify(model.graph));
  if (hash == ContentHash::skip) return {};
  std::string hashes = hash_text(xxh64(bytes)) + hash_text(hash_constants(constants));
  model.hash = hash_text(xxh64(std::as_bytes(std::span(hashes))));
  return {};
}

Status load_aoq(const std::shared_ptr<const MappedFile>& file, ContentHash hash, LoadedModel& model) {
  AOQ_ASSIGN(model.graph, read_aoq(file->bytes(), file, tool_limits()));
  AOQ_ASSIGN(model.summary, read_aoq_summary(file->bytes(), tool_limits()));
  if (hash == ContentHash::compute) model.hash = hash_text(xxh64(file->bytes()));
  return {};
}

Status load_form(const std::string& path, const std::shared_ptr<const MappedFile>& file, const LoadOptions& options,
                 LoadedModel& model) {
  if (!options.bind.empty() && model.form != ModelForm::onnx) {
    return error(Code::invalid_argument,
                 "--bind {}: gives numbers to dimensions of an .onnx file; this is another form", options.bind[0]);
  }
  switch (model.form) {
    case ModelForm::aoq:
      return load_aoq(file, options.hash, model);
    case ModelForm::onnx:
      return load_onnx(path, file, options, model);
    case ModelForm::text:
      return load_text(path, file->bytes(), options.hash, model);
    case ModelForm::exported:
      break;
  }
  return error(ErrorId::not_built,
               "reading torch.export files (.pt2) is not built yet; export the model to ONNX instead");
}

}  // namespace

std::string hash_text(std::uint64_t hash) {
  return fmt::format("xxh64:{:016x}", hash);
}

Result<ModelForm> form_of(const std::string& path, std::span<const std::byte> bytes) {
  constexpr std::string_view kAoqMagic =
      "\x89"
      "AOQ";
  std::string_view text = as_text(bytes);
  std::string ending = fs::path(path).extension().string();
  if (text.starts_with(kAoqMagic) || ending == ".aoq") return ModelForm::aoq;
  if (ending == ".aoqir" || text.starts_with("aoqir ")) return ModelForm::text;
  if (ending == ".pt2") return ModelForm::exported;
  if (ending == ".onnx") return ModelForm::onnx;
  return error(ErrorId::not_a_model,
               "is no model that aoq knows; expected a name that ends in .aoq, .onnx, .pt2 or .aoqir");
}

Result<LoadedModel> load_model(const std::string& path, const LoadOptions& options) {
  AOQ_ASSIGN(std::shared_ptr<const MappedFile> file, open_aoq(path));
  LoadedModel model;
  Result<ModelForm> form = form_of(path, file->bytes());
  if (!form.ok()) return std::move(form).status().with_context(path);
  model.form = *form;
  model.file_bytes = file->bytes().size();
  Status status = load_form(path, file, options, model);
  AOQ_TRY(file->check_unchanged());
  if (!status.ok()) return std::move(status).with_context(path);
  return model;
}

Status write_text_model(const Graph& graph, const std::string& path) {
  GraphText printed = print_text(graph);
  std::string beside = weights_path(path);
  if (beside == path) return error(Code::invalid_argument, "{}: expected a name that ends in .aoqir", path);
  if (!printed.constants.empty()) {
    SafetensorsFile file;
    for (auto& [name, tensor] : printed.constants) file.tensors.push_back({name, tensor});
    AOQ_TRY(write_output(beside, [&](const ByteSink& sink) { return write_safetensors(file, sink); }));
  }
  return write_output(path, printed.text);
}

}  // namespace aoq::tools
