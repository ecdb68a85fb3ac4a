#include "backends/cpu/rows/layouts.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/conv_maddubs.h"
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/conv_vnni.h"
#include "backends/cpu/kernels/depthwise_f32.h"
#include "backends/cpu/kernels/depthwise_maddubs.h"
#include "backends/cpu/kernels/depthwise_s8.h"
#include "backends/cpu/kernels/depthwise_vnni.h"
#include "backends/cpu/kernels/narrow_linear.h"
#include "ir/checked.h"

namespace aoq::cpu {
namespace {

std::int64_t panel_index(const ConvDims& d, std::int64_t channel, std::int64_t* column) {
  std::int64_t outputs = d.out_c / d.groups;
  std::int64_t panels = (outputs + 15) / 16;
  *column = channel % outputs % 16;
  return channel / outputs * panels + channel % outputs / 16;
}

std::int64_t taps_of(const ConvDims& d) {
  return d.kernel_h * d.kernel_w;
}
std::int64_t depth_of(const ConvDims& d) {
  return taps_of(d) * (d.in_c / d.groups);
}

// Where element (channel, input channel c of the group, tap) of the plain weight lies in the packed bytes, in elements.
std::int64_t index_s8(const ConvDims& d, std::int64_t channel, std::int64_t c, std::int64_t tap) {
  std::int64_t column = 0;
  std::int64_t panel = panel_index(d, channel, &column);
  std::int64_t k = tap * (d.in_c / d.groups) + c;
  return panel * ((depth_of(d) + 1) / 2 * 32) + k / 2 * 32 + column * 2 + k % 2;
}

std::int64_t index_s8_quads(const ConvDims& d, std::int64_t channel, std::int64_t c, std::int64_t tap) {
  return index_conv_vnni(d, channel, tap * (d.in_c / d.groups) + c);
}

std::int64_t index_f32(const ConvDims& d, std::int64_t channel, std::int64_t c, std::int64_t tap) {
  std::int64_t column = 0;
  std::int64_t panel = panel_index(d, channel, &column);
  return (panel * depth_of(d) + tap * (d.in_c / d.groups) + c) * 16 + column;
}

std::int64_t index_f32_depthwise(const ConvDims& d, std::int64_t channel, std::int64_t, std::int64_t tap) {
  return tap * ((d.out_c + 15) / 16 * 16) + channel;
}

// In s16: every block is 16 sums of 4 bytes, then pairs of taps, then for 3x3 the same taps column by column.
std::int64_t index_s8_depthwise(const ConvDims& d, std::int64_t channel, std::int64_t, std::int64_t tap) {
  std::int64_t block = channel / 16;
  std::int64_t first = block * 16;
  if (first + 16 > d.out_c && d.out_c >= 16) first = d.out_c - 16;
  bool is_3x3 = d.kernel_h == 3 && d.kernel_w == 3;
  std::int64_t block_size = 32 + (taps_of(d) + 1) / 2 * 32 + (is_3x3 ? 6 * 32 : 0);
  return block * block_size + 32 + tap / 2 * 32 + (channel - first) * 2 + tap % 2;
}

std::int64_t index_s8_depthwise_quads(const ConvDims& d, std::int64_t channel, std::int64_t, std::int64_t tap) {
  return index_depthwise_vnni(d, channel, tap);
}

struct Layout {
  DType dtype;
  std::int64_t (*bytes)(const ConvDims&);
  void (*pack)(const ConvDims&, const std::byte* plain, std::span<std::byte> packed);
  std::int64_t (*index)(const ConvDims&, std::int64_t channel, std::int64_t c, std::int64_t tap);
  std::int64_t stored_bytes;  // of one packed element
  bool depthwise;
};

template <typename T, void (*kPack)(const ConvDims&, const T*, std::span<std::byte>)>
void pack_as(const ConvDims& dims, const std::byte* plain, std::span<std::byte> packed) {
  kPack(dims, reinterpret_cast<const T*>(plain), packed);
}

constexpr Layout kS8 = {DType::i8, packed_bytes_conv_s8, pack_as<std::int8_t, pack_conv_s8>, index_s8, 1, false};
constexpr Layout kS8Quads = {DType::i8, packed_bytes_conv_vnni, pack_as<std::int8_t, pack_conv_vnni>, index_s8_quads, 1,
                             false};
// Not every element lies where its place in K says: unpacked by unpack_conv_maddubs.
constexpr Layout kS8SafeQuads = {
    DType::i8, packed_bytes_conv_maddubs, pack_as<std::int8_t, pack_conv_maddubs>, nullptr, 1, false};
constexpr Layout kS8Depthwise = {
    DType::i8, packed_bytes_depthwise_s8, pack_as<std::int8_t, pack_depthwise_s8>, index_s8_depthwise, 2, true};
constexpr Layout kS8DepthwiseQuads = {
    DType::i8, packed_bytes_depthwise_vnni, pack_as<std::int8_t, pack_depthwise_vnni>, index_s8_depthwise_quads, 1,
    true};
constexpr Layout kF32 = {DType::f32, packed_bytes_conv_f32, pack_as<float, pack_conv_f32>, index_f32, 4, false};
constexpr Layout kF32Depthwise = {
    DType::f32, packed_bytes_depthwise_f32, pack_as<float, pack_depthwise_f32>, index_f32_depthwise, 4, true};

Result<ConvDims> dims_for(const Layout& layout, const PackedConstant& c) {
  if (c.dtype != layout.dtype) {
    return error(Code::invalid_argument, "the layout is for {}, the constant is {}", dtype_name(layout.dtype),
                 dtype_name(c.dtype));
  }
  if (layout.depthwise && (c.shape.size() < 2 || c.shape[1] != 1 || c.groups != 1)) {
    return error(Code::invalid_argument, "the layout does not fit {}", shape_to_string(c.shape));
  }
  return dims_of_weight(c.shape, layout.depthwise ? c.shape[0] : c.groups);
}

Result<std::vector<std::byte>> pack_with(const Layout& layout, const Tensor& plain, std::int64_t groups) {
  AOQ_ASSIGN(ConvDims dims, dims_for(layout, {{}, plain.dtype(), plain.shape(), groups}));
  std::vector<std::byte> packed(static_cast<std::size_t>(layout.bytes(dims)));
  layout.pack(dims, plain.bytes().data(), packed);
  return packed;
}

Status check_size(const PackedConstant& c, std::int64_t bytes) {
  if (static_cast<std::int64_t>(c.bytes.size()) == bytes) return {};
  return error(Code::invalid_model, "{} is packed in {} bytes, expected {}", shape_to_string(c.shape), c.bytes.size(),
               bytes);
}

Result<Tensor> unpack_with(const Layout& layout, const PackedConstant& c) {
  AOQ_ASSIGN(ConvDims dims, dims_for(layout, c));
  AOQ_TRY(check_size(c, layout.bytes(dims)));
  AOQ_ASSIGN(Tensor plain, Tensor::make(c.dtype, {c.shape.begin(), c.shape.end()}));
  std::byte* out = plain.mutable_bytes().data();
  const std::int64_t size = dtype_info(c.dtype).bits / 8;
  // Every channel's elements lie alike, from its own first one on.
  std::vector<std::int64_t> offsets;
  const std::int64_t origin = layout.index(dims, 0, 0, 0);
  for (std::int64_t in = 0; in < dims.in_c / dims.groups; ++in) {
    for (std::int64_t tap = 0; tap < taps_of(dims); ++tap) {
      offsets.push_back((layout.index(dims, 0, in, tap) - origin) * layout.stored_bytes);
    }
  }
  for (std::int64_t channel = 0; channel < dims.out_c; ++channel) {
    // Little-endian: the low bytes of a widened element are the element.
    const std::byte* from = c.bytes.data() + layout.index(dims, channel, 0, 0) * layout.stored_bytes;
    if (size == 1) {
      for (std::int64_t offset : offsets) *out++ = from[offset];
    } else {
      for (std::int64_t offset : offsets) {
        std::memcpy(out, from + offset, static_cast<std::size_t>(size));
        out += size;
      }
    }
  }
  return plain;
}

Result<ConvDims> split_depthwise_dims(const PackedConstant& c) {
  if (c.dtype == DType::i8 && c.shape.size() == 4 && c.shape[1] == 1 && c.groups == 1) {
    AOQ_ASSIGN(ConvDims dims, dims_of_weight(c.shape, c.shape[0]));
    if (packs_depthwise_maddubs(dims)) return dims;
  }
  return error(Code::invalid_argument, "the layout does not fit {}{}", dtype_name(c.dtype), shape_to_string(c.shape));
}

// Checks that the layout of nibbles, or of bytes, is for this constant.
Status check_narrow(const PackedConstant& c, bool nibbles) {
  const int bits = dtype_info(c.dtype).bits;
  const bool is_code = is_integer(c.dtype) || is_float(c.dtype);
  if (!is_code || bits > 8 || has_nibble_codes(c.dtype) != nibbles || c.shape.size() != 2 || c.groups != 1) {
    return error(Code::invalid_argument, "the layout does not fit {}{}", dtype_name(c.dtype), shape_to_string(c.shape));
  }
  return dims_of_weight(c.shape, 1).status();
}

Result<std::vector<std::byte>> pack_narrow_with(bool nibbles, const Tensor& plain, std::int64_t groups) {
  AOQ_TRY(check_narrow({{}, plain.dtype(), plain.shape(), groups}, nibbles));
  std::vector<std::byte> packed(
      static_cast<std::size_t>(packed_bytes_narrow(nibbles, plain.shape()[0], plain.shape()[1])));
  pack_narrow(plain.dtype(), plain.bytes().data(), plain.shape(), packed.data());
  return packed;
}

Result<Tensor> unpack_narrow_with(bool nibbles, const PackedConstant& c) {
  AOQ_TRY(check_narrow(c, nibbles));
  AOQ_TRY(check_size(c, packed_bytes_narrow(nibbles, c.shape[0], c.shape[1])));
  AOQ_ASSIGN(Tensor plain, Tensor::make(c.dtype, {c.shape.begin(), c.shape.end()}));
  unpack_narrow(c.dtype, c.bytes.data(), c.shape, plain.mutable_bytes().data());
  return plain;
}

}  // namespace

std::string layout_name(std::string_view base, std::int64_t groups) {
  return groups == 1 ? std::string(base) : fmt::format("{}.g{}", base, groups);
}

Result<ConvDims> dims_of_weight(std::span<const std::int64_t> shape, std::int64_t groups) {
  if (shape.size() < 2 || shape.size() > 4) {
    return error(Code::unsupported, "weight {} has rank {}, the kernels take 2 to 4", shape_to_string(shape),
                 shape.size());
  }
  if (groups < 1 || shape[0] == 0 || shape[1] == 0 || shape[0] % groups != 0) {
    return error(Code::unsupported, "weight {} does not split into {} groups", shape_to_string(shape), groups);
  }
  // Shapes from files: what follows multiplies by at most 64 (rounding up to panels, wider elements).
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 48;
  const std::optional<std::int64_t> elements = checked::element_count(shape);
  if (!elements || *elements > kMaxElements) {
    return error(Code::unsupported, "weight {} has more than 2^48 elements", shape_to_string(shape));
  }
  ConvDims dims;
  dims.groups = groups;
  dims.out_c = shape[0];
  dims.in_c = shape[1] * groups;
  dims.kernel_h = shape.size() == 4 ? shape[2] : 1;
  dims.kernel_w = shape.size() >= 3 ? shape.back() : 1;
  return dims;
}

Result<std::vector<std::byte>> pack_s8_k2_n16(const Tensor& plain, std::int64_t groups) {
  return pack_with(kS8, plain, groups);
}
Result<Tensor> unpack_s8_k2_n16(const PackedConstant& packed) {
  return unpack_with(kS8, packed);
}
Result<std::vector<std::byte>> pack_s8_k4_n16(const Tensor& plain, std::int64_t groups) {
  return pack_with(kS8Quads, plain, groups);
}
Result<Tensor> unpack_s8_k4_n16(const PackedConstant& packed) {
  return unpack_with(kS8Quads, packed);
}
Result<std::vector<std::byte>> pack_s8_k4_n16_safe(const Tensor& plain, std::int64_t groups) {
  AOQ_ASSIGN(const ConvDims dims, dims_for(kS8SafeQuads, {{}, plain.dtype(), plain.shape(), groups}));
  // Words are numbered in 16 bits.
  if (products_per_output(dims) > kMaxExactProducts) {
    return error(Code::unsupported, "a result sums {} products, the layout takes at most {}", products_per_output(dims),
                 kMaxExactProducts);
  }
  return pack_with(kS8SafeQuads, plain, groups);
}
Result<Tensor> unpack_s8_k4_n16_safe(const PackedConstant& packed) {
  AOQ_ASSIGN(ConvDims dims, dims_for(kS8SafeQuads, packed));
  AOQ_TRY(check_size(packed, kS8SafeQuads.bytes(dims)));
  if (!is_well_formed_maddubs(dims, packed.bytes.data())) {
    return error(Code::invalid_model, "{} is packed in panels whose words are not numbered once each",
                 shape_to_string(packed.shape));
  }
  AOQ_ASSIGN(Tensor plain, Tensor::make(packed.dtype, {packed.shape.begin(), packed.shape.end()}));
  unpack_conv_maddubs(dims, packed.bytes.data(), reinterpret_cast<std::int8_t*>(plain.mutable_bytes().data()));
  return plain;
}
Result<std::vector<std::byte>> pack_s8_dw(const Tensor& plain, std::int64_t groups) {
  return pack_with(kS8Depthwise, plain, groups);
}
Result<Tensor> unpack_s8_dw(const PackedConstant& packed) {
  return unpack_with(kS8Depthwise, packed);
}
Result<std::vector<std::byte>> pack_s8_dw_k4(const Tensor& plain, std::int64_t groups) {
  return pack_with(kS8DepthwiseQuads, plain, groups);
}
Result<Tensor> unpack_s8_dw_k4(const PackedConstant& packed) {
  return unpack_with(kS8DepthwiseQuads, packed);
}
Result<std::vector<std::byte>> pack_s8_dw_split(const Tensor& plain, std::int64_t groups) {
  AOQ_ASSIGN(ConvDims dims, split_depthwise_dims({{}, plain.dtype(), plain.shape(), groups}));
  std::vector<std::byte> packed(static_cast<std::size_t>(packed_bytes_depthwise_maddubs(dims)));
  pack_depthwise_maddubs(dims, reinterpret_cast<const std::int8_t*>(plain.bytes().data()), packed);
  return packed;
}
Result<Tensor> unpack_s8_dw_split(const PackedConstant& packed) {
  AOQ_ASSIGN(ConvDims dims, split_depthwise_dims(packed));
  AOQ_TRY(check_size(packed, packed_bytes_depthwise_maddubs(dims)));
  AOQ_ASSIGN(Tensor plain, Tensor::make(packed.dtype, {packed.shape.begin(), packed.shape.end()}));
  unpack_depthwise_maddubs(dims, packed.bytes.data(), reinterpret_cast<std::int8_t*>(plain.mutable_bytes().data()));
  return plain;
}
Result<std::vector<std::byte>> pack_f32_n16(const Tensor& plain, std::int64_t groups) {
  return pack_with(kF32, plain, groups);
}
Result<Tensor> unpack_f32_n16(const PackedConstant& packed) {
  return unpack_with(kF32, packed);
}
Result<std::vector<std::byte>> pack_f32_dw(const Tensor& plain, std::int64_t groups) {
  return pack_with(kF32Depthwise, plain, groups);
}
Result<Tensor> unpack_f32_dw(const PackedConstant& packed) {
  return unpack_with(kF32Depthwise, packed);
}
Result<std::vector<std::byte>> pack_n4_k8_n16(const Tensor& plain, std::int64_t groups) {
  return pack_narrow_with(true, plain, groups);
}
Result<Tensor> unpack_n4_k8_n16(const PackedConstant& packed) {
  return unpack_narrow_with(true, packed);
}
Result<std::vector<std::byte>> pack_b8_k4_n16(const Tensor& plain, std::int64_t groups) {
  return pack_narrow_with(false, plain, groups);
}
Result<Tensor> unpack_b8_k4_n16(const PackedConstant& packed) {
  return unpack_narrow_with(false, packed);
}

}  // namespace aoq::cpu
