// Rows between floats and 8-bit codes, and arithmetic on codes.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "backends/cpu/kernels/binary_s8.h"
#include "backends/cpu/kernels/epilogue_s8.h"
#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/rows/broadcast.h"
#include "backends/cpu/rows/rows.h"
#include "ir/dynamic_qparams.h"
#include "ir/math.h"

namespace aoq::cpu {
namespace {

// Where a scale and zero point come from: numbers, or operands 1 and 2 that are read at every run.
struct QParamSource {
  bool per_row = false;  // one scale per row of the last axis
  bool is_operand = false;
  bool has_zero_point = false;
  float scale = 1.0f;
  std::int32_t zero_point = 0;
  std::int64_t count = 0;  // of the operands' elements

  // Operands are data: they are looked at in every run, as the reference does.
  Status check(const RunContext& c, DType codes) const {
    if (!is_operand) return {};
    const std::int32_t low = codes == DType::i8 ? -128 : 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const float s = input_of<float>(c, 1)[i];
      if (!(std::isfinite(s) && s > 0.0f)) {
        return error(Code::invalid_data, "scale element {} is {}, expected a finite number above 0", i, s);
      }
      if (!has_zero_point) continue;
      const std::int32_t z = input_of<std::int32_t>(c, 2)[i];
      if (z < low || z > low + 255) {
        return error(Code::invalid_data, "zero_point element {} is {}, out of range for {}", i, z, dtype_name(codes));
      }
    }
    return {};
  }

  float scale_at(const RunContext& c, std::int64_t row) const {
    return is_operand ? input_of<float>(c, 1)[row] : scale;
  }
  std::int32_t zero_point_at(const RunContext& c, std::int64_t row) const {
    return is_operand && has_zero_point ? input_of<std::int32_t>(c, 2)[row] : zero_point;
  }
};

Result<QParamSource> qparams_of(const PrepareContext& context) {
  const Attributes& a = context.attributes;
  QParamSource q;
  q.is_operand = context.node.input(1) != nullptr;
  q.has_zero_point = context.node.input(2) != nullptr;
  q.zero_point = integer_attribute(a, "zero_point").value_or(0);
  const std::string& granularity = a.string("granularity");
  if (q.is_operand) {
    if (granularity != "tensor" && granularity != "token")
      return refuse("the kernel has no {} granularity", granularity);
    q.per_row = granularity == "token";
    q.count = element_count(context.inputs[1]);
    return q;
  }
  const std::optional<Quantization>& type = context.node.input(0)->type().quantization;
  if (a.has("scale")) {
    q.scale = static_cast<float>(a.real("scale"));
  } else if (type && type->is_immediate && type->granularity == Quantization::Granularity::tensor) {
    q.scale = type->scale;
    q.zero_point = type->zero_point;
  } else {
    return refuse("there is no scale for the whole tensor");
  }
  return q;
}

struct CodeRows {
  std::int64_t rows = 1;
  std::int64_t columns = 0;
};
CodeRows code_rows(const PrepareContext& context, const QParamSource& q) {
  std::int64_t n = element_count(context.inputs[0]);
  if (!q.per_row) return {1, n};
  std::int64_t columns = context.inputs[0].shape.empty() ? 1 : context.inputs[0].shape.back();
  return {columns == 0 ? 0 : n / columns, columns};
}

// Calls body(row, begin, end) with ranges of elements that have one scale.
template <typename Body>
void run_rows(const RunContext& c, const Split& split, const QParamSource& q, const CodeRows& rows, Body&& body) {
  if (!q.per_row) {
    return run_elements(c, split, rows.columns,
                        [&](std::int64_t begin, std::int64_t end) { body(std::int64_t{0}, begin, end); });
  }
  run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) body(r, r * rows.columns, (r + 1) * rows.columns);
  });
}

Split split_of(const PrepareContext& context, const QParamSource& q, const CodeRows& rows) {
  return q.per_row ? split_work(rows.rows, rows.columns / 2 + 4, context) : split_elements(rows.columns, 1, context);
}

}  // namespace

KernelResult make_quantize(const PrepareContext& context) {
  DType type = context.outputs[0].dtype;
  if (!is_byte(type)) return refuse("the kernel writes u8 and i8, not {}", dtype_name(type));
  if (context.inputs[0].dtype != DType::f32) return refuse("the kernel reads f32");
  AOQ_ASSIGN(QParamSource q, qparams_of(context));
  CodeRows rows = code_rows(context, q);
  Split split = split_of(context, q, rows);
  return make_kernel([q, rows, split, type, isa = best_isa()](const RunContext& c) -> Status {
    AOQ_TRY(q.check(c, type));
    auto qmin = static_cast<std::int32_t>(type == DType::i8 ? -128 : 0);
    run_rows(c, split, q, rows, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      QuantizeParams params{type, 1.0f / q.scale_at(c, row), q.zero_point_at(c, row), qmin, qmin + 255};
      quantize_f32(isa, params, input_of<float>(c, 0) + begin, c.outputs[0] + begin, end - begin);
    });
    return {};
  });
}

KernelResult make_dequantize(const PrepareContext& context) {
  DType type = context.inputs[0].dtype;
  if (!is_byte(type)) return refuse("the kernel reads u8 and i8, not {}", dtype_name(type));
  AOQ_ASSIGN(QParamSource q, qparams_of(context));
  CodeRows rows = code_rows(context, q);
  Split split = split_of(context, q, rows);
  return make_kernel([q, rows, split, type, isa = best_isa()](const RunContext& c) -> Status {
    AOQ_TRY(q.check(c, type));
    run_rows(c, split, q, rows, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      DequantizeParams params{type, q.scale_at(c, row), q.zero_point_at(c, row)};
      dequantize_bytes(isa, params, c.inputs[0] + begin, output_of<float>(c) + begin, end - begin);
    });
    return {};
  });
}

KernelResult make_choose_qparams(const PrepareContext& context) {
  AOQ_TRY(context.inputs[0].dtype == DType::f32 ? Status() : Status(refuse("the kernel reads f32")));
  const DynamicQParams how = DynamicQParams::from(context.attributes);
  const std::int64_t n = element_count(context.inputs[0]);
  const std::int64_t parts = element_count(context.outputs[0]);
  const std::int64_t length = parts == 0 ? 0 : n / parts;
  // Minima and maxima do not depend on the order, so a tensor may be cut anywhere.
  const Split split = how.per_token ? split_work(parts, length / 8 + 4, context) : split_elements(n, 1, context);
  const KernelNeeds needs{.scratch_bytes = static_cast<std::uint64_t>(split.workers) * 64};
  return make_kernel(
      [how, n, parts, length, split, isa = best_isa()](const RunContext& c) -> Status {
        const auto* x = input_of<float>(c, 0);
        auto* scales = reinterpret_cast<float*>(c.outputs[0]);
        auto* zero_points = reinterpret_cast<std::int32_t*>(c.outputs[1]);
        if (length == 0) {
          std::fill_n(scales, parts, ChosenQParams().scale);
          std::fill_n(zero_points, parts, ChosenQParams().zero_point);
          return {};
        }
        auto store = [&](std::int64_t part, const Range& range) -> Status {
          AOQ_ASSIGN(const ChosenQParams chosen, choose_dynamic_qparams(how, range.min, range.max));
          scales[part] = chosen.scale;
          zero_points[part] = chosen.zero_point;
          return {};
        };
        if (how.per_token) {
          // Each row's range lies where its scale will be, and a NaN is found afterwards.
          run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
              const Range range = range_of(isa, x + r * length, length);
              const Result<ChosenQParams> chosen = choose_dynamic_qparams(how, range.min, range.max);
              scales[r] = chosen.ok() ? chosen->scale : std::numeric_limits<float>::quiet_NaN();
              zero_points[r] = chosen.ok() ? chosen->zero_point : 0;
            }
          });
          for (std::int64_t r = 0; r < parts; ++r) {
            if (std::isnan(scales[r])) return store(r, range_of(isa, x + r * length, length));
          }
          return {};
        }
        // A cache line of its own for each worker.
        auto* ranges = reinterpret_cast<float*>(c.scratch);
        constexpr std::int64_t kStride = 64 / sizeof(float);
        for (int w = 0; w < split.workers; ++w) {
          ranges[w * kStride] = 0.0f;
          ranges[w * kStride + 1] = 0.0f;
        }
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          const std::int64_t first = begin * kBlockElements, last = std::min(end * kBlockElements, n);
          if (first >= last) return;
          const Range range = range_of(isa, x + first, last - first);
          float* own = ranges + worker * kStride;
          own[0] = math::minimum(own[0], range.min);
          own[1] = math::maximum(own[1], range.max);
        });
        Range all{0.0f, 0.0f};
        for (int w = 0; w < split.workers; ++w) {
          all.min = math::minimum(all.min, ranges[w * kStride]);
          all.max = math::maximum(all.max, ranges[w * kStride + 1]);
        }
        return store(0, all);
      },
      needs);
}

KernelResult make_requantize(const PrepareContext& context) {
  const Attributes& a = context.attributes;
  DType x_type = context.inputs[0].dtype;
  DType out_type = context.outputs[0].dtype;
  if (!is_byte(x_type) || !is_byte(out_type)) return refuse("the kernel reads and writes u8 and i8");
  RequantizeParams params{x_type,
                          integer_attribute(a, "x_zero_point").value_or(0),
                          static_cast<float>(a.real("x_scale")),
                          1.0f / static_cast<float>(a.real("out_scale")),
                          out_type,
                          full_bounds(out_type, integer_attribute(a, "out_zero_point").value_or(0))};
  if (!std::isfinite(params.inv_out)) return refuse("out_scale is out of the range of f32");
  std::int64_t n = element_count(context.inputs[0]);
  Split split = split_elements(n, 1, context);
  return make_kernel(
      [params, n, split, isa = best_isa()](const RunContext& c) -> Status {
        run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
          requantize_bytes(isa, params, c.inputs[0] + begin, c.outputs[0] + begin, end - begin);
        });
        return {};
      },
      {.in_place_input = 0});
}

KernelResult make_lookup(const PrepareContext& context) {
  const Tensor* table = constant_input(context, 1);
  if (table == nullptr) return refuse("the table is not a constant");
  DType x_type = context.inputs[0].dtype;
  if (!is_byte(x_type) || table->element_count() != 256)
    return refuse("the kernel reads u8 and i8 through 256 entries");
  std::int64_t n = element_count(context.inputs[0]);
  Split split = split_elements(n, 1, context);
  // The op's table begins with the lowest code, the kernel's is indexed by the bits.
  std::size_t flip = x_type == DType::i8 ? 128 : 0;
  if (table->dtype() == DType::f32) {
    std::array<float, 256> values;
    for (std::size_t bits = 0; bits < 256; ++bits) values[bits] = table->as<float>()[bits ^ flip];
    return make_kernel([values, n, split](const RunContext& c) -> Status {
      run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
        const auto* x = input_of<std::uint8_t>(c, 0);
        for (std::int64_t i = begin; i < end; ++i) output_of<float>(c)[i] = values[x[i]];
      });
      return {};
    });
  }
  if (!is_byte(table->dtype())) return refuse("the table is {}", dtype_name(table->dtype()));
  std::array<std::uint8_t, 256> codes;
  for (std::size_t bits = 0; bits < 256; ++bits) codes[bits] = static_cast<std::uint8_t>(table->bytes()[bits ^ flip]);
  return make_kernel(
      [codes, n, split, isa = best_isa()](const RunContext& c) -> Status {
        run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
          look_up_bytes(isa, codes.data(), c.inputs[0] + begin, c.outputs[0] + begin, end - begin);
        });
        return {};
      },
      {.in_place_input = 0});
}

namespace {

Result<BinaryS8Params> binary_params(const PrepareContext& context) {
  const Attributes& a = context.attributes;
  BinaryS8Params p;
  p.a_type = context.inputs[0].dtype;
  p.b_type = context.inputs[1].dtype;
  p.out_type = context.outputs[0].dtype;
  if (!is_byte(p.a_type) || !is_byte(p.b_type) || !is_byte(p.out_type)) {
    return refuse("the kernel reads and writes u8 and i8");
  }
  p.a_zero_point = integer_attribute(a, "a_zero_point").value_or(0);
  p.b_zero_point = integer_attribute(a, "b_zero_point").value_or(0);
  p.bounds = full_bounds(p.out_type, integer_attribute(a, "out_zero_point").value_or(0));
  if (!a.has("activation") || a.string("activation") == "none") return p;
  const std::string& activation = a.string("activation");
  auto out_scale = static_cast<float>(a.real("out_scale"));
  if (activation == "relu") {
    p.bounds = narrowed_bounds(p.bounds, 0.0f, std::numeric_limits<float>::infinity(), out_scale);
  } else if (activation == "clamp") {
    p.bounds = narrowed_bounds(p.bounds, static_cast<float>(a.real("activation_min")),
                               static_cast<float>(a.real("activation_max")), out_scale);
  } else {
    return refuse("the kernel has no fused {}", activation);
  }
  return p;
}

using BinaryBytes = void (*)(Isa, const BinaryS8Params&, const BroadcastShape&, const void*, const void*, void*);

KernelResult binary_kernel(const PrepareContext& context, const BinaryS8Params& params, BinaryBytes function) {
  BroadcastPlan plan(context.outputs[0].shape, context.inputs);
  Split split = split_work(plan.units(), plan.unit_elements() / 2 + 4, context);
  return make_kernel([plan, split, params, function, isa = best_isa()](const RunContext& c) -> Status {
    run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
      plan.run(begin, end, [&](const BroadcastPiece& p) {
        BroadcastShape shape{p.rows, p.columns, p.row[0], p.column[0], p.row[1], p.column[1]};
        function(isa, params, shape, c.inputs[0] + p.offset[0], c.inputs[1] + p.offset[1], c.outputs[0] + p.out);
      });
    });
    return {};
  });
}

}  // namespace

KernelResult make_qadd(const PrepareContext& context) {
  AOQ_ASSIGN(BinaryS8Params params, binary_params(context));
  params.a_scale = static_cast<float>(context.attributes.real("a_scale"));
  params.b_scale = static_cast<float>(context.attributes.real("b_scale"));
  params.inv_out = 1.0f / static_cast<float>(context.attributes.real("out_scale"));
  return binary_kernel(context, params, add_bytes);
}

KernelResult make_qmul(const PrepareContext& context) {
  AOQ_ASSIGN(BinaryS8Params params, binary_params(context));
  auto a_scale = static_cast<float>(context.attributes.real("a_scale"));
  auto b_scale = static_cast<float>(context.attributes.real("b_scale"));
  params.a_scale = (a_scale * b_scale) / static_cast<float>(context.attributes.real("out_scale"));
  return binary_kernel(context, params, multiply_bytes);
}

}  // namespace aoq::cpu
