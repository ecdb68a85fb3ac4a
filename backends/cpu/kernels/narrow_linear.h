// Linear layers with weights of 1 to 8 bits that are decoded while they are multiplied: linear_weight_only (x f32, or
// digits of block fixed point) and linear_dynamic (x of i8 codes). The arithmetic is that of ir/narrow_linear.h, bit
// for bit. Vector classes only.
//
// Packed weights, for every 16 columns of [N, K]; missing columns are 0 bits:
//
//   N4_K8_N16   codes of at most 4 bits: [ceil(K / 8)][16] words of 32 bits. Byte i of a word has element k + i in its
//               low half and k + 4 + i in its high half: c + 8 of integers (c of ir/narrow_linear.h), else the bits of
//               the float.
//   B8_K4_N16   wider codes: [ceil(K / 4)][16][4] bytes, the two's complement of c; of floats the sign in bit 7 and the
//               magnitude below.
//
// Elements behind K are 0 bits. Scales and zero points are [panels][groups][16].
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/cpu/cpu_features.h"
#include "ir/dtype.h"

namespace aoq::cpu {

// How packed codes become numbers.
enum class NarrowCodes : std::uint8_t { nibble_integers, nibble_floats, byte_integers, byte_floats };

// A float of 6 or 8 bits is the f32 with the bits (magnitude << shift), times multiplier, with the sign. A magnitude
// above `finite` is infinity or NaN as in f32, and the code `nan` is NaN.
struct ByteFloatFormat {
  int shift = 0;
  float multiplier = 1.0f;
  int finite = 127;
  int nan = -1;
};

struct NarrowLinearPlan {
  Isa isa = Isa::avx2;
  NarrowCodes codes = NarrowCodes::nibble_integers;
  ByteFloatFormat byte_floats;
  float nibble_values[16] = {};  // of the 16 packed codes
  std::int64_t rows = 0, columns = 0, depth = 0;
  std::int64_t group = 0, groups = 0;  // a multiple of 8 codes, but for the last group
  std::int64_t panels = 0, panel_bytes = 0;
  std::int64_t row_block = 0, row_blocks = 0;  // a unit has kNarrowPanelBlock panels and a block of rows
  std::int64_t units = 0;
};

// Where a tile's results go: rows from `row` on of the panels from `panel` on, `panel_step` apart.
struct PanelTarget {
  const NarrowLinearPlan* plan;
  const float* bias;      // or null
  const float* x_scales;  // of each row, or null
  float* out;
  std::int64_t row, panel;
  std::int64_t panel_step = 1;
};
inline constexpr std::int64_t kNarrowPanelBlock = 4;

struct NarrowLinearSize {
  std::int64_t rows, columns, depth, group;
};
NarrowLinearPlan plan_narrow_linear(const NarrowLinearSize& size, DType weight, Isa isa);

// Whether codes of this type are two to a byte.
bool has_nibble_codes(DType weight);
std::int64_t packed_bytes_narrow(bool nibbles, std::int64_t columns, std::int64_t depth);
// `plain` has codes of the dtype; `packed` is zeroed. And the way back.
void pack_narrow(DType dtype, const std::byte* plain, std::span<const std::int64_t> shape, std::byte* packed);
void unpack_narrow(DType dtype, const std::byte* packed, std::span<const std::int64_t> shape, std::byte* plain);
// Codes of one row [K] of the plain weight, from the first element of `plain` on.
void unpack_narrow_row(DType dtype, const std::byte* packed, std::span<const std::int64_t> shape, std::int64_t row,
                       std::byte* plain);

// Everything about the weight that is constant.
struct NarrowWeight {
  const std::byte* codes = nullptr;
  const float* scales = nullptr;
  const std::int16_t* zero_points = nullptr;  // z; null: none
  const float* zeros = nullptr;               // float zero points; null: none
  const float* bias = nullptr;                // [panels * 16]; null: none
};

struct LinearWeightOnlyArgs {
  NarrowWeight weight;
  const float* x = nullptr;     // [rows, depth]
  const float* sums = nullptr;  // t, [rows, groups]: with zero points of either kind
  float* out = nullptr;         // [rows, columns]
};

// What a row's block of fixed point numbers has besides its digits: of 256 * d_1 + d_0 and of d_2 the sums, and what
// the sums of products begin with, as packed codes are not c.
struct FixedPointBlock {
  std::int32_t low_start, top_start;
  std::int32_t low_sum, top_sum;
  float unit;
  bool has_low_digits;  // whether any d_0 is not 0
};
std::int64_t fixed_point_blocks(const NarrowLinearPlan& plan);

// Digits of a row are [ceil(K / 8)][3][8], d_0, d_1 and d_2 of 8 elements, zeros behind K.
inline constexpr std::int64_t kFixedPointStep = 24;

struct LinearFixedPointArgs {
  NarrowWeight weight;
  const std::int8_t* digits = nullptr;  // [rows][row_digits]
  std::int64_t row_digits = 0;
  const FixedPointBlock* blocks = nullptr;  // [rows][fixed_point_blocks]
  const float* sums = nullptr;              // t, [rows, groups]: with float zero points
  float* out = nullptr;                     // [rows, columns]
};

// Turns one row of x into fixed point: its digits and blocks. `plan` has integer nibbles.
struct FixedPointRow {
  const float* x;
  std::int8_t* digits;
  FixedPointBlock* blocks;
};
void fix_row(const NarrowLinearPlan& plan, const FixedPointRow& row);

struct LinearDynamicArgs {
  NarrowWeight weight;
  // Codes of x, [rows][pitch], zeros from depth on; `x` on avx512_vnni and with nibbles (the unsigned codes x + 128
  // where panels are decoded), else x - zero point as `x16`.
  const std::int8_t* x = nullptr;
  const std::int16_t* x16 = nullptr;
  std::int64_t pitch = 0;
  const std::int32_t* sums = nullptr;    // of (x - x_zero_point) in each group, [rows, groups]
  const std::int32_t* starts = nullptr;  // start_of each group, [rows, groups]
  const float* x_scales = nullptr;       // [rows]
  const std::int32_t* x_zero_points = nullptr;
  bool has_x_zero_points = false;
  float* out = nullptr;
};
// Whether the kernel wants x16.
bool reads_wide_codes(const NarrowLinearPlan& plan);

// Whether a block of rows of linear_dynamic multiplies nibbles that are decoded to bytes before, a panel at a time.
bool decodes_panels(const NarrowLinearPlan& plan);
inline constexpr std::int64_t kMostDecodedGroup = 128;
// Of each worker.
std::int64_t scratch_bytes_linear_dynamic(const NarrowLinearPlan& plan);

// A group of a row of x: the sums of x and of x - x_zero_point.
struct CodeSums {
  std::int32_t raw, centred, zero_point;
};
// What a group's sum begins with, modulo 2^32, as packed codes are not c. Where panels are decoded two s16 instead, the
// factors of the sum of c and of z.
std::int32_t start_of(const NarrowLinearPlan& plan, const CodeSums& sums);

// How far ahead of what tiles of few rows read they ask for codes, in bytes, and scales: into the second level. Where
// the arithmetic on a line leaves room for few loads that wait, loads alone keep too few lines on their way from
// memory, and so do prefetches into the first level.
inline constexpr std::int64_t kNarrowPrefetchCodes = 16384, kNarrowPrefetchScales = 1024;
inline constexpr int kNarrowPrefetchLevel = 2;  // of __builtin_prefetch

// Compute units [begin, end); results do not depend on how units are split over calls.
// run_linear_weight_only is for all codes but integer nibbles, which run_linear_fixed_point multiplies.
void run_linear_weight_only(const NarrowLinearPlan& plan, const LinearWeightOnlyArgs& args, std::int64_t begin,
                            std::int64_t end);
void run_linear_fixed_point(const NarrowLinearPlan& plan, const LinearFixedPointArgs& args, std::int64_t begin,
                            std::int64_t end);
void run_linear_dynamic(const NarrowLinearPlan& plan, const LinearDynamicArgs& args, std::int64_t begin,
                        std::int64_t end, std::byte* scratch);

}  // namespace aoq::cpu
