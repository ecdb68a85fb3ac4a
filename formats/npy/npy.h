// numpy's .npy arrays and .npz archives of them.
//
//   .npy: "\x93NUMPY" major minor, header length, {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, elements
//
// Read: versions 1.0 to 3.0; bool, integers of 8 to 64 bits, f16, f32, f64, little-endian. Arrays in Fortran order are
// put into C order. Objects, structures and strings are refused, and the bytes must be exactly the array's.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/zip/zip.h"
#include "ir/file_limits.h"
#include "ir/status.h"
#include "ir/tensor.h"

namespace aoq {

// With an owner (of `bytes`) the tensor reads the elements in place where order and alignment allow it; without one,
// and otherwise, it holds a copy.
Result<Tensor> read_npy(std::span<const std::byte> bytes, std::shared_ptr<const void> owner = nullptr,
                        const Limits& limits = {});

// Magic, version and header, padded so that the elements follow 64-byte aligned; unsupported for types numpy has not.
Result<std::vector<std::byte>> npy_header(TensorView tensor);
// The whole file.
Result<std::vector<std::byte>> write_npy(const Tensor& tensor);

// An archive whose arrays are read when asked for.
class NpzReader {
 public:
  // The bytes must live as long as the reader, and as long as its tensors when there is no owner to keep them.
  static Result<NpzReader> open(std::span<const std::byte> bytes, std::shared_ptr<const void> owner = nullptr,
                                const Limits& limits = {});

  // Array names (without ".npy") in the order of the archive.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const;
  // not_found when there is no such array.
  Result<Tensor> read(std::string_view name) const;
  Result<std::vector<NamedTensor>> read_all() const;

 private:
  NpzReader(ZipReader zip, const Limits& limits) : zip_(std::move(zip)), limits_(limits) {}

  ZipReader zip_;
  Limits limits_;
  // Owners: whoever opened the archive, this reader and every tensor that borrows from it.
  std::shared_ptr<const void> owner_;
  std::vector<std::string> names_;
};

// Writes an archive of stored arrays, 64-byte aligned, in the order given.
Status write_npz(std::span<const NamedTensor> arrays, const ZipSink& sink);

}  // namespace aoq
