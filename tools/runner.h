// Running models on data: what run, eval, compare, bench and inspect share.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/session.h"
#include "tools/data.h"
#include "tools/machine.h"
#include "tools/model_file.h"

namespace aoq::tools {

struct RunOptions {
  std::int64_t threads = 0;
  bool deterministic = false;
  bool whole_batch = false;
  std::vector<std::string> bind;  // as in LoadOptions
};
// --threads, --deterministic and --bind.
void declare(Flags& flags, RunOptions& options);
// --whole-batch, for commands that run a model without looking inside.
void declare_batch_loops(Flags& flags, RunOptions& options);

struct OpenModel {
  Session session;
  std::uint64_t file_bytes = 0;
  std::uint32_t format_version = 0;  // of an .aoq file
  std::string provenance;            // JSON; empty where the file has none
  double load_ms = 0;

  const Model& model() const { return session.model(); }
  const Graph& graph() const { return model().graph(); }
};

// An `.aoq` file is mapped; other forms are compiled in memory, in float. `options` decides threads and backends.
Result<OpenModel> open_model(const std::string& path, ModelOptions options, const LoadOptions& load = {});
Result<OpenModel> open_model(const std::string& path, const RunOptions& options);
ModelOptions to_model_options(const RunOptions& options);
// For one of several models: --bind is for those that are .onnx files.
LoadOptions load_options(const std::string& path, const RunOptions& options);

// Loads a model of any form and lowers it in float where it is not lowered yet.
Result<LoadedModel> load_lowered(const std::string& path, const LoadOptions& load = {});

// Runs every batch in order. The results are valid during the call.
using BatchDone = std::function<Status(std::int64_t batch, std::span<const TensorView> outputs)>;
Status run_batches(Session& session, const DataSet& data, const Console& console, const char* what,
                   const BatchDone& done);

std::vector<TensorView> views_of(const std::vector<Tensor>& tensors);

// The shapes at which a plan is described: the first dimension of an input is `batch`, other symbols become 1 or, where
// the model does not take that, larger numbers.
struct PlanShapes {
  std::vector<std::string> given;  // NAME=2x3 entries, which come first
  std::int64_t batch = 1;
};
Result<PlanInfo> describe_plan(Session& session, const PlanShapes& wanted, Shapes* chosen = nullptr);

}  // namespace aoq::tools
