// Standalone modules: parts of a model that are quantized as models of their own, by recipes of their own.
//
//   x -> a -> [ tail: fc1 -> fc2 ] -> b      =>   x -> a -> region "tail" -> b     and   x -> fc1 -> fc2
//
// While a graph is fused and prepared, each such module is a graph beside it, whose paths begin at the module; a node
// stands for it. Then its nodes come back: observers that they brought have the module's path in front of their names.
// One call of a module is one graph; calls that do not read each other's results are several, with the same observers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "passes/quantize/recipe.h"

namespace aoq::fx {

struct StandaloneModule {
  std::string path;
  std::unique_ptr<Recipe> recipe;
  Graph graph;           // its inputs are the stand-in's, its results too
  std::string settings;  // of the node that stands for it, which no other has

  bool takes_codes(std::size_t input) const;
  bool gives_codes(std::size_t result) const;
};

// Takes the modules that the recipe names out of a traced graph. recipe_invalid where a module is not one piece: what
// it reads depends on what it makes.
Result<std::vector<StandaloneModule>> take_out_standalone(Graph& graph, const Recipe& recipe);
// Null where a node stands for none of them.
const StandaloneModule* standalone_of(const std::vector<StandaloneModule>& modules, const Node& node);
// Puts their nodes in the place of those that stand for them, and their paths into the graph's metadata.
Status put_back_standalone(Graph& graph, std::vector<StandaloneModule>& modules);

// For people: splits a graph that came back, before it is lowered, into what lies around the modules and each of them
// once, with the names that FX gives in each. Nodes of kind region stand for them again.
struct StandaloneView {
  std::string path;
  Graph graph;
};
Result<std::vector<StandaloneView>> split_standalone(Graph& graph);

// Whether a path is a module's or that of something in it.
bool is_in_module(const std::string& path, const std::string& module);
// Paths of the modules of a class: containers by what tracing noted, others by their nodes.
std::vector<std::string> modules_of_class(const Graph& graph, const std::string& type);

}  // namespace aoq::fx
