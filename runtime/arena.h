// The memory planner: places buffers with known lifetimes in one arena, so that the arena is as small as possible.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ir/status.h"

namespace aoq {

inline constexpr std::uint64_t kArenaAlignment = 64;

// Lives from the step that first writes it to the last one that reads it, both included.
struct ArenaBuffer {
  std::uint64_t bytes = 0;
  std::int64_t first_step = 0;
  std::int64_t last_step = 0;
};

struct ArenaPlan {
  std::vector<std::uint64_t> offsets;  // one a buffer, multiples of kArenaAlignment
  std::uint64_t bytes = 0;             // the peak: the size the arena must have
  std::uint64_t lower_bound = 0;       // the most bytes alive at one step: no plan is smaller
};

// A pure function of its input: the same buffers give the same offsets. resource_limit when sizes overflow.
Result<ArenaPlan> plan_arena(std::span<const ArenaBuffer> buffers);

}  // namespace aoq
