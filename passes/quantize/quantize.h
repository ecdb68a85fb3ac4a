// Quantizing a traced graph in one call, for programs that need no more.
#pragma once

#include <string>
#include <vector>

#include "ir/executor.h"
#include "ir/graph.h"
#include "ir/target.h"
#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"

namespace aoq {

// Static: prepare, calibrate over `data`, convert, lower. With a target only ops that it has kernels for are lowered.
struct QuantizeOptions {
  const TargetInfo* target = nullptr;
  Executor* executor = nullptr;     // runs the calibration; null: the reference interpreter
  CalibrationData* data = nullptr;  // static recipes need it, or ranges
  Ranges* ranges = nullptr;         // null: those of this call only
  Stage last = Stage::lowered;
};
Status quantize(Graph& graph, const Recipe& recipe, const QuantizeOptions& options = {});

// Modules, by type ("Linear", "LSTM") or name, or ops, by name ("linear"), with scales chosen while the model runs;
// none given: every linear and recurrent op. `dtype` is i8, or f16 for weights in half precision (pytorch-semantics
// B.6). not_found for an entry that nothing matches, naming it.
Status quantize_dynamic(Graph& graph, const std::vector<std::string>& types_or_names = {}, DType dtype = DType::i8,
                        const QuantizeOptions& options = {});

// Weights only: tables of embeddings as rows of u8 or u4 codes, other weights as i8 where `dtype` is i8.
Status quantize_weight_only(Graph& graph, const std::vector<std::string>& types_or_names = {}, DType dtype = DType::u8,
                            const QuantizeOptions& options = {});

}  // namespace aoq
