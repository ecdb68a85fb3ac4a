#include "ir/dtype.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "ir/float_format.h"

namespace aoq {
namespace {

static_assert(std::endian::native == std::endian::little, "buffers are little-endian and used in place");

struct Row {
  DTypeKind kind;
  int bits;
  double min;
  double max;
  int exponent_bits;
  int mantissa_bits;
};

constexpr Row kRows[] = {
#define AOQ_DTYPE(name, kind, bits, min, max, exponent, mantissa) {DTypeKind::kind, bits, min, max, exponent, mantissa},
#include "ir/dtypes.def"
#undef AOQ_DTYPE
};
constexpr std::size_t kRowCount = std::size(kRows);

constexpr const Row& row(DType d) {
  return kRows[static_cast<std::size_t>(d)];
}

// Codes: the bits of one element in the low end of a 64-bit word.

template <int kBits>
std::uint64_t load_code(const std::byte* data, std::int64_t index) {
  if constexpr (kBits % 8 == 0) {
    std::uint64_t code = 0;
    std::memcpy(&code, data + index * (kBits / 8), kBits / 8);
    return code;
  } else {
    const std::int64_t bit = index * kBits;
    const int shift = static_cast<int>(bit % 8);
    const std::byte* p = data + bit / 8;
    unsigned word = std::to_integer<unsigned>(p[0]);
    if (shift + kBits > 8) word |= std::to_integer<unsigned>(p[1]) << 8;
    return (word >> shift) & ((1u << kBits) - 1);
  }
}

template <int kBits>
void store_code(std::byte* data, std::int64_t index, std::uint64_t code) {
  if constexpr (kBits % 8 == 0) {
    std::memcpy(data + index * (kBits / 8), &code, kBits / 8);
  } else {
    const std::int64_t bit = index * kBits;
    const int shift = static_cast<int>(bit % 8);
    std::byte* p = data + bit / 8;
    const unsigned mask = ((1u << kBits) - 1) << shift;
    const unsigned word = (static_cast<unsigned>(code) << shift) & mask;
    p[0] = (p[0] & static_cast<std::byte>(~mask)) | static_cast<std::byte>(word);
    if (shift + kBits > 8) {
      p[1] = (p[1] & static_cast<std::byte>(~(mask >> 8))) | static_cast<std::byte>(word >> 8);
    }
  }
}

// Integers.

template <DType D>
std::int64_t integer_from_code(std::uint64_t code) {
  constexpr Row r = row(D);
  if constexpr (r.kind == DTypeKind::boolean) return code != 0;
  if constexpr (r.kind != DTypeKind::signed_integer) return static_cast<std::int64_t>(code);
  constexpr int unused = 64 - r.bits;
  return static_cast<std::int64_t>(code << unused) >> unused;
}

template <DType D>
std::uint64_t integer_code_from_double(double value) {
  constexpr Row r = row(D);
  if constexpr (r.kind == DTypeKind::boolean) return value != 0 ? 1 : 0;
  if (std::isnan(value)) return 0;
  const double rounded = std::nearbyint(value);
  if (rounded <= r.min) return static_cast<std::uint64_t>(static_cast<std::int64_t>(r.min));
  // The highest 64-bit integers are no doubles: `max` is one above them.
  if (rounded >= r.max) {
    constexpr int value_bits = r.kind == DTypeKind::signed_integer ? r.bits - 1 : r.bits;
    return value_bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << value_bits % 64) - 1;
  }
  if constexpr (r.kind == DTypeKind::signed_integer)
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(rounded));
  return static_cast<std::uint64_t>(rounded);
}

// Floats.

constexpr FloatFormat format_of(DType d) {
  FloatSpecials specials = FloatSpecials::none;
  if (d == DType::f16 || d == DType::bf16 || d == DType::f8_e5m2) specials = FloatSpecials::ieee;
  if (d == DType::f8_e4m3fn) specials = FloatSpecials::nan_only;
  if (d == DType::f8_e4m3fnuz || d == DType::f8_e5m2fnuz) specials = FloatSpecials::negative_zero_is_nan;
  return {row(d).exponent_bits, row(d).mantissa_bits, specials};
}

// A format with an infinity overflows to it, as IEEE rounding does; the others saturate.
constexpr FloatOverflow overflow_of(DType d) {
  return format_of(d).specials == FloatSpecials::ieee ? FloatOverflow::non_finite : FloatOverflow::saturate;
}

double decode_e8m0(std::uint64_t code) {
  if (code == 255) return std::numeric_limits<double>::quiet_NaN();
  return std::ldexp(1.0, static_cast<int>(code) - 127);
}

std::uint64_t encode_e8m0(double value) {
  if (!(value >= 0) || std::isinf(value)) return 255;
  if (value <= std::ldexp(1.0, -127)) return 0;
  if (value >= std::ldexp(1.0, 127)) return 254;
  int exponent = 0;
  const double significand = std::frexp(value, &exponent);  // in [0.5, 1)
  // The tie 1.5 * 2^k goes up: rounded to no mantissa bits, its significand becomes 2, the even neighbour.
  return static_cast<std::uint64_t>(exponent - 1 + (significand >= 0.75 ? 1 : 0) + 127);
}

float f16_to_float(std::uint16_t half) {
  constexpr std::uint32_t exponent_mask = 0x7c00u << 13;
  std::uint32_t bits = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
  const std::uint32_t exponent = bits & exponent_mask;
  bits += (127u - 15u) << 23;
  if (exponent == exponent_mask) bits += (128u - 16u) << 23;
  if (exponent == 0) {
    bits += 1u << 23;
    bits = std::bit_cast<std::uint32_t>(std::bit_cast<float>(bits) - std::bit_cast<float>(113u << 23));
  }
  return std::bit_cast<float>(bits | static_cast<std::uint32_t>(half & 0x8000u) << 16);
}

std::uint16_t float_to_f16(float value) {
  constexpr std::uint32_t infinity = 255u << 23;
  constexpr std::uint32_t overflow = (127u + 16u) << 23;
  constexpr std::uint32_t subnormal_magic = ((127u - 15u) + (23u - 10u) + 1u) << 23;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude >= overflow) {
    half = magnitude > infinity ? 0x7e00u : 0x7c00u;
  } else if (magnitude < (113u << 23)) {
    // Adding a power of two whose last place is the subnormal step lets the addition round half to even.
    const float shifted = std::bit_cast<float>(magnitude) + std::bit_cast<float>(subnormal_magic);
    half = std::bit_cast<std::uint32_t>(shifted) - subnormal_magic;
  } else {
    magnitude += 0xfffu + ((magnitude >> 13) & 1u) - ((127u - 15u) << 23);
    half = magnitude >> 13;
  }
  return static_cast<std::uint16_t>(half | sign);
}

float bf16_to_float(std::uint16_t code) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 16);
}

std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | 0x7fc0u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <DType D>
double double_from_code(std::uint64_t code) {
  constexpr Row r = row(D);
  if constexpr (D == DType::f64)
    return std::bit_cast<double>(code);
  else if constexpr (D == DType::f32)
    return std::bit_cast<float>(static_cast<std::uint32_t>(code));
  else if constexpr (D == DType::f8_e8m0)
    return decode_e8m0(code);
  else if constexpr (r.kind == DTypeKind::floating)
    return decode_float(format_of(D), static_cast<std::uint32_t>(code));
  else if constexpr (D == DType::u64)
    return static_cast<double>(code);
  else
    return static_cast<double>(integer_from_code<D>(code));
}

template <DType D>
std::uint64_t code_from_double(double value) {
  constexpr Row r = row(D);
  if constexpr (D == DType::f64)
    return std::bit_cast<std::uint64_t>(value);
  else if constexpr (D == DType::f32)
    return std::bit_cast<std::uint32_t>(static_cast<float>(value));
  else if constexpr (D == DType::f8_e8m0)
    return encode_e8m0(value);
  else if constexpr (r.kind == DTypeKind::floating)
    return encode_float(format_of(D), value, overflow_of(D));
  else
    return integer_code_from_double<D>(value);
}

// One element to and from float, the short way where there is one.

template <DType D>
const std::array<float, 256>& value_table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (std::uint64_t code = 0; code < (std::uint64_t{1} << row(D).bits); ++code) {
      values[code] = static_cast<float>(double_from_code<D>(code));
    }
    return values;
  }();
  return table;
}

template <DType D>
void to_float(const std::byte* in, std::int64_t begin, std::span<float> out) {
  constexpr Row r = row(D);
  const std::int64_t count = static_cast<std::int64_t>(out.size());
  if constexpr (D == DType::f32) {
    if (count > 0) std::memcpy(out.data(), in + begin * 4, out.size() * 4);
  } else if constexpr (D == DType::f16 || D == DType::bf16) {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint16_t code = static_cast<std::uint16_t>(load_code<16>(in, begin + i));
      out[i] = D == DType::f16 ? f16_to_float(code) : bf16_to_float(code);
    }
  } else if constexpr (D == DType::u8 || D == DType::i8) {
    const std::byte* p = in + begin;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint8_t code = std::to_integer<std::uint8_t>(p[i]);
      out[i] = D == DType::u8 ? static_cast<float>(code) : static_cast<float>(static_cast<std::int8_t>(code));
    }
  } else if constexpr (r.kind == DTypeKind::floating && r.bits <= 8) {
    const std::array<float, 256>& table = value_table<D>();
    for (std::int64_t i = 0; i < count; ++i) out[i] = table[load_code<r.bits>(in, begin + i)];
  } else if constexpr (r.kind == DTypeKind::signed_integer || D == DType::u64) {
    // Straight from the integer: by way of double, a 64-bit value would be rounded twice.
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t code = load_code<r.bits>(in, begin + i);
      out[i] = D == DType::u64 ? static_cast<float>(code) : static_cast<float>(integer_from_code<D>(code));
    }
  } else {
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = static_cast<float>(double_from_code<D>(load_code<r.bits>(in, begin + i)));
    }
  }
}

// Clamping before rounding gives the same integer as after it, the bounds being integers, and vectorises.
template <DType D>
std::uint8_t byte_from_float(float value) {
  constexpr float lo = static_cast<float>(row(D).min);
  constexpr float hi = static_cast<float>(row(D).max);
  float v = value == value ? value : 0.0f;
  v = v < lo ? lo : v;
  v = v > hi ? hi : v;
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(std::nearbyintf(v)));
}

template <DType D>
void from_float(std::span<const float> in, std::byte* out, std::int64_t begin) {
  constexpr Row r = row(D);
  const std::int64_t count = static_cast<std::int64_t>(in.size());
  if constexpr (D == DType::f32) {
    if (count > 0) std::memcpy(out + begin * 4, in.data(), in.size() * 4);
  } else if constexpr (D == DType::f16 || D == DType::bf16) {
    for (std::int64_t i = 0; i < count; ++i) {
      store_code<16>(out, begin + i, D == DType::f16 ? float_to_f16(in[i]) : float_to_bf16(in[i]));
    }
  } else if constexpr (D == DType::u8 || D == DType::i8) {
    std::byte* p = out + begin;
    for (std::int64_t i = 0; i < count; ++i) p[i] = static_cast<std::byte>(byte_from_float<D>(in[i]));
  } else {
    for (std::int64_t i = 0; i < count; ++i) store_code<r.bits>(out, begin + i, code_from_double<D>(in[i]));
  }
}

// What one element needs, next to the public table.
struct ElementAccess {
  std::int64_t (*load_integer)(const std::byte*, std::int64_t);
  void (*store_integer)(std::byte*, std::int64_t, std::int64_t);
  double (*load_double)(const std::byte*, std::int64_t);
  void (*store_double)(std::byte*, std::int64_t, double);
};

template <DType D>
constexpr ElementAccess access_of() {
  constexpr int bits = row(D).bits;
  return {
      [](const std::byte* data, std::int64_t i) { return integer_from_code<D>(load_code<bits>(data, i)); },
      [](std::byte* data, std::int64_t i, std::int64_t v) {
        store_code<bits>(data, i, static_cast<std::uint64_t>(D == DType::boolean ? v != 0 : v));
      },
      [](const std::byte* data, std::int64_t i) { return double_from_code<D>(load_code<bits>(data, i)); },
      [](std::byte* data, std::int64_t i, double v) { store_code<bits>(data, i, code_from_double<D>(v)); },
  };
}

constexpr ElementAccess kAccess[] = {
#define AOQ_DTYPE(name, kind, bits, min, max, exponent, mantissa) access_of<DType::name>(),
#include "ir/dtypes.def"
#undef AOQ_DTYPE
};

const ElementAccess& access(DType d) {
  return kAccess[static_cast<std::size_t>(d)];
}

constexpr DTypeInfo kTable[kRowCount] = {
#define AOQ_DTYPE(name, kind, bits, min, max, exponent, mantissa) \
  {#name, DTypeKind::kind, bits, min, max, exponent, mantissa, &to_float<DType::name>, &from_float<DType::name>},
#include "ir/dtypes.def"
#undef AOQ_DTYPE
};

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  return kTable[static_cast<std::size_t>(dtype)];
}

Result<FloatFormat> float_format_of(DType dtype) {
  if (row(dtype).kind == DTypeKind::floating && row(dtype).bits <= 16) return format_of(dtype);
  return error(Code::invalid_argument, "{} is no float of up to 16 bits", dtype_name(dtype));
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kRowCount; ++i) {
    if (kTable[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

std::span<const DTypeInfo> all_dtypes() {
  return kTable;
}

std::int64_t load_integer(DType dtype, const std::byte* data, std::int64_t index) {
  return access(dtype).load_integer(data, index);
}

void store_integer(DType dtype, std::byte* data, std::int64_t index, std::int64_t value) {
  access(dtype).store_integer(data, index, value);
}

double load_as_double(DType dtype, const std::byte* data, std::int64_t index) {
  return access(dtype).load_double(data, index);
}

void store_from_double(DType dtype, std::byte* data, std::int64_t index, double value) {
  access(dtype).store_double(data, index, value);
}

}  // namespace aoq
