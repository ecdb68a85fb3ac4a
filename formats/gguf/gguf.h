// GGUF files, version 2 and 3: settings and named tensors of numbers in blocks.
//
//   "GGUF", u32 version, u64 tensors, u64 settings
//   settings: key, u32 type, value          a string is a u64 size and its bytes; an array a u32 type, a u64 size,
//   values tensors:  name, u32 rank, u64 extents (fastest first), u32 type, u64 offset padding to `general.alignment`
//   (32), then the elements; offsets count from here
//
// Blocks of 32 elements: Q4_0 and Q5_0 have an f16 scale d, and (code - 8 or 16) * d; Q4_1 and Q5_1 have also an f16
// minimum m, and code * d + m; Q8_0 has d and i8 codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ir/file_limits.h"
#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

struct GgufTensor {
  std::string name;
  std::vector<std::int64_t> shape;   // slowest first
  std::uint32_t type = 0;            // of the file format
  std::span<const std::byte> bytes;  // in the file
};

// Numbers are double, or int64 where they are integers; arrays hold numbers or strings.
using GgufValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                               std::vector<std::string>>;

struct GgufFile {
  std::map<std::string, GgufValue> settings;
  std::vector<GgufTensor> tensors;

  // Null when there is no such tensor.
  const GgufTensor* find(std::string_view name) const;
};

bool is_gguf(std::span<const std::byte> bytes);
// Tensors point into `bytes`. invalid_data where the file contradicts itself; unsupported for other versions,
// big-endian files and element types that are not named above (F32, F16, BF16 and integers are read too).
Result<GgufFile> read_gguf(std::span<const std::byte> bytes, const Limits& limits = {});
// The numbers of a tensor as f32.
Result<Tensor> gguf_floats(const GgufTensor& tensor);

}  // namespace aoq
