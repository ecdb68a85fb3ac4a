// What a file from outside may ask for. Readers enforce it before they allocate; the host may set every field.
#pragma once

#include <cstdint>

namespace aoq {

struct Limits {
  std::uint64_t metadata_bytes = 100'000'000;  // everything in a model file but the contents of tensors
  std::uint64_t nodes = 1'000'000;             // with those of subgraphs
  std::uint64_t tensors = 1'000'000;           // constants and tensor attributes, arrays of an archive
  std::uint64_t segments = 1'000'000;          // of an .aoq file
  std::uint64_t name_bytes = 1024;             // names, dimensions, labels; free text is bounded by metadata_bytes
  std::uint64_t rank = 8;                      // may be lowered; tensors of a graph never have more than kMaxRank
  int depth = 64;                              // messages, subgraphs and JSON values inside each other
  std::uint64_t inflated_bytes = std::uint64_t{1} << 32;  // of one compressed entry of an archive
  // What a graph read from a file may take beside its weights: this, and four times its metadata.
  std::uint64_t graph_bytes = std::uint64_t{16} << 20;
};

}  // namespace aoq
