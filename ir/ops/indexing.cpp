#include "ir/ops/indexing.h"

#include <algorithm>

namespace aoq::ops {

Result<std::int64_t> load_index(const TensorView& indices, std::int64_t i, std::int64_t size) {
  std::int64_t index = load_integer(indices.dtype, indices.data, i);
  if (index < -size || index >= size) {
    return error(Code::invalid_data, "index element {} is {}, expected a value in [{}, {}]", i, index, -size, size - 1);
  }
  return index < 0 ? index + size : index;
}

Result<std::int64_t> load_index_row(const TensorView& indices, std::int64_t row, std::span<const std::int64_t> shape,
                                    std::size_t first) {
  std::int64_t depth = indices.shape.back();
  std::int64_t offset = 0;
  for (std::int64_t k = 0; k < depth; ++k) {
    std::int64_t size = shape[first + static_cast<std::size_t>(k)];
    AOQ_ASSIGN(std::int64_t index, load_index(indices, row * depth + k, size));
    offset = offset * size + index;
  }
  return offset * count(shape, first + static_cast<std::size_t>(depth), shape.size());
}

Status check_reduction(const InferContext& c) {
  const std::string& reduction = c.attributes.string("reduction");
  if (reduction == "none") return {};
  for (const char* name : {"add", "mul", "max", "min"}) {
    if (reduction == name) return require_number(c.input(0));
  }
  return error(Code::invalid_model, "reduction is \"{}\", expected none, add, mul, max or min", reduction);
}

namespace {

template <typename T>
T combine(const std::string& reduction, T a, T b) {
  if (reduction == "max") return std::max(a, b);
  if (reduction == "min") return std::min(a, b);
  return reduction == "add" ? a + b : a * b;
}

std::int64_t combine_integers(const std::string& reduction, std::int64_t a, std::int64_t b) {
  if (reduction == "add") return wrap_add(a, b);
  if (reduction == "mul") return wrap_mul(a, b);
  return combine(reduction, a, b);
}

}  // namespace

void scatter_element(const EvalContext& c, std::int64_t from, std::int64_t to) {
  const std::string& reduction = c.attributes.string("reduction");
  const TensorView& updates = c.inputs[2];
  const MutableTensorView& y = c.outputs[0];
  if (reduction == "none") {
    copy_elements(y.dtype, updates.data, from, y.data, to, 1);
  } else if (is_integer(y.dtype)) {
    std::int64_t flip = y.dtype == DType::u64 && (reduction == "max" || reduction == "min") ? INT64_MIN : 0;
    std::int64_t a = load_integer(y.dtype, y.data, to) ^ flip;
    std::int64_t b = load_integer(y.dtype, updates.data, from) ^ flip;
    store_integer(y.dtype, y.data, to, combine_integers(reduction, a, b) ^ flip);
  } else if (y.dtype == DType::f64) {
    double a = load_as_double(y.dtype, y.data, to);
    store_from_double(y.dtype, y.data, to, combine(reduction, a, load_as_double(y.dtype, updates.data, from)));
  } else {
    auto a = static_cast<float>(load_as_double(y.dtype, y.data, to));
    auto b = static_cast<float>(load_as_double(y.dtype, updates.data, from));
    store_from_double(y.dtype, y.data, to, static_cast<double>(combine(reduction, a, b)));
  }
}

}  // namespace aoq::ops
