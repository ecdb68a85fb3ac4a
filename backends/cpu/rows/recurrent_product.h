// The products of recurrent kernels: a linear layer [rows, depth] -> [rows, columns] with weights of its own, in f32 or
// with i8 weights and activations that are quantized in every run.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/rows/row.h"
#include "ir/ops/recurrent.h"

namespace aoq::cpu {

class Product {
 public:
  virtual ~Product() = default;
  virtual std::uint64_t scratch_bytes() const = 0;
  // `scratch` is 64-byte aligned. invalid_data for activations that cannot be quantized.
  virtual Status run(const RunContext& c, const float* x, float* out, std::byte* scratch) const = 0;
};

struct ProductShape {
  std::int64_t rows, depth, columns;
};

// Weights [columns, depth]; they are copied.
Result<std::unique_ptr<Product>> make_float_product(const PrepareContext& context, const ProductShape& shape,
                                                    const float* weights);

// The operands of a quantized weight [d, columns, depth]: codes, and a scale for each of the d * columns rows.
struct DynamicWeights {
  const std::int8_t* codes = nullptr;
  std::vector<float> scale;
};
Result<DynamicWeights> dynamic_weights(const PrepareContext& context, std::size_t codes, std::size_t scale,
                                       std::int64_t rows);

// A linear as ir/ops/quantized_recurrent.h defines it: dynamic with the node's reduce_range, or with a given scale.
struct DynamicProductData {
  const std::int8_t* codes;  // [columns, depth]
  const float* scale;        // [columns]
  const float* bias;         // [columns]
  std::optional<ops::CodeQParams> x = {};
};
Result<std::unique_ptr<Product>> make_dynamic_product(const PrepareContext& context, const ProductShape& shape,
                                                      const DynamicProductData& data);

// The pieces of a product for the pool.
struct ProductWork {
  Split split;
  std::uint64_t worker_bytes = 0;

  std::uint64_t scratch_bytes() const { return worker_bytes * static_cast<std::uint64_t>(split.workers); }
  std::byte* of_worker(std::byte* scratch, int worker) const {
    return scratch + worker_bytes * static_cast<std::uint64_t>(worker);
  }
};

// A qlinear from codes to codes whose x may have one of several scales.
class CodeProduct {
 public:
  struct Data {
    const std::int8_t* codes;  // [columns, depth]; copied
    const float* scale;        // [columns]
    const float* bias;         // [columns], or null
    std::span<const ops::CodeQParams> x;
    ops::CodeQParams out;
  };
  static Result<CodeProduct> make(const PrepareContext& context, const ProductShape& shape, const Data& data);

  std::uint64_t scratch_bytes() const { return work_.scratch_bytes(); }
  // x is [rows, depth] of scale number `source`; scratch is 64-byte aligned.
  void run(const RunContext& c, std::size_t source, const std::byte* x, std::byte* out, std::byte* scratch) const;

 private:
  struct Source {
    std::int32_t zero_point = 0;
    std::vector<float> bias, multiplier;  // as the kernel's epilogue reads them
  };
  ConvS8Plan plan_;
  Tensor weights_;
  ProductWork work_;
  std::vector<Source> sources_;
};

}  // namespace aoq::cpu
