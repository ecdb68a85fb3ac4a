// GPTQ: rounds a weight column by column and lets the columns to come make up for the error, as the layer's inputs
// weigh it (Frantar et al., 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
// algorithm 1; pytorch-semantics D.13).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/qparams.h"

namespace aoq {

// H = 2 * mean over batches of (x^T x), kept up to date in K * K floats however much data pass. Not thread-safe.
class GptqObserver {
 public:
  // resource_limit where memory ends.
  static Result<GptqObserver> make(std::int64_t features);

  // x [..., K] in f32, bf16 or f16. A matrix is one batch, any other rank as many as its first dimension says.
  // invalid_argument for another K, invalid_data for NaN and infinity; neither changes the sums.
  Status observe(TensorView x);

  std::int64_t batches() const { return batches_; }
  // f32 [K, K]. invalid_data before the first batch.
  Result<Tensor> hessian() const;

 private:
  GptqObserver(std::int64_t features, Tensor sums) : features_(features), sums_(std::move(sums)) {}
  void add_row_tile(std::span<const float> rows);

  std::int64_t features_;
  std::int64_t batches_ = 0;
  Tensor sums_;  // the half on and above the diagonal
};

// How the numbers of a row are rounded. Parameters are chosen once per row and group, from the weights as they are when
// the group's first column is reached.
class RowQuantizer {
 public:
  virtual ~RowQuantizer() = default;
  // Elements of a row that share parameters; 0: all of them.
  virtual std::int64_t group_size() const = 0;
  // Called once, before the others.
  virtual void set_size(std::int64_t rows, std::int64_t groups) = 0;
  virtual void choose(std::int64_t row, std::int64_t group, std::span<const float> weights) = 0;
  // A code, the bits of one of floats.
  virtual std::int64_t code(std::int64_t row, std::int64_t group, float weight) const = 0;
  virtual float value(std::int64_t row, std::int64_t group, std::int64_t code) const = 0;
  // Of all rows and groups, in the order of Blocks.
  virtual QParams qparams() const = 0;
};

// `parameters` is the weight's type: f32, bf16 or f16. Scales and zero points are numbers of it in the end.
// i8 codes with one symmetric scale per row, in the arithmetic of that type.
std::unique_ptr<RowQuantizer> int8_row_quantizer(DType parameters = DType::f32);
// u4 codes with a scale and a float zero point, the value of code 8, per group; codes are chosen with both in f32.
std::unique_ptr<RowQuantizer> int4_group_quantizer(std::int64_t group_size, DType parameters = DType::f32);
// f4_e2m1 codes in blocks of 16 with the scale of the tensor as it is given; its qparams are without zero points.
// Errors are those of nvfp4_tensor_scale.
Result<std::unique_ptr<RowQuantizer>> nvfp4_block_quantizer(TensorView weight);

struct GptqOptions {
  double damping = 0.01;          // of the mean diagonal, added to the diagonal (percdamp)
  std::int64_t block_size = 256;  // columns between updates of all the rest
};

struct GptqWeight {
  Tensor codes;  // of the quantizer's type, [N, K]
  std::vector<std::int64_t> block_size;
  QParams qparams;
};

// weight [N, K] in f32, bf16 or f16; hessian f32 [K, K]. Errors are f32; the weights that make up for them are rounded
// to their type at every step, as PyTorch's updates in place are. A feature that never was anything but 0 has weight 0.
// Parameters of a group that is longer than a block come from its first block alone. invalid_argument for shapes that
// do not fit, and for blocks and groups of which neither is a multiple of the other; invalid_data for NaN, infinity,
// and a Hessian that is not positive definite after damping. Time is about K^3 + N * K^2; memory 3 * K^2 floats.
Result<GptqWeight> gptq_quantize(TensorView weight, const Tensor& hessian, std::unique_ptr<RowQuantizer> quantizer,
                                 const GptqOptions& options = {});

}  // namespace aoq
