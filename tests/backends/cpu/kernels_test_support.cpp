#include "tests/backends/cpu/kernels_test_support.h"

#include <algorithm>
#include <cstdio>

namespace aoq::cpu::test {
namespace {

constexpr std::int64_t kGuard = 256;
constexpr std::byte kGuardByte{0x5c};

}  // namespace

bool has_avx2() {
  if (best_isa() >= Isa::avx2) return true;
  std::printf("[SKIP] no avx2\n");
  return false;
}

std::vector<std::uint8_t> Random::bytes(std::int64_t n, bool extreme, std::uint8_t lo, std::uint8_t hi) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(n));
  for (std::uint8_t& b : out) {
    b = extreme ? (chance(50) ? lo : hi) : static_cast<std::uint8_t>(between(0, 255));
  }
  return out;
}

std::vector<float> Random::reals(std::int64_t n, float lo, float hi) {
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& f : out) f = real(lo, hi);
  return out;
}

Buffer::Buffer(std::int64_t bytes, std::uint8_t fill)
    : size_(bytes), memory_(static_cast<std::size_t>(bytes + 2 * kGuard + 64), kGuardByte) {
  auto address = reinterpret_cast<std::uintptr_t>(memory_.data()) + kGuard;
  data_ = memory_.data() + kGuard + (64 - address % 64) % 64;
  if (bytes > 0) std::memset(data_, fill, static_cast<std::size_t>(bytes));
}

bool Buffer::guards_are_intact() const {
  for (const std::byte* p = memory_.data(); p < data_; ++p) {
    if (*p != kGuardByte) return false;
  }
  for (const std::byte* p = data_ + size_; p < memory_.data() + memory_.size(); ++p) {
    if (*p != kGuardByte) return false;
  }
  return true;
}

std::vector<std::uint8_t> Buffer::copy() const {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(size_));
  if (size_ > 0) std::memcpy(out.data(), data_, out.size());
  return out;
}

ConvDims random_conv(Random& random) {
  ConvDims d;
  d.batch = random.between(1, 2);
  d.groups = random.chance(30) ? random.between(2, 3) : 1;
  d.in_c = d.groups * random.between(1, random.chance(30) ? 40 : 9);
  d.out_c = d.groups * random.between(1, random.chance(30) ? 50 : 20);
  d.kernel_h = random.between(1, 4);
  d.kernel_w = random.between(1, 5);
  d.stride_h = random.between(1, 3);
  d.stride_w = random.between(1, 3);
  d.dilation_h = random.between(1, 2);
  d.dilation_w = random.chance(70) ? 1 : 2;
  d.pad_top = random.between(0, 3);
  d.pad_left = random.between(0, 6);
  std::int64_t pad_bottom = random.between(0, 3);
  std::int64_t pad_right = random.between(0, 6);
  d.in_h = random.between(1, 9) + std::max<std::int64_t>(d.dilation_h * (d.kernel_h - 1) - d.pad_top - pad_bottom, 0);
  d.in_w = random.between(1, 12) + std::max<std::int64_t>(d.dilation_w * (d.kernel_w - 1) - d.pad_left - pad_right, 0);
  d.out_h = conv_output_size({d.in_h, d.kernel_h, d.stride_h, d.dilation_h, d.pad_top, pad_bottom});
  d.out_w = conv_output_size({d.in_w, d.kernel_w, d.stride_w, d.dilation_w, d.pad_left, pad_right});
  return d;
}

bool same_floats(const float* a, const float* b, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (a[i] != a[i] && b[i] != b[i]) continue;
    if (std::memcmp(a + i, b + i, sizeof(float)) != 0) {
      std::printf("element %lld: %a and %a\n", static_cast<long long>(i), static_cast<double>(a[i]),
                  static_cast<double>(b[i]));
      return false;
    }
  }
  return true;
}

}  // namespace aoq::cpu::test
