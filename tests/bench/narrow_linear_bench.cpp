// Linear layers with narrow weights against reading memory, and against our own int8 and f32 layers:
//   narrow_linear_bench [threads [part of a layer's name [rows of x]]]
// Weights of one row of x are streamed from copies that together exceed the caches, as a decoder meets them; of several
// rows one copy is used again. Every run of one row comes behind a read of as many bytes, in one stream or in four by
// turns: the best and the median of runs and of the faster way to read.
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "backends/cpu/backend.h"
#include "runtime/thread_pool.h"

namespace aoq::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class BenchStore : public PackedStore {
 public:
  Result<std::span<const std::byte>> packed(const Value& constant, std::string_view layout) override {
    AOQ_ASSIGN(std::vector<std::byte> bytes, CpuBackend().pack(*constant_tensor(&constant), layout));
    AOQ_ASSIGN(Tensor kept, Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes));
    kept_.push_back(std::move(kept));
    return kept_.back().bytes();
  }

  const std::deque<Tensor>& kept() const { return kept_; }

 private:
  std::deque<Tensor> kept_;
};

struct Layer {
  const char* name;
  Op op;
  DType weight;
  std::int64_t group;  // 0: one for the whole depth
  bool symmetric = true;
  bool bf16 = false;  // x has numbers of bf16
};
constexpr Layer kLayers[] = {
    {"dynamic i4 g32", Op::linear_dynamic, DType::i4, 32},
    {"dynamic i4 g128", Op::linear_dynamic, DType::i4, 128},
    {"dynamic i4 g32 affine", Op::linear_dynamic, DType::i4, 32, false},
    {"dynamic i8", Op::linear_dynamic, DType::i8, 0},
    {"weight-only i4 g32", Op::linear_weight_only, DType::i4, 32},
    {"weight-only i4 g128", Op::linear_weight_only, DType::i4, 128},
    {"weight-only i4 g32 bf16", Op::linear_weight_only, DType::i4, 32, true, true},
    {"weight-only i8", Op::linear_weight_only, DType::i8, 0},
    {"qlinear i8", Op::qlinear, DType::i8, 0},
    {"linear f32", Op::linear, DType::f32, 0},
};

Tensor filled(DType dtype, std::vector<std::int64_t> shape, double scale) {
  Tensor t = Tensor::make(dtype, std::move(shape)).value();
  std::byte* data = t.mutable_bytes().data();
  std::uint32_t random = 12345;
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    random = random * 1664525u + 1013904223u;
    const auto value = static_cast<std::int64_t>((random >> 24) & 15u) - 8;
    if (is_integer(dtype)) {
      store_integer(dtype, data, i, value);
    } else {
      reinterpret_cast<float*>(data)[i] = static_cast<float>(static_cast<double>(value) * scale);
    }
  }
  return t;
}

// Sums of four numbers, rounded to bf16.
void become_bf16(Tensor& x) {
  std::uint32_t random = 54321;
  for (float& v : x.mutable_as<float>()) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      random = random * 1664525u + 1013904223u;
      sum += static_cast<float>(random >> 8) * 0x1p-24f - 0.5f;
    }
    v = std::bit_cast<float>((std::bit_cast<std::uint32_t>(sum) + 0x8000u) & 0xffff0000u);
  }
}

Tensor positive(std::vector<std::int64_t> shape) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  for (float& v : t.mutable_as<float>()) v = 0.01f;
  return t;
}

// One layer's kernels of one class, with weights of their own.
struct Prepared {
  std::string name;
  Graph graph;
  std::deque<BenchStore> stores;  // one for each kernel, so that each has weights of its own
  std::vector<std::unique_ptr<Kernel>> kernels;
  Tensor x, y;
  std::vector<std::byte> scratch;
  double bytes = 0;              // of codes and scales, for one kernel
  std::vector<double> runs;      // seconds
  std::vector<double> reads[2];  // in one stream and in four
};

// Enough to leave nothing in the caches.
constexpr double kStreamBytes = 120e6;

struct Size {
  std::int64_t rows, depth, columns;
};

Node* node_of(const Layer& l, const Size& s, Prepared* p) {
  Graph& graph = p->graph;
  const std::int64_t group = l.group == 0 ? s.depth : l.group;
  Value* x = graph.input("x", Type{p->x.dtype(), {s.rows, s.depth}, std::nullopt});
  std::vector<Value*> operands{x, graph.constant(filled(l.weight, {s.columns, s.depth}, 0.01))};
  Attributes a;
  std::int64_t scales = 0;
  if (l.op == Op::qlinear) {
    scales = s.columns;
    a = {{"x_scale", 0.02}, {"out_dtype", DType::f32}};
    operands.push_back(graph.constant(positive({s.columns})));
  } else if (l.op != Op::linear) {
    scales = s.columns * (s.depth / group);
    operands.push_back(graph.constant(positive({s.columns, s.depth / group})));
    a.set("group", group);
    if (l.op == Op::linear_dynamic) a.set("symmetric", l.symmetric);
  }
  p->bytes = static_cast<double>(s.columns * s.depth) * dtype_info(l.weight).bits / 8 + static_cast<double>(scales) * 4;
  return graph.create(l.op, operands, a).value();
}

bool add_kernel(const Node& node, const KernelRow& row, int workers, Prepared* p) {
  std::vector<ConcreteType> inputs{{p->x.dtype(), p->x.shape()}};
  for (std::size_t i = 1; i < node.inputs().size(); ++i) {
    inputs.emplace_back();
    const Tensor* t = node.input(i) == nullptr ? nullptr : constant_tensor(node.input(i));
    if (t != nullptr) inputs.back() = {t->dtype(), t->shape()};
  }
  std::vector<ConcreteType> outputs{{DType::f32, p->y.shape()}};
  PrepareContext context{node, inputs, outputs, node.attributes(), p->stores.emplace_back(), workers, false};
  Result<std::unique_ptr<Kernel>> kernel = row.make(context);
  if (!kernel.ok()) return false;
  p->kernels.push_back(std::move(kernel).value());
  p->scratch.resize(std::max<std::size_t>(p->scratch.size(), p->kernels.back()->scratch_bytes() + 64));
  return true;
}

// The kernel's class, where the row has one.
std::string class_of(std::string_view row) {
  const std::size_t at = row.rfind("avx");
  return at == std::string_view::npos ? "" : " " + std::string(row.substr(at));
}

std::deque<Prepared> prepare(const Size& s, std::string_view part, int workers) {
  std::deque<Prepared> out;
  for (const Layer& l : kLayers) {
    for (const KernelRow& row : kernel_rows()) {
      const bool is_wanted = row.op == l.op && row.exactness == Exactness::exact && row.isa <= best_isa();
      if (!is_wanted || std::string_view(l.name).find(part) == std::string_view::npos) continue;
      Prepared& p = out.emplace_back();
      p.name = l.name + class_of(row.name);
      p.x = filled(l.op == Op::qlinear ? DType::i8 : DType::f32, {s.rows, s.depth}, 0.1);
      if (l.bf16) become_bf16(p.x);
      p.y = Tensor::make(DType::f32, {s.rows, s.columns}).value();
      const Node& node = *node_of(l, s, &p);
      const std::size_t copies = s.rows > 1 ? 1 : static_cast<std::size_t>(kStreamBytes / p.bytes) + 1;
      while (p.kernels.size() < copies && add_kernel(node, row, workers, &p)) {
      }
      if (p.kernels.empty()) out.pop_back();
    }
  }
  return out;
}

double run(const Prepared& p, const Kernel& kernel, ThreadPool& pool) {
  const std::byte* pointers[8] = {p.x.bytes().data()};
  std::byte* result = const_cast<std::byte*>(p.y.bytes().data());
  const auto address = reinterpret_cast<std::uintptr_t>(p.scratch.data());
  std::byte* scratch = const_cast<std::byte*>(p.scratch.data()) + (64 - address % 64) % 64;
  const auto begin = Clock::now();
  if (!kernel.run({pointers, std::span(&result, 1), scratch, &pool}).ok()) std::abort();
  return seconds_since(begin);
}

// Reads n bytes in as many streams as asked, each of 256 bytes at a time.
__attribute__((target("avx2"))) int read_all(const std::byte* p, std::int64_t n, int streams) {
  const std::int64_t part = n / streams;
  __m256i sum[8] = {};
  for (std::int64_t i = 0; i + 256 <= part; i += 256) {
    for (int s = 0; s < streams; ++s) {
      const std::byte* from = p + s * part + i;
      for (int j = 0; j < 8; ++j) {
        sum[j] = _mm256_add_epi8(sum[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32 * j)));
      }
    }
  }
  int total = 0;
  for (const __m256i& s : sum) total += _mm256_extract_epi32(s, 0);
  return total;
}

// Reads the constants of a store; the seconds that took.
double probe(const BenchStore& store, int streams, ThreadPool& pool) {
  static std::vector<int> sums(ThreadPool::kMaxThreads * 16);
  const auto begin = Clock::now();
  for (const Tensor& t : store.kept()) {
    pool.parallel_for((t.byte_size() + 4095) / 4096, [&](int worker, std::int64_t first, std::int64_t last) {
      const std::int64_t bytes = std::min(last * 4096, t.byte_size()) - first * 4096;
      sums[static_cast<std::size_t>(worker) * 16] += read_all(t.bytes().data() + first * 4096, bytes, streams);
    });
  }
  return seconds_since(begin);
}

double median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure_layer(Prepared& p, bool streams, ThreadPool& pool) {
  for (std::size_t i = 0; i < p.kernels.size(); ++i) {
    const std::size_t way = i % 2;
    const BenchStore& other = p.stores[(i + p.stores.size() / 2) % p.stores.size()];
    if (streams) p.reads[way].push_back(probe(other, way == 0 ? 1 : 4, pool));
    p.runs.push_back(run(p, *p.kernels[i], pool));
  }
}

void print_layer(Prepared& p, const Size& s) {
  const double products = static_cast<double>(s.rows * s.depth * s.columns);
  const double middle = median(p.runs), best = p.runs.front();
  std::printf("  %-36s %8.1f us best %8.1f median %7.1f GMAC/s", p.name.c_str(), best * 1e6, middle * 1e6,
              products / best * 1e-9);
  if (!p.reads[1].empty()) {
    const double read = std::min(median(p.reads[0]), median(p.reads[1]));
    const double best_read = std::min(p.reads[0].front(), p.reads[1].front());
    std::printf("  %5.1f GB/s of %5.1f: %.2f best, %.2f median", p.bytes / best * 1e-9, p.bytes / best_read * 1e-9,
                best_read / best, read / middle);
  }
  std::printf("\n");
}

void measure(const Size& s, std::string_view part, ThreadPool& pool) {
  std::deque<Prepared> layers = prepare(s, part, pool.size());
  const int rounds = s.rows == 1 ? 12 : 15;
  for (int i = 0; i < rounds; ++i) {
    for (Prepared& p : layers) measure_layer(p, s.rows == 1, pool);
  }
  std::printf("%lld x %lld x %lld, %d threads\n", static_cast<long long>(s.rows), static_cast<long long>(s.depth),
              static_cast<long long>(s.columns), pool.size());
  for (Prepared& p : layers) print_layer(p, s);
  std::fflush(stdout);
}

}  // namespace
}  // namespace aoq::cpu

int main(int argc, char** argv) {
  aoq::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  const std::string_view part = argc > 2 ? argv[2] : "";
  for (std::int64_t rows : {1, 4, 32, 128}) {
    if (argc > 3 && rows != std::atoi(argv[3])) continue;
    aoq::cpu::measure({rows, 4096, 4096}, part, pool);
    aoq::cpu::measure({rows, 768, 3072}, part, pool);
  }
  return 0;
}
