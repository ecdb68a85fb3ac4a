#include "formats/gguf/gguf.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "ir/checked.h"
#include "ir/error_id.h"
#include "ir/guard.h"

namespace aoq {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::int64_t kBlock = 32;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr int kMaxArrayDepth = 1;  // arrays of arrays have no use

template <typename... Args>
Status bad(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::invalid_data, "gguf: {}", fmt::format(format, std::forward<Args>(args)...));
}

float half_at(const std::byte* p) {
  float value = 0;
  dtype_info(DType::f16).to_float(p, 0, {&value, 1});
  return value;
}

int byte_at(const std::byte* p, std::int64_t i) {
  return std::to_integer<int>(p[i]);
}

// Element j and j + 16 share byte j; `fifth` has the highest bit of 5-bit codes.
int nibble(const std::byte* codes, std::int64_t i) {
  return i < kBlock / 2 ? byte_at(codes, i) & 15 : byte_at(codes, i - kBlock / 2) >> 4;
}
int fifth_bit(const std::byte* bits, std::int64_t i) {
  return (byte_at(bits, i / 8) >> (i % 8) & 1) << 4;
}

void read_q4_0(const std::byte* p, float* out) {
  const float d = half_at(p);
  for (std::int64_t i = 0; i < kBlock; ++i) out[i] = static_cast<float>(nibble(p + 2, i) - 8) * d;
}
void read_q4_1(const std::byte* p, float* out) {
  const float d = half_at(p), m = half_at(p + 2);
  for (std::int64_t i = 0; i < kBlock; ++i) out[i] = static_cast<float>(nibble(p + 4, i)) * d + m;
}
void read_q5_0(const std::byte* p, float* out) {
  const float d = half_at(p);
  for (std::int64_t i = 0; i < kBlock; ++i) {
    out[i] = static_cast<float>((nibble(p + 6, i) | fifth_bit(p + 2, i)) - 16) * d;
  }
}
void read_q5_1(const std::byte* p, float* out) {
  const float d = half_at(p), m = half_at(p + 2);
  for (std::int64_t i = 0; i < kBlock; ++i) {
    out[i] = static_cast<float>(nibble(p + 8, i) | fifth_bit(p + 4, i)) * d + m;
  }
}
void read_q8_0(const std::byte* p, float* out) {
  const float d = half_at(p);
  for (std::int64_t i = 0; i < kBlock; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(p[2 + i])) * d;
}

// An element type: plain numbers, or blocks of 32.
struct ElementType {
  std::uint32_t type;
  const char* name;
  std::int64_t block_bytes;  // of 32 elements
  std::optional<DType> plain;
  void (*read)(const std::byte* block, float* out);
};

constexpr ElementType kTypes[] = {
    {0, "F32", 128, DType::f32, nullptr},     {1, "F16", 64, DType::f16, nullptr},
    {2, "Q4_0", 18, std::nullopt, read_q4_0}, {3, "Q4_1", 20, std::nullopt, read_q4_1},
    {6, "Q5_0", 22, std::nullopt, read_q5_0}, {7, "Q5_1", 24, std::nullopt, read_q5_1},
    {8, "Q8_0", 34, std::nullopt, read_q8_0}, {24, "I8", 32, DType::i8, nullptr},
    {25, "I16", 64, DType::i16, nullptr},     {26, "I32", 128, DType::i32, nullptr},
    {27, "I64", 256, DType::i64, nullptr},    {28, "F64", 256, DType::f64, nullptr},
    {30, "BF16", 64, DType::bf16, nullptr},
};

const ElementType* type_of(std::uint32_t type) {
  const auto* found = std::ranges::find(kTypes, type, &ElementType::type);
  return found == std::end(kTypes) ? nullptr : found;
}

// Types of settings.
enum ValueType : std::uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

class Reader {
 public:
  Reader(Bytes bytes, const Limits& limits) : bytes_(bytes), limits_(limits) {}

  Result<GgufFile> read() {
    AOQ_TRY(read_head());
    for (std::uint64_t i = 0; i < settings_; ++i) AOQ_TRY(read_setting());
    AOQ_TRY(read_alignment());
    for (std::uint64_t i = 0; i < tensors_; ++i) AOQ_TRY(read_tensor());
    AOQ_TRY(find_data());
    return std::move(file_);
  }

 private:
  template <class T>
  Result<T> number(const char* what) {
    if (!checked::fits(at_, sizeof(T), bytes_.size())) return bad("the file ends in {} at byte {}", what, at_);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  Result<std::string> text(const char* what, std::uint64_t limit) {
    AOQ_ASSIGN(const std::uint64_t size, number<std::uint64_t>(what));
    if (size > limit) return error(ErrorId::limit, "gguf: {} of {} bytes, limit {}", what, size, limit);
    if (!checked::fits(at_, size, bytes_.size())) return bad("the file ends in {} at byte {}", what, at_);
    std::string out(reinterpret_cast<const char*>(bytes_.data() + at_), size);
    at_ += size;
    return out;
  }

  Status read_head() {
    if (!is_gguf(bytes_)) return bad("the file does not begin with \"GGUF\"");
    at_ = 4;
    AOQ_ASSIGN(const std::uint32_t version, number<std::uint32_t>("the version"));
    if (version != 2 && version != 3) {
      return error(Code::unsupported, "gguf: version {}, expected 2 or 3 (little-endian)", version);
    }
    AOQ_ASSIGN(tensors_, number<std::uint64_t>("the head"));
    AOQ_ASSIGN(settings_, number<std::uint64_t>("the head"));
    for (const std::uint64_t count : {tensors_, settings_}) {
      if (count > limits_.tensors) {
        return error(ErrorId::limit, "gguf: {} tensors or settings, limit {}", count, limits_.tensors);
      }
    }
    return {};
  }

  template <class T, class Wide>
  Result<GgufValue> scalar() {
    AOQ_ASSIGN(const T value, number<T>("a setting"));
    if constexpr (sizeof(T) == 8 && std::is_unsigned_v<T>) {
      if (value > static_cast<T>(INT64_MAX)) return bad("a setting is {}, above 2^63 - 1", value);
    }
    return GgufValue(static_cast<Wide>(value));
  }

  Result<GgufValue> value(std::uint32_t type, int depth) {
    switch (type) {
      case kU8:
        return scalar<std::uint8_t, std::int64_t>();
      case kI8:
        return scalar<std::int8_t, std::int64_t>();
      case kU16:
        return scalar<std::uint16_t, std::int64_t>();
      case kI16:
        return scalar<std::int16_t, std::int64_t>();
      case kU32:
        return scalar<std::uint32_t, std::int64_t>();
      case kI32:
        return scalar<std::int32_t, std::int64_t>();
      case kU64:
        return scalar<std::uint64_t, std::int64_t>();
      case kI64:
        return scalar<std::int64_t, std::int64_t>();
      case kF32:
        return scalar<float, double>();
      case kF64:
        return scalar<double, double>();
      case kBool: {
        AOQ_ASSIGN(const std::uint8_t b, number<std::uint8_t>("a setting"));
        return GgufValue(b != 0);
      }
      case kString: {
        AOQ_ASSIGN(std::string s, text("a setting", limits_.metadata_bytes));
        return GgufValue(std::move(s));
      }
      case kArray:
        return array(depth);
      default:
        return bad("a setting has the type {}, expected 0 to 12", type);
    }
  }

  Result<GgufValue> array(int depth) {
    if (depth >= kMaxArrayDepth) return error(Code::unsupported, "gguf: an array inside an array");
    AOQ_ASSIGN(const std::uint32_t type, number<std::uint32_t>("an array"));
    AOQ_ASSIGN(const std::uint64_t size, number<std::uint64_t>("an array"));
    // Each element takes a byte at least, so a false size cannot ask for more than the file has.
    if (size > bytes_.size() - at_) return bad("an array of {} elements in {} bytes", size, bytes_.size() - at_);
    std::vector<std::int64_t> integers;
    std::vector<double> reals;
    std::vector<std::string> strings;
    for (std::uint64_t i = 0; i < size; ++i) {
      AOQ_ASSIGN(GgufValue element, value(type, depth + 1));
      if (auto* s = std::get_if<std::string>(&element))
        strings.push_back(std::move(*s));
      else if (const auto* r = std::get_if<double>(&element))
        reals.push_back(*r);
      else if (const auto* b = std::get_if<bool>(&element))
        integers.push_back(*b ? 1 : 0);
      else
        integers.push_back(std::get<std::int64_t>(element));
    }
    if (type == kString) return GgufValue(std::move(strings));
    if (type == kF32 || type == kF64) return GgufValue(std::move(reals));
    return GgufValue(std::move(integers));
  }

  Status read_setting() {
    AOQ_ASSIGN(std::string key, text("a key", limits_.name_bytes));
    AOQ_ASSIGN(const std::uint32_t type, number<std::uint32_t>("a setting"));
    Result<GgufValue> v = value(type, 0);
    if (!v.ok()) return std::move(v).status().with_context(key);
    if (!file_.settings.emplace(key, std::move(*v)).second) return bad("\"{}\" is set twice", key);
    return {};
  }

  Status read_alignment() {
    const auto found = file_.settings.find("general.alignment");
    if (found == file_.settings.end()) return {};
    const auto* given = std::get_if<std::int64_t>(&found->second);
    const bool is_power = given != nullptr && *given > 0 && *given <= 1 << 20 && (*given & (*given - 1)) == 0;
    if (!is_power) return bad("general.alignment is no power of two up to 2^20");
    alignment_ = static_cast<std::uint64_t>(*given);
    return {};
  }

  Status read_shape(GgufTensor& t) {
    AOQ_ASSIGN(const std::uint32_t rank, number<std::uint32_t>("a tensor"));
    if (rank > limits_.rank) {
      return error(ErrorId::limit, "gguf: \"{}\": {} dimensions, limit {}", t.name, rank, limits_.rank);
    }
    for (std::uint32_t i = 0; i < rank; ++i) {
      AOQ_ASSIGN(const std::uint64_t extent, number<std::uint64_t>("a tensor"));
      if (extent > static_cast<std::uint64_t>(checked::kMaxDimension)) {
        return bad("\"{}\": a dimension of {}", t.name, extent);
      }
      t.shape.push_back(static_cast<std::int64_t>(extent));
    }
    std::ranges::reverse(t.shape);
    return {};
  }

  Status read_tensor() {
    GgufTensor t;
    AOQ_ASSIGN(t.name, text("the name of a tensor", limits_.name_bytes));
    if (!names_.insert(t.name).second) return bad("two tensors are named \"{}\"", t.name);
    AOQ_TRY(read_shape(t));
    AOQ_ASSIGN(t.type, number<std::uint32_t>("a tensor"));
    AOQ_ASSIGN(const std::uint64_t offset, number<std::uint64_t>("a tensor"));
    if (type_of(t.type) == nullptr) {
      return error(Code::unsupported,
                   "gguf: \"{}\" has elements of type {}; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, "
                   "Q8_0 and integers are read",
                   t.name, t.type);
    }
    if (offset % alignment_ != 0) return bad("\"{}\" begins at {}, no multiple of {}", t.name, offset, alignment_);
    offsets_.push_back(offset);
    file_.tensors.push_back(std::move(t));
    return {};
  }

  static std::optional<std::uint64_t> bytes_of(const GgufTensor& t) {
    const ElementType& type = *type_of(t.type);
    const std::optional<std::int64_t> count = checked::element_count(t.shape);
    if (!count) return std::nullopt;
    if (type.plain) {
      return checked::mul(static_cast<std::uint64_t>(*count), static_cast<std::uint64_t>(type.block_bytes / kBlock));
    }
    const std::int64_t row = t.shape.empty() ? 1 : t.shape.back();
    if (row % kBlock != 0) return std::nullopt;
    return checked::mul(static_cast<std::uint64_t>(*count / kBlock), static_cast<std::uint64_t>(type.block_bytes));
  }

  Status find_data() {
    const std::optional<std::uint64_t> begin = checked::align_up(at_, alignment_);
    if (!begin || (*begin > bytes_.size() && !file_.tensors.empty())) return bad("the file ends before its elements");
    for (std::size_t i = 0; i < file_.tensors.size(); ++i) {
      GgufTensor& t = file_.tensors[i];
      const std::optional<std::uint64_t> size = bytes_of(t);
      if (!size) {
        return bad("\"{}\": {} of shape {}: too large, or rows that are no multiple of 32", t.name,
                   type_of(t.type)->name, shape_to_string(t.shape));
      }
      const Bytes data = bytes_.subspan(*begin);
      if (!checked::fits(offsets_[i], *size, data.size())) {
        return bad("\"{}\" takes {} bytes at {} of {}", t.name, *size, offsets_[i], data.size());
      }
      t.bytes = data.subspan(offsets_[i], *size);
    }
    return {};
  }

  const Bytes bytes_;
  const Limits& limits_;
  std::uint64_t at_ = 0, tensors_ = 0, settings_ = 0, alignment_ = kDefaultAlignment;
  std::vector<std::uint64_t> offsets_;
  std::set<std::string, std::less<>> names_;
  GgufFile file_;
};

}  // namespace

const GgufTensor* GgufFile::find(std::string_view name) const {
  for (const GgufTensor& t : tensors) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

bool is_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

Result<GgufFile> read_gguf(std::span<const std::byte> bytes, const Limits& limits) {
  return guarded([&] { return Reader(bytes, limits).read(); });
}

Result<Tensor> gguf_floats(const GgufTensor& tensor) {
  const ElementType* type = type_of(tensor.type);
  if (type == nullptr) return error(Code::invalid_argument, "gguf: \"{}\" has the type {}", tensor.name, tensor.type);
  AOQ_ASSIGN(Tensor out, Tensor::make(DType::f32, tensor.shape));
  const std::span<float> values = out.mutable_as<float>();
  if (type->plain) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(load_as_double(*type->plain, tensor.bytes.data(), static_cast<std::int64_t>(i)));
    }
    return out;
  }
  for (std::size_t i = 0; i < values.size(); i += kBlock) {
    type->read(tensor.bytes.data() + i / kBlock * static_cast<std::size_t>(type->block_bytes), values.data() + i);
  }
  return out;
}

}  // namespace aoq
