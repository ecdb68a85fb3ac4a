// The text form of a graph (`.aoqir`): canonical, and it reads back to the same graph.
//
//   aoqir 1 traced
//   graph "main"
//   symbol N [1, 64]
//   %0 = input() {dtype=f32, name="x", shape=[N, 3]} : f32[N, 3]
//   %1 = constant() {value=f32[2, 3]@"fc.weight"} : f32[2, 3]
//   %2 = linear(%0, %1) : f32[N, 2] scope("fc", "Linear") origins("/fc/Gemm")
//   output(%2) {names=["y"]}
//
// Attributes that equal their default are left out. Tensors of up to 16 elements stand inline; larger ones are referred
// to by name and handed to the caller, who keeps them in a `.safetensors` file beside the text. `weights` gives their
// hash. Absent optional inputs are `_`. Reals are hexadecimal; decimal ones are accepted.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "ir/file_limits.h"
#include "ir/graph.h"

namespace aoq {

struct GraphText {
  std::string text;
  std::map<std::string, Tensor> constants;  // by the names that the text uses
};

GraphText print_text(const Graph& graph);

// Reads text; `constants` must hold every tensor that the text refers to. Errors give line and column. The result is
// not verified beyond what making nodes checks: see ir/verifier.h.
Result<Graph> parse_text(std::string_view text, const std::map<std::string, Tensor>& constants,
                         const Limits& limits = {});

// The hash of a set of named tensors that the `weights` line states.
std::uint64_t hash_constants(const std::map<std::string, Tensor>& constants);

// One attribute as text, such as `[2, 2]` or `0x1p-4`; tensors that do not stand inline print as their type.
std::string attribute_text(const Attribute& attribute);

}  // namespace aoq
