// TensorProto to Tensor: element types, the places where contents may be, and their sizes.
#include <algorithm>
#include <charconv>
#include <cstring>

#include "formats/onnx/context.h"
#include "ir/checked.h"
#include "ir/error_id.h"

namespace aoq::onnx {

namespace {

struct ElementType {
  const char* name;
  std::optional<DType> dtype;
};

// By the number in the file format.
const ElementType kElementTypes[] = {
    {"undefined", {}},
    {"float32", DType::f32},
    {"uint8", DType::u8},
    {"int8", DType::i8},
    {"uint16", DType::u16},
    {"int16", DType::i16},
    {"int32", DType::i32},
    {"int64", DType::i64},
    {"string", {}},
    {"bool", DType::boolean},
    {"float16", DType::f16},
    {"float64", DType::f64},
    {"uint32", DType::u32},
    {"uint64", DType::u64},
    {"complex64", {}},
    {"complex128", {}},
    {"bfloat16", DType::bf16},
    {"float8e4m3fn", DType::f8_e4m3fn},
    {"float8e4m3fnuz", DType::f8_e4m3fnuz},
    {"float8e5m2", DType::f8_e5m2},
    {"float8e5m2fnuz", DType::f8_e5m2fnuz},
    {"uint4", DType::u4},
    {"int4", DType::i4},
    {"float4e2m1", DType::f4_e2m1},
    {"float8e8m0", DType::f8_e8m0},
    {"uint2", DType::u2},
    {"int2", DType::i2},
};

const ElementType* element_type(std::int64_t number) {
  if (number < 0 || number >= static_cast<std::int64_t>(std::size(kElementTypes))) return nullptr;
  return &kElementTypes[number];
}

// Bytes that a tensor of this type and shape takes.
Result<std::uint64_t> expected_bytes(DType dtype, std::span<const std::int64_t> shape) {
  if (shape.size() > kMaxRank) return error(Code::resource_limit, "rank {} is above {}", shape.size(), kMaxRank);
  std::optional<std::int64_t> count = checked::element_count(shape);
  if (!count) return error(Code::invalid_model, "shape {} is impossible", shape_to_string(shape));
  auto bytes =
      checked::packed_bytes(static_cast<std::uint64_t>(*count), static_cast<std::uint64_t>(dtype_info(dtype).bits));
  if (!bytes) return error(Code::invalid_model, "shape {} overflows", shape_to_string(shape));
  return *bytes;
}

Result<Tensor> from_bytes(DType dtype, std::vector<std::int64_t> shape, std::span<const std::byte> bytes,
                          const std::shared_ptr<const void>& owner) {
  constexpr std::size_t kWorthBorrowing = 4096;
  auto alignment = static_cast<std::uintptr_t>(std::max(dtype_info(dtype).bits / 8, 1));
  bool is_aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment == 0;
  if (owner && is_aligned && bytes.size() >= kWorthBorrowing && dtype != DType::boolean) {
    return Tensor::borrow(dtype, std::move(shape), bytes.data(), owner);
  }
  AOQ_ASSIGN(Tensor t, Tensor::copy_of(dtype, std::move(shape), bytes));
  if (dtype == DType::boolean) {
    for (std::byte& b : t.mutable_bytes()) b = static_cast<std::byte>(b != std::byte{0});
  }
  return t;
}

Status wrong_count(std::size_t found, std::uint64_t expected, std::span<const std::int64_t> shape) {
  return error(Code::invalid_model, "has {} elements for shape {}, expected {}", found, shape_to_string(shape),
               expected);
}

// Copies numbers into a tensor whose elements are as wide as Stored.
template <class Stored, class Number>
Result<Tensor> from_numbers(DType dtype, const std::vector<std::int64_t>& shape, const std::vector<Number>& numbers) {
  AOQ_ASSIGN(std::uint64_t bytes, expected_bytes(dtype, shape));
  if (bytes / sizeof(Stored) != numbers.size()) return wrong_count(numbers.size(), bytes / sizeof(Stored), shape);
  std::vector<Stored> stored;
  stored.reserve(numbers.size());
  for (Number n : numbers) stored.push_back(static_cast<Stored>(n));
  return from_bytes(dtype, shape, std::as_bytes(std::span(stored)), nullptr);
}

// The field that the format prescribes for the element type.
Result<Tensor> from_fields(const TensorProto& p, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return from_numbers<float>(dtype, p.dims, p.float_data);
    case DType::f64:
      return from_numbers<double>(dtype, p.dims, p.double_data);
    case DType::i64:
      return from_numbers<std::int64_t>(dtype, p.dims, p.int64_data);
    case DType::u64:
      return from_numbers<std::uint64_t>(dtype, p.dims, p.uint64_data);
    case DType::u32:
      return from_numbers<std::uint32_t>(dtype, p.dims, p.uint64_data);
    default:
      break;
  }
  int bits = dtype_info(dtype).bits;
  if (bits == 32) return from_numbers<std::int32_t>(dtype, p.dims, p.int32_data);
  if (bits == 16) return from_numbers<std::uint16_t>(dtype, p.dims, p.int32_data);
  return from_numbers<std::uint8_t>(dtype, p.dims, p.int32_data);
}

Result<std::uint64_t> external_number(std::string_view key, std::string_view text) {
  std::uint64_t v = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (ec != std::errc() || end != text.data() + text.size()) {
    return error(Code::invalid_model, "external data: {} is not a number", key);
  }
  return v;
}

// The resolver contains the path; this only turns away what no honest model has.
Status check_location(std::string_view location) {
  bool hostile = location.empty() || location.front() == '/' || location.find('\0') != std::string_view::npos ||
                 location.find('\\') != std::string_view::npos || location.find("..") != std::string_view::npos;
  if (hostile) return error(Code::invalid_model, "external data: the location is not a plain relative path");
  return {};
}

Result<Tensor> from_external(const TensorProto& p, DType dtype, const OnnxOptions& options) {
  if (!options.external_data) {
    return error(ErrorId::onnx_external_data,
                 "its contents are in another file; allow external data, or save the model as one file");
  }
  AOQ_ASSIGN(std::uint64_t bytes, expected_bytes(dtype, p.dims));
  std::string_view location;
  std::uint64_t offset = 0;
  std::uint64_t length = bytes;
  for (const auto& [key, value] : p.external_data) {
    if (key == "location") location = value;
    if (key == "offset") {
      AOQ_ASSIGN(offset, external_number(key, value));
    }
    if (key == "length") {
      AOQ_ASSIGN(length, external_number(key, value));
    }
  }
  AOQ_TRY(check_location(location));
  if (length != bytes) return error(Code::invalid_model, "external data: {} bytes, expected {}", length, bytes);
  if (!checked::add(offset, length)) return error(Code::invalid_model, "external data: the offset overflows");
  AOQ_ASSIGN(Blob blob, options.external_data(location, offset, length));
  if (blob.bytes.size() != length) {
    return error(Code::invalid_model, "external data: got {} bytes, expected {}", blob.bytes.size(), length);
  }
  return from_bytes(dtype, p.dims, blob.bytes, blob.owner);
}

}  // namespace

std::optional<DType> dtype_from_onnx(std::int64_t number) {
  const ElementType* e = element_type(number);
  return e ? e->dtype : std::nullopt;
}

std::string onnx_type_name(std::int64_t number) {
  const ElementType* e = element_type(number);
  return e ? e->name : fmt::format("{}", number);
}

Result<Tensor> to_tensor(const TensorProto& p, const OnnxOptions& options) {
  std::optional<DType> dtype = dtype_from_onnx(p.data_type);
  if (!dtype) return error(Code::unsupported, "element type {} is not supported", onnx_type_name(p.data_type));
  if (p.is_external) return from_external(p, *dtype, options);
  if (!p.has_raw_data) return from_fields(p, *dtype);
  AOQ_ASSIGN(std::uint64_t bytes, expected_bytes(*dtype, p.dims));
  if (p.raw_data.size() != bytes) {
    return error(Code::invalid_model, "has {} bytes for {}{}, expected {}", p.raw_data.size(), dtype_name(*dtype),
                 shape_to_string(p.dims), bytes);
  }
  return from_bytes(*dtype, p.dims, std::as_bytes(std::span(p.raw_data)), options.owner);
}

}  // namespace aoq::onnx
