// The functions that make kernels, one declaration for every function that kernels.def names.
#pragma once

#include "backends/cpu/rows/row.h"

namespace aoq::cpu {

#define AOQ_KERNEL(op, row, isa, exactness, make) KernelResult make(const PrepareContext& context);
#include "backends/cpu/kernels.def"
#undef AOQ_KERNEL

}  // namespace aoq::cpu
