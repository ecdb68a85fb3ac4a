// Counts heap allocations of the whole program. Linking the .cpp file replaces every form of operator new and delete.
#pragma once

#include <cstdint>

namespace aoq::test {

void start_counting_allocations();
// How many there were since then; stops.
std::int64_t stop_counting_allocations();

}  // namespace aoq::test
