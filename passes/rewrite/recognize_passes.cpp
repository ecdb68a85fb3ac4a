// The recognition rewrites as rows of the pass table.
#include "passes/pass.h"
#include "passes/rewrite/recognize.h"

namespace aoq {

namespace {

template <Result<bool> (*kRewrite)(Graph&)>
Result<bool> without_context(Graph& graph, PassContext&) {
  return kRewrite(graph);
}

}  // namespace

extern const PassDef kPass_recognize_gelu;
extern const PassDef kPass_recognize_silu;
extern const PassDef kPass_recognize_hardswish;
extern const PassDef kPass_recognize_layer_norm;
extern const PassDef kPass_recognize_rms_norm;
extern const PassDef kPass_recognize_softmax;
extern const PassDef kPass_recognize_one_hot;
extern const PassDef kPass_recognize_embedding;

const PassDef kPass_recognize_gelu = {.name = "recognize-gelu",
                                      .summary = "Finds GELU spelled out with erf or tanh.",
                                      .run = without_context<recognize_gelu>};
const PassDef kPass_recognize_silu = {
    .name = "recognize-silu", .summary = "Finds x * sigmoid(x).", .run = without_context<recognize_silu>};
const PassDef kPass_recognize_hardswish = {.name = "recognize-hardswish",
                                           .summary = "Finds hard-swish spelled out.",
                                           .run = without_context<recognize_hardswish>};
const PassDef kPass_recognize_layer_norm = {.name = "recognize-layer-norm",
                                            .summary = "Finds layer normalisation spelled out in moments.",
                                            .run = without_context<recognize_layer_norm>};
const PassDef kPass_recognize_rms_norm = {.name = "recognize-rms-norm",
                                          .summary = "Finds root-mean-square normalisation spelled out.",
                                          .run = without_context<recognize_rms_norm>};
const PassDef kPass_recognize_softmax = {
    .name = "recognize-softmax", .summary = "Finds softmax spelled out.", .run = without_context<recognize_softmax>};
const PassDef kPass_recognize_one_hot = {.name = "recognize-one-hot",
                                         .summary = "Finds one-hot encoding spelled out as a comparison.",
                                         .run = without_context<recognize_one_hot>};
const PassDef kPass_recognize_embedding = {
    .name = "recognize-embedding",
    .summary = "Turns a linear of a one-hot encoding into a gather of weight rows.",
    .run = without_context<recognize_embedding>};

}  // namespace aoq
