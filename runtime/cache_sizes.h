// How large this machine's caches are, as far as the system says.
#pragma once

#include <cstdint>

namespace aoq {

struct CacheSizes {
  std::uint64_t l2 = std::uint64_t{1} << 20;   // bytes, of one core
  std::uint64_t l3 = std::uint64_t{32} << 20;  // bytes, shared; that of l2 where there is none
};

// Asked once. The defaults stand for what the system does not tell.
CacheSizes cache_sizes();

}  // namespace aoq
