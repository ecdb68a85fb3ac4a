#include "backends/cpu/cpu_features.h"

#include <cstdint>
#include <cstdlib>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace aoq::cpu {
namespace {

#if defined(__x86_64__)

std::uint64_t enabled_register_state() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

bool bit(unsigned value, int index) {
  return ((value >> index) & 1u) != 0;
}

CpuFeatures detect() {
  CpuFeatures found;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || !bit(ecx, 27)) return found;
  constexpr std::uint64_t kYmmState = 0x6;
  constexpr std::uint64_t kZmmState = 0xe6;
  std::uint64_t state = enabled_register_state();
  if ((state & kYmmState) != kYmmState) return found;
  found.fma = bit(ecx, 12);
  found.f16c = bit(ecx, 29);
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return found;
  unsigned last_subleaf = eax;
  found.avx2 = bit(ebx, 5);
  if ((state & kZmmState) == kZmmState) {
    found.avx512f = bit(ebx, 16);
    found.avx512bw = bit(ebx, 30);
    found.avx512vl = bit(ebx, 31);
    found.avx512_vnni = bit(ecx, 11);
    found.avx512_vbmi = bit(ecx, 1);
  }
  if (last_subleaf >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) found.avx_vnni = bit(eax, 4);
  return found;
}

#else

CpuFeatures detect() {
  return {};
}

#endif

Isa detect_isa() {
  const CpuFeatures& f = cpu_features();
  Isa best = f.avx2 && f.fma && f.f16c ? Isa::avx2 : Isa::reference;
  if (best == Isa::avx2 && f.avx_vnni) best = Isa::avx_vnni;
  if (best >= Isa::avx2 && f.avx512f && f.avx512bw && f.avx512vl && f.avx512_vnni) best = Isa::avx512_vnni;
  const char* wanted = std::getenv("AOQ_CPU_CLASS");
  if (wanted == nullptr) return best;
  for (Isa isa : {Isa::reference, Isa::avx2, Isa::avx_vnni}) {
    if (isa < best && isa_name(isa) == wanted) return isa;
  }
  return best;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::string_view isa_name(Isa isa) {
  constexpr std::string_view kNames[] = {"reference", "avx2", "avx_vnni", "avx512_vnni"};
  return kNames[static_cast<std::size_t>(isa)];
}

Isa best_isa() {
  static const Isa isa = detect_isa();
  return isa;
}

}  // namespace aoq::cpu
