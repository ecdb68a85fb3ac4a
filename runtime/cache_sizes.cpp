#include "runtime/cache_sizes.h"

#include <algorithm>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace aoq {
namespace {

CacheSizes ask() {
  CacheSizes sizes;
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
  const long l2 = ::sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (l2 > 0) sizes.l2 = static_cast<std::uint64_t>(l2);
  if (l3 > 0) sizes.l3 = static_cast<std::uint64_t>(l3);
#endif
  sizes.l3 = std::max(sizes.l3, sizes.l2);
  return sizes;
}

}  // namespace

CacheSizes cache_sizes() {
  static const CacheSizes sizes = ask();
  return sizes;
}

}  // namespace aoq
