// Validate, then allocate, then touch: header, tiling, the FlatBuffer's own checks, then one pass over the flat vectors
// with a cursor each. Every record takes the next entries, so nothing is read twice and work is linear in the file.
#include <cstring>
#include <unordered_set>

#include "formats/aoq/aoq.h"
#include "formats/aoq/aoq_generated.h"
#include "formats/aoq/layout.h"
#include "ir/error_id.h"
#include "ir/guard.h"
#include "ir/verifier.h"

namespace aoq {
namespace {

using aoq_layout::Header;

// What every message about a broken file starts from.
template <typename... Args>
Status broken(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorId::aoq_damaged, "the file is damaged or not from aoq: {}",
               fmt::format(format, std::forward<Args>(args)...));
}

Status check_limit(std::string_view what, std::uint64_t found, std::uint64_t limit) {
  if (found <= limit) return {};
  return error(ErrorId::limit, "{} {}, the limit is {}", found, what, limit);
}

Result<Header> read_header(std::span<const std::byte> file, const Limits& limits) {
  Header header;
  if (file.size() < sizeof(Header)) return broken("it has {} bytes, a header has {}", file.size(), sizeof(Header));
  std::memcpy(&header, file.data(), sizeof(Header));
  if (header.magic != aoq_layout::kMagic)
    return error(ErrorId::aoq_magic, "this is no .aoq file: it does not start with the magic bytes");
  if (header.version > kAoqVersion) {
    return error(
        ErrorId::aoq_version,
        "the file has format version {}, this library reads up to {}: update aoq, or compile the model again with "
        "this version",
        header.version, kAoqVersion);
  }
  if (header.version == 0) return broken("format version 0");
  if (header.header_hash != hash_of(header)) return broken("the header does not match its hash");
  if ((header.features & ~aoq_layout::kKnownFeatures) != 0) {
    return error(ErrorId::aoq_version, "the file needs features {:#x} that this library does not know: update aoq",
                 header.features & ~aoq_layout::kKnownFeatures);
  }
  if (header.header_size != sizeof(Header) || header.metadata_offset != sizeof(Header))
    return broken("the header's size is wrong");
  if (header.file_size != file.size())
    return broken("it has {} bytes, its header says {}", file.size(), header.file_size);
  AOQ_TRY(check_limit("bytes of metadata", header.metadata_size, limits.metadata_bytes));
  if (!checked::fits(header.metadata_offset, header.metadata_size, file.size()))
    return broken("the metadata ends behind the file");
  return header;
}

// A file in memory whose metadata was copied, so that it cannot change any more, and verified.
class OpenFile {
 public:
  static Result<OpenFile> open(std::span<const std::byte> file, const Limits& limits) {
    AOQ_ASSIGN(Header header, read_header(file, limits));
    OpenFile f;
    f.file_ = file;
    f.header_ = header;
    const std::span<const std::byte> metadata = file.subspan(sizeof(Header), header.metadata_size);
    AOQ_ASSIGN(f.metadata_, Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(metadata.size())}, metadata));
    if (xxh64(f.metadata_.bytes()) != header.metadata_hash) return broken("the metadata does not match its hash");
    AOQ_TRY(f.verify_metadata(limits));
    AOQ_TRY(f.tile());
    return f;
  }

  const Header& header() const { return header_; }
  const fbs::Model& model() const { return *model_; }
  const std::vector<AoqSegment>& segments() const { return segments_; }
  std::span<const std::byte> bytes(const AoqSegment& s) const { return file_.subspan(s.offset, s.size); }

  // What read_aoq leaves alone: the padding and the bytes of the segments.
  Status check_segments() const {
    std::uint64_t at = sizeof(Header) + header_.metadata_size;
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      const AoqSegment& s = segments_[i];
      for (; at < s.offset; ++at) {
        if (file_[at] != std::byte{0}) return broken("byte {} between segments is not zero", at);
      }
      if (xxh64(bytes(s)) != s.hash)
        return broken("segment {} ({} bytes at {}) does not match its hash", i, s.size, s.offset);
      at = s.offset + s.size;
    }
    return {};
  }

  bool is_aligned() const { return reinterpret_cast<std::uintptr_t>(file_.data()) % aoq_layout::kAlignment == 0; }

 private:
  OpenFile() = default;

  Status verify_metadata(const Limits& limits) {
    const std::span<const std::byte> bytes = metadata_.bytes();
    flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), 64, 1'000'000);
    if (!fbs::VerifyModelBuffer(verifier)) return broken("the metadata is no valid FlatBuffer");
    model_ = fbs::GetModel(bytes.data());
    if (!model_->strings() || !model_->nodes() || !model_->inputs() || !model_->attributes() || !model_->integers() ||
        !model_->reals() || !model_->text() || !model_->tensors() || !model_->dims() || !model_->segments() ||
        !model_->symbols() || !model_->metadata() || !model_->provenance() || !model_->provenance_json()) {
      return broken("a list of the metadata is missing");
    }
    // The FlatBuffers verifier checks where a list lies, not how its elements are aligned.
    auto is_aligned_for = [](const auto* list, std::size_t size) {
      return list->size() == 0 || reinterpret_cast<std::uintptr_t>(list->Data()) % size == 0;
    };
    if (!is_aligned_for(model_->integers(), 8) || !is_aligned_for(model_->reals(), 8) ||
        !is_aligned_for(model_->dims(), 8) || !is_aligned_for(model_->segments(), alignof(fbs::Segment)) ||
        !is_aligned_for(model_->nodes(), 4) || !is_aligned_for(model_->attributes(), 4) ||
        !is_aligned_for(model_->tensors(), 4) || !is_aligned_for(model_->symbols(), 8) ||
        !is_aligned_for(model_->metadata(), 4) || !is_aligned_for(model_->provenance(), 4)) {
      return broken("a list of the metadata is not aligned");
    }
    AOQ_TRY(check_limit("nodes", model_->nodes()->size(), limits.nodes));
    AOQ_TRY(check_limit("tensors", model_->tensors()->size(), limits.tensors));
    return check_limit("segments", model_->segments()->size(), limits.segments);
  }

  Status tile() {
    for (const fbs::Segment* s : *model_->segments()) segments_.push_back({0, s->size(), s->hash()});
    const std::optional<std::uint64_t> end = aoq_layout::tile(header_.metadata_size, segments_);
    if (!end || *end != file_.size()) return broken("its {} segments do not fill it exactly", segments_.size());
    return {};
  }

  std::span<const std::byte> file_;
  Header header_;
  Tensor metadata_;
  const fbs::Model* model_ = nullptr;
  std::vector<AoqSegment> segments_;
};

// The next entries of a flat vector.
template <class Vector>
class Cursor {
 public:
  Cursor(const Vector* vector, const char* name) : vector_(vector), name_(name) {}

  // Where `count` entries start, which are taken.
  Result<std::uint32_t> take(std::uint32_t count) {
    if (!checked::fits(at_, count, vector_->size())) {
      return broken("{} {} from entry {} on, there are {}", count, name_, at_, vector_->size());
    }
    return std::exchange(at_, at_ + count);
  }
  auto operator[](std::uint32_t i) const { return vector_->Get(i); }
  Status at_end() const {
    return at_ == vector_->size() ? Status() : broken("{} of {} {} are used", at_, vector_->size(), name_);
  }

 private:
  const Vector* vector_;
  const char* name_;
  std::uint32_t at_ = 0;
};

template <class T>
using Structs = flatbuffers::Vector<const T*>;

// What the parts of a graph take in memory, with the allocator's share and what verifying needs.
constexpr std::uint64_t kNodeBytes = sizeof(Node) + 64;
constexpr std::uint64_t kValueBytes = sizeof(Value) + 128;
constexpr std::uint64_t kOperandBytes = 96;
constexpr std::uint64_t kAttributeBytes = sizeof(std::pair<std::string, Attribute>) * 3 / 2;

// Memory that the graph may still take. A file can say briefly what takes much memory: this bounds how much.
class Budget {
 public:
  Budget(std::uint64_t metadata_bytes, const Limits& limits)
      : left_(4 * metadata_bytes + limits.graph_bytes), total_(left_) {}

  Status take(std::uint64_t bytes) {
    if (bytes > left_) {
      return error(ErrorId::limit,
                   "the graph needs more than {} bytes beside its weights, the limit for a file with "
                   "this much metadata; a host may raise it (graph_bytes)",
                   total_);
    }
    left_ -= bytes;
    return {};
  }

 private:
  std::uint64_t left_;
  std::uint64_t total_;
};

class GraphReader {
 public:
  GraphReader(const OpenFile& file, std::shared_ptr<const void> owner, const Limits& limits)
      : file_(file),
        model_(file.model()),
        owner_(std::move(owner)),
        limits_(limits),
        budget_(file.header().metadata_size, limits),
        segment_used_(file.segments().size(), false) {}

  Result<Graph> read();

 private:
  Result<std::string> string(std::uint32_t id);  // any length
  Result<std::string> name(std::uint32_t id);    // at most limits.name_bytes
  Result<std::vector<std::string>> names(std::uint32_t count);
  Result<Attribute> attribute(const fbs::Attribute& a);
  Result<Attribute> text_attribute(AttributeKind kind, std::uint32_t count);
  Result<std::vector<Dim>> dims(std::uint32_t count);
  Result<Tensor> tensor();
  Result<Attributes> attributes(std::uint32_t count);
  Result<std::vector<Value*>> inputs(std::uint32_t count);
  Status add_node(const fbs::Node& n);
  Status read_header_fields();
  Status all_used() const;

  const OpenFile& file_;
  const fbs::Model& model_;
  // Owners: every constant that borrows from the file.
  std::shared_ptr<const void> owner_;
  const Limits& limits_;
  Budget budget_;
  std::vector<bool> segment_used_;
  Graph graph_;
  std::vector<Value*> values_;
  Cursor<flatbuffers::Vector<std::uint32_t>> inputs_{model_.inputs(), "inputs"};
  Cursor<Structs<fbs::Attribute>> attributes_{model_.attributes(), "attributes"};
  Cursor<flatbuffers::Vector<std::int64_t>> integers_{model_.integers(), "integers"};
  Cursor<flatbuffers::Vector<double>> reals_{model_.reals(), "reals"};
  Cursor<flatbuffers::Vector<std::uint32_t>> text_{model_.text(), "strings of attributes and origins"};
  Cursor<Structs<fbs::Tensor>> tensors_{model_.tensors(), "tensors"};
  Cursor<flatbuffers::Vector<std::int64_t>> dims_{model_.dims(), "dimensions"};
};

Result<std::string> GraphReader::string(std::uint32_t id) {
  if (id >= model_.strings()->size()) return broken("string {} of {}", id, model_.strings()->size());
  const flatbuffers::String& s = *model_.strings()->Get(id);
  AOQ_TRY(budget_.take(s.size() + 1));
  return s.str();
}

Result<std::string> GraphReader::name(std::uint32_t id) {
  AOQ_ASSIGN(std::string text, string(id));
  AOQ_TRY(check_limit("bytes in a name", text.size(), limits_.name_bytes));
  return text;
}

Result<std::vector<std::string>> GraphReader::names(std::uint32_t count) {
  AOQ_ASSIGN(std::uint32_t at, text_.take(count));
  AOQ_TRY(budget_.take(count * sizeof(std::string)));
  std::vector<std::string> out;
  out.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    AOQ_ASSIGN(std::string text, name(text_[at + i]));
    out.push_back(std::move(text));
  }
  return out;
}

Result<std::vector<Dim>> GraphReader::dims(std::uint32_t count) {
  AOQ_ASSIGN(std::vector<std::string> texts, names(count));
  AOQ_TRY(budget_.take(count * sizeof(Dim)));
  std::vector<Dim> out;
  out.reserve(count);
  for (const std::string& text : texts) {
    AOQ_ASSIGN(Dim dim, Dim::parse(text));
    out.push_back(std::move(dim));
  }
  return out;
}

Result<Tensor> GraphReader::tensor() {
  AOQ_ASSIGN(std::uint32_t at, tensors_.take(1));
  const fbs::Tensor& t = *tensors_[at];
  AOQ_ASSIGN(std::string dtype_text, name(t.dtype()));
  const std::optional<DType> dtype = dtype_from_name(dtype_text);
  if (!dtype) return broken("there is no dtype \"{}\"", dtype_text);
  const std::uint64_t max_rank = std::min<std::uint64_t>(limits_.rank, kMaxRank);
  if (t.rank() > max_rank) return error(ErrorId::limit, "a tensor of rank {}, the limit is {}", t.rank(), max_rank);
  AOQ_ASSIGN(std::uint32_t first_dim, dims_.take(t.rank()));
  std::vector<std::int64_t> shape;
  for (std::uint32_t i = 0; i < t.rank(); ++i) shape.push_back(dims_[first_dim + i]);
  if (t.segment() >= file_.segments().size()) return broken("segment {} of {}", t.segment(), file_.segments().size());
  segment_used_[t.segment()] = true;
  const AoqSegment& segment = file_.segments()[t.segment()];
  const std::optional<std::int64_t> count = checked::element_count(shape);
  const std::optional<std::uint64_t> bytes =
      count ? checked::packed_bytes(static_cast<std::uint64_t>(*count),
                                    static_cast<std::uint64_t>(dtype_info(*dtype).bits))
            : std::nullopt;
  if (!bytes || *bytes != segment.size) {
    return broken("{}{} in a segment of {} bytes", dtype_text, shape_to_string(shape), segment.size);
  }
  if (!file_.is_aligned()) return Tensor::copy_of(*dtype, std::move(shape), file_.bytes(segment));
  return Tensor::borrow(*dtype, std::move(shape), file_.bytes(segment).data(), owner_);
}

Result<Attribute> GraphReader::text_attribute(AttributeKind kind, std::uint32_t count) {
  if (kind == AttributeKind::dims) {
    AOQ_ASSIGN(std::vector<Dim> d, dims(count));
    return Attribute(std::move(d));
  }
  AOQ_ASSIGN(std::vector<std::string> texts, names(count));
  if (kind == AttributeKind::strings) return Attribute(std::move(texts));
  if (count != 1) return broken("an attribute of {} strings, expected 1", count);
  if (kind == AttributeKind::string) return Attribute(std::move(texts[0]));
  const std::optional<DType> dtype = dtype_from_name(texts[0]);
  if (!dtype) return broken("there is no dtype \"{}\"", texts[0]);
  return Attribute(*dtype);
}

Result<Attribute> GraphReader::attribute(const fbs::Attribute& a) {
  if (a.kind() > static_cast<std::uint32_t>(AttributeKind::tensor)) return broken("attribute kind {}", a.kind());
  const auto kind = static_cast<AttributeKind>(a.kind());
  switch (kind) {
    case AttributeKind::boolean:
    case AttributeKind::integer:
    case AttributeKind::integers: {
      AOQ_ASSIGN(std::uint32_t at, integers_.take(a.count()));
      AOQ_TRY(budget_.take(a.count() * sizeof(std::int64_t)));
      std::vector<std::int64_t> v;
      v.reserve(a.count());
      for (std::uint32_t i = 0; i < a.count(); ++i) v.push_back(integers_[at + i]);
      if (kind == AttributeKind::integers) return Attribute(std::move(v));
      if (v.size() != 1) return broken("a number attribute with {} values", v.size());
      if (kind == AttributeKind::integer) return Attribute(v[0]);
      if (v[0] != 0 && v[0] != 1) return broken("a boolean attribute of value {}", v[0]);
      return Attribute(v[0] == 1);
    }
    case AttributeKind::real:
    case AttributeKind::reals: {
      AOQ_ASSIGN(std::uint32_t at, reals_.take(a.count()));
      AOQ_TRY(budget_.take(a.count() * sizeof(double)));
      std::vector<double> v;
      v.reserve(a.count());
      for (std::uint32_t i = 0; i < a.count(); ++i) v.push_back(reals_[at + i]);
      if (kind == AttributeKind::reals) return Attribute(std::move(v));
      if (v.size() != 1) return broken("a number attribute with {} values", v.size());
      return Attribute(v[0]);
    }
    case AttributeKind::tensor: {
      if (a.count() != 1) return broken("a tensor attribute with {} values", a.count());
      AOQ_ASSIGN(Tensor t, tensor());
      return Attribute(std::move(t));
    }
    default:
      return text_attribute(kind, a.count());
  }
}

Result<Attributes> GraphReader::attributes(std::uint32_t count) {
  Attributes out;
  AOQ_ASSIGN(std::uint32_t at, attributes_.take(count));
  AOQ_TRY(budget_.take(count * kAttributeBytes));
  for (std::uint32_t i = 0; i < count; ++i) {
    const fbs::Attribute& a = *attributes_[at + i];
    AOQ_ASSIGN(std::string key, name(a.name()));
    if (out.has(key)) return broken("attribute {} is given twice", key);
    Result<Attribute> value = attribute(a);
    if (!value.ok()) return std::move(value).status().with_context("attribute " + key);
    out.set(key, std::move(value).value());
  }
  return out;
}

Result<std::vector<Value*>> GraphReader::inputs(std::uint32_t count) {
  AOQ_ASSIGN(std::uint32_t at, inputs_.take(count));
  AOQ_TRY(budget_.take(count * kOperandBytes));
  std::vector<Value*> out;
  out.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t id = inputs_[at + i];
    if (id > values_.size()) return broken("value {} is used before it is made", id - 1);
    out.push_back(id == 0 ? nullptr : values_[id - 1]);
  }
  return out;
}

Status GraphReader::add_node(const fbs::Node& n) {
  AOQ_ASSIGN(std::string op_text, name(n.op()));
  const std::optional<Op> op = op_from_name(op_text);
  if (!op) {
    return error(ErrorId::aoq_unknown_op, "there is no op \"{}\" (did you mean {}?): the file may be from a newer aoq",
                 op_text.substr(0, 64), nearest_op_name(op_text));
  }
  AOQ_ASSIGN(std::vector<Value*> operands, inputs(n.inputs()));
  AOQ_ASSIGN(Attributes attrs, attributes(n.attributes()));
  AOQ_ASSIGN(std::vector<std::string> origins, names(n.origins()));
  AOQ_TRY(budget_.take(kNodeBytes));
  AOQ_ASSIGN(Node * node, graph_.create(*op, std::move(operands), std::move(attrs)));
  node->origins = std::move(origins);
  AOQ_ASSIGN(node->scope.path, name(n.scope_path()));
  AOQ_ASSIGN(node->scope.type, name(n.scope_type()));
  AOQ_ASSIGN(node->requested, name(n.requested()));
  AOQ_ASSIGN(node->reason, string(n.reason()));
  for (std::size_t i = 0; i < node->output_count(); ++i) {
    AOQ_TRY(budget_.take(kValueBytes + node->output(i)->type().shape.size() * sizeof(Dim)));
    values_.push_back(node->output(i));
  }
  // Those that the file left out and the op table filled in.
  AOQ_TRY(budget_.take((node->attributes().size() - std::min<std::size_t>(n.attributes(), node->attributes().size())) *
                       kAttributeBytes));
  return check_limit("values", values_.size(), limits_.tensors);
}

Status GraphReader::read_header_fields() {
  AOQ_ASSIGN(graph_.name, name(model_.name()));
  AOQ_ASSIGN(std::string stage_text, name(model_.stage()));
  const std::optional<Stage> stage = stage_from_name(stage_text);
  if (!stage) return broken("there is no stage \"{}\"", stage_text);
  graph_.stage = *stage;
  AOQ_TRY(budget_.take((std::uint64_t{model_.symbols()->size()} + model_.metadata()->size()) * 160));
  for (const fbs::Symbol* s : *model_.symbols()) {
    AOQ_ASSIGN(std::string symbol, name(s->name()));
    if (s->min() > s->max()) return broken("symbol {} ranges from {} to {}", symbol, s->min(), s->max());
    if (!graph_.symbols.emplace(symbol, SymbolRange{s->min(), s->max()}).second)
      return broken("symbol {} is given twice", symbol);
  }
  for (const fbs::Pair* p : *model_.metadata()) {
    AOQ_ASSIGN(std::string key, name(p->key()));
    AOQ_ASSIGN(std::string value, string(p->value()));
    if (!graph_.metadata.emplace(key, std::move(value)).second) return broken("metadata {} is given twice", key);
  }
  return {};
}

Status GraphReader::all_used() const {
  for (std::size_t i = 0; i < segment_used_.size(); ++i) {
    if (!segment_used_[i]) return broken("segment {} belongs to no tensor", i);
  }
  AOQ_TRY(inputs_.at_end());
  AOQ_TRY(attributes_.at_end());
  AOQ_TRY(integers_.at_end());
  AOQ_TRY(reals_.at_end());
  AOQ_TRY(text_.at_end());
  AOQ_TRY(tensors_.at_end());
  return dims_.at_end();
}

Result<Graph> GraphReader::read() {
  AOQ_TRY(read_header_fields());
  std::uint32_t index = 0;
  for (const fbs::Node* n : *model_.nodes()) {
    Status added = add_node(*n);
    if (!added.ok()) return std::move(added).with_context(fmt::format("node {}", index));
    ++index;
  }
  AOQ_TRY(all_used());
  AOQ_TRY(verify(graph_));
  return std::move(graph_);
}

Result<AoqProvenance> read_provenance(const fbs::Model& model, Budget budget) {
  AoqProvenance out;
  AOQ_TRY(budget.take(model.provenance_json()->size()));
  out.json = model.provenance_json()->str();
  for (const fbs::Pair* p : *model.provenance()) {
    const std::uint32_t count = model.strings()->size();
    if (p->key() >= count || p->value() >= count)
      return broken("provenance uses string {} of {}", std::max(p->key(), p->value()), count);
    AOQ_TRY(budget.take(model.strings()->Get(p->key())->size() + model.strings()->Get(p->value())->size() + 128));
    const std::string key = model.strings()->Get(p->key())->str();
    if (!out.entries.emplace(key, model.strings()->Get(p->value())->str()).second) {
      return broken("provenance {} is given twice", key);
    }
  }
  return out;
}

std::uint64_t head_size(std::span<const std::byte> start) {
  Header header;
  if (start.size() < sizeof header) return start.size();
  std::memcpy(&header, start.data(), sizeof header);
  if (header.magic != aoq_layout::kMagic) return sizeof header;
  // A wrong size is refused later.
  return checked::add(sizeof header, std::min(header.metadata_size, Limits().metadata_bytes)).value_or(sizeof header);
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> open_aoq(const std::string& path, FileAccess access) {
  return MappedFile::open(path, access, head_size);
}

Result<Graph> read_aoq(std::span<const std::byte> file, std::shared_ptr<const void> owner, const Limits& limits) {
  return guarded([&]() -> Result<Graph> {
    AOQ_ASSIGN(OpenFile open, OpenFile::open(file, limits));
    return GraphReader(open, std::move(owner), limits).read();
  });
}

Result<AoqSummary> read_aoq_summary(std::span<const std::byte> file, const Limits& limits) {
  return guarded([&]() -> Result<AoqSummary> {
    AOQ_ASSIGN(OpenFile open, OpenFile::open(file, limits));
    AoqSummary summary{open.header().version, open.header().features, open.header().metadata_size, open.segments(), {}};
    AOQ_ASSIGN(summary.provenance, read_provenance(open.model(), Budget(open.header().metadata_size, limits)));
    return summary;
  });
}

static Status verify_unguarded(std::span<const std::byte> file, const Limits& limits) {
  AOQ_ASSIGN(OpenFile open, OpenFile::open(file, limits));
  AOQ_TRY(read_provenance(open.model(), Budget(open.header().metadata_size, limits)).status());
  AOQ_TRY(GraphReader(open, nullptr, limits).read().status());
  return open.check_segments();
}

Status verify_aoq(std::span<const std::byte> file, const Limits& limits) {
  return guarded([&] { return verify_unguarded(file, limits); });
}

}  // namespace aoq
