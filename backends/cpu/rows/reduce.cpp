// Reductions in f32 over any axes, and the index of the largest element.
#include <array>
#include <cmath>
#include <limits>

#include "backends/cpu/kernels/dot_f32.h"
#include "backends/cpu/kernels/rows_f32.h"
#include "backends/cpu/rows/axis_rows.h"
#include "backends/cpu/rows/rows.h"
#include "ir/math.h"
#include "ir/type.h"

namespace aoq::cpu {
namespace {

std::array<bool, kMaxRank> reduced_axes(const PrepareContext& context) {
  std::array<bool, kMaxRank> along = {};
  const std::vector<std::int64_t>& axes = context.attributes.integers("axes");
  if (axes.empty()) along.fill(true);
  for (std::int64_t axis : axes) {
    along[static_cast<std::size_t>(normalized_axis(axis, context.inputs[0].shape.size()))] = true;
  }
  return along;
}

// x as [outer, middle, inner], where the reduced axes follow each other (axes of size 1 do not count).
std::optional<MiddleF32> as_middle(std::span<const std::int64_t> shape, std::span<const bool> along) {
  MiddleF32 m{.outer = 1, .middle = 1, .inner = 1};
  int phase = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1) continue;
    if (along[d]) {
      if (phase == 2) return std::nullopt;
      phase = 1;
      m.middle *= shape[d];
    } else {
      if (phase == 1) phase = 2;
      (phase == 0 ? m.outer : m.inner) *= shape[d];
    }
  }
  return m;
}

float minimum_of_row(const float* x, std::int64_t n) {
  float best = std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) best = math::minimum(best, x[i]);
  return best;
}

using RowFunction = float (*)(Isa isa, const float* x, std::int64_t n);
struct ReduceRow {
  Op op;
  RowFunction row;
  std::optional<ReduceOp> vector;  // the kernel that also reduces columns
};
template <ReduceOp kOp>
float reduce_row(Isa isa, const float* x, std::int64_t n) {
  float result = 0.0f;
  reduce_last_f32(isa, kOp, {x, &result, 1, n});
  return result;
}
constexpr ReduceRow kRows[] = {
    {Op::reduce_sum, reduce_row<ReduceOp::sum>, ReduceOp::sum},
    {Op::reduce_mean, reduce_row<ReduceOp::mean>, ReduceOp::mean},
    {Op::reduce_max, reduce_row<ReduceOp::max>, ReduceOp::max},
    {Op::reduce_min, [](Isa, const float* x, std::int64_t n) { return minimum_of_row(x, n); }, std::nullopt},
    {Op::reduce_sum_square, [](Isa isa, const float* x, std::int64_t n) { return dot_f32(isa, x, x, n); },
     std::nullopt},
    {Op::reduce_l2, [](Isa isa, const float* x, std::int64_t n) { return std::sqrt(dot_f32(isa, x, x, n)); },
     std::nullopt},
};

KernelResult middle_kernel(const PrepareContext& context, ReduceOp op, MiddleF32 shape) {
  Split split = split_work(shape.outer, shape.middle * shape.inner, context);
  return make_kernel([shape, op, split, isa = best_isa()](const RunContext& c) -> Status {
    run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
      MiddleF32 piece = shape;
      piece.x = input_of<float>(c, 0) + begin * shape.middle * shape.inner;
      piece.out = output_of<float>(c) + begin * shape.inner;
      piece.outer = end - begin;
      reduce_middle_f32(isa, op, piece);
    });
    return {};
  });
}

}  // namespace

KernelResult make_reduce(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  const ReduceRow* row = nullptr;
  for (const ReduceRow& r : kRows) {
    if (r.op == context.node.op()) row = &r;
  }
  if (row == nullptr) return refuse("there is no kernel for this reduction");
  const std::vector<std::int64_t>& shape = context.inputs[0].shape;
  std::array<bool, kMaxRank> axes = reduced_axes(context);
  std::span<const bool> along = std::span(axes).first(shape.size());
  std::optional<MiddleF32> middle = as_middle(shape, along);
  if (middle && middle->inner > 1 && row->vector && element_count(shape) > 0) {
    return middle_kernel(context, *row->vector, *middle);
  }
  AxisRows rows = rows_along(shape, along);
  Split split = split_work(rows.rows, rows.columns, context);
  Split copy_split = rows.is_last ? Split{} : split_rows(*rows.gather, context);
  KernelNeeds needs{.scratch_bytes = rows.scratch_bytes};
  return make_kernel(
      [rows, split, copy_split, function = row->row, isa = best_isa()](const RunContext& c) -> Status {
        const float* x = input_of<float>(c, 0);
        if (!rows.is_last) {
          run_copy(c, copy_split, *rows.gather, c.inputs[0], c.scratch);
          x = reinterpret_cast<const float*>(c.scratch);
        }
        run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
          for (std::int64_t r = begin; r < end; ++r) {
            output_of<float>(c)[r] = function(isa, x + r * rows.columns, rows.columns);
          }
        });
        return {};
      },
      needs);
}

namespace {

struct ArgShape {
  std::int64_t outer, length, inner;
  bool is_max, select_last;
};

// NaN counts as the most extreme.
template <typename T>
bool beats(T a, T b, bool is_max) {
  if constexpr (std::is_floating_point_v<T>) {
    if (a != a) return b == b;
  }
  return is_max ? a > b : a < b;
}

template <typename T>
KernelResult arg_kernel(const ArgShape& s, const Split& split) {
  return make_kernel([s, split](const RunContext& c) -> Status {
    run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
      for (std::int64_t line = begin; line < end; ++line) {
        const T* x = input_of<T>(c, 0) + line / s.inner * s.length * s.inner + line % s.inner;
        std::int64_t best = 0;
        for (std::int64_t k = 1; k < s.length; ++k) {
          T here = x[k * s.inner];
          T there = x[best * s.inner];
          if (s.select_last ? !beats(there, here, s.is_max) : beats(here, there, s.is_max)) best = k;
        }
        output_of<std::int64_t>(c)[line] = best;
      }
    });
    return {};
  });
}

}  // namespace

KernelResult make_arg_extreme(const PrepareContext& context) {
  const std::vector<std::int64_t>& shape = context.inputs[0].shape;
  auto axis = static_cast<std::size_t>(normalized_axis(context.attributes.integer("axis"), shape.size()));
  ArgShape s{element_count(std::span(shape).first(axis)), shape[axis],
             element_count(std::span(shape).subspan(axis + 1)), context.node.is(Op::argmax),
             context.attributes.boolean("select_last")};
  Split split = split_work(s.outer * s.inner, s.length * 2, context);
  switch (context.inputs[0].dtype) {
    case DType::f32:
      return arg_kernel<float>(s, split);
    case DType::i64:
      return arg_kernel<std::int64_t>(s, split);
    case DType::i32:
      return arg_kernel<std::int32_t>(s, split);
    case DType::u8:
      return arg_kernel<std::uint8_t>(s, split);
    case DType::i8:
      return arg_kernel<std::int8_t>(s, split);
    default:
      return refuse("the kernel does not read {}", dtype_name(context.inputs[0].dtype));
  }
}

}  // namespace aoq::cpu
