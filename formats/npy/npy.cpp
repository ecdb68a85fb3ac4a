#include "formats/npy/npy.h"

#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/guard.h"

namespace aoq {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint64_t kMaxHeader = 65536;
constexpr std::size_t kAlignment = 64;

struct TypeCode {
  std::string_view code;
  DType dtype;
};

constexpr TypeCode kTypes[] = {
    {"b1", DType::boolean}, {"u1", DType::u8},  {"u2", DType::u16}, {"u4", DType::u32},
    {"u8", DType::u64},     {"i1", DType::i8},  {"i2", DType::i16}, {"i4", DType::i32},
    {"i8", DType::i64},     {"f2", DType::f16}, {"f4", DType::f32}, {"f8", DType::f64},
};

template <typename... Args>
Status bad(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::invalid_data, "npy: {}", fmt::format(format, std::forward<Args>(args)...));
}

struct Header {
  std::string descr;
  bool is_fortran = false;
  std::vector<std::int64_t> shape;
};

// The header is a Python dict literal of three known keys; this reads that and no more of Python.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::uint64_t max_rank) : text_(text), max_rank_(max_rank) {}

  Result<Header> parse() {
    bool has_descr = false, has_order = false, has_shape = false;
    if (!take('{')) return bad("header is no dictionary");
    while (!take('}')) {
      AOQ_ASSIGN(const std::string key, string());
      if (!take(':')) return bad("no value for key '{}'", key);
      bool* seen = key == "descr"           ? &has_descr
                   : key == "fortran_order" ? &has_order
                   : key == "shape"         ? &has_shape
                                            : nullptr;
      if (seen == nullptr) return bad("unknown key '{}'", key);
      if (*seen) return bad("key '{}' appears twice", key);
      *seen = true;
      if (seen == &has_descr) AOQ_TRY(descr());
      if (seen == &has_order) AOQ_TRY(order());
      if (seen == &has_shape) AOQ_TRY(shape());
      if (!take(',') && peek() != '}') return bad("header is no dictionary");
    }
    if (peek() != '\0' || !text_.empty()) return bad("bytes after the header's dictionary");
    if (!has_descr || !has_order || !has_shape) return bad("header lacks descr, fortran_order or shape");
    return std::move(header_);
  }

 private:
  // The next character that is no blank; NUL at the end.
  char peek() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n' || text_[0] == '\t')) text_.remove_prefix(1);
    return text_.empty() ? '\0' : text_[0];
  }

  bool take(char c) {
    if (text_.empty() || peek() != c || text_.empty()) return false;
    text_.remove_prefix(1);
    return true;
  }

  bool take_word(std::string_view word) {
    peek();
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }

  Result<std::string> string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return bad("a string was expected in the header");
    const std::size_t end = text_.find(quote, 1);
    if (end == text_.npos) return bad("a string in the header has no end");
    std::string value(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return value;
  }

  Status descr() {
    if (peek() == '[') return error(Code::unsupported, "npy: structured arrays");
    AOQ_ASSIGN(header_.descr, string());
    return {};
  }

  Status order() {
    if (take_word("True")) {
      header_.is_fortran = true;
    } else if (!take_word("False")) {
      return bad("fortran_order is neither True nor False");
    }
    return {};
  }

  Status shape() {
    if (!take('(')) return bad("shape is no tuple");
    while (!take(')')) {
      peek();
      std::int64_t dimension = 0;
      const std::from_chars_result r = std::from_chars(text_.data(), text_.data() + text_.size(), dimension);
      if (r.ec != std::errc() || dimension < 0) return bad("a dimension is no number of 0 to 2^63-1");
      text_.remove_prefix(static_cast<std::size_t>(r.ptr - text_.data()));
      if (text_.starts_with('L')) text_.remove_prefix(1);  // Python 2 wrote its long integers so
      if (header_.shape.size() >= max_rank_) return error(ErrorId::limit, "npy: more than {} dimensions", max_rank_);
      header_.shape.push_back(dimension);
      if (!take(',') && peek() != ')') return bad("shape is no tuple of numbers");
    }
    return {};
  }

  std::string_view text_;
  std::uint64_t max_rank_;
  Header header_;
};

Result<DType> dtype_of(std::string_view descr) {
  if (descr.size() < 2) return bad("descr '{}' names no type", descr);
  const char order = descr[0];
  const std::string_view code = descr.substr(1);
  if (order == '>' && code != "b1" && code != "u1" && code != "i1") {
    return error(Code::unsupported, "npy: big-endian type '{}'", descr);
  }
  if (order != '<' && order != '|' && order != '=' && order != '>') {
    return error(Code::unsupported, "npy: type '{}'", descr);
  }
  for (const TypeCode& t : kTypes) {
    if (t.code == code) return t.dtype;
  }
  return error(Code::unsupported, "npy: type '{}'", descr);
}

struct Layout {
  Header header;
  DType dtype = DType::f32;
  Bytes elements;
};

Result<Layout> parse_layout(Bytes bytes, const Limits& limits) {
  constexpr std::string_view magic = "\x93NUMPY";
  if (bytes.size() < 10 || std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) {
    return bad("no numpy array: it does not start with \\x93NUMPY");
  }
  const int major = std::to_integer<int>(bytes[6]);
  const int minor = std::to_integer<int>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) return error(Code::unsupported, "npy: version {}.{}", major, minor);
  const std::uint64_t prefix = major == 1 ? 10 : 12;
  if (bytes.size() < prefix) return bad("header ends early");
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, prefix - 8);
  if (length > kMaxHeader) return error(Code::resource_limit, "npy: header of {} bytes, limit {}", length, kMaxHeader);
  if (!checked::fits(prefix, length, bytes.size())) return bad("header of {} bytes ends early", length);
  const char* text = reinterpret_cast<const char*>(bytes.data()) + prefix;
  Layout layout;
  AOQ_ASSIGN(layout.header, HeaderParser(std::string_view(text, length), limits.rank).parse());
  AOQ_ASSIGN(layout.dtype, dtype_of(layout.header.descr));
  layout.elements = bytes.subspan(prefix + length);
  return layout;
}

// The first index of `in` varies fastest; in the result the last one does.
void to_c_order(Bytes in, std::span<const std::int64_t> shape, std::size_t element_size, std::span<std::byte> out) {
  std::vector<std::int64_t> index(shape.size());
  const std::size_t count = out.size() / element_size;
  std::vector<std::int64_t> stride(shape.size());
  std::int64_t step = 1;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    stride[d] = step;
    step *= shape[d];
  }
  std::int64_t from = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(out.data() + i * element_size, in.data() + static_cast<std::size_t>(from) * element_size, element_size);
    for (std::size_t d = shape.size(); d-- > 0;) {
      from += stride[d];
      if (++index[d] < shape[d]) break;
      from -= stride[d] * shape[d];
      index[d] = 0;
    }
  }
}

Result<Tensor> read_array(Bytes bytes, std::shared_ptr<const void> owner, const Limits& limits) {
  AOQ_ASSIGN(Layout layout, parse_layout(bytes, limits));
  const std::uint64_t element_size = static_cast<std::uint64_t>(dtype_info(layout.dtype).bits) / 8;
  const std::optional<std::int64_t> count = checked::element_count(layout.header.shape);
  const std::optional<std::uint64_t> size =
      count ? checked::mul(static_cast<std::uint64_t>(*count), element_size) : std::nullopt;
  if (!size) return bad("shape {} is too large", shape_to_string(layout.header.shape));
  if (*size != layout.elements.size()) {
    return bad("{} of shape {} takes {} bytes, found {}", layout.header.descr, shape_to_string(layout.header.shape),
               *size, layout.elements.size());
  }
  if (layout.dtype == DType::boolean) {
    for (std::byte b : layout.elements) {
      if (std::to_integer<int>(b) > 1) return bad("a boolean is {}, neither 0 nor 1", std::to_integer<int>(b));
    }
  }
  const bool is_transposed = layout.header.is_fortran && layout.header.shape.size() > 1;
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(layout.elements.data()) % element_size == 0;
  if (owner && is_aligned && !is_transposed) {
    return Tensor::borrow(layout.dtype, std::move(layout.header.shape), layout.elements.data(), std::move(owner));
  }
  if (!is_transposed) return Tensor::copy_of(layout.dtype, std::move(layout.header.shape), layout.elements);
  AOQ_ASSIGN(Tensor tensor, Tensor::make(layout.dtype, layout.header.shape));
  to_c_order(layout.elements, layout.header.shape, element_size, tensor.mutable_bytes());
  return tensor;
}

}  // namespace

Result<Tensor> read_npy(Bytes bytes, std::shared_ptr<const void> owner, const Limits& limits) {
  return guarded([&] { return read_array(bytes, std::move(owner), limits); });
}

Result<std::vector<std::byte>> npy_header(TensorView tensor) {
  std::string_view code;
  for (const TypeCode& t : kTypes) {
    if (t.dtype == tensor.dtype) code = t.code;
  }
  if (code.empty()) return error(Code::unsupported, "npy: numpy has no type {}", dtype_name(tensor.dtype));
  std::string shape;
  for (std::int64_t d : tensor.shape) shape += std::to_string(d) + (tensor.shape.size() == 1 ? "," : ", ");
  if (tensor.shape.size() > 1) shape.resize(shape.size() - 2);
  std::string text = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                 dtype_info(tensor.dtype).bits == 8 ? '|' : '<', code, shape);
  const std::size_t unpadded = 10 + text.size() + 1;
  text.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  text += '\n';
  if (text.size() > 0xffff) return error(Code::unsupported, "npy: {} dimensions", tensor.shape.size());
  std::string head = "\x93NUMPY";
  head += '\x01';
  head += '\x00';
  head += static_cast<char>(text.size() & 0xff);
  head += static_cast<char>(text.size() >> 8);
  head += text;
  const Bytes bytes = std::as_bytes(std::span(head));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Result<std::vector<std::byte>> write_npy(const Tensor& tensor) {
  AOQ_ASSIGN(std::vector<std::byte> file, npy_header(tensor.view()));
  file.insert(file.end(), tensor.bytes().begin(), tensor.bytes().end());
  return file;
}

Result<NpzReader> NpzReader::open(Bytes bytes, std::shared_ptr<const void> owner, const Limits& limits) {
  const ZipOptions zip_options = {
      .max_entries = limits.tensors, .max_inflated_bytes = limits.inflated_bytes, .names = ZipNames::any};
  return guarded([&]() -> Result<NpzReader> {
    AOQ_ASSIGN(ZipReader zip, ZipReader::open(bytes, zip_options));
    NpzReader reader(std::move(zip), limits);
    reader.owner_ = std::move(owner);
    for (const ZipEntry& e : reader.zip_.entries()) {
      if (e.name.size() > limits.name_bytes) {
        return error(ErrorId::limit, "npz: a name of {} bytes, limit {}", e.name.size(), limits.name_bytes);
      }
      if (!e.name.ends_with(".npy")) return error(Code::invalid_data, "npz: \"{}\" is no .npy", e.name);
      reader.names_.push_back(e.name.substr(0, e.name.size() - 4));
    }
    return reader;
  });
}

bool NpzReader::contains(std::string_view name) const {
  return zip_.find(std::string(name) + ".npy") != nullptr;
}

Result<Tensor> NpzReader::read(std::string_view name) const {
  return guarded([&]() -> Result<Tensor> {
    const ZipEntry* entry = zip_.find(std::string(name) + ".npy");
    if (entry == nullptr) return error(Code::not_found, "npz: no array \"{}\"", name);
    const std::string context = fmt::format("npz: \"{}\"", name);
    if (entry->is_stored) {
      AOQ_TRY(zip_.verify(*entry).with_context(context));
      Result<Tensor> tensor = read_npy(*zip_.stored(*entry), owner_, limits_);
      if (!tensor.ok()) return std::move(tensor).status().with_context(context);
      return tensor;
    }
    AOQ_ASSIGN(const std::vector<std::byte> content, zip_.read(*entry));
    Result<Tensor> tensor = read_npy(content, nullptr, limits_);
    if (!tensor.ok()) return std::move(tensor).status().with_context(context);
    return tensor;
  });
}

Result<std::vector<NamedTensor>> NpzReader::read_all() const {
  std::vector<NamedTensor> arrays;
  for (const std::string& name : names_) {
    AOQ_ASSIGN(Tensor tensor, read(name));
    arrays.push_back({name, std::move(tensor)});
  }
  return arrays;
}

Status write_npz(std::span<const NamedTensor> arrays, const ZipSink& sink) {
  ZipWriter writer(sink);
  for (const NamedTensor& a : arrays) {
    Result<std::vector<std::byte>> header = npy_header(a.tensor.view());
    if (!header.ok()) return std::move(header).status().with_context(fmt::format("array \"{}\"", a.name));
    const std::array<Bytes, 2> pieces{Bytes(*header), a.tensor.bytes()};
    AOQ_TRY(writer.add(a.name + ".npy", pieces));
  }
  return writer.finish();
}

}  // namespace aoq
