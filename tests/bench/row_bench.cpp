// Our own f32 convolution and linear rows against oneDNN's on layers of MobileNet and ResNet:
//   row_bench [threads [part of a layer's name]]
// Interleaved in one process, the best of several runs of each.
#include <algorithm>
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

class BenchStore : public PackedStore {
 public:
  Result<std::span<const std::byte>> packed(const Value& constant, std::string_view layout) override {
    AOQ_ASSIGN(std::vector<std::byte> bytes, CpuBackend().pack(*constant_tensor(&constant), layout));
    AOQ_ASSIGN(Tensor kept, Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes));
    kept_.push_back(std::move(kept));
    return kept_.back().bytes();
  }

 private:
  std::deque<Tensor> kept_;
};

struct Layer {
  const char* name;
  std::int64_t size, in, out, kernel, stride, groups;  // size 0: a linear of `kernel` rows
};
constexpr Layer kLayers[] = {
    {"stem 7x7 s2 3>64 @224", 224, 3, 64, 7, 2, 1},
    {"3x3 64 @56", 56, 64, 64, 3, 1, 1},
    {"3x3 128 @28", 28, 128, 128, 3, 1, 1},
    {"3x3 256 @14", 14, 256, 256, 3, 1, 1},
    {"3x3 512 @7", 7, 512, 512, 3, 1, 1},
    {"3x3 s2 128 @56", 56, 128, 128, 3, 2, 1},
    {"1x1 64>256 @56", 56, 64, 256, 1, 1, 1},
    {"1x1 256>64 @56", 56, 256, 64, 1, 1, 1},
    {"1x1 1024>256 @14", 14, 1024, 256, 1, 1, 1},
    {"1x1 512>2048 @7", 7, 512, 2048, 1, 1, 1},
    {"stem 3x3 s2 3>32 @224", 224, 3, 32, 3, 2, 1},
    {"1x1 16>96 @112", 112, 16, 96, 1, 1, 1},
    {"1x1 96>24 @56", 56, 96, 24, 1, 1, 1},
    {"1x1 384>64 @14", 14, 384, 64, 1, 1, 1},
    {"1x1 160>960 @7", 7, 160, 960, 1, 1, 1},
    {"dw 3x3 32 @112", 112, 32, 32, 3, 1, 32},
    {"dw 3x3 s2 96 @112", 112, 96, 96, 3, 2, 96},
    {"dw 3x3 144 @56", 56, 144, 144, 3, 1, 144},
    {"dw 3x3 384 @14", 14, 384, 384, 3, 1, 384},
    {"dw 3x3 960 @7", 7, 960, 960, 3, 1, 960},
    {"dw 5x5 240 @28", 28, 240, 240, 5, 1, 240},
    {"dw 5x5 672 @14", 14, 672, 672, 5, 1, 672},
    {"dw 5x5 s2 144 @56", 56, 144, 144, 5, 2, 144},
    {"1x1 32>16 @112", 112, 32, 16, 1, 1, 1},
    {"1x1 24>144 @56", 56, 24, 144, 1, 1, 1},
    {"1x1 144>40 @28", 28, 144, 40, 1, 1, 1},
    {"1x1 480>80 @14", 14, 480, 80, 1, 1, 1},
    {"1x1 1152>192 @7", 7, 1152, 192, 1, 1, 1},
    {"linear 128x768x768", 0, 768, 768, 128, 1, 1},
    {"linear 128x768x3072", 0, 768, 3072, 128, 1, 1},
    {"linear 32x2048x1000", 0, 2048, 1000, 32, 1, 1},
};

Tensor filled(std::vector<std::int64_t> shape) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  std::int64_t i = 0;
  for (float& v : t.mutable_as<float>()) v = static_cast<float>(i++ * 7 % 97) * 0.01f - 0.5f;
  return t;
}

struct Prepared {
  const char* row = "";
  std::unique_ptr<Kernel> kernel;
  std::vector<std::byte> scratch;
  double best = 1e9;
};

void measure_layer(const Layer& l, ThreadPool& pool) {
  Graph graph;
  bool linear = l.size == 0;
  Tensor x =
      filled(linear ? std::vector<std::int64_t>{l.kernel, l.in} : std::vector<std::int64_t>{1, l.size, l.size, l.in});
  Tensor w = filled(linear ? std::vector<std::int64_t>{l.out, l.in}
                           : std::vector<std::int64_t>{l.out, l.in / l.groups, l.kernel, l.kernel});
  Value* in = graph.input("x", Type{DType::f32, {x.shape().begin(), x.shape().end()}, std::nullopt});
  Attributes a = {{"activation", std::string("relu")}};
  if (!linear) {
    a = {{"activation", std::string("relu")},
         {"channels_last", true},
         {"groups", l.groups},
         {"stride", std::vector<std::int64_t>{l.stride, l.stride}},
         {"pads", std::vector<std::int64_t>(4, l.kernel / 2)}};
  }
  Node* node =
      graph.create(linear ? Op::linear : Op::conv, {in, graph.constant(w), graph.constant(filled({l.out}))}, a).value();
  std::vector<ConcreteType> inputs{{DType::f32, x.shape()}, {DType::f32, w.shape()}, {DType::f32, {l.out}}};
  std::vector<ConcreteType> outputs{{DType::f32, {}}};
  for (const Dim& d : node->output()->type().shape) outputs[0].shape.push_back(d.constant());
  Tensor y = Tensor::make(DType::f32, outputs[0].shape).value();
  BenchStore store;
  PrepareContext context{*node, inputs, outputs, node->attributes(), store, pool.size(), false};
  Prepared own, other;
  for (const KernelRow& row : kernel_rows()) {
    if (row.op != node->op()) continue;
    Prepared& p = row.exactness == Exactness::exact ? own : other;
    if (p.kernel != nullptr) continue;
    Result<std::unique_ptr<Kernel>> kernel = row.make(context);
    if (!kernel.ok()) continue;
    p.kernel = std::move(kernel).value();
    p.row = row.name.data();
    p.scratch.resize(p.kernel->scratch_bytes() + 64);
  }
  if (own.kernel == nullptr || other.kernel == nullptr) return;
  const std::byte* pointers[3] = {x.bytes().data(), nullptr, nullptr};
  std::byte* result = y.mutable_bytes().data();
  using Clock = std::chrono::steady_clock;
  for (int i = 0; i < 400; ++i) {
    for (Prepared* p : {&own, &other}) {
      auto address = reinterpret_cast<std::uintptr_t>(p->scratch.data());
      std::byte* scratch = p->scratch.data() + (64 - address % 64) % 64;
      auto begin = Clock::now();
      if (!p->kernel->run({pointers, std::span(&result, 1), scratch, &pool}).ok()) return;
      p->best = std::min(p->best, std::chrono::duration<double>(Clock::now() - begin).count());
    }
  }
  double products = static_cast<double>(y.element_count()) * static_cast<double>(w.element_count() / l.out);
  std::printf("%-24s own %6.1f  oneDNN %6.1f GMAC/s  oneDNN/own %.2f\n", l.name, products / own.best * 1e-9,
              products / other.best * 1e-9, own.best / other.best);
}

}  // namespace
}  // namespace aoq::cpu

int main(int argc, char** argv) {
  aoq::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  std::string_view part = argc > 2 ? argv[2] : "";
  for (const aoq::cpu::Layer& layer : aoq::cpu::kLayers) {
    if (std::string_view(layer.name).find(part) != std::string_view::npos) aoq::cpu::measure_layer(layer, pool);
  }
  return 0;
}
