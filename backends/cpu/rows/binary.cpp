// Elementwise rows of several inputs, with broadcasting.
#include <cmath>

#include "backends/cpu/kernels/elementwise_f32.h"
#include "backends/cpu/rows/broadcast.h"
#include "backends/cpu/rows/rows.h"
#include "ir/math.h"

namespace aoq::cpu {
namespace {

int in_place_of(const BroadcastPlan& plan, const PrepareContext& context) {
  for (std::size_t i = 0; i < context.inputs.size(); ++i) {
    if (plan.same_shape(i) && context.inputs[i].dtype == context.outputs[0].dtype) return static_cast<int>(i);
  }
  return -1;
}

struct BinaryRow {
  Op op;
  BinaryOp kernel;
};
constexpr BinaryRow kVectorRows[] = {
    {Op::add, BinaryOp::add},    {Op::sub, BinaryOp::subtract},    {Op::mul, BinaryOp::multiply},
    {Op::div, BinaryOp::divide}, {Op::minimum, BinaryOp::minimum}, {Op::maximum, BinaryOp::maximum},
};

}  // namespace

KernelResult make_binary_f32(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  const BinaryRow* row = nullptr;
  for (const BinaryRow& r : kVectorRows) {
    if (r.op == context.node.op()) row = &r;
  }
  if (row == nullptr) return refuse("there is no vector form of this function");
  BroadcastPlan plan(context.outputs[0].shape, context.inputs);
  Split split = split_work(plan.units(), plan.unit_elements() / 2 + 4, context);
  KernelNeeds needs{.in_place_input = in_place_of(plan, context)};
  return make_kernel(
      [plan, split, op = row->kernel, isa = best_isa()](const RunContext& c) -> Status {
        run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
          plan.run(begin, end, [&](const BroadcastPiece& p) {
            BroadcastShape shape{p.rows, p.columns, p.row[0], p.column[0], p.row[1], p.column[1]};
            binary_f32(isa, op, shape, input_of<float>(c, 0) + p.offset[0], input_of<float>(c, 1) + p.offset[1],
                       output_of<float>(c) + p.out);
          });
        });
        return {};
      },
      needs);
}

namespace {

using PieceFunction = void (*)(const BroadcastPiece&, const RunContext&);

template <typename T, typename R, auto kFunction>
void binary_piece(const BroadcastPiece& p, const RunContext& c) {
  const T* a = input_of<T>(c, 0) + p.offset[0];
  const T* b = input_of<T>(c, 1) + p.offset[1];
  R* out = output_of<R>(c) + p.out;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    for (std::int64_t i = 0; i < p.columns; ++i) {
      out[r * p.out_row + i] =
          static_cast<R>(kFunction(a[r * p.row[0] + i * p.column[0]], b[r * p.row[1] + i * p.column[1]]));
    }
  }
}

template <typename T>
void where_piece(const BroadcastPiece& p, const RunContext& c) {
  const auto* condition = input_of<std::uint8_t>(c, 0) + p.offset[0];
  const T* a = input_of<T>(c, 1) + p.offset[1];
  const T* b = input_of<T>(c, 2) + p.offset[2];
  T* out = output_of<T>(c) + p.out;
  for (std::int64_t r = 0; r < p.rows; ++r) {
    for (std::int64_t i = 0; i < p.columns; ++i) {
      T x = a[r * p.row[1] + i * p.column[1]];
      T y = b[r * p.row[2] + i * p.column[2]];
      out[r * p.out_row + i] = condition[r * p.row[0] + i * p.column[0]] != 0 ? x : y;
    }
  }
}

template <typename T>
T wrap_add(T a, T b) {
  return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
template <typename T>
T wrap_sub(T a, T b) {
  return static_cast<T>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
template <typename T>
T wrap_mul(T a, T b) {
  return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}
template <typename T>
T smaller(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
T larger(T a, T b) {
  return a > b ? a : b;
}
template <typename T>
T bits_and(T a, T b) {
  return static_cast<T>(a & b);
}
template <typename T>
T bits_or(T a, T b) {
  return static_cast<T>(a | b);
}
template <typename T>
T bits_xor(T a, T b) {
  return static_cast<T>(a ^ b);
}
template <typename T>
bool is_equal(T a, T b) {
  return a == b;
}
template <typename T>
bool is_not_equal(T a, T b) {
  return a != b;
}
template <typename T>
bool is_less(T a, T b) {
  return a < b;
}
template <typename T>
bool is_less_equal(T a, T b) {
  return a <= b;
}
template <typename T>
bool is_greater(T a, T b) {
  return a > b;
}
template <typename T>
bool is_greater_equal(T a, T b) {
  return a >= b;
}
float power(float a, float b) {
  return static_cast<float>(std::pow(static_cast<double>(a), static_cast<double>(b)));
}
float prelu(float x, float slope) {
  return x < 0 ? slope * x : x;
}

struct PieceRow {
  Op op;
  PieceFunction function;
};

template <typename T>
PieceFunction comparison_of(Op op) {
  static constexpr PieceRow kRows[] = {
      {Op::equal, binary_piece<T, bool, is_equal<T>>},
      {Op::not_equal, binary_piece<T, bool, is_not_equal<T>>},
      {Op::less, binary_piece<T, bool, is_less<T>>},
      {Op::less_equal, binary_piece<T, bool, is_less_equal<T>>},
      {Op::greater, binary_piece<T, bool, is_greater<T>>},
      {Op::greater_equal, binary_piece<T, bool, is_greater_equal<T>>},
  };
  for (const PieceRow& row : kRows) {
    if (row.op == op) return row.function;
  }
  return nullptr;
}

template <typename T>
PieceFunction integer_of(Op op) {
  static constexpr PieceRow kRows[] = {
      {Op::add, binary_piece<T, T, wrap_add<T>>},       {Op::sub, binary_piece<T, T, wrap_sub<T>>},
      {Op::mul, binary_piece<T, T, wrap_mul<T>>},       {Op::minimum, binary_piece<T, T, smaller<T>>},
      {Op::maximum, binary_piece<T, T, larger<T>>},     {Op::bitwise_and, binary_piece<T, T, bits_and<T>>},
      {Op::bitwise_or, binary_piece<T, T, bits_or<T>>}, {Op::bitwise_xor, binary_piece<T, T, bits_xor<T>>},
  };
  for (const PieceRow& row : kRows) {
    if (row.op == op) return row.function;
  }
  return comparison_of<T>(op);
}

PieceFunction f32_of(Op op) {
  static constexpr PieceRow kRows[] = {
      {Op::pow, binary_piece<float, float, power>},
      {Op::prelu, binary_piece<float, float, prelu>},
  };
  for (const PieceRow& row : kRows) {
    if (row.op == op) return row.function;
  }
  return comparison_of<float>(op);
}

PieceFunction boolean_of(Op op) {
  using Byte = std::uint8_t;
  static constexpr PieceRow kRows[] = {
      {Op::logical_and, binary_piece<Byte, Byte, bits_and<Byte>>},
      {Op::logical_or, binary_piece<Byte, Byte, bits_or<Byte>>},
      {Op::logical_xor, binary_piece<Byte, Byte, bits_xor<Byte>>},
  };
  for (const PieceRow& row : kRows) {
    if (row.op == op) return row.function;
  }
  return comparison_of<Byte>(op);
}

PieceFunction piece_of(Op op, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return f32_of(op);
    case DType::i64:
      return integer_of<std::int64_t>(op);
    case DType::i32:
      return integer_of<std::int32_t>(op);
    case DType::u8:
      return integer_of<std::uint8_t>(op);
    case DType::i8:
      return integer_of<std::int8_t>(op);
    case DType::boolean:
      return boolean_of(op);
    default:
      return nullptr;
  }
}

KernelResult piece_kernel(const PrepareContext& context, PieceFunction function, std::int64_t element_cost) {
  BroadcastPlan plan(context.outputs[0].shape, context.inputs);
  Split split = split_work(plan.units(), plan.unit_elements() * element_cost + 4, context);
  return make_kernel(
      [plan, split, function](const RunContext& c) -> Status {
        run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
          plan.run(begin, end, [&](const BroadcastPiece& piece) { function(piece, c); });
        });
        return {};
      },
      {.in_place_input = in_place_of(plan, context)});
}

}  // namespace

KernelResult make_binary(const PrepareContext& context) {
  PieceFunction function = piece_of(context.node.op(), context.inputs[0].dtype);
  if (function == nullptr) return refuse("there is no kernel for {}", dtype_name(context.inputs[0].dtype));
  return piece_kernel(context, function, context.node.is(Op::pow) ? 32 : 1);
}

KernelResult make_where(const PrepareContext& context) {
  switch (element_bytes(context.outputs[0].dtype)) {
    case 1:
      return piece_kernel(context, where_piece<std::uint8_t>, 1);
    case 2:
      return piece_kernel(context, where_piece<std::uint16_t>, 1);
    case 4:
      return piece_kernel(context, where_piece<std::uint32_t>, 1);
    case 8:
      return piece_kernel(context, where_piece<std::uint64_t>, 1);
    default:
      return refuse("elements of {} share bytes", dtype_name(context.outputs[0].dtype));
  }
}

}  // namespace aoq::cpu
