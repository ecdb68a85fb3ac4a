// Equalization: per-channel factors that make the channels of a quantized activation about equally large, so that its
// one scale suits all of them (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
// correction", section 4.1; that the weights behind it take a part of the spread is Xiao et al. 2023, "SmoothQuant",
// section 4).
//
// The value between weighted ops is multiplied by f[c], and the weights on both sides are changed so that the graph
// means the same:
//
//   w'[c, ...] = w[c, ...] * f[c],  b'[c] = b[c] * f[c]     of the ops that make it
//   w'[..., c] = w[..., c] / f[c]                           of the ops that read it
//
// A depthwise reader has a weight scale for every channel: there it costs nothing. Values that are added to each other
// share their factors. A value takes part when only weighted ops make and read it, and nothing or relu stands behind
// the sum, or a clamp from 0 to an upper bound where all readers are depthwise: there channels only grow, and only up
// to the largest one, so that the upper bound cuts nothing that the scale does not cut.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"

namespace aoq {

struct Equalization {
  // The new range of an observed value, by the name of its observer.
  std::map<std::string, std::pair<float, float>> ranges;
  // What became of Ranges::channels.
  std::map<std::string, ChannelStatistics> channels;
};

// Changes the weights of a prepared graph and notes the factors in its metadata (channel_factors reads them). Where the
// ranges have no channel statistics a value stays as it is.
Result<Equalization> equalize(Graph& graph, const Recipe& recipe, const Ranges& ranges);

// The factors by which the channels of a node's result were multiplied; empty: by none.
std::vector<float> channel_factors(const Graph& graph, const Node& node);
// Whether a metadata entry holds such factors: not for people.
bool holds_channel_factors(std::string_view metadata_key);

}  // namespace aoq
