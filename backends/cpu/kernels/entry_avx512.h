// Entry points of the AVX-512 translation units. Call them only when the plan's Isa is avx512_vnni.
#pragma once

#include <cstdint>

namespace aoq::cpu {

struct NarrowLinearPlan;
struct LinearWeightOnlyArgs;
struct LinearDynamicArgs;
void run_linear_weight_only_avx512(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                                   std::int64_t end);
void run_linear_dynamic_avx512(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                               std::int64_t end);

}  // namespace aoq::cpu
