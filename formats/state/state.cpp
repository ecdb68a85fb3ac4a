#include "formats/state/state.h"

#include "formats/gguf/gguf.h"
#include "formats/io/file.h"
#include "formats/npy/npy.h"
#include "formats/safetensors/safetensors.h"

namespace aoq {

namespace {

Result<std::map<std::string, Tensor>> by_name(std::vector<NamedTensor> tensors) {
  std::map<std::string, Tensor> state;
  for (NamedTensor& t : tensors) {
    if (!state.emplace(t.name, std::move(t.tensor)).second) {
      return error(Code::invalid_data, "two tensors are named \"{}\"", t.name);
    }
  }
  return state;
}

Result<std::map<std::string, Tensor>> gguf_state(std::span<const std::byte> bytes) {
  AOQ_ASSIGN(const GgufFile file, read_gguf(bytes));
  std::map<std::string, Tensor> state;
  for (const GgufTensor& t : file.tensors) {
    AOQ_ASSIGN(state[t.name], gguf_floats(t));
  }
  return state;
}

}  // namespace

Result<std::map<std::string, Tensor>> read_state(const std::string& path) {
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  const std::span<const std::byte> bytes = file->bytes();
  if (is_gguf(bytes)) {
    Result<std::map<std::string, Tensor>> state = gguf_state(bytes);
    if (!state.ok()) return std::move(state).status().with_context(path);
    return state;
  }
  const bool is_zip = bytes.size() > 1 && bytes[0] == std::byte{'P'} && bytes[1] == std::byte{'K'};
  if (!is_zip) {
    Result<SafetensorsFile> read = read_safetensors(bytes, file);
    if (!read.ok()) return std::move(read).status().with_context(path);
    return by_name(std::move(read->tensors));
  }
  Result<NpzReader> reader = NpzReader::open(bytes, file);
  if (!reader.ok()) return std::move(reader).status().with_context(path);
  Result<std::vector<NamedTensor>> read = reader->read_all();
  if (!read.ok()) return std::move(read).status().with_context(path);
  return by_name(std::move(*read));
}

}  // namespace aoq
