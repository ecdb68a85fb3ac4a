// The tuning file: what `aoq tune` measured on one machine, as JSON, and what `compile --tuning` takes from it.
//
//   {
//     "format": "aoq-tuning", "version": 1, "aoq": "0.1.0", "isa": "avx512_vnni", "onednn": "3.2.0", "threads": 2,
//     "deterministic": false, "quantize": "static", "source_hash": "xxh64:...", "shapes": {"x": [1, 3, 224, 224]},
//     "noise": 0.02, "ops": [{"name": "stem/Conv", "op": "conv", "key": "conv f32[1, 3, 224, 224] ... -> f32[1, 32,
//     112, 112]",
//              "float_us": 35.1, "int8_us": 30.2, "noise": 0.03, "runs": "float32", "region": 0,
//              "float_row": "conv_f32", "int8_row": "qconv_s8"}],
//     "regions": [{"float_us": 35.1, "int8_us": 41.4}],
//     "rows": [{"name": "stem/Conv", "op": "conv", "row": "conv_f32", "us": 35.1, "before": "conv_narrow_f32_onednn",
//               "before_us": 38.0}],
//     "whole": {"float_us": 402.0, "int8_us": 310.0, "chosen_us": 301.0, "chosen": "mixed"}
//   }
//
// Of "ops" only "name", "op", "float_us", "int8_us" and "runs" are needed, of "rows" "name", "op" and "row"; "whole",
// "regions" and what says where the figures are from may be missing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace aoq::tools {

// The whole model: all in float, all in int8, and what is best of these and of a mixture. Microseconds.
struct TunedWhole {
  enum class Chosen : std::uint8_t { mixed, int8, in_float };
  double float_us = 0, int8_us = 0, chosen_us = 0;
  Chosen chosen = Chosen::mixed;
};

struct Tuning {
  // An op of the traced graph that the recipe would have run in int8. Microseconds, without conversions around it.
  struct Op {
    std::string name, op;
    std::string key;  // shape_key; empty: of any shape
    double float_us = 0, int8_us = 0;
    double noise = 0;  // relative, of the two
    bool runs_in_int8 = true;
    std::optional<std::size_t> region;  // of those that run in float
    std::string float_row, int8_row;    // the rows that the figures are of
  };
  // Neighbouring ops in float, with the conversions around them, in float and as they would be in int8.
  struct Region {
    double float_us = 0, int8_us = 0;
  };
  // A kernel row to be taken for a node of the lowered graph instead of the one that comes first.
  struct Row {
    std::string name, op, row;
    double us = 0;
    std::string before;
    double before_us = 0;
  };
  using Chosen = TunedWhole::Chosen;
  using Whole = TunedWhole;

  std::string aoq, isa, onednn, source_hash;
  std::string quantize;      // as --quantize has it
  std::int64_t threads = 0;  // 0: not said
  bool deterministic = false;
  double noise = 0;
  std::map<std::string, std::vector<std::int64_t>> shapes;
  std::vector<Op> ops;
  std::vector<Region> regions;
  std::vector<Row> rows;
  std::optional<Whole> whole;

  std::string to_json() const;
  // invalid_data says which member is missing, unknown or of the wrong type or range.
  static Result<Tuning> from_json(std::string_view text);
};

// Declines (passes/quantize/weights.h) the traced nodes that the file has in float, with both figures. Entries that do
// not fit the graph are warnings; a file of which nothing fits is of another model: invalid_data.
Status apply_tuning(const Tuning& tuning, Graph& traced, std::vector<std::string>& warnings);

// "int8 takes 41.4 us, float 35.1 us here, with its conversions"
std::string figures(double int8_us, double float_us, std::string_view where, std::string_view with);

}  // namespace aoq::tools
