#include "passes/algorithms/gptq.h"

#include <algorithm>
#include <cmath>

#include "passes/algorithms/cholesky.h"
#include "passes/algorithms/weight_matrix.h"
#include "passes/quantize/block_codes.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

struct Layout {
  std::int64_t columns;
  std::int64_t group_size;
  std::int64_t block_size;
};

Status check_layout(const Layout& l) {
  AOQ_TRY(check_group_size("gptq", l.group_size, l.columns));
  if (l.block_size < 1) return error(Code::invalid_argument, "gptq: blocks of {} columns", l.block_size);
  const bool is_one = l.group_size == l.columns;
  if (is_one || l.block_size % l.group_size == 0 || l.group_size % l.block_size == 0) return {};
  return error(Code::invalid_argument, "gptq: blocks of {} columns and groups of {}, expected a multiple", l.block_size,
               l.group_size);
}

// Features that never were anything but 0 get weight 0 and a 1 on the diagonal.
void settle_dead_features(std::vector<float>& hessian, WeightMatrix& weight) {
  const std::int64_t n = weight.columns;
  for (std::int64_t d = 0; d < n; ++d) {
    if (hessian[d * n + d] != 0) continue;
    hessian[d * n + d] = 1;
    for (std::int64_t r = 0; r < weight.rows; ++r) weight.row(r)[d] = 0;
  }
}

// The upper factor U of the inverse of the damped Hessian, H^-1 = U^T U.
Result<std::vector<float>> inverse_factor(std::vector<float> hessian, std::int64_t n, double damping) {
  std::vector<float> diagonal;
  for (std::int64_t d = 0; d < n; ++d) diagonal.push_back(hessian[d * n + d]);
  const float mean = torch_math::sum(diagonal) / static_cast<float>(n);
  for (std::int64_t d = 0; d < n; ++d) hessian[d * n + d] += static_cast<float>(damping) * mean;
  Status factored = cholesky_lower(hessian, n);
  if (!factored.ok()) {
    return std::move(factored).with_context(
        fmt::format("gptq: the Hessian, damped by {} of its mean diagonal {}", damping, mean));
  }
  std::vector<float> inverse = inverse_of_cholesky(hessian, n);
  Status again = cholesky_lower(inverse, n);
  if (!again.ok()) return std::move(again).with_context("gptq: the inverse of the Hessian");
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      inverse[j * n + i] = inverse[i * n + j];
      inverse[i * n + j] = 0;
    }
  }
  return inverse;
}

// Keeps weights in the type of the model's, as an update in place does.
class WeightRounding {
 public:
  WeightRounding(DType dtype, std::int64_t columns)
      : info_(dtype_info(dtype)), codes_(dtype == DType::f32 ? 0 : static_cast<std::size_t>(columns) * 2) {}

  void operator()(std::span<float> weights) {
    if (codes_.empty()) return;
    info_.from_float(weights, codes_.data(), 0);
    info_.to_float(codes_.data(), 0, weights);
  }

 private:
  const DTypeInfo& info_;
  std::vector<std::byte> codes_;
};

// The columns of one block, in one row.
struct BlockRow {
  std::int64_t row, begin, end;
  std::span<float> weights;  // of the whole row
  std::span<float> errors;   // one per column of the block
  WeightRounding& round;

  std::span<float> weights_from(std::int64_t first, std::int64_t last) const {
    return weights.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first));
  }
};

void round_block_row(const BlockRow& b, const std::vector<float>& factor, const Layout& layout, RowQuantizer& q) {
  for (std::int64_t k = b.begin; k < b.end; ++k) {
    const std::int64_t group = k / layout.group_size;
    if (k % layout.group_size == 0) {
      q.choose(b.row, group, b.weights_from(k, std::min(k + layout.group_size, b.end)));
    }
    const float* u = factor.data() + k * layout.columns;
    const float nearest = q.value(b.row, group, q.code(b.row, group, b.weights[k]));
    const float error = (b.weights[k] - nearest) / u[k];
    for (std::int64_t j = k; j < b.end; ++j) b.weights[j] -= error * u[j];
    b.round(b.weights_from(k, b.end));
    b.errors[k - b.begin] = error;
  }
}

// The columns behind the block make up for its errors.
void spread_errors(const BlockRow& b, const std::vector<float>& factor, std::span<float> sums) {
  const std::int64_t columns = static_cast<std::int64_t>(b.weights.size());
  std::ranges::fill(sums, 0.0f);
  for (std::int64_t k = b.begin; k < b.end; ++k) {
    const float* u = factor.data() + k * columns;
    const float error = b.errors[k - b.begin];
    for (std::int64_t j = b.end; j < columns; ++j) sums[j] += error * u[j];
  }
  for (std::int64_t j = b.end; j < columns; ++j) b.weights[j] -= sums[j];
  b.round(b.weights_from(b.end, columns));
}

struct Rounded {
  const std::vector<float>& factor;
  Layout layout;
  DType dtype;  // of the weight
};

void round_weight(WeightMatrix& weight, const Rounded& how, RowQuantizer& q) {
  const auto& [factor, layout, dtype] = how;
  WeightRounding round(dtype, layout.columns);
  std::vector<float> errors(static_cast<std::size_t>(std::min(layout.block_size, layout.columns)));
  std::vector<float> sums(static_cast<std::size_t>(layout.columns));
  for (std::int64_t begin = 0; begin < layout.columns; begin += layout.block_size) {
    const std::int64_t end = std::min(begin + layout.block_size, layout.columns);
    for (std::int64_t r = 0; r < weight.rows; ++r) {
      const BlockRow b{r, begin, end, weight.row(r), errors, round};
      round_block_row(b, factor, layout, q);
      spread_errors(b, factor, sums);
    }
  }
}

Result<std::vector<float>> hessian_values(const Tensor& hessian, std::int64_t columns) {
  const bool fits = hessian.dtype() == DType::f32 && hessian.shape() == std::vector<std::int64_t>{columns, columns};
  if (!fits) {
    return error(Code::invalid_argument, "gptq: a Hessian of {} {} for {} features, expected f32 of both",
                 dtype_name(hessian.dtype()), shape_to_string(hessian.shape()), columns);
  }
  const std::span<const float> h = hessian.as<float>();
  for (std::size_t i = 0; i < h.size(); ++i) {
    if (!std::isfinite(h[i])) return error(Code::invalid_data, "gptq: Hessian element {} is {}", i, h[i]);
  }
  return std::vector<float>(h.begin(), h.end());
}

}  // namespace

Result<GptqWeight> gptq_quantize(TensorView weight, const Tensor& hessian, std::unique_ptr<RowQuantizer> quantizer,
                                 const GptqOptions& options) {
  AOQ_ASSIGN(WeightMatrix w, weight_matrix("gptq", weight));
  const std::int64_t asked = quantizer->group_size();
  const Layout layout{w.columns, asked == 0 ? w.columns : asked, options.block_size};
  AOQ_TRY(check_layout(layout));
  AOQ_ASSIGN(std::vector<float> h, hessian_values(hessian, w.columns));
  settle_dead_features(h, w);
  AOQ_ASSIGN(const std::vector<float> factor, inverse_factor(std::move(h), w.columns, options.damping));
  quantizer->set_size(w.rows, w.columns / layout.group_size);
  round_weight(w, {factor, layout, weight.dtype}, *quantizer);
  GptqWeight out;
  out.block_size = {1, layout.group_size};
  out.qparams = quantizer->qparams();
  AOQ_ASSIGN(out.codes, Tensor::make(out.qparams.dtype, {w.rows, w.columns}));
  std::byte* codes = out.codes.mutable_bytes().data();
  for (std::int64_t i = 0; i < w.rows * w.columns; ++i) {
    const std::int64_t row = i / w.columns, group = i % w.columns / layout.group_size;
    const std::int64_t code = quantizer->code(row, group, w.values[i]);
    if (is_float(out.qparams.dtype)) {
      store_code(out.qparams.dtype, codes, i, static_cast<std::uint32_t>(code));
    } else {
      store_integer(out.qparams.dtype, codes, i, code);
    }
  }
  return out;
}

}  // namespace aoq
