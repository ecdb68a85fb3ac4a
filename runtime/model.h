// Model: a graph made ready to run. Immutable, used by all sessions and threads at once.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/io/file.h"
#include "ir/file_limits.h"
#include "ir/graph.h"
#include "runtime/backend.h"
#include "runtime/thread_pool.h"

namespace aoq {

struct Plan;
// What a plan is for: for a tap every value has to be there whole.
enum class PlanUse : std::uint8_t { run, tap };

// Where a plan runs steps slice by slice of the batch, so that what passes between them stays in the cache. Results are
// the same bits in each case, but for kernels marked inexact.
enum class BatchLoops : std::uint8_t {
  automatic,   // where that should be faster on this machine
  nowhere,     // every step sees the whole batch
  everywhere,  // wherever steps keep samples apart: for tests, and for the least memory
};

struct ModelOptions {
  // Best first: a node goes to the first one that takes it. Owners: the caller and the model.
  std::vector<std::shared_ptr<const Backend>> backends;
  // Where kernels run. Null: the process's pool, or one of the model's own where `threads` is not 0. Owners: the caller
  // and every model that uses it.
  std::shared_ptr<ThreadPool> pool;
  int threads = 0;
  bool deterministic = false;        // leave out kernels marked inexact
  std::uint64_t memory_cap = 0;      // bytes that one session may hold for values; 0: none
  std::size_t max_cached_plans = 8;  // shapes a session keeps ready
  BatchLoops batch_loops = BatchLoops::automatic;
  Limits limits;                        // for opening a file
  FileAccess access = FileAccess::map;  // copy: the file may change while the model lives
};

// A graph input or result.
struct Port {
  std::string name;
  Type type;
};

class Model {
 public:
  // Owners of the result: the caller and every session made from it.
  static Result<std::shared_ptr<const Model>> from_graph(Graph graph, ModelOptions options);
  // Maps the file, which must not be edited in place while the model lives, or copies it (options.access). Errors name
  // the file; file_changed when it changed meanwhile.
  static Result<std::shared_ptr<const Model>> open(const std::string& path, ModelOptions options);
  // Reads weights in place; `owner` keeps the bytes alive and may be null for static data.
  static Result<std::shared_ptr<const Model>> from_bytes(std::span<const std::byte> file,
                                                         std::shared_ptr<const void> owner, ModelOptions options);

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model();

  const Graph& graph() const { return graph_; }
  const ModelOptions& options() const { return options_; }
  ThreadPool& pool() const { return *options_.pool; }
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }

  // Bytes of the constants, and of what backends packed from them so far.
  std::uint64_t weights_bytes() const { return weights_bytes_; }
  std::uint64_t packed_bytes() const;
  // Constants that the file had in another layout than this machine needs, so that they were packed again.
  std::vector<std::string> repacked() const;

  // For sessions: the plan for these exact input shapes, which were checked. Owners: the sessions that run it.
  Result<std::shared_ptr<const Plan>> plan(const std::vector<std::vector<std::int64_t>>& input_shapes,
                                           PlanUse use) const;

 private:
  class Packing;

  Model(Graph graph, ModelOptions options);
  Status prepare();

  Graph graph_;
  ModelOptions options_;
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
  std::uint64_t weights_bytes_ = 0;
  std::unique_ptr<Packing> packing_;
};

}  // namespace aoq
