// How to quantize: the flags that compile, import and calibrate share.
#pragma once

#include <string>
#include <vector>

#include "tools/compiler.h"
#include "tools/data.h"
#include "tools/runner.h"

namespace aoq::tools {

struct QuantizeFlags {
  std::string quantize;    // empty: static with data or ranges, else none
  std::string calibrate;   // data
  std::string recipe;      // JSON file
  std::string embeddings;  // name of a configuration
  std::vector<std::string> ranges;
  std::vector<std::string> keep_float;
  DataOptions data;  // its input is `calibrate`
  // Static quantization without data or ranges, where the caller brings CompileOptions::data.
  bool brings_data = false;
  RunOptions run;

  void declare(Flags& flags);
};

// Reads the recipe; its mode is what the flags ask for. Usage errors where flags contradict each other.
Result<Recipe> read_recipe(const QuantizeFlags& flags);
// Ranges files, merged in order.
Result<Ranges> read_ranges(const std::vector<std::string>& paths);

// Loads nothing but what the flags name; `last` is the stage to stop at. Errors of calibration say at which sample.
Result<Compiled> compile_with_flags(Graph graph, const QuantizeFlags& flags, CompileOptions options,
                                    const Console& console);

}  // namespace aoq::tools
