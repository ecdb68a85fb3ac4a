#include "passes/torchao/quantized_weight.h"

#include <algorithm>
#include <cmath>

#include "passes/quantize/arithmetic.h"
#include "passes/quantize/float8.h"
#include "passes/quantize/nvfp4.h"
#include "passes/quantize/primitives.h"

namespace aoq::torchao {

namespace {

constexpr float kLeastMagnitude = 1e-12f;  // of a block that gets a scale for floats
constexpr float kInt8Eps = 0x1p-23f;       // also for bf16, whose own would be 65536 times as large

Status check_weight(TensorView weight) {
  if (weight.shape.size() != 2) {
    return error(Code::invalid_argument, "weight is {}, expected a matrix [N, K]", shape_to_string(weight.shape));
  }
  if (weight.element_count() == 0) {
    return error(Code::invalid_argument, "weight is {}, expected at least one element", shape_to_string(weight.shape));
  }
  AOQ_ASSIGN(const std::vector<float> values, to_floats(weight));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    const auto columns = static_cast<std::size_t>(weight.shape[1]);
    return error(Code::invalid_data, "weight [{}, {}] is {}, expected finite numbers", i / columns, i % columns,
                 values[i]);
  }
  return {};
}

Result<QuantizedWeight> affine_weight(TensorView weight, const Granularity& granularity, const AffineFormula& formula) {
  AOQ_TRY(check_weight(weight));
  QuantizedWeight out;
  out.dtype = weight.dtype;
  AOQ_ASSIGN(out.block_size, block_size_of(granularity, weight.shape));
  AOQ_ASSIGN(out.qparams, choose_qparams_affine(formula, weight, out.block_size));
  AOQ_ASSIGN(out.codes, quantize_affine(weight, out.block_size, out.qparams));
  return out;
}

QRange whole_range(DType dtype) {
  return {static_cast<std::int64_t>(dtype_info(dtype).min), static_cast<std::int64_t>(dtype_info(dtype).max)};
}

// A matrix in fp32.
struct Matrix {
  std::vector<float> values;
  std::int64_t rows = 0, columns = 0;
  const float* row(std::int64_t i) const { return values.data() + i * columns; }
};

Result<Matrix> matrix_of(TensorView x) {
  Matrix m;
  AOQ_ASSIGN(m.values, to_floats(x));
  m.columns = x.shape.back();
  m.rows = m.columns == 0 ? 0 : x.element_count() / m.columns;
  return m;
}

// Four columns side by side, so that a row is read once for all of them.
constexpr std::int64_t kColumns = 4;
struct Dots {
  float sum[kColumns] = {};
};

Dots dot(const float* a, const float* b, std::int64_t pitch, std::int64_t n) {
  constexpr std::size_t kLanes = 8;
  float sums[kColumns][kLanes] = {};
  const auto count = static_cast<std::size_t>(n), step = static_cast<std::size_t>(pitch);
  std::size_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    for (std::size_t j = 0; j < kColumns; ++j) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) sums[j][lane] += a[k + lane] * b[j * step + k + lane];
    }
  }
  Dots dots;
  for (std::size_t j = 0; j < kColumns; ++j) {
    for (std::size_t i = k; i < count; ++i) dots.sum[j] += a[i] * b[j * step + i];
    for (float s : sums[j]) dots.sum[j] += s;
  }
  return dots;
}

// store(m, n, sum over k of a[m, k] * b[n, k]) for every m and n.
template <class Store>
void for_each_dot(const Matrix& a, const Matrix& b, const Store& store) {
  for (std::int64_t n = 0; n < b.rows; n += kColumns) {
    const std::int64_t width = std::min(kColumns, b.rows - n);
    for (std::int64_t m = 0; m < a.rows; ++m) {
      // The last columns are read again and again rather than beyond the end.
      const Dots dots = dot(a.row(m), b.row(n), width == kColumns ? b.columns : 0, b.columns);
      if (width == kColumns) {
        for (std::int64_t j = 0; j < width; ++j) store(m, n + j, dots.sum[j]);
        continue;
      }
      for (std::int64_t j = 0; j < width; ++j) store(m, n + j, dot(a.row(m), b.row(n + j), 0, b.columns).sum[0]);
    }
  }
}

// Codes of the input, without their zero points, and what they are worth.
struct QuantizedInput {
  std::vector<std::int32_t> codes;
  std::vector<float> scale;              // one per row
  std::vector<std::int64_t> zero_point;  // one per row
  Tensor dequantized;
};

Result<QuantizedInput> quantize_input(const ActivationQuantization& how, TensorView x) {
  if (how.dtype != DType::i8 && how.dtype != DType::u8) {
    return error(Code::unsupported, "activations of {}, expected i8 or u8", dtype_name(how.dtype));
  }
  AOQ_ASSIGN(const std::vector<float> values, to_floats(x));
  for (float v : values) {
    if (!std::isfinite(v)) return error(Code::invalid_data, "an activation is {}, expected finite numbers", v);
  }
  AOQ_ASSIGN(const std::vector<std::int64_t> block, block_size_of(how.granularity, x.shape));
  QParams q;
  if (how.fixed) {
    AOQ_ASSIGN(const Blocks blocks, Blocks::make(x.shape, block));
    const auto count = static_cast<std::size_t>(blocks.count());
    q.dtype = how.dtype;
    q.range = whole_range(how.dtype);
    q.scale.assign(count, static_cast<float>(how.fixed->scale));
    q.zero_point.assign(count, how.fixed->zero_point);
  } else {
    const AffineFormula formula{how.mapping, how.dtype, whole_range(how.dtype), kInt8Eps, x.dtype, true, false};
    AOQ_ASSIGN(q, choose_qparams_affine(formula, x, block));
  }
  Tensor wide;
  TensorView arguments = x;
  if (how.fixed && how.fixed_dtype == DType::f32 && x.dtype != DType::f32) {
    AOQ_ASSIGN(wide, Tensor::make(DType::f32, {x.shape.begin(), x.shape.end()}));
    std::ranges::copy(values, wide.mutable_as<float>().begin());
    arguments = wide.view();
  }
  AOQ_ASSIGN(const Tensor codes, quantize_affine(arguments, block, q));
  QuantizedInput out;
  AOQ_ASSIGN(out.dequantized, dequantize_affine(codes.view(), block, q, x.dtype));
  for (std::int64_t i = 0; i < codes.element_count(); ++i) {
    out.codes.push_back(static_cast<std::int32_t>(load_integer(how.dtype, codes.bytes().data(), i)));
  }
  const std::int64_t rows = x.element_count() / x.shape.back();
  const std::int64_t rows_per_block = rows / static_cast<std::int64_t>(q.scale.size());
  for (std::int64_t i = 0; i < rows; ++i) {
    out.scale.push_back(q.scale[static_cast<std::size_t>(i / rows_per_block)]);
    out.zero_point.push_back(q.zero_point[static_cast<std::size_t>(i / rows_per_block)]);
  }
  return out;
}

// The input as codes of a float of 8 bits have it, in fp32.
Result<Tensor> through_float8(const ActivationQuantization& how, TensorView x) {
  AOQ_ASSIGN(const std::vector<std::int64_t> block, block_size_of(how.granularity, x.shape));
  Tensor scale;
  if (how.fixed) {
    AOQ_ASSIGN(scale, Tensor::make(DType::f32, std::vector<std::int64_t>(x.shape.size(), 1)));
    scale.mutable_as<float>()[0] = static_cast<float>(how.fixed->scale);
  } else {
    const float least = how.amax_min ? *how.amax_min : kLeastMagnitude;
    AOQ_ASSIGN(scale, choose_float8_scale(x, block, {how.dtype, Float8ScaleForm::f32, least, how.amax_max}));
  }
  AOQ_ASSIGN(const Tensor codes, quantize_float8(x, scale.view(), how.dtype));
  return dequantize_float8(codes.view(), scale.view(), DType::f32);
}

class Layer {
 public:
  Layer(const QuantizedWeight& weight, std::vector<float> bias)
      : weight_(weight), bias_(std::move(bias)), round_(weight.dtype) {}

  Result<Tensor> run(TensorView x) {
    std::vector<std::int64_t> shape(x.shape.begin(), x.shape.end());
    shape.back() = columns();
    AOQ_ASSIGN(y_, Tensor::make(weight_.dtype, shape));
    const bool whole_rows = weight_.block_size[1] == depth();
    if (weight_.product == Product::scaled && weight_.activation) {
      AOQ_TRY(scaled_integers(x));
    } else if (weight_.product == Product::scaled && whole_rows) {
      AOQ_TRY(scaled_codes(x));
    } else {
      AOQ_TRY(dequantized(x));
    }
    return std::move(y_);
  }

 private:
  std::int64_t columns() const { return weight_.outputs(); }
  std::int64_t depth() const { return weight_.inputs(); }
  float row_scale(std::int64_t n) const {
    const std::vector<float>& scale = weight_.qparams.scale;
    return scale.size() == 1 ? scale[0] : scale[static_cast<std::size_t>(n)];
  }
  float bias(std::int64_t n) const { return bias_.empty() ? 0.0f : bias_[static_cast<std::size_t>(n)]; }
  void store(std::int64_t m, std::int64_t n, float y) {
    store_from_double(weight_.dtype, y_.mutable_bytes().data(), m * columns() + n, y);
  }

  // sum(x * code) rounded, times the scale rounded, plus the bias.
  Status scaled_codes(TensorView x) {
    AOQ_ASSIGN(const Matrix a, matrix_of(x));
    Matrix codes{std::vector<float>(static_cast<std::size_t>(columns() * depth())), columns(), depth()};
    dtype_info(weight_.codes.dtype()).to_float(weight_.codes.bytes().data(), 0, codes.values);
    for_each_dot(a, codes, [&](std::int64_t m, std::int64_t n, float sum) {
      store(m, n, round_(round_(sum) * row_scale(n)) + bias(n));
    });
    return {};
  }

  // The exact sum of codes, times the input's scale, less the part of its zero point, times the weight's scale.
  Status scaled_integers(TensorView x) {
    AOQ_ASSIGN(const QuantizedInput a, quantize_input(*weight_.activation, x));
    if (weight_.codes.dtype() != DType::i8) return error(Code::invalid_argument, "weight codes are no i8");
    const std::span<const std::int8_t> w = weight_.codes.as<std::int8_t>();
    const auto depth_ = static_cast<std::size_t>(depth());
    for (std::size_t m = 0; m < a.scale.size(); ++m) {
      for (std::int64_t n = 0; n < columns(); ++n) {
        std::int64_t sum = 0, weight_sum = 0;
        const std::size_t row = static_cast<std::size_t>(n) * depth_;
        for (std::size_t k = 0; k < depth_; ++k) {
          sum += a.codes[m * depth_ + k] * w[row + k];
          weight_sum += w[row + k];
        }
        float y = round_(round_(static_cast<float>(sum)) * a.scale[m]);
        const float shift = round_(static_cast<float>(a.zero_point[m]) * a.scale[m]);
        y = round_(y - round_(shift * round_(static_cast<float>(weight_sum))));
        store(static_cast<std::int64_t>(m), n, round_(y * row_scale(n)) + bias(n));
      }
    }
    return {};
  }

  Status dequantized(TensorView x) {
    Tensor replaced;
    if (weight_.activation && is_float(weight_.activation->dtype)) {
      AOQ_ASSIGN(replaced, through_float8(*weight_.activation, x));
      x = replaced.view();
    } else if (weight_.activation) {
      AOQ_ASSIGN(QuantizedInput a, quantize_input(*weight_.activation, x));
      replaced = std::move(a.dequantized);
      x = replaced.view();
    }
    AOQ_ASSIGN(const Tensor w, dequantize(weight_));
    AOQ_ASSIGN(const Matrix a, matrix_of(x));
    AOQ_ASSIGN(const Matrix b, matrix_of(w.view()));
    for_each_dot(a, b, [&](std::int64_t m, std::int64_t n, float sum) { store(m, n, sum + bias(n)); });
    return {};
  }

  const QuantizedWeight& weight_;
  const std::vector<float> bias_;
  const Rounding round_;
  Tensor y_;
};

Result<Tensor> dequantize_float_codes(const QuantizedWeight& weight) {
  const Tensor& codes = weight.codes;
  std::vector<float> values(static_cast<std::size_t>(codes.element_count()));
  dtype_info(codes.dtype()).to_float(codes.bytes().data(), 0, values);
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(codes.shape(), weight.block_size));
  blocks.for_each_run([&](std::int64_t block, std::int64_t begin, std::int64_t size) {
    const float scale = weight.qparams.scale[static_cast<std::size_t>(block)];
    for (float& v : std::span(values).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size)))
      v *= scale;
  });
  AOQ_ASSIGN(Tensor out, Tensor::make(weight.dtype, codes.shape()));
  dtype_info(weight.dtype).from_float(values, out.mutable_bytes().data(), 0);
  return out;
}

Result<Tensor> pre_scaled(const QuantizedWeight& weight, TensorView x) {
  AOQ_ASSIGN(std::vector<float> values, to_floats(x));
  const Rounding round(x.dtype);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = round(values[i] * weight.pre_scale[i % weight.pre_scale.size()]);
  AOQ_ASSIGN(Tensor out, Tensor::make(x.dtype, {x.shape.begin(), x.shape.end()}));
  dtype_info(x.dtype).from_float(values, out.mutable_bytes().data(), 0);
  return out;
}

}  // namespace

Result<QuantizedWeight> float8_weight(TensorView weight, DType dtype, const Granularity& granularity) {
  AOQ_TRY(check_weight(weight));
  QuantizedWeight out;
  out.dtype = weight.dtype;
  AOQ_ASSIGN(out.block_size, block_size_of(granularity, weight.shape));
  const Float8Scaling scaling{dtype, Float8ScaleForm::f32, kLeastMagnitude, std::nullopt};
  AOQ_ASSIGN(const Tensor scale, choose_float8_scale(weight, out.block_size, scaling));
  AOQ_ASSIGN(out.codes, quantize_float8(weight, scale.view(), dtype));
  out.qparams.dtype = dtype;
  out.qparams.scale.assign(scale.as<float>().begin(), scale.as<float>().end());
  return out;
}

Result<QuantizedWeight> mx_weight(TensorView weight, const MxForm& form) {
  AOQ_TRY(check_weight(weight));
  AOQ_ASSIGN(MxTensor mx, quantize_mx(weight, form));
  QuantizedWeight out;
  out.dtype = weight.dtype;
  out.block_size = {1, form.block_size};
  out.qparams.dtype = form.element;
  out.qparams.scale.resize(static_cast<std::size_t>(mx.scales.element_count()));
  dtype_info(DType::f8_e8m0).to_float(mx.scales.bytes().data(), 0, out.qparams.scale);
  out.codes = std::move(mx.codes);
  return out;
}

Result<QuantizedWeight> nvfp4_weight(TensorView weight, Nvfp4Levels levels) {
  AOQ_TRY(check_weight(weight));
  std::optional<float> tensor_scale;
  if (levels == Nvfp4Levels::two) {
    AOQ_ASSIGN(tensor_scale, nvfp4_tensor_scale(weight));
  }
  AOQ_ASSIGN(Nvfp4Tensor blocks, quantize_nvfp4(weight, tensor_scale));
  QuantizedWeight out;
  out.dtype = weight.dtype;
  out.block_size = {1, kNvfp4BlockSize};
  out.qparams.dtype = DType::f4_e2m1;
  out.qparams.scale.resize(static_cast<std::size_t>(blocks.scales.element_count()));
  dtype_info(DType::f8_e4m3fn).to_float(blocks.scales.bytes().data(), 0, out.qparams.scale);
  for (float& scale : out.qparams.scale) scale *= tensor_scale.value_or(1.0f);
  out.codes = std::move(blocks.codes);
  return out;
}

Result<QuantizedWeight> codebook_weight(TensorView weight, const CodebookForm& form) {
  AOQ_TRY(check_weight(weight));
  QuantizedWeight out;
  out.dtype = weight.dtype;
  out.block_size = form.block_size;
  AOQ_ASSIGN(out.codebook, choose_codebook(weight, form));
  AOQ_ASSIGN(out.codes, quantize_codebook(weight, *out.codebook, form.code_dtype));
  return out;
}

std::int64_t QuantizedWeight::inputs() const {
  return codebook ? codes.shape()[1] * block_size[1] : codes.shape()[1];
}
std::int64_t QuantizedWeight::outputs() const {
  return codebook ? codes.shape()[0] * block_size[0] : codes.shape()[0];
}

std::vector<std::int64_t> QuantizedWeight::parameter_shape() const {
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < block_size.size(); ++i) shape.push_back(codes.shape()[i] / block_size[i]);
  return shape;
}

Result<QuantizedWeight> int8_weight(TensorView weight, const Granularity& granularity) {
  const AffineFormula formula{
      MappingType::symmetric, DType::i8, whole_range(DType::i8), kInt8Eps, weight.dtype, true, false};
  AOQ_ASSIGN(QuantizedWeight out, affine_weight(weight, granularity, formula));
  out.product = Product::scaled;
  return out;
}

Result<QuantizedWeight> intx_weight(TensorView weight, const IntxForm& form) {
  const bool fits = is_signed_integer(form.dtype) && dtype_info(form.dtype).bits <= 8;
  if (!fits) return error(Code::invalid_argument, "weight codes of {}, expected i1 to i8", dtype_name(form.dtype));
  const bool by_group = form.granularity.kind == Granularity::Kind::group;
  if (!by_group && form.granularity != Granularity{Granularity::Kind::axis, 0}) {
    return error(Code::invalid_argument, "granularity is {}, expected PerGroup(g) or PerAxis(0)",
                 to_string(form.granularity));
  }
  const AffineFormula formula{
      form.mapping, form.dtype, whole_range(form.dtype), machine_epsilon(weight.dtype), weight.dtype, true, false};
  AOQ_ASSIGN(QuantizedWeight out, affine_weight(weight, form.granularity, formula));
  if (form.scale_dtype) {
    const Rounding round(*form.scale_dtype);
    for (float& scale : out.qparams.scale) scale = round(scale);
  }
  return out;
}

Result<QuantizedWeight> uintx_weight(TensorView weight, DType dtype, std::int64_t group_size) {
  const AffineFormula formula{MappingType::asymmetric, dtype, whole_range(dtype), kInt8Eps, weight.dtype, true, false};
  return affine_weight(weight, {Granularity::Kind::group, group_size}, formula);
}

Result<QuantizedWeight> int4_weight(TensorView weight, std::int64_t group_size) {
  AOQ_TRY(check_weight(weight));
  QuantizedWeight out;
  out.dtype = weight.dtype;
  AOQ_ASSIGN(out.block_size, block_size_of({Granularity::Kind::group, group_size}, weight.shape));
  AOQ_ASSIGN(const Blocks blocks, Blocks::make(weight.shape, out.block_size));
  AOQ_ASSIGN(const BlockRanges ranges, block_ranges(weight, blocks));
  out.qparams.dtype = DType::u4;
  out.qparams.range = whole_range(DType::u4);
  for (std::size_t b = 0; b < ranges.min.size(); ++b) {
    const float scale = std::max(ranges.max[b] - ranges.min[b], 1e-6f) / 15.0f;
    out.qparams.scale.push_back(scale);
    out.qparams.float_zero_point.push_back(ranges.min[b] + 8.0f * scale);
  }
  AOQ_ASSIGN(const std::vector<float> values, to_floats(weight));
  AOQ_ASSIGN(out.codes, Tensor::make(DType::u4, {weight.shape.begin(), weight.shape.end()}));
  std::byte* codes = out.codes.mutable_bytes().data();
  blocks.for_each_run([&](std::int64_t block, std::int64_t begin, std::int64_t size) {
    const auto b = static_cast<std::size_t>(block);
    for (std::int64_t i = begin; i < begin + size; ++i) {
      const float code = std::nearbyintf((values[static_cast<std::size_t>(i)] - ranges.min[b]) / out.qparams.scale[b]);
      // No number where the range overflows, whose scale is refused later.
      store_integer(DType::u4, codes, i, code > 0.0f ? static_cast<std::int64_t>(std::min(code, 15.0f)) : 0);
    }
  });
  const Rounding round(weight.dtype);
  for (float& v : out.qparams.scale) v = round(v);
  for (float& v : out.qparams.float_zero_point) v = round(v);
  return out;
}

Result<Tensor> dequantize(const QuantizedWeight& weight) {
  if (weight.codebook) return dequantize_codebook(weight.codes.view(), *weight.codebook, weight.dtype);
  if (is_float(weight.codes.dtype())) return dequantize_float_codes(weight);
  if (weight.qparams.float_zero_point.empty()) {
    return dequantize_affine(weight.codes.view(), weight.block_size, weight.qparams, weight.dtype);
  }
  return dequantize_tinygemm(weight.codes.view(), weight.block_size, weight.qparams, weight.dtype);
}

Result<Tensor> linear(const QuantizedWeight& weight, TensorView x, const Tensor* bias) {
  const std::int64_t depth = weight.inputs();
  if (x.dtype != weight.dtype || x.shape.empty() || x.shape.back() != depth) {
    return error(Code::invalid_argument, "input is {}{}, expected {}[..., {}]", dtype_name(x.dtype),
                 shape_to_string(x.shape), dtype_name(weight.dtype), depth);
  }
  std::vector<float> bias_values;
  if (bias != nullptr) {
    AOQ_ASSIGN(bias_values, to_floats(bias->view()));
    if (static_cast<std::int64_t>(bias_values.size()) != weight.outputs()) {
      return error(Code::invalid_argument, "bias has {} elements, expected {}", bias_values.size(), weight.outputs());
    }
  }
  Tensor scaled;
  if (!weight.pre_scale.empty()) {
    if (static_cast<std::int64_t>(weight.pre_scale.size()) != depth) {
      return error(Code::invalid_argument, "pre_scale has {} elements, expected {}", weight.pre_scale.size(), depth);
    }
    AOQ_ASSIGN(scaled, pre_scaled(weight, x));
    x = scaled.view();
  }
  return Layer(weight, std::move(bias_values)).run(x);
}

}  // namespace aoq::torchao
