// Softmax and normalisations in f32: rows along an axis, each as ir/math.h says.
#include <cmath>

#include "backends/cpu/kernels/dot_f32.h"
#include "backends/cpu/kernels/elementwise_f32.h"
#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/kernels/rows_f32.h"
#include "backends/cpu/rows/axis_rows.h"
#include "backends/cpu/rows/rows.h"
#include "ir/math.h"

namespace aoq::cpu {
namespace {

std::size_t axis_of(const PrepareContext& context) {
  return static_cast<std::size_t>(normalized_axis(context.attributes.integer("axis"), context.inputs[0].shape.size()));
}

// Row kernels that need a row of scratch for every worker get it in `spare`.
using RowsFunction = void (*)(Isa isa, const RowsF32& rows, float* spare);

void softmax_rows(Isa isa, const RowsF32& rows, float*) {
  softmax_f32(isa, rows);
}

void log_softmax_rows(Isa isa, const RowsF32& rows, float* spare) {
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const float* x = rows.x + r * rows.columns;
    float* y = rows.out + r * rows.columns;
    float max = 0.0f, sum = 0.0f;
    reduce_last_f32(isa, ReduceOp::max, {x, &max, 1, rows.columns});
    unary_f32(isa, {UnaryOp::add_multiply, 1.0f, -max}, x, y, rows.columns);
    unary_f32(isa, {UnaryOp::exp}, y, spare, rows.columns);
    reduce_last_f32(isa, ReduceOp::sum, {spare, &sum, 1, rows.columns});
    unary_f32(isa, {UnaryOp::add_multiply, 1.0f, -math::log(sum)}, y, y, rows.columns);
  }
}

enum class Spare { none, row };

KernelResult make_along_axis(const PrepareContext& context, RowsFunction function, Spare spare) {
  AOQ_TRY(require_f32(context));
  AxisRows axis = rows_along_axis(context.inputs[0].shape, axis_of(context));
  Split split = split_work(axis.rows, axis.columns * 4, context);
  Split copy_split = axis.is_last ? Split{} : split_rows(*axis.gather, context);
  std::uint64_t row_bytes = spare == Spare::row ? static_cast<std::uint64_t>(bytes_to_cache_line(axis.columns * 4)) : 0;
  KernelNeeds needs{axis.scratch_bytes + row_bytes * static_cast<std::uint64_t>(split.workers), 0};
  return make_kernel(
      [axis, split, copy_split, row_bytes, function, isa = best_isa()](const RunContext& c) -> Status {
        const float* x = input_of<float>(c, 0);
        float* y = output_of<float>(c);
        if (!axis.is_last) {
          run_copy(c, copy_split, *axis.gather, c.inputs[0], c.scratch);
          x = y = reinterpret_cast<float*>(c.scratch);
        }
        std::byte* spare_rows = c.scratch + axis.scratch_bytes;
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          auto* row = reinterpret_cast<float*>(spare_rows + row_bytes * static_cast<std::uint64_t>(worker));
          function(isa, {x + begin * axis.columns, y + begin * axis.columns, end - begin, axis.columns}, row);
        });
        if (!axis.is_last) run_copy(c, copy_split, *axis.scatter, c.scratch, c.outputs[0]);
        return {};
      },
      needs);
}

// Rows that a kernel normalises in step.
constexpr std::int64_t kTogether = 4;

struct NormRows {
  std::int64_t rows, columns;
};
NormRows norm_rows(const PrepareContext& context) {
  std::span<const std::int64_t> shape = context.inputs[0].shape;
  std::size_t axis = axis_of(context);
  return {element_count(shape.first(axis)), element_count(shape.subspan(axis))};
}

}  // namespace

KernelResult make_softmax(const PrepareContext& context) {
  return make_along_axis(context, softmax_rows, Spare::none);
}

KernelResult make_log_softmax(const PrepareContext& context) {
  return make_along_axis(context, log_softmax_rows, Spare::row);
}

KernelResult make_layer_norm(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  NormRows n = norm_rows(context);
  Split split = split_work(n.rows, n.columns * 2, context);
  auto epsilon = static_cast<float>(context.attributes.real("epsilon"));
  bool has_scale = context.node.input(1) != nullptr;
  bool has_bias = context.node.input(2) != nullptr;
  return make_kernel(
      [n, split, epsilon, has_scale, has_bias, isa = best_isa()](const RunContext& c) -> Status {
        math::LayerNormParams params{has_scale ? input_of<float>(c, 1) : nullptr,
                                     has_bias ? input_of<float>(c, 2) : nullptr, epsilon};
        run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
          layer_norm_f32(isa, params,
                         {input_of<float>(c, 0) + begin * n.columns, output_of<float>(c) + begin * n.columns,
                          end - begin, n.columns});
        });
        return {};
      },
      {.in_place_input = 0});
}

KernelResult make_qlayer_norm(const PrepareContext& context) {
  if (context.inputs[0].dtype != DType::f32) return refuse("the kernel reads f32");
  NormRows n = norm_rows(context);
  Split split = split_work(n.rows, n.columns * 2, context);
  auto epsilon = static_cast<float>(context.attributes.real("epsilon"));
  bool has_scale = context.node.input(1) != nullptr;
  bool has_bias = context.node.input(2) != nullptr;
  const DTypeInfo& info = dtype_info(context.outputs[0].dtype);
  QuantizeParams codes{context.outputs[0].dtype, 1.0f / static_cast<float>(context.attributes.real("out_scale")),
                       integer_attribute(context.attributes, "out_zero_point").value_or(0),
                       static_cast<std::int32_t>(info.min), static_cast<std::int32_t>(info.max)};
  auto row_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(kTogether * n.columns * 4));
  return make_kernel(
      [n, split, epsilon, has_scale, has_bias, codes, row_bytes, isa = best_isa()](const RunContext& c) -> Status {
        math::LayerNormParams params{has_scale ? input_of<float>(c, 1) : nullptr,
                                     has_bias ? input_of<float>(c, 2) : nullptr, epsilon};
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          auto* row = reinterpret_cast<float*>(c.scratch + row_bytes * static_cast<std::uint64_t>(worker));
          for (std::int64_t r = begin; r < end; r += kTogether) {
            std::int64_t rows = std::min(kTogether, end - r);
            layer_norm_f32(isa, params, {input_of<float>(c, 0) + r * n.columns, row, rows, n.columns});
            quantize_f32(isa, codes, row, c.outputs[0] + r * n.columns, rows * n.columns);
          }
        });
        return {};
      },
      {.scratch_bytes = row_bytes * static_cast<std::uint64_t>(split.workers)});
}

KernelResult make_rms_norm(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  NormRows n = norm_rows(context);
  Split split = split_work(n.rows, n.columns * 2, context);
  auto epsilon = static_cast<float>(context.attributes.real("epsilon"));
  bool has_scale = context.node.input(1) != nullptr;
  return make_kernel(
      [n, split, epsilon, has_scale, isa = best_isa()](const RunContext& c) -> Status {
        const float* scale = has_scale ? input_of<float>(c, 1) : nullptr;
        run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
          for (std::int64_t r = begin; r < end; ++r) {
            const float* x = input_of<float>(c, 0) + r * n.columns;
            float* y = output_of<float>(c) + r * n.columns;
            float mean = dot_f32(isa, x, x, n.columns) / static_cast<float>(n.columns);
            float inverse = 1.0f / std::sqrt(mean + epsilon);
            for (std::int64_t i = 0; i < n.columns; ++i) y[i] = x[i] * inverse;
            for (std::int64_t i = 0; scale != nullptr && i < n.columns; ++i) y[i] = y[i] * scale[i];
          }
        });
        return {};
      },
      {.in_place_input = 0});
}

KernelResult make_batch_norm(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  const std::vector<std::int64_t>& shape = context.inputs[0].shape;
  bool channels_last = context.attributes.boolean("channels_last");
  std::int64_t channels = channels_last ? shape.back() : shape[1];
  AOQ_ASSIGN(std::vector<float> weight, float_constants(context, 1, channels));
  AOQ_ASSIGN(std::vector<float> bias, float_constants(context, 2, channels));
  AOQ_ASSIGN(std::vector<float> mean, float_constants(context, 3, channels));
  AOQ_ASSIGN(std::vector<float> variance, float_constants(context, 4, channels));
  auto epsilon = static_cast<float>(context.attributes.real("epsilon"));
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = weight[i] / std::sqrt(variance[i] + epsilon);
  // Rows of channels, or rows of one channel's pixels.
  std::int64_t total = element_count(shape);
  std::int64_t columns =
      channels_last ? channels : std::max<std::int64_t>(element_count(std::span(shape).subspan(2)), 1);
  Split split = split_work(total / std::max<std::int64_t>(columns, 1), columns / 2 + 2, context);
  return make_kernel(
      [factor = std::move(weight), bias = std::move(bias), mean = std::move(mean), columns, channels, channels_last,
       split](const RunContext& c) -> Status {
        run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
          for (std::int64_t r = begin; r < end; ++r) {
            const float* x = input_of<float>(c, 0) + r * columns;
            float* y = output_of<float>(c) + r * columns;
            if (channels_last) {
              const float *m = mean.data(), *f = factor.data(), *b = bias.data();
              for (std::int64_t i = 0; i < columns; ++i) y[i] = (x[i] - m[i]) * f[i] + b[i];
            } else {
              auto channel = static_cast<std::size_t>(r % channels);
              float m = mean[channel], f = factor[channel], b = bias[channel];
              for (std::int64_t i = 0; i < columns; ++i) y[i] = (x[i] - m) * f + b;
            }
          }
        });
        return {};
      },
      {.in_place_input = 0});
}

}  // namespace aoq::cpu
