#include "passes/quantize/codebook.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/checked.h"
#include "passes/quantize/arithmetic.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

using Shape = std::vector<std::int64_t>;

// Rows of `width` numbers.
struct Points {
  std::int64_t width = 1;
  std::vector<float> values;

  std::int64_t count() const { return static_cast<std::int64_t>(values.size()) / width; }
  std::span<const float> row(std::int64_t i) const { return std::span(values).subspan(i * width, width); }
  std::span<float> row(std::int64_t i) { return std::span(values).subspan(i * width, width); }
};

Result<Shape> grid_of(std::span<const std::int64_t> shape, std::span<const std::int64_t> block) {
  bool fits = !shape.empty() && shape.size() == block.size();
  Shape grid;
  for (std::size_t d = 0; fits && d < shape.size(); ++d) {
    fits = block[d] > 0 && shape[d] % block[d] == 0;
    if (fits) grid.push_back(shape[d] / block[d]);
  }
  if (fits) return grid;
  return error(Code::invalid_argument, "codebook: blocks of {} do not divide shape {}", shape_to_string(block),
               shape_to_string(shape));
}

// Calls visit(element in row-major order of the tensor, block, element of the block).
template <class Visit>
void for_each_element(const Shape& shape, const Shape& block, const Visit& visit) {
  const std::int64_t count = checked::element_count(shape).value_or(0);
  Shape index(shape.size());
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t at = 0, inside = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      at = at * (shape[d] / block[d]) + index[d] / block[d];
      inside = inside * block[d] + index[d] % block[d];
    }
    visit(i, at, inside);
    for (std::size_t d = shape.size(); d-- > 0 && ++index[d] == shape[d];) index[d] = 0;
  }
}

Points points_of(std::span<const float> values, const Shape& shape, const Shape& block) {
  Points points;
  points.width = checked::element_count(block).value_or(1);
  points.values.resize(values.size());
  for_each_element(shape, block, [&](std::int64_t i, std::int64_t at, std::int64_t inside) {
    points.values[at * points.width + inside] = values[i];
  });
  return points;
}

// How many elements in a row share a scale of [..., K / size, 1].
Result<std::size_t> elements_per_scale(std::span<const std::int64_t> shape, const Tensor& scales) {
  const std::vector<std::int64_t>& s = scales.shape();
  const std::size_t rank = shape.size();
  const bool fits = rank > 0 && scales.dtype() == DType::f32 && s.size() == rank + 1 && s[rank] == 1 &&
                    std::equal(shape.begin(), shape.end() - 1, s.begin()) && s[rank - 1] > 0 &&
                    shape[rank - 1] % s[rank - 1] == 0;
  if (fits) return static_cast<std::size_t>(shape[rank - 1] / s[rank - 1]);
  return error(Code::invalid_argument, "codebook: scales of shape {} for a tensor of shape {}", shape_to_string(s),
               shape_to_string(shape));
}

// x / scale; invalid_data where that is not finite.
Result<std::vector<float>> scaled_values(TensorView x, const Tensor& scales) {
  AOQ_ASSIGN(const std::size_t size, elements_per_scale(x.shape, scales));
  AOQ_ASSIGN(std::vector<float> values, to_floats(x));
  const std::span<const float> s = scales.as<float>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float scaled = values[i] / s[i / size];
    if (!std::isfinite(scaled)) {
      return error(Code::invalid_data, "codebook: element {} is {}, with a scale of {}", i, values[i], s[i / size]);
    }
    values[i] = scaled;
  }
  return values;
}

Result<Tensor> choose_scales(TensorView x, const CodebookForm& form, std::int64_t block_elements) {
  const std::int64_t size = form.scale_block_size;
  if (size < 1 || x.shape.back() % size != 0) {
    return error(Code::invalid_argument, "codebook: scales for {} elements do not divide a last dimension of {}", size,
                 x.shape.back());
  }
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  Shape shape(x.shape.begin(), x.shape.end());
  shape.back() /= size;
  shape.push_back(1);
  AOQ_ASSIGN(Tensor scales, Tensor::make(DType::f32, std::move(shape)));
  const std::span<float> out = scales.mutable_as<float>();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::span<const float> row =
        std::span(values).subspan(i * static_cast<std::size_t>(size), static_cast<std::size_t>(size));
    const float scale = block_elements == 1 ? torch_math::aminmax(row).max : torch_math::norm(row);
    out[i] = torch_math::max(scale, 1e-9f);
    if (!std::isfinite(out[i])) return error(Code::invalid_data, "codebook: scale {} would be {}", i, out[i]);
  }
  return scales;
}

float squared(float v) {
  return v * v;
}

// Sums of products in the order of PyTorch's kernels, which differ: the dot product of the start is not fused.
float plain_dot(std::span<const float> a, std::span<const float> b) {
  float sum = a[0] * b[0];
  for (std::size_t i = 1; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

float fused_dot(std::span<const float> a, std::span<const float> b) {
  float sum = a[0] * b[0];
  for (std::size_t i = 1; i < a.size(); ++i) sum = std::fma(a[i], b[i], sum);
  return sum;
}

Points farthest_first(const Points& points, std::int64_t k) {
  Points entries{points.width, std::vector<float>(static_cast<std::size_t>(k * points.width))};
  const std::int64_t n = points.count();
  std::vector<float> distance(static_cast<std::size_t>(n), std::numeric_limits<float>::infinity());
  std::vector<float> norms(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) norms[i] = squared(torch_math::norm(points.row(i)));
  for (std::int64_t e = 0; e < k; ++e) {
    const std::int64_t far = std::max_element(distance.begin(), distance.end()) - distance.begin();
    std::ranges::copy(points.row(far), entries.row(e).begin());
    const float norm = squared(torch_math::norm(entries.row(e)));
    for (std::int64_t i = 0; i < n; ++i) {
      // Twice a sum is the sum of doubled terms, rounded alike.
      const float d = norms[i] - 2 * plain_dot(points.row(i), entries.row(e)) + norm;
      distance[i] = std::min(distance[i], d);
    }
  }
  return entries;
}

class NearestEntry {
 public:
  explicit NearestEntry(const Points& entries) : entries_(entries) {
    for (std::int64_t e = 0; e < entries.count(); ++e) {
      half_norms_.push_back(-0.5f * plain_dot(entries.row(e), entries.row(e)));
    }
  }

  std::int64_t of(std::span<const float> point) const {
    std::int64_t best = 0;
    float highest = -std::numeric_limits<float>::infinity();
    for (std::int64_t e = 0; e < entries_.count(); ++e) {
      const float score = fused_dot(point, entries_.row(e)) + half_norms_[e];
      if (score > highest) {
        highest = score;
        best = e;
      }
    }
    return best;
  }

 private:
  const Points& entries_;
  std::vector<float> half_norms_;
};

// The means of the points nearest to each entry; an entry without points stays.
Points moved(const Points& points, const Points& entries) {
  const NearestEntry nearest(entries);
  Points sums{entries.width, std::vector<float>(entries.values.size())};
  std::vector<float> counts(static_cast<std::size_t>(entries.count()));
  for (std::int64_t i = 0; i < points.count(); ++i) {
    const std::int64_t e = nearest.of(points.row(i));
    counts[e] += 1;
    for (std::int64_t j = 0; j < points.width; ++j) sums.row(e)[j] += points.row(i)[j];
  }
  for (std::int64_t e = 0; e < entries.count(); ++e) {
    for (std::int64_t j = 0; j < entries.width; ++j) {
      sums.row(e)[j] = counts[e] == 0 ? entries.row(e)[j] : sums.row(e)[j] / counts[e];
    }
  }
  return sums;
}

bool is_close(const Points& a, const Points& b) {
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    if (std::fabs(a.values[i] - b.values[i]) > 1e-8f + std::fabs(1e-6f * b.values[i])) return false;
  }
  return true;
}

Points cluster(const Points& points, std::int64_t k, int max_iterations) {
  Points entries = farthest_first(points, k);
  for (int i = 0; i < max_iterations; ++i) {
    Points next = moved(points, entries);
    if (i % 10 == 0 && is_close(next, entries)) break;
    entries = std::move(next);
  }
  return entries;
}

Status check_code_dtype(DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  if (info.kind == DTypeKind::unsigned_integer && info.bits <= 8) return {};
  return error(Code::invalid_argument, "codebook: codes of type {}, expected u1 to u8", dtype_name(dtype));
}

// The block size that the table tells.
Result<Shape> block_of(const Codebook& codebook) {
  const std::vector<std::int64_t>& shape = codebook.entries.shape();
  const bool is_table =
      codebook.entries.dtype() == DType::f32 && shape.size() >= 2 && codebook.entries.element_count() > 0;
  if (is_table) return Shape(shape.begin() + 1, shape.end());
  return error(Code::invalid_argument, "codebook: entries are {} of shape {}, expected f32 [entries, block size ...]",
               dtype_name(codebook.entries.dtype()), shape_to_string(shape));
}

Status check_codes(const TensorView& codes, std::int64_t entries, const Shape& block) {
  if (dtype_info(codes.dtype).kind != DTypeKind::unsigned_integer || codes.shape.size() != block.size()) {
    return error(Code::invalid_argument, "codebook: codes are {} of shape {}, blocks of {}", dtype_name(codes.dtype),
                 shape_to_string(codes.shape), shape_to_string(block));
  }
  const std::int64_t count = codes.element_count();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t code = load_integer(codes.dtype, codes.data, i);
    if (code < 0 || code >= entries) {
      return error(Code::invalid_data, "codebook: code {} is {}, there are {} entries", i, code, entries);
    }
  }
  return {};
}

}  // namespace

Result<Codebook> choose_codebook(TensorView x, const CodebookForm& form) {
  AOQ_TRY(check_code_dtype(form.code_dtype));
  AOQ_TRY(grid_of(x.shape, form.block_size).status());
  const std::int64_t width = checked::element_count(form.block_size).value_or(1);
  Codebook codebook;
  AOQ_ASSIGN(codebook.scales, choose_scales(x, form, width));
  AOQ_ASSIGN(const std::vector<float> values, scaled_values(x, codebook.scales));
  if (values.empty()) return error(Code::invalid_data, "codebook: a tensor without elements has no entries");
  const Points points = points_of(values, Shape(x.shape.begin(), x.shape.end()), form.block_size);
  const std::int64_t k = std::int64_t{1} << dtype_info(form.code_dtype).bits;
  const Points entries = cluster(points, k, form.max_iterations);
  Shape shape{k};
  shape.insert(shape.end(), form.block_size.begin(), form.block_size.end());
  AOQ_ASSIGN(codebook.entries, Tensor::from_values<float>(DType::f32, std::move(shape), entries.values));
  return codebook;
}

Result<Tensor> quantize_codebook(TensorView x, const Codebook& codebook, DType code_dtype) {
  AOQ_TRY(check_code_dtype(code_dtype));
  AOQ_ASSIGN(const Shape block, block_of(codebook));
  AOQ_ASSIGN(Shape grid, grid_of(x.shape, block));
  if (codebook.entries.shape()[0] > (std::int64_t{1} << dtype_info(code_dtype).bits)) {
    return error(Code::invalid_argument, "codebook: {} entries for codes of type {}", codebook.entries.shape()[0],
                 dtype_name(code_dtype));
  }
  AOQ_ASSIGN(const std::vector<float> values, scaled_values(x, codebook.scales));
  const Points points = points_of(values, Shape(x.shape.begin(), x.shape.end()), block);
  const std::span<const float> table = codebook.entries.as<float>();
  const Points entries{points.width, std::vector<float>(table.begin(), table.end())};
  const NearestEntry nearest(entries);
  AOQ_ASSIGN(Tensor codes, Tensor::make(code_dtype, std::move(grid)));
  std::byte* data = codes.mutable_bytes().data();
  for (std::int64_t i = 0; i < points.count(); ++i) store_integer(code_dtype, data, i, nearest.of(points.row(i)));
  return codes;
}

Result<Tensor> dequantize_codebook(TensorView codes, const Codebook& codebook, DType result) {
  AOQ_ASSIGN(const Shape block, block_of(codebook));
  AOQ_TRY(check_codes(codes, codebook.entries.shape()[0], block));
  Shape shape;
  for (std::size_t d = 0; d < block.size(); ++d) shape.push_back(codes.shape[d] * block[d]);
  AOQ_ASSIGN(const std::size_t size, elements_per_scale(shape, codebook.scales));
  AOQ_ASSIGN(Tensor out, Tensor::make(result, shape));
  const std::int64_t width = checked::element_count(block).value_or(1);
  const std::span<const float> table = codebook.entries.as<float>();
  const std::span<const float> scales = codebook.scales.as<float>();
  std::vector<float> values(static_cast<std::size_t>(out.element_count()));
  for_each_element(shape, block, [&](std::int64_t i, std::int64_t at, std::int64_t inside) {
    const std::int64_t code = load_integer(codes.dtype, codes.data, at);
    values[i] = table[code * width + inside] * scales[static_cast<std::size_t>(i) / size];
  });
  dtype_info(result).from_float(values, out.mutable_bytes().data(), 0);
  return out;
}

}  // namespace aoq
