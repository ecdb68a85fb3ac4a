// Random data and comparisons for the kernel tests. Seeds are fixed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/cpu_features.h"
#include "backends/cpu/kernels/conv_dims.h"

namespace aoq::cpu::test {

// True when AVX2 kernels can run here; prints the skip otherwise.
bool has_avx2();

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  std::int64_t between(std::int64_t lo, std::int64_t hi) {
    return std::uniform_int_distribution<std::int64_t>(lo, hi)(engine_);
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  float real(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(engine_); }
  // Bytes of any value; with `extreme` only the two ends of the range.
  std::vector<std::uint8_t> bytes(std::int64_t n, bool extreme, std::uint8_t lo = 0, std::uint8_t hi = 255);
  std::vector<float> reals(std::int64_t n, float lo, float hi);

 private:
  std::mt19937 engine_;
};

// 64-byte aligned memory with guard bytes around it, so that writing outside is noticed.
class Buffer {
 public:
  explicit Buffer(std::int64_t bytes, std::uint8_t fill = 0xa5);
  std::byte* data() { return data_; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  bool guards_are_intact() const;
  std::vector<std::uint8_t> copy() const;

 private:
  std::int64_t size_;
  std::vector<std::byte> memory_;
  std::byte* data_;
};

// Small dimensions of every kind: strides, dilation, uneven padding, groups, kernels larger than the image.
ConvDims random_conv(Random& random);

// Equal bits, or both NaN.
bool same_floats(const float* a, const float* b, std::int64_t n);

}  // namespace aoq::cpu::test
