// The rounding that gptq works for.
#include <algorithm>
#include <cmath>

#include "ir/float_format.h"
#include "passes/algorithms/gptq.h"
#include "passes/quantize/arithmetic.h"
#include "passes/quantize/block_codes.h"
#include "passes/quantize/nvfp4.h"
#include "passes/quantize/torch_math.h"

namespace aoq {
namespace {

// A comparison that NaN fails sends it to the lowest code.
std::int64_t rounded(float v, QRange range) {
  const float r = std::nearbyintf(v);
  if (!(r > static_cast<float>(range.min))) return range.min;
  return static_cast<std::int64_t>(std::min(r, static_cast<float>(range.max)));
}

class Int8Rows final : public RowQuantizer {
 public:
  explicit Int8Rows(DType parameters) : round_(parameters) {}

  std::int64_t group_size() const override { return 0; }
  void set_size(std::int64_t rows, std::int64_t) override { scale_.assign(static_cast<std::size_t>(rows), 1.0f); }
  void choose(std::int64_t row, std::int64_t, std::span<const float> weights) override {
    const torch_math::Range r = torch_math::aminmax(weights);
    scale_[row] = round_(std::max(std::max({-r.min, r.max, 0.0f}) / 127.5f, 0x1p-23f));
  }
  std::int64_t code(std::int64_t row, std::int64_t, float weight) const override {
    // The inverse of a scale can be beyond f16.
    return weight == 0 ? 0 : rounded(round_(weight * round_(1.0f / scale_[row])), kRange);
  }
  float value(std::int64_t row, std::int64_t, std::int64_t code) const override {
    return static_cast<float>(code) * scale_[row];
  }
  QParams qparams() const override {
    QParams q;
    q.dtype = DType::i8;
    q.range = kRange;
    q.scale = scale_;
    q.zero_point.assign(scale_.size(), 0);
    return q;
  }

 private:
  static constexpr QRange kRange{-128, 127};
  Rounding round_;
  std::vector<float> scale_;
};

class Int4Groups final : public RowQuantizer {
 public:
  Int4Groups(std::int64_t group_size, DType parameters) : group_size_(group_size), round_(parameters) {}

  std::int64_t group_size() const override { return group_size_; }
  void set_size(std::int64_t rows, std::int64_t groups) override {
    groups_ = groups;
    scale_.assign(static_cast<std::size_t>(rows * groups), 1.0f);
    zero_.assign(scale_.size(), 0.0f);
  }
  void choose(std::int64_t row, std::int64_t group, std::span<const float> weights) override {
    const torch_math::Range r = torch_math::aminmax(weights);
    const float scale = std::max(r.max - r.min, 1e-6f) / 15.0f;
    scale_[at(row, group)] = scale;
    zero_[at(row, group)] = r.min + 8.0f * scale;
  }
  std::int64_t code(std::int64_t row, std::int64_t group, float weight) const override {
    return rounded((weight - lowest(row, group)) / scale_[at(row, group)], kRange);
  }
  float value(std::int64_t row, std::int64_t group, std::int64_t code) const override {
    return static_cast<float>(code) * scale_[at(row, group)] + lowest(row, group);
  }
  QParams qparams() const override {
    QParams q;
    q.dtype = DType::u4;
    q.range = kRange;
    for (float scale : scale_) q.scale.push_back(round_(scale));
    for (float zero : zero_) q.float_zero_point.push_back(round_(zero));
    return q;
  }

 private:
  static constexpr QRange kRange{0, 15};
  std::size_t at(std::int64_t row, std::int64_t group) const { return static_cast<std::size_t>(row * groups_ + group); }
  float lowest(std::int64_t row, std::int64_t group) const {
    return zero_[at(row, group)] - scale_[at(row, group)] * 8.0f;
  }

  std::int64_t group_size_;
  Rounding round_;
  std::int64_t groups_ = 1;
  std::vector<float> scale_, zero_;
};

class Nvfp4Blocks final : public RowQuantizer {
 public:
  Nvfp4Blocks(float tensor_scale, FloatFormat format) : tensor_scale_(tensor_scale), format_(format) {}

  std::int64_t group_size() const override { return kNvfp4BlockSize; }
  void set_size(std::int64_t rows, std::int64_t groups) override {
    groups_ = groups;
    scale_.assign(static_cast<std::size_t>(rows * groups), 1.0f);
  }
  void choose(std::int64_t row, std::int64_t group, std::span<const float> weights) override {
    scale_[at(row, group)] = nvfp4_block_scale(largest_magnitude(weights), tensor_scale_);
  }
  std::int64_t code(std::int64_t row, std::int64_t group, float weight) const override {
    return encode_float(format_, weight * factor(row, group), FloatOverflow::saturate);
  }
  float value(std::int64_t row, std::int64_t group, std::int64_t code) const override {
    return static_cast<float>(decode_float(format_, static_cast<std::uint32_t>(code))) / factor(row, group);
  }
  QParams qparams() const override {
    QParams q;
    q.dtype = DType::f4_e2m1;
    for (float scale : scale_) q.scale.push_back(scale * tensor_scale_);
    return q;
  }

 private:
  std::size_t at(std::int64_t row, std::int64_t group) const { return static_cast<std::size_t>(row * groups_ + group); }
  float factor(std::int64_t row, std::int64_t group) const { return (1.0f / tensor_scale_) / scale_[at(row, group)]; }

  float tensor_scale_;
  FloatFormat format_;
  std::int64_t groups_ = 1;
  std::vector<float> scale_;  // of blocks
};

}  // namespace

Result<std::unique_ptr<RowQuantizer>> nvfp4_block_quantizer(TensorView weight) {
  AOQ_ASSIGN(const float tensor_scale, nvfp4_tensor_scale(weight));
  AOQ_ASSIGN(const FloatFormat format, float_format_of(DType::f4_e2m1));
  return std::unique_ptr<RowQuantizer>(std::make_unique<Nvfp4Blocks>(tensor_scale, format));
}

std::unique_ptr<RowQuantizer> int8_row_quantizer(DType parameters) {
  return std::make_unique<Int8Rows>(parameters);
}

std::unique_ptr<RowQuantizer> int4_group_quantizer(std::int64_t group_size, DType parameters) {
  return std::make_unique<Int4Groups>(group_size, parameters);
}

}  // namespace aoq
