// Elementwise rows of one input.
#include <cmath>
#include <limits>
#include <type_traits>

#include "backends/cpu/kernels/elementwise_f32.h"
#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

// How an op is one of the vector kernels; attributes that the kernel takes are named.
struct UnaryRow {
  Op op;
  UnaryOp kernel;
  const char* a = nullptr;
  const char* b = nullptr;
};
constexpr UnaryRow kUnaryRows[] = {
    {Op::relu, UnaryOp::relu},
    {Op::clamp, UnaryOp::clamp, "min", "max"},
    {Op::leaky_relu, UnaryOp::leaky_relu, "alpha"},
    {Op::hardswish, UnaryOp::hardswish},
    {Op::hardsigmoid, UnaryOp::hardsigmoid, "alpha", "beta"},
    {Op::sigmoid, UnaryOp::sigmoid},
    {Op::tanh, UnaryOp::tanh},
    {Op::silu, UnaryOp::silu},
    {Op::erf, UnaryOp::erf},
    {Op::exp, UnaryOp::exp},
    {Op::log, UnaryOp::log},
    {Op::sqrt, UnaryOp::sqrt},
    {Op::reciprocal, UnaryOp::reciprocal},
    {Op::rsqrt, UnaryOp::reciprocal_sqrt},
    {Op::neg, UnaryOp::negate},
    {Op::abs, UnaryOp::absolute},
    {Op::floor, UnaryOp::floor},
    {Op::ceil, UnaryOp::ceil},
    {Op::round, UnaryOp::round_half_even},
};

Result<UnaryF32> vector_kernel(const PrepareContext& context) {
  const Attributes& attributes = context.attributes;
  if (context.node.is(Op::gelu)) {
    return UnaryF32{attributes.string("approximate") == "tanh" ? UnaryOp::gelu_tanh : UnaryOp::gelu_erf};
  }
  if (context.node.is(Op::softplus)) {
    // The kernel has no threshold; from 20 on softplus(x) rounds to x.
    if (attributes.real("beta") != 1.0 || attributes.real("threshold") < 20.0) {
      return refuse("the kernel has beta 1 and no threshold");
    }
    return UnaryF32{UnaryOp::softplus};
  }
  for (const UnaryRow& row : kUnaryRows) {
    if (row.op != context.node.op()) continue;
    UnaryF32 unary{row.kernel};
    if (row.a != nullptr) unary.a = static_cast<float>(attributes.real(row.a));
    if (row.b != nullptr) unary.b = static_cast<float>(attributes.real(row.b));
    return unary;
  }
  return refuse("there is no vector form of this function");
}

}  // namespace

KernelResult make_unary_f32(const PrepareContext& context) {
  AOQ_TRY(require_f32(context));
  AOQ_ASSIGN(UnaryF32 unary, vector_kernel(context));
  std::int64_t n = element_count(context.outputs[0]);
  Split split = split_elements(n, 4, context);
  return make_kernel(
      [unary, n, split, isa = best_isa()](const RunContext& c) -> Status {
        const auto* x = input_of<float>(c, 0);
        auto* y = output_of<float>(c);
        run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
          unary_f32(isa, unary, x + begin, y + begin, end - begin);
        });
        return {};
      },
      {.in_place_input = 0});
}

// The reference itself on pieces of the tensor: for functions that only the scalar library has.
KernelResult make_unary_scalar(const PrepareContext& context) {
  const ConcreteType& in = context.inputs[0];
  const ConcreteType& out = context.outputs[0];
  bool is_plain = !context.node.input(0)->type().quantization;
  bool has_pieces = in.dtype == DType::f32 || in.dtype == DType::i32 || in.dtype == DType::i64 || is_byte(in.dtype) ||
                    in.dtype == DType::boolean;
  if (!is_plain || !has_pieces || element_bytes(out.dtype) == 0) {
    return refuse("the kernel does not read {}{}", dtype_name(in.dtype), is_plain ? "" : " codes");
  }
  std::int64_t n = element_count(out);
  Split split = split_elements(n, 32, context);
  auto call = [op = context.node.op(), attributes = context.attributes, in = in.dtype, out = out.dtype, split,
               n](const RunContext& c) -> Status {
    run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t shape[] = {end - begin};
      TensorView x{in, shape, c.inputs[0] + begin * element_bytes(in)};
      MutableTensorView y{out, shape, c.outputs[0] + begin * element_bytes(out)};
      Status status = op_def(op).reference(
          {.op = op, .inputs = std::span(&x, 1), .outputs = std::span(&y, 1), .attributes = attributes});
      AOQ_CHECK(status.ok());  // a function of one number has nothing to refuse
    });
    return {};
  };
  return make_kernel(std::move(call), {.in_place_input = element_bytes(in.dtype) == element_bytes(out.dtype) ? 0 : -1});
}

namespace {

template <typename To, typename From>
To cast_one(From v) {
  if constexpr (std::is_same_v<To, bool>) {
    return v != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // Exact bounds as doubles; 2^63 itself is out of range.
    auto d = static_cast<double>(v);
    if (d != d) return 0;
    constexpr double kLow = static_cast<double>(std::numeric_limits<To>::min());
    constexpr double kHigh = static_cast<double>(std::numeric_limits<To>::max());
    if (d <= kLow) return std::numeric_limits<To>::min();
    if (d >= kHigh) return std::numeric_limits<To>::max();
    return static_cast<To>(d);
  } else {
    return static_cast<To>(v);
  }
}

using CastPiece = void (*)(const std::byte* x, std::byte* y, std::int64_t begin, std::int64_t end);

template <typename From, typename To>
void cast_piece(const std::byte* x, std::byte* y, std::int64_t begin, std::int64_t end) {
  const auto* in = reinterpret_cast<const From*>(x);
  auto* out = reinterpret_cast<To*>(y);
  for (std::int64_t i = begin; i < end; ++i) out[i] = cast_one<To>(in[i]);
}

template <typename From>
CastPiece cast_to(DType to) {
  switch (to) {
    case DType::f32:
      return cast_piece<From, float>;
    case DType::i64:
      return cast_piece<From, std::int64_t>;
    case DType::i32:
      return cast_piece<From, std::int32_t>;
    case DType::u8:
      return cast_piece<From, std::uint8_t>;
    case DType::i8:
      return cast_piece<From, std::int8_t>;
    case DType::boolean:
      return cast_piece<From, bool>;
    default:
      return nullptr;
  }
}

CastPiece cast_of(DType from, DType to) {
  switch (from) {
    case DType::f32:
      return cast_to<float>(to);
    case DType::i64:
      return cast_to<std::int64_t>(to);
    case DType::i32:
      return cast_to<std::int32_t>(to);
    case DType::u8:
      return cast_to<std::uint8_t>(to);
    case DType::i8:
      return cast_to<std::int8_t>(to);
    case DType::boolean:
      return to == DType::boolean ? cast_to<std::uint8_t>(DType::u8) : cast_to<std::uint8_t>(to);
    default:
      return nullptr;
  }
}

// Whole-byte floats other than f32, through f32.
bool is_small_float(DType d) {
  return d == DType::f16 || d == DType::bf16;
}

}  // namespace

KernelResult make_cast(const PrepareContext& context) {
  DType from = context.inputs[0].dtype;
  DType to = context.outputs[0].dtype;
  std::int64_t n = element_count(context.outputs[0]);
  Split split = split_elements(n, 2, context);
  int in_place = element_bytes(from) == element_bytes(to) ? 0 : -1;
  if (CastPiece piece = cast_of(from, to)) {
    return make_kernel(
        [piece, n, split](const RunContext& c) -> Status {
          run_elements(c, split, n,
                       [&](std::int64_t begin, std::int64_t end) { piece(c.inputs[0], c.outputs[0], begin, end); });
          return {};
        },
        {.in_place_input = in_place});
  }
  bool reads = is_small_float(from) && to == DType::f32;
  bool writes = from == DType::f32 && is_small_float(to);
  if (!reads && !writes) return refuse("there is no kernel from {} to {}", dtype_name(from), dtype_name(to));
  return make_kernel([reads, info = &dtype_info(reads ? from : to), n, split](const RunContext& c) -> Status {
    run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
      auto size = static_cast<std::size_t>(end - begin);
      if (reads) {
        info->to_float(c.inputs[0], begin, std::span(output_of<float>(c) + begin, size));
      } else {
        info->from_float(std::span(input_of<float>(c, 0) + begin, size), c.outputs[0], begin);
      }
    });
    return {};
  });
}

}  // namespace aoq::cpu
