// Counts heap allocations of the whole program. Linking the .cpp file replaces every form of operator new and delete.
#pragma once

#include <cstdint>

namespace aoq::test {

void start_counting_allocations();
// How many there were since then; stops.
std::int64_t stop_counting_allocations();

// Makes allocation number `n` from now fail (the first is 0): it alone, or with all that follow. Of this thread only.
enum class Failing : std::uint8_t { once, from_then_on };
void fail_allocation(std::int64_t n, Failing failing);
// Ends it; whether one failed.
bool stop_failing_allocations();

}  // namespace aoq::test
