// AVX2 pooling: pointers to the taps of one pixel, then all channels. Padding taps are left out of the list.
#include "backends/cpu/kernels/pool.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/rounding_avx2.h"

namespace aoq::cpu {
namespace {

template <typename T>
struct TapList {
  const T** pointers;
  std::int64_t inside;  // number of pointers
  std::int64_t count;   // what an average divides by
};

template <typename T>
TapList<T> list_taps(const PoolParams& p, const T* image, std::int64_t oy, std::int64_t ox, const T** pointers) {
  const ConvDims& d = p.dims;
  TapList<T> list = {pointers, 0, 0};
  std::int64_t iy = oy * d.stride_h - d.pad_top;
  for (std::int64_t kh = 0; kh < d.kernel_h; ++kh, iy += d.dilation_h) {
    std::int64_t ix = ox * d.stride_w - d.pad_left;
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw, ix += d.dilation_w) {
      bool inside = iy >= 0 && iy < d.in_h && ix >= 0 && ix < d.in_w;
      bool padded = iy < d.in_h + p.pad_bottom && ix < d.in_w + p.pad_right;
      if (inside || (padded && p.count == PoolCount::padded)) ++list.count;
      if (inside) pointers[list.inside++] = image + (iy * d.in_w + ix) * d.in_c;
    }
  }
  list.count = max_of(list.count, 1);
  return list;
}

// Whether no tap of an output column is beside the image.
bool has_all_columns(const ConvDims& d, std::int64_t ox) {
  const std::int64_t ix = ox * d.stride_w - d.pad_left;
  return ix >= 0 && ix + (d.kernel_w - 1) * d.dilation_w < d.in_w;
}

template <bool kIsSigned>
__m256i most_of(__m256i a, __m256i b) {
  return kIsSigned ? _mm256_max_epi8(a, b) : _mm256_max_epu8(a, b);
}

template <bool kIsSigned>
void max_of_codes(const PoolParams& p, const TapList<std::uint8_t>& taps, std::uint8_t* out) {
  const __m256i least = kIsSigned ? _mm256_set1_epi8(-128) : _mm256_setzero_si256();
  std::int64_t c = 0;
  for (; c + 64 <= p.dims.in_c; c += 64) {
    __m256i low = least, high = least;
    for (std::int64_t t = 0; t < taps.inside; ++t) {
      const auto* x = reinterpret_cast<const __m256i*>(taps.pointers[t] + c);
      low = most_of<kIsSigned>(low, _mm256_loadu_si256(x));
      high = most_of<kIsSigned>(high, _mm256_loadu_si256(x + 1));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + c), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + c + 32), high);
  }
  for (; c < p.dims.in_c; c += 16) {
    const std::int64_t left = p.dims.in_c - c;
    __m256i best = least;
    for (std::int64_t t = 0; t < taps.inside; ++t) {
      best = most_of<kIsSigned>(best, _mm256_castsi128_si256(load_first_bytes(taps.pointers[t] + c, left)));
    }
    store_first_bytes(out + c, _mm256_castsi256_si128(best), left);
  }
}

void average_of_codes(const PoolParams& p, const TapList<std::uint8_t>& taps, std::uint8_t* out) {
  bool is_signed = p.type == DType::i8;
  F32x8 multiplier(p.x_scale / p.out_scale / static_cast<float>(taps.count));
  ByteRounder rounder = rounder_of(p.bounds, p.type);
  __m256i zero_points = _mm256_set1_epi32(static_cast<int>(taps.inside) * p.x_zero_point);
  for (std::int64_t c = 0; c < p.dims.in_c; c += 16) {
    std::int64_t left = p.dims.in_c - c;
    __m256i low = _mm256_setzero_si256();
    __m256i high = _mm256_setzero_si256();
    for (std::int64_t t = 0; t < taps.inside; ++t) {
      __m128i x = load_first_bytes(taps.pointers[t] + c, left);
      low = _mm256_add_epi32(low, widen_to_s32(x, is_signed));
      high = _mm256_add_epi32(high, widen_to_s32(_mm_srli_si128(x, 8), is_signed));
    }
    F32x8 a(_mm256_cvtepi32_ps(_mm256_sub_epi32(low, zero_points)));
    F32x8 b(_mm256_cvtepi32_ps(_mm256_sub_epi32(high, zero_points)));
    store_first_bytes(out + c, round_to_bytes(a * multiplier, b * multiplier, rounder), left);
  }
}

void max_of_floats(const PoolParams& p, const TapList<float>& taps, float* out) {
  for (std::int64_t c = 0; c < p.dims.in_c; c += 8) {
    std::int64_t left = p.dims.in_c - c;
    F32x8 best(-__builtin_inff());
    for (std::int64_t t = 0; t < taps.inside; ++t) best = maximum_of(best, load_first(taps.pointers[t] + c, left));
    store_first(out + c, best, left);
  }
}

void average_of_floats(const PoolParams& p, const TapList<float>& taps, float* out) {
  F32x8 count(static_cast<float>(taps.count));
  for (std::int64_t c = 0; c < p.dims.in_c; c += 8) {
    std::int64_t left = p.dims.in_c - c;
    F32x8 sum(0.0f);
    for (std::int64_t t = 0; t < taps.inside; ++t) sum = sum + load_first(taps.pointers[t] + c, left);
    store_first(out + c, sum / count, left);
  }
}

template <typename T>
using PoolPixel = void (*)(const PoolParams&, const TapList<T>&, T*);

template <typename T>
void pool_row(const PoolParams& p, const PoolArgs& args, std::int64_t unit, std::byte* scratch, PoolPixel<T> pool) {
  const ConvDims& d = p.dims;
  const T* image = static_cast<const T*>(args.x) + unit / d.out_h * d.in_h * d.in_w * d.in_c;
  T* out = static_cast<T*>(args.out) + unit * d.out_w * d.in_c;
  auto** pointers = reinterpret_cast<const T**>(scratch);
  TapList<T> taps = {};
  for (std::int64_t ox = 0; ox < d.out_w; ++ox, out += d.in_c) {
    if (ox > 0 && has_all_columns(d, ox - 1) && has_all_columns(d, ox)) {
      for (std::int64_t t = 0; t < taps.inside; ++t) taps.pointers[t] += d.stride_w * d.in_c;
    } else {
      taps = list_taps(p, image, unit % d.out_h, ox, pointers);
    }
    pool(p, taps, out);
  }
}

}  // namespace

void run_pool_avx2(const PoolPlan& plan, const PoolArgs& args, std::int64_t unit_begin, std::int64_t unit_end,
                   std::byte* scratch) {
  const PoolParams& p = plan.params;
  bool is_max = p.kind == PoolKind::max;
  const PoolPixel<std::uint8_t> max_codes = p.type == DType::i8 ? max_of_codes<true> : max_of_codes<false>;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    if (p.type == DType::f32) {
      pool_row<float>(p, args, unit, scratch, is_max ? max_of_floats : average_of_floats);
    } else {
      pool_row<std::uint8_t>(p, args, unit, scratch, is_max ? max_codes : average_of_codes);
    }
  }
}

}  // namespace aoq::cpu
