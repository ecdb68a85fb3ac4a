#include "backends/cpu/rows/recurrent_product.h"

#include <cmath>

#include "backends/cpu/kernels/conv_f32.h"
#include "backends/cpu/kernels/conv_s8.h"
#include "backends/cpu/kernels/quantize.h"
#include "ir/dynamic_qparams.h"

namespace aoq::cpu {
namespace {

template <typename Plan>
ProductWork work_of(const PrepareContext& context, const ProductShape& s, const Plan& plan) {
  const std::int64_t units = std::max<std::int64_t>(plan.units, 1);
  return {split_work(plan.units, s.rows * s.depth * s.columns / 8 / units + 1, context),
          static_cast<std::uint64_t>(bytes_to_cache_line(plan.scratch_bytes))};
}

class FloatProduct final : public Product {
 public:
  ConvF32Plan plan;
  Tensor weights;
  ProductWork work;

  std::uint64_t scratch_bytes() const override { return work.scratch_bytes(); }
  Status run(const RunContext& c, const float* x, float* out, std::byte* scratch) const override {
    const ConvF32Args args{.x = x, .weights = weights.bytes().data(), .out = out};
    run_split(c, work.split, [&](int worker, std::int64_t begin, std::int64_t end) {
      run_conv_f32(plan, args, begin, end, work.of_worker(scratch, worker));
    });
    return {};
  }
};

class DynamicProduct final : public Product {
 public:
  ConvS8Plan plan;
  Tensor weights;
  ProductWork work;
  std::vector<float> bias, scale;  // as the kernel's epilogue reads them
  DynamicQParams how;
  std::optional<ops::CodeQParams> fixed;  // in place of what `how` chooses
  std::int64_t elements = 0;              // of x

  std::uint64_t code_bytes() const { return static_cast<std::uint64_t>(bytes_to_cache_line(elements)); }
  std::uint64_t scratch_bytes() const override { return code_bytes() + work.scratch_bytes(); }

  // The activations are few beside the weights: they are quantized on the caller's thread.
  Status run(const RunContext& c, const float* x, float* out, std::byte* scratch) const override {
    const Range range = range_of(plan.isa, x, elements);
    if (!std::isfinite(range.min) || !std::isfinite(range.max)) {
      return error(Code::invalid_data, "an activation is not finite, expected finite numbers");
    }
    ChosenQParams q;
    if (fixed) {
      q = {fixed->scale, fixed->zero_point};
    } else {
      AOQ_ASSIGN(q, choose_dynamic_qparams(how, range.min, range.max));
    }
    quantize_f32(plan.isa, {.inv_scale = 1.0f / q.scale, .zero_point = q.zero_point}, x, scratch, elements);
    ConvS8Args args{.x = scratch, .x_zero_point = q.zero_point, .weights = weights.bytes().data()};
    args.epilogue = {bias.data(), scale.data(), q.scale, nullptr, out};
    std::byte* rest = scratch + code_bytes();
    run_split(c, work.split, [&](int worker, std::int64_t begin, std::int64_t end) {
      run_conv_s8(plan, args, begin, end, work.of_worker(rest, worker));
    });
    return {};
  }
};

std::vector<float> spread(const ConvDims& dims, const float* values) {
  std::vector<float> padded(static_cast<std::size_t>(padded_channels(dims)));
  spread_channels(dims, {values, static_cast<std::size_t>(dims.out_c)}, padded);
  return padded;
}

}  // namespace

Result<std::unique_ptr<Product>> make_float_product(const PrepareContext& context, const ProductShape& s,
                                                    const float* weights) {
  const ConvDims dims = dims_of_linear(s.rows, s.depth, s.columns);
  auto p = std::make_unique<FloatProduct>();
  p->plan = plan_conv_f32(dims, {}, best_isa());
  AOQ_ASSIGN(p->weights, Tensor::make(DType::u8, {packed_bytes_conv_f32(dims)}));
  pack_conv_f32(dims, weights, p->weights.mutable_bytes());
  p->work = work_of(context, s, p->plan);
  return std::unique_ptr<Product>(std::move(p));
}

Result<DynamicWeights> dynamic_weights(const PrepareContext& context, std::size_t codes, std::size_t scale,
                                       std::int64_t rows) {
  const Tensor* tensor = constant_input(context, codes);
  if (tensor == nullptr || tensor->dtype() != DType::i8) return refuse("the weights are no i8 constants");
  DynamicWeights w{reinterpret_cast<const std::int8_t*>(tensor->bytes().data()), {}};
  const std::int64_t scales = element_count(context.inputs[scale]);
  AOQ_ASSIGN(const std::vector<float> given, float_constants(context, scale, scales));
  for (std::int64_t i = 0; i < rows; ++i) {
    w.scale.push_back(given[static_cast<std::size_t>(i / (rows / scales))]);
    if (std::isfinite(w.scale.back()) && w.scale.back() > 0.0f) continue;
    return refuse("weight scale {} is {}", i, w.scale.back());
  }
  return w;
}

Result<std::unique_ptr<Product>> make_dynamic_product(const PrepareContext& context, const ProductShape& s,
                                                      const DynamicProductData& data) {
  if (s.depth > kMaxExactProducts) {
    return refuse("a result sums {} products, more than {}, the limit of an exact int32 sum", s.depth,
                  kMaxExactProducts);
  }
  const ConvDims dims = dims_of_linear(s.rows, s.depth, s.columns);
  auto p = std::make_unique<DynamicProduct>();
  p->plan = plan_conv_s8(dims, DType::u8, {.out_type = DType::f32}, best_isa());
  AOQ_ASSIGN(p->weights, Tensor::make(DType::u8, {packed_bytes_conv_s8(dims)}));
  pack_conv_s8(dims, data.codes, p->weights.mutable_bytes());
  p->bias = spread(dims, data.bias);
  p->scale = spread(dims, data.scale);
  p->how.formula = DynamicQParams::Formula::aten;
  if (context.attributes.boolean("reduce_range")) p->how.range = {0, 127};
  p->fixed = data.x;
  p->elements = s.rows * s.depth;
  p->work = work_of(context, s, p->plan);
  return std::unique_ptr<Product>(std::move(p));
}

Result<CodeProduct> CodeProduct::make(const PrepareContext& context, const ProductShape& s, const Data& data) {
  if (s.depth > kMaxExactProducts) {
    return refuse("a result sums {} products, more than {}, the limit of an exact int32 sum", s.depth,
                  kMaxExactProducts);
  }
  const ConvDims dims = dims_of_linear(s.rows, s.depth, s.columns);
  CodeProduct p;
  p.plan_ = plan_conv_s8(dims, DType::u8, {.bounds = full_bounds(DType::u8, data.out.zero_point)}, best_isa());
  AOQ_ASSIGN(p.weights_, Tensor::make(DType::u8, {packed_bytes_conv_s8(dims)}));
  pack_conv_s8(dims, data.codes, p.weights_.mutable_bytes());
  const auto columns = static_cast<std::size_t>(s.columns);
  std::vector<float> b(columns), m(columns);
  for (const ops::CodeQParams& x : data.x) {
    RequantSource source{.weight_scales = {data.scale, columns}, .x_scale = x.scale, .out_scale = data.out.scale};
    if (data.bias != nullptr) source.bias = {data.bias, columns};
    prepare_epilogue(source, b, m);
    const bool is_sound = std::ranges::all_of(b, [](float v) { return std::isfinite(v); }) &&
                          std::ranges::all_of(m, [](float v) { return std::isfinite(v) && v > 0.0f; });
    if (!is_sound) return refuse("a scale or bias is out of the range of f32");
    p.sources_.push_back({x.zero_point, spread(dims, b.data()), spread(dims, m.data())});
  }
  p.work_ = work_of(context, s, p.plan_);
  return p;
}

void CodeProduct::run(const RunContext& c, std::size_t source, const std::byte* x, std::byte* out,
                      std::byte* scratch) const {
  const Source& s = sources_[source];
  ConvS8Args args{.x = x, .x_zero_point = s.zero_point, .weights = weights_.bytes().data()};
  args.epilogue = {.bias = s.bias.data(), .multiplier = s.multiplier.data(), .out = out};
  run_split(c, work_.split, [&](int worker, std::int64_t begin, std::int64_t end) {
    run_conv_s8(plan_, args, begin, end, work_.of_worker(scratch, worker));
  });
}

}  // namespace aoq::cpu
