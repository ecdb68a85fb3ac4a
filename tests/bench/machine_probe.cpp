// What this machine can do at best, as one JSON document: machine_probe [seconds per figure, default 0.2].
//
//   gmac_per_s       multiply-accumulates of one core for each instruction mix, from registers
//   gmac_per_s_all   the same on every CPU that the process may use, at once
//   read_gb_per_s    reading one buffer that fits the second or third cache or none, on one core
//   fork_join        the thread pool's parallel_for without work
//   dispatch         a chain of nodes: without a kernel's work, and with that of a small relu
//
// Figures are the best of several repetitions, but for fork_join, whose quantiles are over all calls.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "backends/cpu/backend.h"
#include "backends/cpu/cpu_features.h"
#include "runtime/cpu_count.h"
#include "runtime/reference_backend.h"
#include "runtime/session.h"
#include "runtime/thread_pool.h"

namespace aoq {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The most units per second that `run`, which does `units` of them, reaches.
template <class F>
double best_rate(double seconds, double units, const F& run) {
  run();
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto begin = Clock::now();
    run();
    best = std::max(best, units / seconds_since(begin));
  } while (seconds_since(start) < seconds);
  return best;
}

// An instruction mix: `run` goes through a loop that does `macs` in each turn.
struct Mix {
  const char* name;
  bool is_available;
  double macs;
  void (*run)(std::int64_t turns);
};

#if defined(__x86_64__)

#define AOQ_CLOBBERED                                                                                              \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13", "xmm14", "xmm15"

// Ten accumulators 0..9 that do not wait for each other, operands in 14 and 15; all registers start at 0.
#define AOQ_TEN(one) one(0) one(1) one(2) one(3) one(4) one(5) one(6) one(7) one(8) one(9)
#define AOQ_LOOP(body) \
  asm volatile("vzeroall\n1:\n" body body "dec %0\njnz 1b\nvzeroupper\n" : "+r"(turns) : : AOQ_CLOBBERED)

#define AOQ_DPBUSD(n) "vpdpbusd %%zmm15, %%zmm14, %%zmm" #n "\n"
#define AOQ_DPWSSD(n) "vpdpwssd %%zmm15, %%zmm14, %%zmm" #n "\n"
#define AOQ_FMA_ZMM(n) "vfmadd231ps %%zmm15, %%zmm14, %%zmm" #n "\n"
#define AOQ_FMA_YMM(n) "vfmadd231ps %%ymm15, %%ymm14, %%ymm" #n "\n"
#define AOQ_MADDWD(n) "vpmaddwd %%ymm15, %%ymm14, %%ymm13\nvpaddd %%ymm13, %%ymm" #n ", %%ymm" #n "\n"

#define AOQ_DPBUSD_YMM(n) "vpdpbusd %%ymm15, %%ymm14, %%ymm" #n "\n"
#define AOQ_DPBUSD_VEX(n) "%{vex%} vpdpbusd %%ymm15, %%ymm14, %%ymm" #n "\n"
// The constant ones are in 12.
#define AOQ_MADDUBS(n) \
  "vpmaddubsw %%ymm15, %%ymm14, %%ymm13\nvpmaddwd %%ymm12, %%ymm13, %%ymm13\nvpaddd %%ymm13, %%ymm" #n ", %%ymm" #n "\n"

void dpbusd_ymm(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_DPBUSD_YMM));
}
void dpbusd_vex(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_DPBUSD_VEX));
}
void maddubs(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_MADDUBS));
}
void dpbusd(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_DPBUSD));
}
void dpwssd(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_DPWSSD));
}
void fma_zmm(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_FMA_ZMM));
}
void fma_ymm(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_FMA_YMM));
}
void maddwd(std::int64_t turns) {
  AOQ_LOOP(AOQ_TEN(AOQ_MADDWD));
}

std::vector<Mix> mixes() {
  const cpu::CpuFeatures& f = cpu::cpu_features();
  const bool has_512 = f.avx512f && f.avx512bw && f.avx512vl;
  std::vector<Mix> all{
      {"vpdpbusd zmm", has_512 && f.avx512_vnni, 20 * 64, dpbusd},
      {"vpdpwssd zmm", has_512 && f.avx512_vnni, 20 * 32, dpwssd},
      {"vpdpbusd ymm", f.avx_vnni || (has_512 && f.avx512_vnni), 20 * 32, f.avx_vnni ? dpbusd_vex : dpbusd_ymm},
      {"vpmaddubsw+vpmaddwd+vpaddd ymm", f.avx2, 20 * 32, maddubs},
      {"vpmaddwd+vpaddd ymm", f.avx2, 20 * 16, maddwd},
      {"vfmadd231ps zmm", has_512, 20 * 16, fma_zmm},
      {"vfmadd231ps ymm", f.avx2 && f.fma, 20 * 8, fma_ymm}};
  std::erase_if(all, [](const Mix& m) { return !m.is_available; });
  return all;
}

// Loads every byte of `bytes`, a multiple of 256, and keeps none.
void read_all(const std::byte* data, std::int64_t bytes) {
  asm volatile(
      "1:\n"
      "vmovups (%0), %%ymm0\nvmovups 32(%0), %%ymm1\nvmovups 64(%0), %%ymm2\nvmovups 96(%0), %%ymm3\n"
      "vmovups 128(%0), %%ymm4\nvmovups 160(%0), %%ymm5\nvmovups 192(%0), %%ymm6\nvmovups 224(%0), %%ymm7\n"
      "add $256, %0\nsub $256, %1\njnz 1b\nvzeroupper\n"
      : "+r"(data), "+r"(bytes)
      :
      : AOQ_CLOBBERED, "memory");
}
bool can_read() {
  return cpu::cpu_features().avx2;
}

#undef AOQ_CLOBBERED
#undef AOQ_TEN
#undef AOQ_LOOP
#undef AOQ_DPBUSD
#undef AOQ_DPBUSD_YMM
#undef AOQ_DPBUSD_VEX
#undef AOQ_MADDUBS
#undef AOQ_DPWSSD
#undef AOQ_FMA_ZMM
#undef AOQ_FMA_YMM
#undef AOQ_MADDWD

#else

std::vector<Mix> mixes() {
  return {};
}
void read_all(const std::byte*, std::int64_t) {}
bool can_read() {
  return false;
}

#endif

std::string object(const std::vector<std::pair<std::string, double>>& entries) {
  std::string text;
  for (const auto& [name, value] : entries) {
    text += fmt::format("{}\"{}\": {:.4g}", text.empty() ? "" : ", ", name, value);
  }
  return "{" + text + "}";
}

std::string mac_peaks(double seconds, ThreadPool& pool) {
  constexpr std::int64_t kTurns = 100000;
  std::vector<std::pair<std::string, double>> rates;
  for (const Mix& mix : mixes()) {
    const int threads = pool.size();
    const double units = static_cast<double>(kTurns) * mix.macs * 1e-9;
    rates.emplace_back(mix.name, best_rate(seconds, units * threads, [&] {
                         pool.parallel_for(threads, [&](int, std::int64_t, std::int64_t) { mix.run(kTurns); });
                       }));
  }
  return object(rates);
}

std::int64_t cache_bytes(int name, std::int64_t otherwise) {
  const long size = ::sysconf(name);
  return size > 0 ? size : otherwise;
}

// Half of the second cache; more than all second caches but far less than the third; and much more than that.
std::string read_rates(double seconds) {
  if (!can_read()) return "{}";
  const std::int64_t l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 1 << 20);
  const std::int64_t l3 = cache_bytes(_SC_LEVEL3_CACHE_SIZE, 32 << 20);
  const std::pair<std::string, std::int64_t> sizes[] = {
      {"L2", l2 / 2}, {"L3", std::min(4 * l2, l3 / 2)}, {"DRAM", std::max<std::int64_t>(4 * l3, 256 << 20)}};
  std::vector<std::pair<std::string, double>> rates;
  for (const auto& [name, size] : sizes) {
    const std::int64_t bytes = size / 256 * 256;
    std::vector<std::byte> memory(static_cast<std::size_t>(bytes), std::byte{1});
    rates.emplace_back(name,
                       best_rate(seconds, static_cast<double>(bytes) * 1e-9, [&] { read_all(memory.data(), bytes); }));
  }
  return object(rates);
}

std::string fork_join(double seconds) {
  std::string text;
  for (int threads = 2; threads <= available_cpus(); threads *= 2) {
    ThreadPool pool(threads);
    std::vector<double> times;
    const auto start = Clock::now();
    while (times.size() < 1000 || seconds_since(start) < seconds) {
      const auto begin = Clock::now();
      pool.parallel_for(threads, [](int, std::int64_t, std::int64_t) {});
      times.push_back(seconds_since(begin) * 1e6);
    }
    std::sort(times.begin(), times.end());
    text += fmt::format("{}{{\"threads\": {}, \"p50_us\": {:.4g}, \"p99_us\": {:.4g}}}", text.empty() ? "" : ", ",
                        pool.size(), times[times.size() / 2], times[times.size() * 99 / 100]);
  }
  return "[" + text + "]";
}

class NoWork : public Kernel {
 public:
  Status run(const RunContext&) const override { return {}; }
};

// Takes every node and does nothing.
class IdleBackend : public ReferenceBackend {
 public:
  Result<PreparedKernel> prepare(const PrepareContext&) const override {
    return PreparedKernel{std::make_unique<NoWork>(), "no_work", false, {}};
  }
};

constexpr int kNodes = 1000;

Result<Graph> chain() {
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {Dim(16)}, std::nullopt});
  for (int i = 0; i < kNodes; ++i) {
    AOQ_ASSIGN(Node * node, g.create(Op::relu, {x}, {}));
    x = node->output();
  }
  AOQ_TRY(g.output({x}, {"y"}));
  return g;
}

// Nanoseconds of one node.
Result<double> node_time(std::shared_ptr<const Backend> backend, double seconds) {
  ModelOptions options;
  options.backends = {std::move(backend)};
  options.threads = 1;
  AOQ_ASSIGN(Graph graph, chain());
  AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_graph(std::move(graph), std::move(options)));
  AOQ_ASSIGN(Session session, Session::create(std::move(model)));
  AOQ_ASSIGN(Tensor x, Tensor::make(DType::f32, {16}));
  const std::vector<TensorView> inputs{x.view()};
  AOQ_TRY(session.run(inputs).status());
  return 1e9 / best_rate(seconds, kNodes, [&] { (void)session.run(inputs).ok(); });
}

Status probe(double seconds) {
  ThreadPool one(1), all(0);
  AOQ_ASSIGN(const double idle, node_time(std::make_shared<IdleBackend>(), seconds));
  AOQ_ASSIGN(const double relu, node_time(std::make_shared<CpuBackend>(), seconds));
  const std::string peaks = mac_peaks(seconds, one), all_peaks = mac_peaks(seconds, all);
  fmt::print(
      "{{\"isa\": \"{}\", \"threads\": {},\n \"gmac_per_s\": {},\n \"gmac_per_s_all\": {},\n \"read_gb_per_s\": {},\n"
      " \"fork_join\": {},\n \"dispatch_ns_per_node\": {:.4g}, \"small_relu_ns_per_node\": {:.4g}}}\n",
      cpu::isa_name(cpu::best_isa()), all.size(), peaks, all_peaks, read_rates(seconds), fork_join(seconds), idle,
      relu);
  return {};
}

}  // namespace
}  // namespace aoq

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::strtod(argv[1], nullptr) : 0.2;
  if (!(seconds > 0)) {
    std::fputs("usage: machine_probe [seconds per figure]\n", stderr);
    return 2;
  }
  const aoq::Status status = aoq::probe(seconds);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 1;
}
