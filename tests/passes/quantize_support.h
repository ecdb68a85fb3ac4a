// A small model and what quantizing it needs, for tests of recipes.
#pragma once

#include <doctest/doctest.h>

#include "ir/error_id.h"
#include "ir/interpreter.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "passes/pipeline.h"
#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"

namespace aoq {

// Two linear layers with a reshape between them: fc1 (relu), flat, fc2, all below "net".
inline constexpr const char* kTwoLayers = R"(aoqir 1 traced
symbol N [0, 64]
%0 = input() {dtype=f32, name="x", shape=[N, 2]}
%1 = constant() {value=f32[4, 2]{1, -0.5, 0.25, 0.5, -1, 0.75, 0.5, 1}} origins("net.fc1.weight")
%2 = linear(%0, %1) {activation="relu"} scope("net.fc1", "Linear") origins("fc1")
%3 = reshape(%2) {shape=[N, 4]} scope("net.flat", "Flatten") origins("flat")
%4 = constant() {value=f32[2, 4]{1, -1, 0.5, 0.25, -0.5, 1, 0.125, 1}} origins("net.fc2.weight")
%5 = linear(%3, %4) scope("net.fc2", "Linear") origins("fc2")
output(%5) {names=["y"]}
)";

inline Graph graph_of(const char* text) {
  Result<Graph> graph = parse_text(text, {});
  REQUIRE_MESSAGE(graph.ok(), graph.status().message());
  return std::move(*graph);
}

inline Tensor floats_of(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return Tensor::from_values<float>(DType::f32, std::move(shape), values).value();
}

struct Batches : CalibrationData {
  explicit Batches(std::vector<Tensor> all) : batches(std::move(all)) {}
  std::vector<Tensor> batches;
  std::size_t at = 0;
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (at == batches.size()) return false;
    batch = {batches[at++]};
    return true;
  }
};

inline Recipe recipe_of(std::string_view json) {
  Result<Recipe> recipe = parse_recipe(json);
  REQUIRE_MESSAGE(recipe.ok(), recipe.status().message());
  return std::move(*recipe);
}

inline bool says(const Status& status, std::string_view text) {
  return status.message().find(text) != std::string::npos;
}

struct Workflow {
  Recipe recipe;
  Graph graph = graph_of(kTwoLayers);
  Ranges ranges = {};
  std::vector<std::string> warnings = {};

  Status run(Stage last, CalibrationData* data) {
    ReferenceExecutor interpreter;
    PassContext context{
        .recipe = &recipe, .executor = &interpreter, .data = data, .ranges = &ranges, .warnings = &warnings};
    return run_pipeline(graph, context, {.mode = recipe.mode, .last = last});
  }
  Status run(Stage last = Stage::quantized) {
    Batches data({floats_of({2, 2}, {1, -0.5f, 0.25f, 2})});
    return run(last, &data);
  }
};

// The node of an op whose label is `name`; null when there is none.
inline const Node* node_named(const Graph& graph, Op op, std::string_view name) {
  for (const Node* n : graph.nodes()) {
    if (n->is(op) && n->label() == name) return n;
  }
  return nullptr;
}

}  // namespace aoq
