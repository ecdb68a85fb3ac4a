// Passes: named steps over a graph, and the one runner that executes them.
//
// A rewrite does one thing, keeps no state, is idempotent, leaves cleaning to `dce` and says whether it changed
// anything. A stage (prepare, calibrate, convert, lower) takes its inputs from the PassContext and moves the graph to a
// new stage.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace aoq {

class Executor;
class TargetInfo;
struct Recipe;
struct CalibrationData;
struct Ranges;
namespace torchao {
struct LayerReport;
}

// What stages need; rewrites look at the recipe alone, if at any of it. Pointers are borrowed and may be null where a
// pass does not need them: a pass that misses one fails with invalid_argument.
struct PassContext {
  const TargetInfo* target = nullptr;
  const Recipe* recipe = nullptr;
  Executor* executor = nullptr;
  CalibrationData* data = nullptr;
  Ranges* ranges = nullptr;
  std::vector<torchao::LayerReport>* layers = nullptr;  // what became of layers that a recipe's "configs" name
  std::vector<std::string>* warnings = nullptr;         // where stages put what may be a mistake and is none for sure
  bool has_checked_names = false;                       // of the recipe, against the graph before rewrites
};

enum class PassKind : std::uint8_t { rewrite, stage };

struct PassDef {
  const char* name = nullptr;     // as on the command line: "fold-dq-q"
  const char* summary = nullptr;  // one sentence
  PassKind kind = PassKind::rewrite;
  // True when the graph changed.
  Result<bool> (*run)(Graph&, PassContext&) = nullptr;
};

// The passes of passes/passes.def, in its order, then those that the program registered.
std::span<const PassDef* const> all_passes();
// Adds a pass of the program's own, which must live as long as the process. invalid_argument when the name is taken or
// something is missing. Not thread-safe: register before other threads use passes.
Status register_pass(const PassDef* pass);
const PassDef* find_pass(std::string_view name);

struct PassRunOptions {
  std::vector<std::string> skip;         // passes not to run
  std::vector<std::string> print_after;  // passes after which `print` is called; "all" for every one
  int stop_after = -1;                   // run only the first N
  std::function<void(const PassDef&, const Graph&, bool changed, double seconds)> after_each;
  std::function<void(const PassDef&, const Graph&)> print;
};

// Runs passes in order and verifies the graph after each. Errors are prefixed with the pass's name; an unknown name
// gives invalid_argument and the nearest known one. True when anything changed.
Result<bool> run_passes(Graph& graph, std::span<const std::string> names, PassContext& context,
                        const PassRunOptions& options = {});

// The rewrites that every graph goes through after import, in order: recognition, folding, fusion, cleaning.
std::span<const std::string> standard_rewrites();
// The rewrites that follow `lower`: what is left of stubs, the channels-last layout, cleaning.
std::span<const std::string> lowered_rewrites();

}  // namespace aoq
