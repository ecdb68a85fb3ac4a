#include <bit>
#include <cstring>
#include <unordered_map>

#include "formats/aoq/aoq.h"
#include "formats/aoq/aoq_generated.h"
#include "formats/aoq/layout.h"
#include "ir/guard.h"

namespace aoq {
namespace {

using aoq_layout::Header;

class MetadataWriter {
 public:
  explicit MetadataWriter(const Graph& graph) : graph_(graph) {}

  Status collect();
  // The FlatBuffer. Call once, after collect().
  std::span<const std::byte> finish(const AoqProvenance& provenance);

  std::vector<AoqSegment>& segments() { return segments_; }
  std::span<const std::byte> segment_bytes(std::size_t i) const { return bytes_[i]; }

 private:
  void add_node(const Node& node);
  std::uint32_t add_attribute(const Attribute& attribute);
  std::uint32_t add_tensor(const Tensor& tensor);
  std::uint32_t segment_for(std::span<const std::byte> bytes);
  std::uint32_t string(std::string_view text);
  std::uint32_t add_strings(const std::vector<std::string>& strings);
  std::vector<fbs::Pair> pairs(const std::map<std::string, std::string>& map);

  const Graph& graph_;
  flatbuffers::FlatBufferBuilder builder_;
  std::vector<std::string> strings_;
  std::unordered_map<std::string, std::uint32_t> string_ids_;
  std::unordered_map<const Value*, std::uint32_t> value_ids_;
  std::vector<fbs::Node> nodes_;
  std::vector<fbs::Attribute> attributes_;
  std::vector<fbs::Tensor> tensors_;
  std::vector<std::uint32_t> inputs_, text_;
  std::vector<std::int64_t> integers_, dims_;
  std::vector<double> reals_;
  std::vector<AoqSegment> segments_;
  std::vector<std::span<const std::byte>> bytes_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> segments_by_hash_;
};

std::uint32_t MetadataWriter::string(std::string_view text) {
  auto [it, is_new] = string_ids_.try_emplace(std::string(text), static_cast<std::uint32_t>(strings_.size()));
  if (is_new) strings_.push_back(it->first);
  return it->second;
}

std::uint32_t MetadataWriter::add_strings(const std::vector<std::string>& strings) {
  for (const std::string& s : strings) text_.push_back(string(s));
  return static_cast<std::uint32_t>(strings.size());
}

std::uint32_t MetadataWriter::segment_for(std::span<const std::byte> bytes) {
  const std::uint64_t hash = xxh64(bytes);
  auto [begin, end] = segments_by_hash_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    const std::span<const std::byte> other = bytes_[it->second];
    if (other.size() == bytes.size() && (bytes.empty() || std::memcmp(other.data(), bytes.data(), bytes.size()) == 0)) {
      return it->second;
    }
  }
  const auto id = static_cast<std::uint32_t>(segments_.size());
  segments_.push_back({0, bytes.size(), hash});
  bytes_.push_back(bytes);
  segments_by_hash_.emplace(hash, id);
  return id;
}

std::uint32_t MetadataWriter::add_tensor(const Tensor& tensor) {
  dims_.insert(dims_.end(), tensor.shape().begin(), tensor.shape().end());
  tensors_.push_back(fbs::Tensor{string(dtype_name(tensor.dtype())), static_cast<std::uint32_t>(tensor.shape().size()),
                                 segment_for(tensor.bytes())});
  return 1;
}

// Appends the value; the result is the number of entries it took.
std::uint32_t MetadataWriter::add_attribute(const Attribute& attribute) {
  struct Visitor {
    MetadataWriter& w;
    std::uint32_t operator()(bool v) { return operator()(static_cast<std::int64_t>(v)); }
    std::uint32_t operator()(std::int64_t v) { return w.integers_.push_back(v), 1; }
    std::uint32_t operator()(double v) { return w.reals_.push_back(v), 1; }
    std::uint32_t operator()(const std::string& v) { return w.text_.push_back(w.string(v)), 1; }
    std::uint32_t operator()(DType v) { return w.text_.push_back(w.string(dtype_name(v))), 1; }
    std::uint32_t operator()(const std::vector<std::int64_t>& v) {
      w.integers_.insert(w.integers_.end(), v.begin(), v.end());
      return static_cast<std::uint32_t>(v.size());
    }
    std::uint32_t operator()(const std::vector<double>& v) {
      w.reals_.insert(w.reals_.end(), v.begin(), v.end());
      return static_cast<std::uint32_t>(v.size());
    }
    std::uint32_t operator()(const std::vector<std::string>& v) { return w.add_strings(v); }
    std::uint32_t operator()(const std::vector<Dim>& v) {
      for (const Dim& d : v) w.text_.push_back(w.string(d.to_string()));
      return static_cast<std::uint32_t>(v.size());
    }
    std::uint32_t operator()(const Tensor& v) { return w.add_tensor(v); }
  };
  return std::visit(Visitor{*this}, attribute);
}

void MetadataWriter::add_node(const Node& node) {
  for (const Value* v : node.inputs()) inputs_.push_back(v == nullptr ? 0 : value_ids_.at(v) + 1);
  for (const auto& [name, value] : node.attributes()) {
    const std::uint32_t count = add_attribute(value);
    attributes_.push_back(fbs::Attribute{string(name), static_cast<std::uint32_t>(kind_of(value)), count});
  }
  add_strings(node.origins);
  // Braces: the order in which strings get their numbers must not depend on the compiler.
  nodes_.push_back(fbs::Node{string(node.def().name), static_cast<std::uint32_t>(node.inputs().size()),
                             static_cast<std::uint32_t>(node.attributes().size()),
                             static_cast<std::uint32_t>(node.origins.size()), string(node.scope.path),
                             string(node.scope.type), string(node.requested), string(node.reason)});
  for (std::size_t i = 0; i < node.output_count(); ++i) {
    value_ids_.emplace(node.output(i), static_cast<std::uint32_t>(value_ids_.size()));
  }
}

Status MetadataWriter::collect() {
  if (graph_.node_count() > (std::size_t{1} << 28)) return error(Code::resource_limit, "the graph has too many nodes");
  for (const Node* n : graph_.nodes()) add_node(*n);
  return {};
}

std::vector<fbs::Pair> MetadataWriter::pairs(const std::map<std::string, std::string>& map) {
  std::vector<fbs::Pair> out;
  for (const auto& [key, value] : map) {
    const std::uint32_t k = string(key);
    out.emplace_back(k, string(value));
  }
  return out;
}

std::span<const std::byte> MetadataWriter::finish(const AoqProvenance& provenance) {
  const std::uint32_t name = string(graph_.name);
  const std::uint32_t stage = string(stage_name(graph_.stage));
  std::vector<fbs::Symbol> symbols;
  for (const auto& [symbol, range] : graph_.symbols) symbols.emplace_back(string(symbol), range.min, range.max);
  const std::vector<fbs::Pair> metadata = pairs(graph_.metadata);
  const std::vector<fbs::Pair> entries = pairs(provenance.entries);
  std::vector<fbs::Segment> segments;
  for (const AoqSegment& s : segments_) segments.emplace_back(s.size, s.hash);
  auto& b = builder_;
  const auto strings_at = b.CreateVectorOfStrings(strings_);
  const auto symbols_at = b.CreateVectorOfStructs(symbols);
  const auto metadata_at = b.CreateVectorOfStructs(metadata);
  const auto entries_at = b.CreateVectorOfStructs(entries);
  const auto json_at = b.CreateString(provenance.json);
  const auto nodes_at = b.CreateVectorOfStructs(nodes_);
  const auto inputs_at = b.CreateVector(inputs_);
  const auto attributes_at = b.CreateVectorOfStructs(attributes_);
  const auto integers_at = b.CreateVector(integers_);
  const auto reals_at = b.CreateVector(reals_);
  const auto text_at = b.CreateVector(text_);
  const auto tensors_at = b.CreateVectorOfStructs(tensors_);
  const auto dims_at = b.CreateVector(dims_);
  const auto segments_at = b.CreateVectorOfStructs(segments);
  b.Finish(fbs::CreateModel(b, strings_at, name, stage, symbols_at, metadata_at, entries_at, json_at, nodes_at,
                            inputs_at, attributes_at, integers_at, reals_at, text_at, tensors_at, dims_at,
                            segments_at));
  return std::as_bytes(std::span(b.GetBufferPointer(), b.GetSize()));
}

Status write_zeros(const ByteSink& sink, std::uint64_t count) {
  constexpr std::array<std::byte, aoq_layout::kAlignment> kZeros{};
  AOQ_CHECK(count <= kZeros.size());
  return count == 0 ? Status() : sink(std::span(kZeros).first(count));
}

Status write_unguarded(const Graph& graph, const AoqProvenance& provenance, const ByteSink& sink) {
  MetadataWriter writer(graph);
  AOQ_TRY(writer.collect());
  const std::span<const std::byte> metadata = writer.finish(provenance);
  const std::optional<std::uint64_t> size = aoq_layout::tile(metadata.size(), writer.segments());
  if (!size) return error(Code::resource_limit, "the file would be larger than 2^64 bytes");
  Header header;
  header.metadata_size = metadata.size();
  header.metadata_hash = xxh64(metadata);
  header.file_size = *size;
  header.header_hash = hash_of(header);
  AOQ_TRY(sink(std::as_bytes(std::span(&header, 1))));
  AOQ_TRY(sink(metadata));
  std::uint64_t at = sizeof(Header) + metadata.size();
  for (std::size_t i = 0; i < writer.segments().size(); ++i) {
    AOQ_TRY(write_zeros(sink, writer.segments()[i].offset - at));
    const std::span<const std::byte> bytes = writer.segment_bytes(i);
    if (!bytes.empty()) AOQ_TRY(sink(bytes));
    at = writer.segments()[i].offset + bytes.size();
  }
  return {};
}

}  // namespace

Status write_aoq(const Graph& graph, const AoqProvenance& provenance, const ByteSink& sink) {
  return guarded([&] { return write_unguarded(graph, provenance, sink); });
}

Result<std::vector<std::byte>> write_aoq(const Graph& graph, const AoqProvenance& provenance) {
  return guarded([&]() -> Result<std::vector<std::byte>> {
    std::vector<std::byte> file;
    AOQ_TRY(write_unguarded(graph, provenance, [&](std::span<const std::byte> bytes) {
      file.insert(file.end(), bytes.begin(), bytes.end());
      return Status();
    }));
    return file;
  });
}

}  // namespace aoq
