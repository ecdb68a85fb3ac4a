#include "tests/golden/golden.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "tests/golden/sections.h"

namespace aoq::golden {
namespace {

const Json& nothing() {
  static const Json json;
  return json;
}

struct TypeName {
  std::string_view torch;
  DType dtype;
};

constexpr TypeName kTypes[] = {
    {"quint8", DType::u8},           {"qint8", DType::i8},
    {"qint32", DType::i32},          {"quint4x2", DType::u4},
    {"float32", DType::f32},         {"float64", DType::f64},
    {"float16", DType::f16},         {"bfloat16", DType::bf16},
    {"bool", DType::boolean},        {"float8_e4m3fn", DType::f8_e4m3fn},
    {"float8_e5m2", DType::f8_e5m2}, {"float8_e8m0fnu", DType::f8_e8m0},
};

// Steps between two floats of fp32; huge when one is NaN.
double ulps_between(double a, double b) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return 0;
  if (!std::isfinite(a) || !std::isfinite(b)) return 1e30;
  auto ordinal = [](double v) {
    const std::int32_t bits = std::bit_cast<std::int32_t>(static_cast<float>(v));
    return static_cast<double>(bits < 0 ? -static_cast<std::int64_t>(bits & 0x7fffffff) : bits);
  };
  return std::max(1e-9, std::fabs(ordinal(a) - ordinal(b)));
}

}  // namespace

Result<DType> dtype_of(std::string_view torch_name) {
  for (const TypeName& t : kTypes) {
    if (t.torch == torch_name) return t.dtype;
  }
  std::string name(torch_name);
  if (name.starts_with("uint")) name = fmt::format("u{}", torch_name.substr(4));
  if (name.starts_with("int")) name = fmt::format("i{}", torch_name.substr(3));
  if (const std::optional<DType> dtype = dtype_from_name(name)) return *dtype;
  return error(Code::invalid_data, "golden: unknown dtype \"{}\"", torch_name);
}

Result<std::vector<std::int64_t>> integers_of(const Json& args, const char* key) {
  const Json* list = json_find(args, key);
  std::vector<std::int64_t> values;
  if (list == nullptr || !list->is_array()) return error(Code::invalid_data, "golden: no list \"{}\"", key);
  for (const Json& v : *list) {
    if (!v.is_number_integer()) return error(Code::invalid_data, "golden: \"{}\" holds no integers", key);
    values.push_back(v.get<std::int64_t>());
  }
  return values;
}

std::vector<double> to_doubles(const Tensor& tensor) {
  std::vector<double> values(static_cast<std::size_t>(tensor.element_count()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = load_as_double(tensor.dtype(), tensor.bytes().data(), static_cast<std::int64_t>(i));
  }
  return values;
}

const Json& Case::member(const char* key) const {
  const Json* found = json_find(json_, key);
  return found == nullptr ? nothing() : *found;
}

const Json& Case::input_json(const char* name) const {
  const Json* found = json_find(member("inputs"), name);
  return found == nullptr ? nothing() : *found;
}

const Json& Case::output_json(const char* name) const {
  const Json* found = json_find(member("outputs"), name);
  return found == nullptr ? nothing() : *found;
}

Result<Tensor> Case::tensor(const Json& info) const {
  AOQ_ASSIGN(const std::string key, json_string(info, "key"));
  AOQ_ASSIGN(const std::string type, json_string(info, "dtype"));
  AOQ_ASSIGN(Tensor stored, archive_.read(key));
  // Types that numpy lacks are stored as raw bits.
  if (type != "bfloat16" && !type.starts_with("float8")) return stored;
  AOQ_ASSIGN(const DType dtype, dtype_of(type));
  return Tensor::copy_of(dtype, stored.shape(), stored.bytes());
}

Result<Tensor> Case::named(const char* group, const char* name) const {
  const Json* info = json_find(member(group), name);
  if (info == nullptr) return error(Code::invalid_data, "golden: {} lacks \"{}\"", group, name);
  return tensor(*info);
}

Result<std::vector<Tensor>> Case::inputs(const char* name) const {
  const Json* list = json_find(member("inputs"), name);
  if (list == nullptr || !list->is_array()) return error(Code::invalid_data, "golden: no list \"{}\"", name);
  std::vector<Tensor> tensors;
  for (const Json& info : *list) {
    AOQ_ASSIGN(Tensor t, tensor(info));
    tensors.push_back(std::move(t));
  }
  return tensors;
}

Status Case::skip(std::string reason) {
  skipped_ = std::move(reason);
  return {};
}

void Case::fail(std::string text) {
  failures_ += (failures_.empty() ? "" : "; ") + std::move(text);
}

void Case::equal(const char* output, std::span<const double> found, int ulps) {
  std::vector<double> expected;
  const Json& info = output_json(output);
  if (info.is_number()) {
    expected = {info.get<double>()};
  } else {
    const Result<Tensor> tensor = this->output(output);
    if (!tensor.ok()) return fail(tensor.status().message());
    expected = to_doubles(*tensor);
  }
  if (expected.size() != found.size()) {
    return fail(fmt::format("{}: expected {} elements, found {}", output, expected.size(), found.size()));
  }
  std::size_t differing = 0, first = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (ulps_between(expected[i], found[i]) <= ulps) continue;
    if (differing++ == 0) first = i;
  }
  if (differing == 0) return;
  fail(fmt::format("{}: {} of {} elements differ, first at {}: expected {:.9g} ({}), found {:.9g} ({})", output,
                   differing, found.size(), first, expected[first], hex_float(expected[first]), found[first],
                   hex_float(found[first])));
}

void Case::equal(const char* output, const Tensor& found, int ulps) {
  equal(output, std::span<const double>(to_doubles(found)), ulps);
  equal_shape(output, found.shape());
}

void Case::equal_shape(const char* output, std::span<const std::int64_t> found) {
  const Result<std::vector<std::int64_t>> expected = integers_of(output_json(output), "shape");
  if (!expected.ok()) return fail(expected.status().message());
  if (std::equal(expected->begin(), expected->end(), found.begin(), found.end())) return;
  fail(fmt::format("{}: expected shape {}, found {}", output, shape_to_string(*expected), shape_to_string(found)));
}

void Case::equal_relative(const Json& output, const Tensor& found, double tolerance, std::size_t row) {
  const Result<Tensor> expected = tensor(output);
  if (!expected.ok()) return fail(expected.status().message());
  if (expected->shape() != found.shape()) {
    return fail(
        fmt::format("expected shape {}, found {}", shape_to_string(expected->shape()), shape_to_string(found.shape())));
  }
  const std::vector<double> a = to_doubles(*expected), b = to_doubles(found);
  for (std::size_t begin = 0; begin < a.size(); begin += row) {
    double largest = 0, worst = 0;
    for (std::size_t i = begin; i < std::min(begin + row, a.size()); ++i) {
      largest = std::max(largest, std::fabs(a[i]));
      worst = std::max(worst, std::fabs(a[i] - b[i]));
    }
    if (worst > tolerance * largest) {
      return fail(
          fmt::format("elements from {} on differ by up to {}, the largest output is {}", begin, worst, largest));
    }
  }
}

void Case::equal_number(std::string_view what, double expected, double found) {
  if (ulps_between(expected, found) == 0) return;
  fail(fmt::format("{}: expected {:.17g}, found {:.17g}", what, expected, found));
}

std::span<const Section> sections() {
  static const Section all[] = {kObservers, kPrimitives, kFloats, kOps, kAlgorithms, kModels};
  return all;
}

}  // namespace aoq::golden
