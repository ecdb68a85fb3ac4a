// The products of recurrent kernels: a linear layer [rows, depth] -> [rows, columns] with weights of its own, in f32 or
// with i8 weights and activations that are quantized in every run.
#pragma once

#include <memory>
#include <vector>

#include "backends/cpu/rows/row.h"

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

// A dynamic linear as ir/ops/quantized_recurrent.h defines it, with the node's reduce_range.
struct DynamicProductData {
  const std::int8_t* codes;  // [columns, depth]
  const float* scale;        // [columns]
  const float* bias;         // [columns]
};
Result<std::unique_ptr<Product>> make_dynamic_product(const PrepareContext& context, const ProductShape& shape,
                                                      const DynamicProductData& data);

}  // namespace aoq::cpu
