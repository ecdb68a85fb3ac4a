#include "ir/ops/common.h"

namespace aoq {

namespace {

template <typename T>
T floor_mod(T a, T b) {
  T r = std::fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

std::int64_t truncated_mod(std::int64_t a, std::int64_t b) {
  return b == -1 ? 0 : a % b;
}

std::int64_t floor_mod_integer(std::int64_t a, std::int64_t b) {
  std::int64_t r = truncated_mod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

std::uint64_t mod_u64(std::uint64_t a, std::uint64_t b) {
  return a % b;
}

}  // namespace

const OpDef kOpDef_mod = {
    .op = Op::mod,
    .name = "mod",
    .doc = "The remainder of a / b with broadcasting; an integer divisor of 0 is an error.",
    .inputs = {{{"a"}, {"b"}}},
    .attributes = {{{"fmod", AttributeKind::boolean, "false", "the sign is a's, as in C; else b's, as in Python"}}},
    .traits = kElementwise,
    .rule = QuantRule::float_only,
    .infer = ops::infer_broadcast,
    .reference = [](const EvalContext& c) -> Status {
      AOQ_TRY(ops::check_divisor(c));
      if (c.attributes.boolean("fmod")) {
        return ops::binary(c, {.f32 = [](float a, float b) { return std::fmod(a, b); },
                               .f64 = [](double a, double b) { return std::fmod(a, b); },
                               .integer = truncated_mod,
                               .u64 = mod_u64});
      }
      return ops::binary(
          c, {.f32 = floor_mod<float>, .f64 = floor_mod<double>, .integer = floor_mod_integer, .u64 = mod_u64});
    },
};

}  // namespace aoq
