#include "passes/pass.h"

#include <algorithm>
#include <chrono>

#include "ir/error_id.h"
#include "ir/guard.h"
#include "ir/verifier.h"

namespace aoq {

#define AOQ_PASS(name) extern const PassDef kPass_##name;
#include "passes/passes.def"
#undef AOQ_PASS

namespace {

constexpr const PassDef* kTable[] = {
#define AOQ_PASS(name) &kPass_##name,
#include "passes/passes.def"
#undef AOQ_PASS
};

std::vector<const PassDef*>& registry() {
  static std::vector<const PassDef*> passes(std::begin(kTable), std::end(kTable));
  return passes;
}

bool contains(const std::vector<std::string>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

Status unknown_pass(std::string_view name) {
  const PassDef* best = kTable[0];
  auto shared = [&](const PassDef* p) {
    std::string_view n = p->name;
    std::size_t i = 0;
    while (i < n.size() && i < name.size() && n[i] == name[i]) ++i;
    return i;
  };
  for (const PassDef* p : registry()) {
    if (shared(p) > shared(best)) best = p;
  }
  return error(ErrorId::unknown_pass, "no pass is named \"{}\"; did you mean {}? `aoq opt --list` names them all", name,
               best->name);
}

Result<bool> run_one(Graph& graph, const PassDef& pass, PassContext& context) {
  Result<bool> changed = pass.run(graph, context);
  if (!changed.ok()) return std::move(changed).status().with_context(pass.name);
  Status verified = verify(graph);
  if (!verified.ok()) {
    return Status(Code::internal, std::string(pass.name) + ": left an invalid graph: " + verified.message());
  }
  return changed;
}

}  // namespace

std::span<const PassDef* const> all_passes() {
  return registry();
}

Status register_pass(const PassDef* pass) {
  if (pass == nullptr || pass->name == nullptr || pass->summary == nullptr || pass->run == nullptr) {
    return error(Code::invalid_argument, "a pass needs a name, a summary and a run function");
  }
  if (find_pass(pass->name) != nullptr)
    return error(Code::invalid_argument, "a pass is named \"{}\" already", pass->name);
  registry().push_back(pass);
  return {};
}

const PassDef* find_pass(std::string_view name) {
  for (const PassDef* p : registry()) {
    if (name == p->name) return p;
  }
  return nullptr;
}

static Result<bool> run_unguarded(Graph& graph, std::span<const std::string> names, PassContext& context,
                                  const PassRunOptions& options) {
  bool any = false;
  int ran = 0;
  for (const std::string& name : names) {
    const PassDef* pass = find_pass(name);
    if (pass == nullptr) return unknown_pass(name);
    if (contains(options.skip, name)) continue;
    if (options.stop_after >= 0 && ran >= options.stop_after) break;
    ++ran;
    auto start = std::chrono::steady_clock::now();
    AOQ_ASSIGN(bool changed, run_one(graph, *pass, context));
    any = any || changed;
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (options.after_each) options.after_each(*pass, graph, changed, took.count());
    bool print = contains(options.print_after, name) || contains(options.print_after, "all");
    if (print && options.print) options.print(*pass, graph);
  }
  return any;
}

Result<bool> run_passes(Graph& graph, std::span<const std::string> names, PassContext& context,
                        const PassRunOptions& options) {
  return guarded([&] { return run_unguarded(graph, names, context, options); });
}

std::span<const std::string> standard_rewrites() {
  static const std::vector<std::string> names = {"fold-constants",
                                                 "simplify-shapes",
                                                 "recognize-one-hot",
                                                 "recognize-embedding",
                                                 "recognize-gelu",
                                                 "recognize-silu",
                                                 "recognize-hardswish",
                                                 "recognize-layer-norm",
                                                 "recognize-rms-norm",
                                                 "recognize-softmax",
                                                 "dce",
                                                 "fold-batch-norm",
                                                 "fuse-bias",
                                                 "fuse-scale",
                                                 "fuse-bias",
                                                 "fuse-residual",
                                                 "fuse-activation",
                                                 "fold-constants",
                                                 "simplify-shapes",
                                                 "dce"};
  return names;
}

std::span<const std::string> lowered_rewrites() {
  static const std::vector<std::string> names = {"fold-dq-q",
                                                 "dce",
                                                 "fuse-attention",
                                                 "channels-last",
                                                 "sink-permutes",
                                                 "simplify-shapes",
                                                 "sink-permutes",
                                                 "simplify-shapes",
                                                 "fold-constants",
                                                 "fold-dq-q",
                                                 "dce",
                                                 "fuse-quantize",
                                                 "dce"};
  return names;
}

}  // namespace aoq
