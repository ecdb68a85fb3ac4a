// oneDNN as a library of single-threaded f32 kernels: the only files that include it. All rows are inexact.
//
// Our pool splits a node into slices; every distinct slice has its own primitive, made once, with the caller's memory
// as scratchpad. While one runs, OpenMP has one thread on the worker's thread; the host's setting is put back. A
// kernel's memory objects are used by one run at a time: each run takes a free set, or adds one.
#pragma once

#include "backends/cpu/rows/row.h"

namespace aoq::cpu {

// Channels last, activations none, relu and clamp. Refuse an implementation that oneDNN calls `ref`.
KernelResult make_conv_onednn(const PrepareContext& context);
// Only where oneDNN was measured to be faster than our own kernels: depthwise, few input channels, few odd output
// channels.
KernelResult make_conv_narrow_onednn(const PrepareContext& context);
KernelResult make_conv_transpose_onednn(const PrepareContext& context);
KernelResult make_linear_onednn(const PrepareContext& context);

}  // namespace aoq::cpu
