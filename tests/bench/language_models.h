// Two language models written with the module API, their weights from files, and text as tokens.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ir/nn/modules.h"
#include "ir/tensor.h"

namespace aoq::bench {

struct LanguageModel {
  std::string name;
  std::string figure_name;
  std::function<Result<Graph>()> trace;
  std::vector<Tensor> calibration, measured;  // token ids, i64 [1, T]
  // What the results for `measured` are worth; the float model's come first.
  std::function<Result<double>(const std::vector<Tensor>& results)> figure;
  std::int64_t wide_group = 128;     // the group that stands for 128
  const char* keep_float = nullptr;  // a pattern of layers that stay in float
};

// A sentence encoder of BERT's form with 6 layers; the figure is the mean cosine of its embeddings with those of the
// first call.
Result<LanguageModel> mini_lm(const std::string& folder, const std::string& text_folder);
// A decoder of Llama's form; the figure is the perplexity of the measured text.
Result<LanguageModel> smol_lm(const std::string& path, const std::string& text_folder);

}  // namespace aoq::bench
