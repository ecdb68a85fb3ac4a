// Every op of a compiled model: the precision it was asked for, the one it runs in, its kernel, and why.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/json/json.h"
#include "runtime/session.h"

namespace aoq::tools {

struct OpEntry {
  std::string name;
  std::string op;
  std::string requested;  // empty: nothing was asked for
  std::string runs;       // "int8", "float32", "int64", ...; "boundary" for ops that turn float into codes or back
  std::string reason;
  std::string kernel;  // empty where no plan was made, "view" where nothing is computed
  bool inexact = false;
  std::int64_t slices = 1;  // above 1: it runs so many times, each on a part of the batch
  bool is_view = false;
  std::vector<Refusal> refused;
};

// What the node computes on: lowered integer ops and what moves their codes run in int8; everything else in the float
// type it reads or writes, else in the type of its result.
std::string precision_of(const Node& node);

// `steps` of a plan of this graph, or empty.
std::vector<OpEntry> list_ops(const Graph& graph, const std::vector<StepInfo>& steps);

// Ops by precision; views are not counted.
std::map<std::string, std::int64_t> count_by_precision(const std::vector<OpEntry>& ops);
bool runs_in_float(const OpEntry& op);
// Whether any op runs in integers or was asked to.
bool is_quantized(const std::vector<OpEntry>& ops);
// [{"name", "op", "reason"}] of the ops that run in float in a quantized model.
Json float_because(const std::vector<OpEntry>& ops);

}  // namespace aoq::tools
