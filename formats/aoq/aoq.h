// The `.aoq` file: a compiled model. No code, no other files; weights are used where they lie.
//
//   0   magic  89 'A' 'O' 'Q' 0d 0a 1a 0a
//   8   u32 format version, u32 size of this header (64)
//   16  u64 feature bits: a reader refuses bits it does not know
//   24  u64 offset of the metadata (64), u64 its size, u64 its hash
//   48  u64 size of the file, u64 hash of the 56 bytes before
//   64  metadata: one FlatBuffer (aoq.fbs), then the segments of its list: each starts at the next multiple of 64, with
//       zeros before it, and the last one ends the file.
//
// Little-endian; hashes are XXH64. A tensor is one segment, sub-byte types bit-packed; equal bytes are stored once.
// The same graph and provenance give the same bytes.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/io/file.h"
#include "ir/file_limits.h"
#include "ir/graph.h"

namespace aoq {

inline constexpr std::uint32_t kAoqVersion = 1;

// Where a model came from: free text for reports, kept beside the graph.
struct AoqProvenance {
  std::map<std::string, std::string> entries;
  std::string json;
  friend bool operator==(const AoqProvenance&, const AoqProvenance&) = default;
};

struct AoqSegment {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t hash = 0;
};

struct AoqSummary {
  std::uint32_t version = 0;
  std::uint64_t features = 0;
  std::uint64_t metadata_bytes = 0;
  std::vector<AoqSegment> segments;
  AoqProvenance provenance;
};

// Opens a file for read_aoq. Mapped, its header and metadata are copied, so that reading it touches no page of the
// file; weights are mapped. Call check_unchanged() on it when the graph is read.
Result<std::shared_ptr<const MappedFile>> open_aoq(const std::string& path, FileAccess access = FileAccess::map);

// Hands the file to `sink` in order, without a copy of the weights. resource_limit when the graph has more than the
// format can count.
Status write_aoq(const Graph& graph, const AoqProvenance& provenance, const ByteSink& sink);
Result<std::vector<std::byte>> write_aoq(const Graph& graph, const AoqProvenance& provenance = {});

// Checks everything that memory safety rests on, and the graph by ir/verifier.h; what lies behind the metadata
// (hashes of the segments, zeros between them) is left to verify_aoq. Constants borrow from `file`, which `owner` keeps
// alive (null: static data), or are copied when `file` does not start at a multiple of 64 bytes. invalid_model,
// resource_limit, or unsupported for a newer format.
Result<Graph> read_aoq(std::span<const std::byte> file, std::shared_ptr<const void> owner, const Limits& limits = {});
Result<AoqSummary> read_aoq_summary(std::span<const std::byte> file, const Limits& limits = {});
// read_aoq and the hashes of all segments.
Status verify_aoq(std::span<const std::byte> file, const Limits& limits = {});

}  // namespace aoq
