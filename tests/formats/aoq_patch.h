// An `.aoq` file in memory whose metadata a test changes behind the hashes' back.
#pragma once

#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "formats/aoq/aoq_generated.h"
#include "formats/aoq/layout.h"
#include "ir/tensor.h"

namespace aoq::test {

using aoq_layout::Header;

// Memory of just the file's size at a multiple of 64, so that a sanitizer sees an overrun.
class PatchedAoq {
 public:
  explicit PatchedAoq(std::span<const std::byte> file)
      : tensor_(Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(file.size())}, file).value()) {}

  std::span<const std::byte> bytes() const { return tensor_.bytes(); }
  std::span<std::byte> mutable_bytes() { return tensor_.mutable_bytes(); }
  Header header() const {
    Header header;
    std::memcpy(&header, bytes().data(), sizeof header);
    return header;
  }
  std::span<std::byte> metadata() { return mutable_bytes().subspan(sizeof(Header), header().metadata_size); }
  fbs::Model& model() { return *flatbuffers::GetMutableRoot<fbs::Model>(metadata().data()); }

  // Gives header and metadata hashes that hold.
  void seal() { seal(header()); }
  void seal(Header header) {
    header.metadata_hash = xxh64(metadata());
    header.header_hash = hash_of(header);
    std::memcpy(mutable_bytes().data(), &header, sizeof header);
  }

 private:
  Tensor tensor_;
};

// Calls `check` while the number at `place` has each value a hostile file would try, then puts the old one back.
// `count` is what an index may not reach.
template <class T, class Check>
void with_extremes(PatchedAoq& file, std::byte* place, std::uint64_t count, Check&& check) {
  T old;
  std::memcpy(&old, place, sizeof(T));
  std::vector<T> values = {T(0),
                           T(1),
                           T(old + 1),
                           T(old - 1),
                           static_cast<T>(count - 1),
                           static_cast<T>(count),
                           static_cast<T>(count + 1),
                           T(~T(0)),
                           static_cast<T>(0x7fffffffu),
                           static_cast<T>(0x80000000u)};
  if constexpr (sizeof(T) == 8) {
    for (const std::uint64_t v :
         {std::uint64_t{1} << 32, std::uint64_t{1} << 62, std::uint64_t{1} << 63, INT64_MAX + std::uint64_t{0}}) {
      values.push_back(static_cast<T>(v));
    }
  }
  for (const T value : values) {
    std::memcpy(place, &value, sizeof(T));
    file.seal();
    check(value == old);
  }
  std::memcpy(place, &old, sizeof(T));
  file.seal();
}

}  // namespace aoq::test
