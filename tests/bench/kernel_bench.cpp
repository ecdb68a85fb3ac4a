// GMAC/s of the CPU kernels on one thread, best of several runs: kernel_bench [filter].
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/conv_maddubs.h"
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/conv_vnni256.h"
#include "backends/cpu/kernels/conv_winograd.h"
#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/depthwise_maddubs.h"
#include "backends/cpu/kernels/depthwise_s8.h"
#include "backends/cpu/kernels/depthwise_vnni.h"
#include "backends/cpu/kernels/matmul_f32.h"

namespace aoq::cpu {
namespace {

const char* filter = "";

bool is_wanted(const std::string& name) {
  return name.find(filter) != std::string::npos;
}

void measure(const std::string& name, double products, const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  run();
  double best = 1e9;
  auto start = Clock::now();
  for (int i = 0; i < 200 && (i < 3 || Clock::now() - start < std::chrono::milliseconds(120)); ++i) {
    auto begin = Clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::printf("%-44s %9.1f us %7.1f GMAC/s\n", name.c_str(), best * 1e6, products / best * 1e-9);
}

template <typename T>
struct Aligned {
  explicit Aligned(std::int64_t n) : memory(static_cast<std::size_t>(n) * sizeof(T) + 64) {
    auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    data = reinterpret_cast<T*>(memory.data() + (64 - address % 64) % 64);
    for (std::int64_t i = 0; i < n; ++i) data[i] = static_cast<T>(i * 7 % 97);
  }
  std::vector<std::byte> memory;
  T* data;
};

double products_of(const ConvDims& d) {
  return static_cast<double>(d.batch * d.out_h * d.out_w * d.out_c * d.kernel_h * d.kernel_w * (d.in_c / d.groups));
}

ConvDims square(std::int64_t size, std::int64_t in_c, std::int64_t out_c, std::int64_t kernel, std::int64_t stride) {
  ConvDims d;
  d.in_h = d.in_w = size;
  d.in_c = in_c;
  d.out_c = out_c;
  d.kernel_h = d.kernel_w = kernel;
  d.stride_h = d.stride_w = stride;
  d.pad_top = d.pad_left = kernel / 2;
  d.out_h = d.out_w = conv_output_size({size, kernel, stride, 1, kernel / 2, kernel / 2});
  return d;
}

// Weights spread about zero like trained ones, with a standard deviation of 37 steps: what a kernel does may depend on
// them.
void fill_bell_shaped(std::int8_t* weights, std::int64_t count) {
  std::uint32_t state = 1;
  for (std::int64_t i = 0; i < count; ++i) {
    int sum = 0;
    for (int j = 0; j < 4; ++j) {
      state = state * 1664525u + 1013904223u;
      sum += static_cast<int>(state >> 26) - 32;
    }
    weights[i] = static_cast<std::int8_t>(std::clamp(sum, -127, 127));
  }
}

// A form of the int8 convolution.
template <typename Plan>
struct CodeConv {
  std::int64_t (*packed_bytes)(const ConvDims&);
  void (*pack)(const ConvDims&, const std::int8_t*, std::span<std::byte>);
  void (*run)(const Plan&, const ConvS8Args&, std::int64_t, std::int64_t, std::byte*);
};

template <typename Plan>
void bench_codes(const std::string& name, const ConvDims& d, const Plan& plan, const CodeConv<Plan>& conv) {
  Aligned<std::uint8_t> x(d.batch * d.in_h * d.in_w * d.in_c), out(d.batch * d.out_h * d.out_w * d.out_c);
  Aligned<std::int8_t> weights(d.out_c * (d.in_c / d.groups) * d.kernel_h * d.kernel_w);
  Aligned<std::byte> packed(conv.packed_bytes(d)), scratch(plan.scratch_bytes);
  Aligned<float> bias(padded_channels(d)), multiplier(padded_channels(d));
  fill_bell_shaped(weights.data, d.out_c * (d.in_c / d.groups) * d.kernel_h * d.kernel_w);
  // As those of a model: sums of any other size would take the way that clamps them first.
  for (std::int64_t i = 0; i < padded_channels(d); ++i) multiplier.data[i] = 1e-4f * static_cast<float>(1 + i % 7);
  conv.pack(d, weights.data, {packed.data, static_cast<std::size_t>(conv.packed_bytes(d))});
  ConvS8Args args = {.x = x.data, .x_zero_point = 3, .weights = packed.data};
  args.epilogue = {.bias = bias.data, .multiplier = multiplier.data, .out = out.data};
  measure(name, products_of(d), [&] { conv.run(plan, args, 0, plan.units, scratch.data); });
}

void bench_s8(const std::string& name, const ConvDims& d) {
  if (!is_wanted("s8 " + name)) return;
  bench_codes<ConvS8Plan>("s8 " + name, d, plan_conv_s8(d, DType::u8, {}, best_isa()),
                          {packed_bytes_conv_s8, pack_conv_s8, run_conv_s8});
}

void bench_maddubs(const std::string& name, const ConvDims& d) {
  if (best_isa() < Isa::avx2 || !is_wanted("maddubs " + name)) return;
  bench_codes<ConvPanelsPlan>("maddubs " + name, d, plan_conv_maddubs(d, DType::u8, {}),
                              {packed_bytes_conv_maddubs, pack_conv_maddubs, run_conv_maddubs});
}

void bench_vnni256(const std::string& name, const ConvDims& d) {
  if (best_isa() < Isa::avx_vnni || !is_wanted("vnni256 " + name)) return;
  bench_codes<ConvPanelsPlan>("vnni256 " + name, d, plan_conv_vnni256(d, DType::u8, {}),
                              {packed_bytes_conv_vnni, pack_conv_vnni, run_conv_vnni256});
}

void bench_vnni(const std::string& name, const ConvDims& d) {
  if (best_isa() < Isa::avx512_vnni || !is_wanted("vnni " + name)) return;
  bench_codes<ConvPanelsPlan>("vnni " + name, d, plan_conv_vnni(d, DType::u8, {}),
                              {packed_bytes_conv_vnni, pack_conv_vnni, run_conv_vnni});
}

void bench_winograd(const std::string& name, const ConvDims& d) {
  for (const Isa isa : {Isa::avx2, Isa::avx512_vnni}) {
    const std::string full_name = "winograd " + std::string(isa_name(isa)) + " " + name;
    if (best_isa() < isa || !takes_winograd(d) || !is_wanted(full_name)) continue;
    bench_codes<ConvWinogradPlan>(full_name, d, plan_conv_winograd(d, DType::u8, {}, {isa}),
                                  {packed_bytes_conv_vnni, pack_conv_vnni, run_conv_winograd});
  }
}

void bench_f32(const std::string& name, const ConvDims& d) {
  if (!is_wanted("f32 " + name)) return;
  EpilogueF32 epilogue = {.has_bias = true};
  ConvF32Plan plan = plan_conv_f32(d, epilogue, best_isa());
  Aligned<float> x(d.batch * d.in_h * d.in_w * d.in_c), out(plan.rows * d.out_c), weights(d.out_c * plan.k);
  Aligned<std::byte> packed(packed_bytes_conv_f32(d)), scratch(plan.scratch_bytes);
  Aligned<float> bias(padded_channels(d));
  pack_conv_f32(d, weights.data, {packed.data, static_cast<std::size_t>(packed_bytes_conv_f32(d))});
  ConvF32Args args = {.x = x.data, .weights = packed.data, .bias = bias.data, .out = out.data};
  measure("f32 " + name, products_of(d), [&] { run_conv_f32(plan, args, 0, plan.units, scratch.data); });
}

void bench_conv(const std::string& name, const ConvDims& d) {
  bench_s8(name, d);
  bench_maddubs(name, d);
  bench_vnni256(name, d);
  bench_vnni(name, d);
  bench_winograd(name, d);
  bench_f32(name, d);
}

// One kernel of int8 codes.
template <typename Plan>
void bench_depthwise_codes(const std::string& name, const Plan& plan, std::int64_t packed_bytes,
                           void (*pack)(const ConvDims&, const std::int8_t*, std::span<std::byte>),
                           void (*run)(const Plan&, const DepthwiseS8Args&, std::int64_t, std::int64_t, std::byte*)) {
  if (!is_wanted(name)) return;
  const ConvDims& d = plan.dims;
  Aligned<float> bias(d.in_c + 64), multiplier(d.in_c + 64);
  Aligned<std::uint8_t> x(d.in_h * d.in_w * d.in_c), out(d.out_h * d.out_w * d.out_c);
  Aligned<std::int8_t> weights(d.in_c * d.kernel_h * d.kernel_w);
  Aligned<std::byte> packed(packed_bytes), scratch(plan.scratch_bytes);
  pack(d, weights.data, {packed.data, static_cast<std::size_t>(packed_bytes)});
  DepthwiseS8Args args = {.x = x.data, .x_zero_point = 3, .weights = packed.data};
  args.epilogue = {.bias = bias.data, .multiplier = multiplier.data, .out = out.data};
  measure(name, products_of(d), [&] { run(plan, args, 0, plan.units, scratch.data); });
}

void bench_depthwise(const std::string& name, std::int64_t size, std::int64_t channels, std::int64_t stride,
                     std::int64_t kernel) {
  ConvDims d = square(size, channels, channels, kernel, stride);
  d.groups = channels;
  bench_depthwise_codes("s8 " + name, plan_depthwise_s8(d, DType::u8, {}, best_isa()), packed_bytes_depthwise_s8(d),
                        pack_depthwise_s8, run_depthwise_s8);
  if (best_isa() >= Isa::avx2 && takes_depthwise_maddubs(d, {})) {
    bench_depthwise_codes("maddubs " + name, plan_depthwise_maddubs(d, DType::u8, {}),
                          packed_bytes_depthwise_maddubs(d), pack_depthwise_maddubs, run_depthwise_maddubs);
  }
  if (best_isa() >= Isa::avx512_vnni) {
    bench_depthwise_codes("vnni " + name, plan_depthwise_vnni(d, DType::u8, {}), packed_bytes_depthwise_vnni(d),
                          pack_depthwise_vnni, run_depthwise_vnni);
  }
  if (!is_wanted("f32 " + name)) return;
  DepthwiseF32Plan plan = plan_depthwise_f32(d, {.has_bias = true}, best_isa());
  Aligned<float> x(d.in_h * d.in_w * d.in_c), out(d.out_h * d.out_w * d.out_c), weights(channels * kernel * kernel);
  Aligned<float> bias(channels + 64);
  Aligned<std::byte> packed(packed_bytes_depthwise_f32(d)), scratch(plan.scratch_bytes);
  pack_depthwise_f32(d, weights.data, {packed.data, static_cast<std::size_t>(packed_bytes_depthwise_f32(d))});
  DepthwiseF32Args args = {.x = x.data, .weights = packed.data, .bias = bias.data, .out = out.data};
  measure("f32 " + name, products_of(d), [&] { run_depthwise_f32(plan, args, 0, plan.units, scratch.data); });
}

void bench_linear(std::int64_t m, std::int64_t k, std::int64_t n) {
  bench_conv("linear " + std::to_string(m) + "x" + std::to_string(k) + "x" + std::to_string(n),
             dims_of_linear(m, k, n));
}

// A product per head, as in attention.
void bench_matmul(std::int64_t heads, std::int64_t m, std::int64_t k, std::int64_t n) {
  std::string name = "f32 matmul " + std::to_string(heads) + " of " + std::to_string(m) + "x" + std::to_string(k) +
                     "x" + std::to_string(n);
  if (!is_wanted(name)) return;
  MatmulDims d = {.inner = heads, .m = m, .n = n, .k = k, .a_inner = m * k, .a_row = k, .b_inner = k * n, .b_k = n};
  d.b_n = 1;
  d.out_inner = m * n;
  d.out_row = n;
  MatmulF32Plan plan = plan_matmul_f32(d, best_isa());
  Aligned<float> a(heads * m * k), b(heads * k * n), out(heads * m * n);
  Aligned<std::byte> scratch(plan.scratch_bytes);
  MatmulF32Args args = {.a = a.data, .b = b.data, .out = out.data};
  measure(name, static_cast<double>(heads * m * k * n),
          [&] { run_matmul_f32(plan, args, 0, plan.units, scratch.data); });
}

void bench_all() {
  for (std::int64_t m : {1, 4, 32, 128, 256}) bench_linear(m, 768, 768);
  for (std::int64_t m : {1, 4, 32, 128, 256}) bench_linear(m, 768, 3072);
  for (std::int64_t m : {1, 4, 32, 128}) bench_linear(m, 3072, 768);
  for (std::int64_t m : {1, 4, 32}) bench_linear(m, 4096, 4096);
  bench_conv("7x7s2 3>64 @224", square(224, 3, 64, 7, 2));
  bench_conv("3x3 64 @56", square(56, 64, 64, 3, 1));
  bench_conv("3x3 128 @28", square(28, 128, 128, 3, 1));
  bench_conv("3x3 256 @14", square(14, 256, 256, 3, 1));
  bench_conv("3x3 512 @7", square(7, 512, 512, 3, 1));
  bench_conv("3x3s2 128 @56", square(56, 128, 128, 3, 2));
  bench_conv("1x1 64>256 @56", square(56, 64, 256, 1, 1));
  bench_conv("1x1 256>64 @56", square(56, 256, 64, 1, 1));
  bench_conv("1x1 1024>256 @14", square(14, 1024, 256, 1, 1));
  bench_conv("1x1 512>2048 @7", square(7, 512, 2048, 1, 1));
  bench_conv("3x3s2 3>32 @224", square(224, 3, 32, 3, 2));
  bench_conv("1x1 16>96 @112", square(112, 16, 96, 1, 1));
  bench_conv("1x1 24>144 @56", square(56, 24, 144, 1, 1));
  bench_conv("1x1 96>24 @56", square(56, 96, 24, 1, 1));
  bench_conv("1x1 160>960 @7", square(7, 160, 960, 1, 1));
  bench_conv("1x1 144>24 @56", square(56, 144, 24, 1, 1));
  bench_conv("1x1 32>16 @112", square(112, 32, 16, 1, 1));
  bench_conv("1x1 32>192 @28", square(28, 32, 192, 1, 1));
  bench_conv("1x1 384>64 @14", square(14, 384, 64, 1, 1));
  bench_conv("1x1 672>112 @14", square(14, 672, 112, 1, 1));
  bench_depthwise("depthwise 32 @112", 112, 32, 1, 3);
  bench_depthwise("depthwise 96 s2 @112", 112, 96, 2, 3);
  bench_depthwise("depthwise 144 @56", 56, 144, 1, 3);
  bench_depthwise("depthwise 384 @14", 14, 384, 1, 3);
  bench_depthwise("depthwise 960 @7", 7, 960, 1, 3);
  bench_depthwise("depthwise 5x5 240 @28", 28, 240, 1, 5);
  bench_depthwise("depthwise 5x5 144 s2 @56", 56, 144, 2, 5);
  bench_depthwise("depthwise 5x5 672 @14", 14, 672, 1, 5);
  bench_depthwise("depthwise 5x5 1152 @7", 7, 1152, 1, 5);
  bench_matmul(12, 128, 64, 128);
  bench_matmul(12, 128, 128, 64);
  bench_matmul(12, 384, 64, 384);
  bench_matmul(12, 1, 64, 384);
  ConvDims line = square(1, 64, 64, 1, 1);
  line.in_w = line.out_w = 400;
  line.kernel_w = 5;
  line.pad_left = 2;
  bench_conv("1-D 5 64>64 @400", line);
}

}  // namespace
}  // namespace aoq::cpu

int main(int argc, char** argv) {
  if (argc > 1) aoq::cpu::filter = argv[1];
  std::printf("class %s, one thread, best of up to 200 runs\n",
              std::string(aoq::cpu::isa_name(aoq::cpu::best_isa())).c_str());
  aoq::cpu::bench_all();
  return 0;
}
