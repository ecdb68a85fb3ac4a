// What this processor and its operating system can do, and the class of kernels that follows from it.
#pragma once

#include <cstdint>
#include <string_view>

namespace aoq::cpu {

// A feature is true only when the operating system saves its registers too.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx_vnni = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512_vnni = false;
  bool avx512_vbmi = false;  // of no class: a few functions look for it
};

// Instruction sets that have kernels of their own, weakest first; each has all of those before it. `avx2` means AVX2 +
// FMA + F16C, `avx_vnni` has the 256-bit `vpdpbusd` on top of it, in the encoding of AVX-VNNI or of AVX512-VNNI, and
// `avx512_vnni` is AVX-512 F, BW, VL and VNNI.
enum class Isa : std::uint8_t { reference, avx2, avx_vnni, avx512_vnni };

const CpuFeatures& cpu_features();
std::string_view isa_name(Isa isa);

// The best class of this machine and build; the environment variable AOQ_CPU_CLASS=reference|avx2|avx_vnni|avx512_vnni
// may lower it.
Isa best_isa();

}  // namespace aoq::cpu
