// one_hot for integer indices.
#include <array>
#include <cstring>

#include "backends/cpu/rows/rows.h"

namespace aoq::cpu {
namespace {

struct OneHot {
  std::int64_t depth, inner, bytes, indices;
  std::array<std::byte, 8> on, off;
};

template <typename Index>
void fill_units(const OneHot& o, const RunContext& c, std::int64_t begin, std::int64_t end) {
  // A unit is one row [depth, inner] that belongs to `inner` indices.
  for (std::int64_t unit = begin; unit < end; ++unit) {
    std::byte* out = c.outputs[0] + unit * o.depth * o.inner * o.bytes;
    for (std::int64_t i = 0; i < o.depth * o.inner; ++i) {
      std::memcpy(out + i * o.bytes, o.off.data(), static_cast<std::size_t>(o.bytes));
    }
    for (std::int64_t i = 0; i < o.inner; ++i) {
      auto index = static_cast<std::int64_t>(input_of<Index>(c, 0)[unit * o.inner + i]);
      if (index < -o.depth || index >= o.depth) continue;
      if (index < 0) index += o.depth;
      std::memcpy(out + (index * o.inner + i) * o.bytes, o.on.data(), static_cast<std::size_t>(o.bytes));
    }
  }
}

}  // namespace

KernelResult make_one_hot(const PrepareContext& context) {
  DType index = context.inputs[0].dtype;
  if (index != DType::i32 && index != DType::i64) return refuse("the kernel reads i32 and i64 indices");
  const ConcreteType& out = context.outputs[0];
  OneHot o = {};
  o.bytes = element_bytes(out.dtype);
  if (o.bytes == 0) return refuse("elements of {} share bytes", dtype_name(out.dtype));
  auto axis = static_cast<std::size_t>(normalized_axis(context.attributes.integer("axis"), out.shape.size()));
  o.depth = out.shape[axis];
  o.inner = element_count(std::span(out.shape).subspan(axis + 1));
  store_from_double(out.dtype, o.on.data(), 0, context.attributes.real("on"));
  store_from_double(out.dtype, o.off.data(), 0, context.attributes.real("off"));
  std::int64_t row = o.depth * o.inner;
  Split split = split_work(row == 0 ? 0 : element_count(out) / row, row * 2, context);
  bool wide = index == DType::i64;
  return make_kernel([o, split, wide](const RunContext& c) -> Status {
    run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
      wide ? fill_units<std::int64_t>(o, c, begin, end) : fill_units<std::int32_t>(o, c, begin, end);
    });
    return {};
  });
}

}  // namespace aoq::cpu
