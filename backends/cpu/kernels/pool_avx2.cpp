// AVX2 pooling: pointers to the taps of one pixel, then all channels. Padding taps are left out of the list.
#include "backends/cpu/kernels/pool.h"

#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/rounding_avx2.h"

namespace aoq::cpu {
namespace {

template <typename T>
struct TapList {
  const T* const* pointers;
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

void max_of_codes(const PoolParams& p, const TapList<std::uint8_t>& taps, std::uint8_t* out) {
  bool is_signed = p.type == DType::i8;
  for (std::int64_t c = 0; c < p.dims.in_c; c += 16) {
    std::int64_t left = p.dims.in_c - c;
    __m128i best = is_signed ? _mm_set1_epi8(-128) : _mm_setzero_si128();
    for (std::int64_t t = 0; t < taps.inside; ++t) {
      __m128i x = load_first_bytes(taps.pointers[t] + c, left);
      best = is_signed ? _mm_max_epi8(best, x) : _mm_max_epu8(best, x);
    }
    store_first_bytes(out + c, best, left);
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
  for (std::int64_t ox = 0; ox < d.out_w; ++ox, out += d.in_c) {
    pool(p, list_taps(p, image, unit % d.out_h, ox, pointers), out);
  }
}

}  // namespace

void run_pool_avx2(const PoolPlan& plan, const PoolArgs& args, std::int64_t unit_begin, std::int64_t unit_end,
                   std::byte* scratch) {
  const PoolParams& p = plan.params;
  bool is_max = p.kind == PoolKind::max;
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    if (p.type == DType::f32) {
      pool_row<float>(p, args, unit, scratch, is_max ? max_of_floats : average_of_floats);
    } else {
      pool_row<std::uint8_t>(p, args, unit, scratch, is_max ? max_of_codes : average_of_codes);
    }
  }
}

}  // namespace aoq::cpu
