#include "formats/safetensors/safetensors.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>

#include "formats/json/json.h"
#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/guard.h"

namespace aoq {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t kMaxName = 1024;
constexpr std::size_t kAlignment = 64;
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::string_view kTypePrefix = "aoq.tensor.";

struct TypeName {
  std::string_view name;
  DType dtype;
};

constexpr TypeName kTypes[] = {
    {"BOOL", DType::boolean},
    {"U8", DType::u8},
    {"I8", DType::i8},
    {"U16", DType::u16},
    {"I16", DType::i16},
    {"U32", DType::u32},
    {"I32", DType::i32},
    {"U64", DType::u64},
    {"I64", DType::i64},
    {"F16", DType::f16},
    {"BF16", DType::bf16},
    {"F32", DType::f32},
    {"F64", DType::f64},
    {"F8_E4M3", DType::f8_e4m3fn},
    {"F8_E5M2", DType::f8_e5m2},
    {"F8_E8M0", DType::f8_e8m0},
    {"F8_E4M3FNUZ", DType::f8_e4m3fnuz},
    {"F8_E5M2FNUZ", DType::f8_e5m2fnuz},
    {"F4", DType::f4_e2m1},
    {"F6_E2M3", DType::f6_e2m3},
    {"F6_E3M2", DType::f6_e3m2},
};

template <typename... Args>
Status bad(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::invalid_data, "safetensors: {}", fmt::format(format, std::forward<Args>(args)...));
}

struct Entry {
  std::string name;
  DType dtype = DType::u8;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

std::optional<std::uint64_t> as_unsigned(const Json& v) {
  if (!v.is_number_integer()) return std::nullopt;
  if (!v.is_number_unsigned() && v.get<std::int64_t>() < 0) return std::nullopt;
  return v.get<std::uint64_t>();
}

Status read_shape(const Json& json, const Limits& limits, Entry& e) {
  if (!json.is_array()) return bad("\"{}\": shape is no array", e.name);
  if (json.size() > limits.rank) {
    return error(ErrorId::limit, "safetensors: \"{}\": {} dimensions, limit {}", e.name, json.size(), limits.rank);
  }
  for (const Json& d : json) {
    const std::optional<std::uint64_t> n = as_unsigned(d);
    if (!n || *n > std::uint64_t{1} << 62) return bad("\"{}\": a dimension is no number of 0 to 2^62", e.name);
    e.shape.push_back(static_cast<std::int64_t>(*n));
  }
  return {};
}

// The bytes the shape asks for; empty when too many.
std::optional<std::uint64_t> expected_bytes(const Entry& e) {
  const std::optional<std::int64_t> count = checked::element_count(e.shape);
  if (!count) return std::nullopt;
  return checked::packed_bytes(static_cast<std::uint64_t>(*count),
                               static_cast<std::uint64_t>(dtype_info(e.dtype).bits));
}

Status check_bytes(const Entry& e) {
  const std::optional<std::uint64_t> expected = expected_bytes(e);
  if (e.begin <= e.end && expected && *expected == e.end - e.begin) return {};
  return bad("\"{}\": {} of shape {} does not take the bytes [{}, {})", e.name, dtype_name(e.dtype),
             shape_to_string(e.shape), e.begin, e.end);
}

Result<Entry> read_entry(const std::string& name, const Json& json, const Limits& limits) {
  Entry e;
  e.name = name;
  if (name.size() > limits.name_bytes) {
    return error(ErrorId::limit, "safetensors: a name of {} bytes, limit {}", name.size(), limits.name_bytes);
  }
  const Json* dtype = json_find(json, "dtype");
  const Json* shape = json_find(json, "shape");
  const Json* offsets = json_find(json, "data_offsets");
  if (dtype == nullptr || shape == nullptr || offsets == nullptr || json.size() != 3 || !dtype->is_string()) {
    return bad("\"{}\" has not exactly dtype, shape and data_offsets", name);
  }
  const TypeName* found = nullptr;
  for (const TypeName& t : kTypes) {
    if (t.name == dtype->get_ref<const std::string&>()) found = &t;
  }
  if (found == nullptr) {
    return error(Code::unsupported, "safetensors: \"{}\" has type {}", name, dtype->get_ref<const std::string&>());
  }
  e.dtype = found->dtype;
  AOQ_TRY(read_shape(*shape, limits, e));
  if (!offsets->is_array() || offsets->size() != 2) return bad("\"{}\": data_offsets are no pair", name);
  const std::optional<std::uint64_t> begin = as_unsigned((*offsets)[0]);
  const std::optional<std::uint64_t> end = as_unsigned((*offsets)[1]);
  if (!begin || !end) return bad("\"{}\": data_offsets are no pair of numbers", name);
  e.begin = *begin;
  e.end = *end;
  AOQ_TRY(check_bytes(e));
  return e;
}

// "u4[3, 5]" back to type and shape.
Status apply_own_type(std::string_view text, const Limits& limits, Entry& e) {
  const Status malformed = bad("\"{}\": \"{}\" is no type and shape", e.name, text);
  const std::size_t bracket = text.find('[');
  if (bracket == text.npos || !text.ends_with(']') || e.dtype != DType::u8) return malformed;
  const std::optional<DType> dtype = dtype_from_name(text.substr(0, bracket));
  if (!dtype) return malformed;
  e.dtype = *dtype;
  e.shape.clear();
  text = text.substr(bracket + 1, text.size() - bracket - 2);
  while (!text.empty()) {
    std::int64_t dimension = 0;
    const std::from_chars_result r = std::from_chars(text.data(), text.data() + text.size(), dimension);
    if (r.ec != std::errc() || dimension < 0 || e.shape.size() >= limits.rank) return malformed;
    text.remove_prefix(static_cast<std::size_t>(r.ptr - text.data()));
    e.shape.push_back(dimension);
    if (text.empty()) break;
    if (!text.starts_with(", ")) return malformed;
    text.remove_prefix(2);
  }
  return check_bytes(e);
}

Status read_metadata(const Json& json, SafetensorsFile& file) {
  if (!json.is_object()) return bad("{} is no object", kMetadata);
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) return bad("{}: \"{}\" is no string", kMetadata, key);
    file.metadata.emplace(key, value.get_ref<const std::string&>());
  }
  return {};
}

// Sorts by offset and sees that the tensors tile the data.
Status check_tiling(std::vector<Entry>& entries, std::uint64_t size) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  std::uint64_t at = 0;
  for (const Entry& e : entries) {
    if (e.begin != at) return bad("\"{}\" starts at {}, expected {}: a gap or an overlap", e.name, e.begin, at);
    at = e.end;
  }
  if (at != size) return bad("tensors end at {} of {} bytes", at, size);
  return {};
}

Result<Tensor> make_tensor(Entry& e, Bytes data, const std::shared_ptr<const void>& owner) {
  const Bytes bytes = data.subspan(e.begin, e.end - e.begin);
  const std::uintptr_t element = std::max(1, dtype_info(e.dtype).bits / 8);
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % element == 0;
  if (owner && is_aligned) return Tensor::borrow(e.dtype, std::move(e.shape), bytes.data(), owner);
  return Tensor::copy_of(e.dtype, std::move(e.shape), bytes);
}

Result<Json> read_header(Bytes bytes, const Limits& limits, std::uint64_t& header_size) {
  if (bytes.size() < 8) return bad("{} bytes are too few", bytes.size());
  std::memcpy(&header_size, bytes.data(), 8);
  if (header_size > limits.metadata_bytes) {
    return error(ErrorId::limit, "safetensors: header of {} bytes, limit {}", header_size, limits.metadata_bytes);
  }
  if (!checked::fits(8, header_size, bytes.size()))
    return bad("header of {} bytes in a file of {}", header_size, bytes.size());
  Result<Json> header = parse_json(bytes.subspan(8, header_size), {.bytes = header_size, .depth = limits.depth});
  if (!header.ok()) return std::move(header).status().with_context("safetensors header");
  if (!header->is_object()) return bad("header is no object");
  return header;
}

std::string_view type_name(DType dtype) {
  for (const TypeName& t : kTypes) {
    if (t.dtype == dtype) return t.name;
  }
  return {};
}

// The format allows packed types only where a tensor fills whole bytes.
bool needs_own_type(const Tensor& t) {
  const int bits = dtype_info(t.dtype()).bits;
  return type_name(t.dtype()).empty() || t.element_count() * (bits % 8) % 8 != 0;
}

Json header_of(std::span<const NamedTensor* const> tensors, std::map<std::string, std::string> metadata) {
  Json header = Json::object();
  std::int64_t at = 0;
  for (const NamedTensor* t : tensors) {
    const Tensor& tensor = t->tensor;
    Json entry;
    if (needs_own_type(tensor)) {
      entry["dtype"] = "U8";
      entry["shape"] = {tensor.byte_size()};
      metadata[std::string(kTypePrefix) + t->name] =
          std::string(dtype_name(tensor.dtype())) + shape_to_string(tensor.shape());
    } else {
      entry["dtype"] = type_name(tensor.dtype());
      entry["shape"] = tensor.shape();
    }
    entry["data_offsets"] = {at, at + tensor.byte_size()};
    at += tensor.byte_size();
    header[t->name] = std::move(entry);
  }
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  return header;
}

}  // namespace

const Tensor* SafetensorsFile::find(std::string_view name) const {
  for (const NamedTensor& t : tensors) {
    if (t.name == name) return &t.tensor;
  }
  return nullptr;
}

static Result<SafetensorsFile> read_unguarded(Bytes bytes, std::shared_ptr<const void> owner, const Limits& limits) {
  std::uint64_t header_size = 0;
  AOQ_ASSIGN(const Json header, read_header(bytes, limits, header_size));
  if (header.size() > limits.tensors) {
    return error(ErrorId::limit, "safetensors: {} tensors, limit {}", header.size(), limits.tensors);
  }
  SafetensorsFile file;
  if (const Json* metadata = json_find(header, kMetadata)) AOQ_TRY(read_metadata(*metadata, file));
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name == kMetadata) continue;
    AOQ_ASSIGN(Entry entry, read_entry(name, json, limits));
    const auto own = file.metadata.find(std::string(kTypePrefix) + name);
    if (own != file.metadata.end()) {
      AOQ_TRY(apply_own_type(own->second, limits, entry));
      file.metadata.erase(own);
    }
    entries.push_back(std::move(entry));
  }
  const Bytes data = bytes.subspan(8 + header_size);
  AOQ_TRY(check_tiling(entries, data.size()));
  for (Entry& e : entries) {
    AOQ_ASSIGN(Tensor tensor, make_tensor(e, data, owner));
    file.tensors.push_back({std::move(e.name), std::move(tensor)});
  }
  return file;
}

Result<SafetensorsFile> read_safetensors(Bytes bytes, std::shared_ptr<const void> owner, const Limits& limits) {
  return guarded([&] { return read_unguarded(bytes, std::move(owner), limits); });
}

Status write_safetensors(const SafetensorsFile& file, const std::function<Status(Bytes)>& sink) {
  std::vector<const NamedTensor*> tensors;
  for (const NamedTensor& t : file.tensors) tensors.push_back(&t);
  std::sort(tensors.begin(), tensors.end(), [](const NamedTensor* a, const NamedTensor* b) {
    const int bits_a = dtype_info(a->tensor.dtype()).bits, bits_b = dtype_info(b->tensor.dtype()).bits;
    return bits_a != bits_b ? bits_a > bits_b : a->name < b->name;
  });
  std::set<std::string_view> names;
  for (const NamedTensor* t : tensors) {
    if (!names.insert(t->name).second || t->name == kMetadata || t->name.size() > kMaxName) {
      return error(Code::invalid_argument, "safetensors: \"{}\" cannot name a tensor here", t->name);
    }
  }
  std::string text = dump_json(header_of(tensors, file.metadata));
  text.append((kAlignment - (8 + text.size()) % kAlignment) % kAlignment, ' ');
  const std::uint64_t size = text.size();
  AOQ_TRY(sink(std::as_bytes(std::span(&size, 1))));
  AOQ_TRY(sink(std::as_bytes(std::span(text))));
  for (const NamedTensor* t : tensors) AOQ_TRY(sink(t->tensor.bytes()));
  return {};
}

}  // namespace aoq
