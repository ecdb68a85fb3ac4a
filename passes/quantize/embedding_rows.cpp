#include "passes/quantize/embedding_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "ir/dtype.h"

namespace aoq {

namespace {

// FBGEMM's: the inverse from the range, with a term that keeps a constant row finite.
void pack_row_8(std::span<const float> x, std::byte* out) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const float range = *high - *low;
  const float parameters[2] = {range / 255.0f, *low};
  const float inverse = 255.0f / (range + 1e-8f);
  for (std::size_t i = 0; i < x.size(); ++i) {
    out[i] = static_cast<std::byte>(static_cast<int>(std::nearbyintf((x[i] - *low) * inverse)));
  }
  std::memcpy(out + x.size(), parameters, sizeof parameters);
}

float to_f16_and_back(float v) {
  float back = 0;
  std::byte half[2];
  dtype_info(DType::f16).from_float({&v, 1}, half, 0);
  dtype_info(DType::f16).to_float(half, 0, {&back, 1});
  return back;
}

// The codes are made with the scale and bias as they are stored.
void pack_row_narrow(std::span<const float> x, int bits, std::byte* out) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const int most = (1 << bits) - 1;
  const float bias = to_f16_and_back(*low);
  const float range = *high - bias;
  float scale = range == 0.0f ? 1.0f : to_f16_and_back(range / static_cast<float>(most));
  if (scale == 0.0f) scale = 1.0f;
  float inverse = 1.0f / scale;
  if (std::isinf(inverse)) {
    scale = 1.0f;
    inverse = 1.0f;
  }
  const std::size_t per_byte = static_cast<std::size_t>(8 / bits);
  const std::size_t bytes = (x.size() + per_byte - 1) / per_byte;
  std::fill_n(out, bytes, std::byte{0});
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int code = std::clamp(static_cast<int>(std::nearbyintf((x[i] - bias) * inverse)), 0, most);
    out[i / per_byte] |= static_cast<std::byte>(code << (static_cast<int>(i % per_byte) * bits));
  }
  const std::array<float, 2> parameters = {scale, bias};
  std::byte halves[4];
  dtype_info(DType::f16).from_float(parameters, halves, 0);
  std::memcpy(out + bytes, halves, sizeof halves);
}

}  // namespace

Result<Tensor> pack_embedding_rows(TensorView table, int bits) {
  if (bits != 8 && bits != 4 && bits != 2) return error(Code::invalid_argument, "{} bits, expected 8, 4 or 2", bits);
  if (table.dtype != DType::f32 || table.shape.size() != 2 || table.shape[1] == 0) {
    return error(Code::invalid_argument, "the table is {}{}, expected an f32 matrix with columns",
                 dtype_name(table.dtype), shape_to_string(table.shape));
  }
  const std::int64_t rows = table.shape[0], columns = table.shape[1];
  const std::span<const float> x(reinterpret_cast<const float*>(table.data), static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i])) {
      return error(Code::invalid_data, "the table has {} at row {}, expected finite numbers", x[i],
                   static_cast<std::int64_t>(i) / columns);
    }
  }
  const std::int64_t parameter_bytes = bits == 8 ? 8 : 4;
  const std::int64_t row_bytes = (columns * bits + 7) / 8 + parameter_bytes;
  AOQ_ASSIGN(Tensor packed, Tensor::make(DType::u8, {rows, row_bytes}));
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::span<const float> row =
        x.subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns));
    std::byte* out = packed.mutable_bytes().data() + r * row_bytes;
    if (bits == 8) {
      pack_row_8(row, out);
    } else {
      pack_row_narrow(row, bits, out);
    }
  }
  return packed;
}

}  // namespace aoq
