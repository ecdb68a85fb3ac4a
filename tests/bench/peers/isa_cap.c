// Preloaded into a peer whose CPUID instructions were exchanged for UD0 (see isa_cap.py): answers them like the
// machine, without AVX-512, AMX and the VNNI of either encoding, so that the peer takes its AVX2 code.
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

// Bits of leaf 7: AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS,
// VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8. Of subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA;
// AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10.
static const unsigned kHidden[2][4] = {{0, 0xdc230000u, 0x00005842u, 0x03c0010cu}, {0x00a00030u, 0, 0, 0x00080530u}};

static void answer(int signal, siginfo_t* info, void* context) {
  (void)info;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  const unsigned char* at = (const unsigned char*)registers[REG_RIP];
  if (at[0] != 0x0f || at[1] != 0xff) {  // no CPUID of ours
    struct sigaction fallback;
    memset(&fallback, 0, sizeof fallback);
    fallback.sa_handler = SIG_DFL;
    sigaction(signal, &fallback, 0);
    return;
  }
  const unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX];
  unsigned r[4];
  __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
  if (leaf == 7 && subleaf < 2) {
    for (int i = 0; i < 4; ++i) r[i] &= ~kHidden[subleaf][i];
  }
  registers[REG_RAX] = r[0];
  registers[REG_RBX] = r[1];
  registers[REG_RCX] = r[2];
  registers[REG_RDX] = r[3];
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, 0);
}
