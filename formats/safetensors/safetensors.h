// safetensors files: named tensors behind one JSON header.
//
//   u64 header size, header {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__":
//   {...}}, elements; the offsets count from the end of the header and tile the rest of the file
//
// Types that the format lacks (u4, i3, boolean is BOOL, …) are stored as U8 of the packed bytes, with their type and
// shape under the metadata key "aoq.tensor.<name>", such as "u4[3, 5]"; other readers see the bytes.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/file_limits.h"
#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

struct SafetensorsFile {
  std::vector<NamedTensor> tensors;  // read: in the order of their bytes
  std::map<std::string, std::string> metadata;

  // Null when there is no such tensor.
  const Tensor* find(std::string_view name) const;
};

// With an owner (of `bytes`) tensors read their elements in place where the alignment allows it; without one, and
// otherwise, they hold copies. Gaps, overlaps, duplicate keys, and bytes after the last tensor are invalid_data.
Result<SafetensorsFile> read_safetensors(std::span<const std::byte> bytes, std::shared_ptr<const void> owner = nullptr,
                                         const Limits& limits = {});

// Orders the tensors by falling element size, then by name, so that all are aligned; equal input gives equal bytes.
Status write_safetensors(const SafetensorsFile& file, const std::function<Status(std::span<const std::byte>)>& sink);

}  // namespace aoq
