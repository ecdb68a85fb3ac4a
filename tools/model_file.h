// Model files of every form to graphs.
//
// `.aoqir` is IR text with its larger constants in a `.safetensors` of the same name beside it.
#pragma once

#include <string>
#include <vector>

#include "formats/aoq/aoq.h"
#include "ir/file_limits.h"
#include "ir/graph.h"

namespace aoq::tools {

enum class ModelForm { aoq, onnx, text, exported };

// For models that the user of the command line chose: more nodes than a service takes by default.
inline Limits tool_limits() {
  Limits limits;
  limits.graph_bytes = std::uint64_t{1} << 30;
  return limits;
}

struct LoadedModel {
  Graph graph;
  ModelForm form = ModelForm::aoq;
  std::uint64_t file_bytes = 0;  // of the model's files together
  std::string hash;              // of their contents, where asked for: "xxh64:0123456789abcdef"
  AoqSummary summary;            // of an .aoq file
};

// The form by the beginning of the contents, else by the name's ending.
Result<ModelForm> form_of(const std::string& path, std::span<const std::byte> bytes);

// Hashing reads every byte of the weights, which loading alone does not.
enum class ContentHash { skip, compute };

struct LoadOptions {
  ContentHash hash = ContentHash::skip;
  std::vector<std::string> bind = {};  // SYMBOL=N: numbers for symbolic dimensions of an ONNX model
};

// Errors name the file. unsupported for forms that are not built yet.
Result<LoadedModel> load_model(const std::string& path, const LoadOptions& options = {});

// Writes `path` and, where the graph has larger constants, the `.safetensors` beside it first.
Status write_text_model(const Graph& graph, const std::string& path);

std::string hash_text(std::uint64_t hash);

}  // namespace aoq::tools
