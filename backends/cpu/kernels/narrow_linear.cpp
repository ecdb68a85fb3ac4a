#include "backends/cpu/kernels/narrow_linear.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/entry_avx512.h"
#include "ir/float_format.h"
#include "ir/narrow_linear.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kRowBlock = 64;
// From so many rows on decoding pays, with groups of at most 32 codes and larger ones.
constexpr std::int64_t kDecodedRowsSmall = 10, kDecodedRows = 20;

// Where element (column, k) lies: the byte, and the shift in it.
struct Place {
  std::int64_t byte;
  int shift;
};
Place place_of(bool nibbles, std::int64_t depth, std::int64_t column, std::int64_t k) {
  const std::int64_t panel = column / 16, lane = column % 16;
  if (!nibbles) return {panel * (ceil_div(depth, 4) * 64) + k / 4 * 64 + lane * 4 + k % 4, 0};
  return {panel * (ceil_div(depth, 8) * 64) + k / 8 * 64 + lane * 4 + k % 4, k % 8 < 4 ? 0 : 4};
}

// Between the code of a dtype, in the low bits, and what is packed.
struct Recode {
  bool is_float = false;
  int bits = 8;
  std::int64_t centre = 0, offset = 0;

  explicit Recode(DType dtype) : is_float(!is_integer(dtype)), bits(dtype_info(dtype).bits) {
    centre = code_centre(dtype);
    offset = has_nibble_codes(dtype) ? 8 : 0;
  }
  unsigned pack(std::int64_t code) const {
    if (!is_float) return static_cast<unsigned>(code - centre + offset) & 255u;
    auto raw = static_cast<unsigned>(code);
    if (bits == 4 || bits == 8) return raw;
    const unsigned sign = (raw >> (bits - 1)) & 1u;
    return (sign << 7) | (raw & ((1u << (bits - 1)) - 1));
  }
  std::int64_t unpack(unsigned packed) const {
    if (!is_float) {
      const std::int64_t signed_value = offset == 0 ? static_cast<std::int8_t>(packed) : static_cast<int>(packed);
      return signed_value - offset + centre;
    }
    if (bits == 4 || bits == 8) return packed;
    return static_cast<std::int64_t>(((packed >> 7) << (bits - 1)) | (packed & ((1u << (bits - 1)) - 1)));
  }
};

// Floats are read and written by the integer type of their width.
DType storage_of(DType dtype) {
  if (is_integer(dtype)) return dtype;
  const int bits = dtype_info(dtype).bits;
  return bits == 4 ? DType::u4 : bits == 6 ? DType::u6 : DType::u8;
}

ByteFloatFormat byte_float_format(DType dtype) {
  const Result<FloatFormat> found = float_format_of(dtype);
  AOQ_CHECK(found.ok());
  ByteFloatFormat f;
  f.shift = 23 - found->mantissa_bits;
  f.multiplier = std::ldexp(1.0f, 127 - found->bias());
  f.finite = static_cast<int>(found->max_code());
  if (found->specials == FloatSpecials::negative_zero_is_nan) f.nan = 128;
  return f;
}

}  // namespace

bool has_nibble_codes(DType weight) {
  return dtype_info(weight).bits <= 4;
}

bool reads_wide_codes(const NarrowLinearPlan& plan) {
  return plan.isa < Isa::avx512_vnni && plan.codes == NarrowCodes::byte_integers;
}

bool decodes_panels(const NarrowLinearPlan& plan) {
  if (plan.isa >= Isa::avx512_vnni || plan.codes != NarrowCodes::nibble_integers) return false;
  return plan.group <= kMostDecodedGroup && plan.rows >= (plan.group <= 32 ? kDecodedRowsSmall : kDecodedRows);
}

std::int64_t scratch_bytes_linear_dynamic(const NarrowLinearPlan& plan) {
  if (!decodes_panels(plan)) return 0;
  return 2 * plan.panel_bytes + plan.groups * 16 * static_cast<std::int64_t>(sizeof(std::int32_t));
}

std::int32_t start_of(const NarrowLinearPlan& plan, const CodeSums& sums) {
  if (decodes_panels(plan)) {
    const auto of_codes = static_cast<std::uint32_t>(-128 - sums.zero_point),
               of_z = 0u - static_cast<std::uint32_t>(sums.centred);
    return static_cast<std::int32_t>((of_codes & 0xffffu) | (of_z << 16));
  }
  const bool nibbles = plan.codes == NarrowCodes::nibble_integers;
  const std::uint32_t offset = nibbles ? 8 : reads_wide_codes(plan) ? 0 : 128;
  return static_cast<std::int32_t>(0u - offset * static_cast<std::uint32_t>(nibbles ? sums.centred : sums.raw));
}

std::int64_t fixed_point_blocks(const NarrowLinearPlan& plan) {
  const std::int64_t last = plan.depth - (plan.groups - 1) * plan.group;
  return (plan.groups - 1) * ceil_div(plan.group, kFixedPointBlock) + ceil_div(last, kFixedPointBlock);
}

std::int64_t packed_bytes_narrow(bool nibbles, std::int64_t columns, std::int64_t depth) {
  return ceil_div(columns, 16) * ceil_div(depth, nibbles ? 8 : 4) * 64;
}

void pack_narrow(DType dtype, const std::byte* plain, std::span<const std::int64_t> shape, std::byte* packed) {
  const bool nibbles = has_nibble_codes(dtype);
  const Recode recode(dtype);
  const DType storage = storage_of(dtype);
  for (std::int64_t i = 0; i < shape[0] * shape[1]; ++i) {
    const Place place = place_of(nibbles, shape[1], i / shape[1], i % shape[1]);
    packed[place.byte] |= static_cast<std::byte>(recode.pack(load_integer(storage, plain, i)) << place.shift);
  }
}

namespace {

struct Elements {
  std::int64_t begin, end;
};

void unpack_elements(DType dtype, const std::byte* packed, std::int64_t depth, Elements elements, std::byte* plain) {
  const bool nibbles = has_nibble_codes(dtype);
  const Recode recode(dtype);
  const DType storage = storage_of(dtype);
  for (std::int64_t i = elements.begin; i < elements.end; ++i) {
    const Place place = place_of(nibbles, depth, i / depth, i % depth);
    const unsigned byte = std::to_integer<unsigned>(packed[place.byte]) >> place.shift;
    store_integer(storage, plain, i - elements.begin, recode.unpack(nibbles ? byte & 15u : byte));
  }
}

}  // namespace

void unpack_narrow(DType dtype, const std::byte* packed, std::span<const std::int64_t> shape, std::byte* plain) {
  unpack_elements(dtype, packed, shape[1], {0, shape[0] * shape[1]}, plain);
}

void unpack_narrow_row(DType dtype, const std::byte* packed, std::span<const std::int64_t> shape, std::int64_t row,
                       std::byte* plain) {
  unpack_elements(dtype, packed, shape[1], {row * shape[1], (row + 1) * shape[1]}, plain);
}

NarrowLinearPlan plan_narrow_linear(const NarrowLinearSize& size, DType weight, Isa isa) {
  AOQ_CHECK(isa >= Isa::avx2);
  NarrowLinearPlan plan;
  plan.isa = isa;
  const bool nibbles = has_nibble_codes(weight), is_float = !is_integer(weight);
  plan.codes = nibbles ? (is_float ? NarrowCodes::nibble_floats : NarrowCodes::nibble_integers)
                       : (is_float ? NarrowCodes::byte_floats : NarrowCodes::byte_integers);
  if (is_float && !nibbles) plan.byte_floats = byte_float_format(weight);
  for (int i = 0; i < 16; ++i) plan.nibble_values[i] = static_cast<float>(i - 8);
  const std::byte all_nibbles[] = {std::byte{0x10}, std::byte{0x32}, std::byte{0x54}, std::byte{0x76},
                                   std::byte{0x98}, std::byte{0xba}, std::byte{0xdc}, std::byte{0xfe}};
  if (is_float && nibbles) dtype_info(weight).to_float(all_nibbles, 0, std::span<float>(plan.nibble_values, 16));
  plan.rows = size.rows;
  plan.columns = size.columns;
  plan.depth = size.depth;
  plan.group = size.group;
  plan.groups = ceil_div(size.depth, size.group);
  AOQ_CHECK(plan.groups <= 1 || size.group % 8 == 0);
  plan.panels = ceil_div(size.columns, 16);
  plan.panel_bytes = ceil_div(size.depth, nibbles ? 8 : 4) * 64;
  plan.row_block = kRowBlock;
  plan.row_blocks = ceil_div(size.rows, kRowBlock);
  // Of nearly the same height, as each decodes.
  if (decodes_panels(plan)) plan.row_block = ceil_div(size.rows, plan.row_blocks);
  plan.units = plan.row_blocks * ceil_div(plan.panels, kNarrowPanelBlock);
  return plan;
}

void run_linear_weight_only(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                            std::int64_t end) {
  AOQ_CHECK(plan.codes != NarrowCodes::nibble_integers);
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx512_vnni) return run_linear_weight_only_avx512(plan, args, begin, end);
  if (plan.isa >= Isa::avx2) return run_linear_weight_only_avx2(plan, args, begin, end);
#endif
  AOQ_CHECK(plan.isa < Isa::avx2 || begin == end);
}

void run_linear_fixed_point(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                            std::int64_t end) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx512_vnni) return run_linear_fixed_point_avx512(plan, args, begin, end);
  if (plan.isa >= Isa::avx2) return run_linear_fixed_point_avx2(plan, args, begin, end);
#endif
  AOQ_CHECK(plan.isa < Isa::avx2 || begin == end);
}

void fix_row(const NarrowLinearPlan& plan, const FixedPointRow& row) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx2) return fix_row_avx2(plan, row);
#endif
  AOQ_CHECK(plan.isa < Isa::avx2 || row.x == nullptr);
}

void run_linear_dynamic(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                        std::int64_t end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  if (plan.isa >= Isa::avx512_vnni) return run_linear_dynamic_avx512(plan, args, begin, end);
  if (decodes_panels(plan)) return run_linear_dynamic_decoded_avx2(plan, args, begin, end, scratch);
  if (plan.isa >= Isa::avx2) return run_linear_dynamic_avx2(plan, args, begin, end);
#endif
  AOQ_CHECK(plan.isa < Isa::avx2 || begin == end || scratch != nullptr);
}

}  // namespace aoq::cpu
