// Rows that move elements of any whole-byte type: permute, slice, expand, tile, flip, pad, concat, gather, reshape.
#include <bit>
#include <cstring>

#include "backends/cpu/kernels/permute.h"
#include "backends/cpu/rows/rows.h"
#include "backends/cpu/rows/strided_copy.h"
#include "ir/epilogue.h"
#include "ir/error_id.h"

namespace aoq::cpu {
namespace {

using Sizes = std::vector<std::int64_t>;

Result<std::int64_t> whole_bytes(const PrepareContext& context, std::size_t i = 0) {
  std::int64_t bytes = element_bytes(context.inputs[i].dtype);
  if (bytes == 0) return refuse("elements of {} share bytes", dtype_name(context.inputs[i].dtype));
  return bytes;
}

// The axes of the result, with their strides in x still to be filled in.
std::vector<CopyAxis> result_axes(const Sizes& shape) {
  std::vector<CopyAxis> axes;
  Sizes strides = row_major_strides(shape);
  for (std::size_t d = 0; d < shape.size(); ++d) axes.push_back({shape[d], 0, strides[d]});
  return axes;
}

}  // namespace

KernelResult make_permute(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  const Sizes& x = context.inputs[0].shape;
  const Sizes& perm = context.attributes.integers("perm");
  if (x.size() <= static_cast<std::size_t>(kMaxPermuteAxes) && element_count(x) > 0) {
    std::vector<int> order;
    for (std::int64_t p : perm) order.push_back(static_cast<int>(normalized_axis(p, x.size())));
    PermutePlan plan = plan_permute(x, order, bytes);
    Split split = split_work(plan.units, element_count(x) / std::max<std::int64_t>(plan.units, 1) + 1, context);
    return make_kernel([plan, split](const RunContext& c) -> Status {
      run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
        run_permute(plan, c.inputs[0], c.outputs[0], begin, end);
      });
      return {};
    });
  }
  std::vector<CopyAxis> axes = result_axes(context.outputs[0].shape);
  Sizes strides = row_major_strides(x);
  for (std::size_t d = 0; d < axes.size(); ++d) {
    axes[d].from_stride = strides[static_cast<std::size_t>(normalized_axis(perm[d], x.size()))];
  }
  return make_copy_kernel(StridedCopy(axes, 0, 0, bytes), context);
}

KernelResult make_slice(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  const Sizes& x = context.inputs[0].shape;
  std::vector<CopyAxis> axes = result_axes(context.outputs[0].shape);
  Sizes strides = row_major_strides(x);
  for (std::size_t d = 0; d < axes.size(); ++d) axes[d].from_stride = strides[d];
  const Sizes& sliced = context.attributes.integers("axes");
  const Sizes& steps = context.attributes.integers("steps");
  std::int64_t from = 0;
  for (std::size_t i = 0; i < sliced.size() && element_count(context.outputs[0]) > 0; ++i) {
    auto d = static_cast<std::size_t>(normalized_axis(sliced[i], x.size()));
    std::int64_t start = context.attributes.dims("starts")[i].constant();
    std::int64_t step = axes[d].size == 1 || steps.empty() ? 1 : steps[i];
    std::int64_t last = start + (axes[d].size - 1) * step;
    if (start < 0 || start >= x[d] || last < 0 || last >= x[d]) {
      return error(Code::invalid_data, "slice of axis {} reads elements {} to {} of {}", d, start, last, x[d]);
    }
    from += start * strides[d];
    axes[d].from_stride = strides[d] * step;
  }
  return make_copy_kernel(StridedCopy(axes, from, 0, bytes), context);
}

KernelResult make_expand(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  const Sizes& x = context.inputs[0].shape;
  std::vector<CopyAxis> axes = result_axes(context.outputs[0].shape);
  Sizes strides = row_major_strides(x);
  std::size_t leading = axes.size() - x.size();
  for (std::size_t d = 0; d < x.size(); ++d) axes[leading + d].from_stride = x[d] == 1 ? 0 : strides[d];
  return make_copy_kernel(StridedCopy(axes, 0, 0, bytes), context);
}

KernelResult make_tile(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  const Sizes& x = context.inputs[0].shape;
  Sizes split_shape;
  for (std::size_t d = 0; d < x.size(); ++d) {
    split_shape.push_back(context.attributes.integers("repeats")[d]);
    split_shape.push_back(x[d]);
  }
  std::vector<CopyAxis> axes = result_axes(split_shape);
  Sizes strides = row_major_strides(x);
  for (std::size_t d = 0; d < x.size(); ++d) axes[2 * d + 1].from_stride = strides[d];
  return make_copy_kernel(StridedCopy(axes, 0, 0, bytes), context);
}

KernelResult make_flip(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  const Sizes& x = context.inputs[0].shape;
  std::vector<CopyAxis> axes = result_axes(x);
  Sizes strides = row_major_strides(x);
  for (std::size_t d = 0; d < x.size(); ++d) axes[d].from_stride = strides[d];
  Sizes flipped = context.attributes.integers("axes");
  std::int64_t from = 0;
  for (std::int64_t axis : flipped) {
    auto d = static_cast<std::size_t>(normalized_axis(axis, x.size()));
    from += (x[d] - 1) * strides[d];
    axes[d].from_stride = -strides[d];
  }
  return make_copy_kernel(StridedCopy(axes, from, 0, bytes), context);
}

// reshape: nothing moves; where the runtime has not made the two one buffer, the bytes are copied.
KernelResult make_reshape(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  std::int64_t n = element_count(context.outputs[0]) * bytes;
  Split split = split_elements(n, 1, context);
  return make_kernel(
      [split, n](const RunContext& c) -> Status {
        if (c.inputs[0] == c.outputs[0]) return {};
        run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
          std::memcpy(c.outputs[0] + begin, c.inputs[0] + begin, static_cast<std::size_t>(end - begin));
        });
        return {};
      },
      {.in_place_input = 0});
}

namespace {

// The bytes of one padding element.
std::array<std::byte, 8> pad_element(const PrepareContext& context) {
  std::array<std::byte, 8> element = {};
  DType dtype = context.inputs[0].dtype;
  double value = context.attributes.real("value");
  const std::optional<Quantization>& q = context.node.input(0)->type().quantization;
  if (!q || !is_integer(dtype)) {
    store_from_double(dtype, element.data(), 0, value);
    return element;
  }
  auto qmin = static_cast<std::int32_t>(dtype_info(dtype).min);
  auto qmax = static_cast<std::int32_t>(dtype_info(dtype).max);
  store_integer(dtype, element.data(), 0,
                quantize_value(static_cast<float>(value), 1.0f / q->scale, q->zero_point, qmin, qmax));
  return element;
}

template <typename T>
void fill_bytes(std::byte* out, const std::array<std::byte, 8>& element, std::int64_t begin, std::int64_t end) {
  T value;
  std::memcpy(&value, element.data(), sizeof(T));
  std::fill(reinterpret_cast<T*>(out) + begin, reinterpret_cast<T*>(out) + end, value);
}

using Fill = void (*)(std::byte*, const std::array<std::byte, 8>&, std::int64_t, std::int64_t);
Fill fill_of(std::int64_t bytes) {
  if (bytes == 1) return fill_bytes<std::uint8_t>;
  if (bytes == 2) return fill_bytes<std::uint16_t>;
  return bytes == 4 ? fill_bytes<std::uint32_t> : fill_bytes<std::uint64_t>;
}

}  // namespace

KernelResult make_pad(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  if (context.attributes.string("mode") != "constant") {
    return refuse("the kernel has no mode {}", context.attributes.string("mode"));
  }
  const Sizes& x = context.inputs[0].shape;
  const Sizes& y = context.outputs[0].shape;
  const Sizes& pads = context.attributes.integers("pads");
  Sizes from_strides = row_major_strides(x);
  std::vector<CopyAxis> axes = result_axes(y);
  std::int64_t from = 0, to = 0;
  for (std::size_t d = 0; d < x.size(); ++d) {
    std::int64_t to_begin = std::max<std::int64_t>(pads[d], 0);
    std::int64_t from_begin = std::max<std::int64_t>(-pads[d], 0);
    axes[d].size = std::max<std::int64_t>(std::min(x[d] - from_begin, y[d] - to_begin), 0);
    axes[d].from_stride = from_strides[d];
    to += to_begin * axes[d].to_stride;
    from += from_begin * from_strides[d];
  }
  StridedCopy copy(axes, from, to, bytes);
  std::int64_t n = element_count(y);
  Split fill_split = split_elements(n, 1, context);
  Split copy_split = split_work(copy.rows(), copy.row_bytes() / 4 + 8, context);
  return make_kernel([copy, copy_split, fill_split, n, fill = fill_of(bytes),
                      element = pad_element(context)](const RunContext& c) -> Status {
    run_elements(c, fill_split, n,
                 [&](std::int64_t begin, std::int64_t end) { fill(c.outputs[0], element, begin, end); });
    run_split(c, copy_split,
              [&](int, std::int64_t begin, std::int64_t end) { copy.run(c.inputs[0], c.outputs[0], begin, end); });
    return {};
  });
}

KernelResult make_concat(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  const Sizes& y = context.outputs[0].shape;
  auto axis = static_cast<std::size_t>(normalized_axis(context.attributes.integer("axis"), y.size()));
  std::int64_t outer = element_count(std::span(y).first(axis));
  std::int64_t inner = element_count(std::span(y).subspan(axis + 1)) * bytes;
  struct Part {
    std::int64_t bytes, offset;
  };
  std::vector<Part> parts;
  std::int64_t offset = 0;
  for (const ConcreteType& x : context.inputs) {
    parts.push_back({x.shape[axis] * inner, offset});
    offset += parts.back().bytes;
  }
  auto count = static_cast<std::int64_t>(parts.size());
  Split split = split_work(outer * count, offset / count / 4 + 8, context);
  return make_kernel([parts = std::move(parts), count, row = offset, split](const RunContext& c) -> Status {
    run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        auto i = static_cast<std::size_t>(unit % count);
        std::int64_t o = unit / count;
        if (parts[i].bytes == 0) continue;
        std::memcpy(c.outputs[0] + o * row + parts[i].offset, c.inputs[i] + o * parts[i].bytes,
                    static_cast<std::size_t>(parts[i].bytes));
      }
    });
    return {};
  });
}

namespace {

template <typename Index>
Status check_indices(const Index* indices, std::int64_t n, std::int64_t size) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (indices[i] >= -size && indices[i] < size) continue;
    return error(ErrorId::index_out_of_range, "index {} is {}, out of range for a dimension of {}", i, indices[i],
                 size);
  }
  return {};
}

struct GatherShape {
  std::int64_t size;   // of the gathered dimension
  std::int64_t count;  // of indices
  std::int64_t inner;  // bytes that follow each other
};

template <typename Index>
KernelResult gather_kernel(const GatherShape& g, const Split& split) {
  return make_kernel([g, split](const RunContext& c) -> Status {
    const auto* indices = input_of<Index>(c, 1);
    AOQ_TRY(check_indices(indices, g.count, g.size));
    run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        std::int64_t at = indices[unit % g.count];
        at = unit / g.count * g.size + (at < 0 ? at + g.size : at);
        std::memcpy(c.outputs[0] + unit * g.inner, c.inputs[0] + at * g.inner, static_cast<std::size_t>(g.inner));
      }
    });
    return {};
  });
}

}  // namespace

KernelResult make_gather(const PrepareContext& context) {
  AOQ_ASSIGN(std::int64_t bytes, whole_bytes(context));
  const Sizes& x = context.inputs[0].shape;
  auto axis = static_cast<std::size_t>(normalized_axis(context.attributes.integer("axis"), x.size()));
  GatherShape g{x[axis], element_count(context.inputs[1]), element_count(std::span(x).subspan(axis + 1)) * bytes};
  std::int64_t outer = element_count(std::span(x).first(axis));
  Split split = split_work(outer * g.count, g.inner / 4 + 4, context);
  if (context.inputs[1].dtype == DType::i32) return gather_kernel<std::int32_t>(g, split);
  return gather_kernel<std::int64_t>(g, split);
}

// dims and iota have no inputs: the result is made once.
KernelResult make_fixed(const PrepareContext& context) {
  const ConcreteType& type = context.outputs[0];
  AOQ_ASSIGN(Tensor value, Tensor::make(type.dtype, type.shape));
  MutableTensorView view = value.mutable_view();
  AOQ_TRY(context.node.def().reference(
      {.op = context.node.op(), .inputs = {}, .outputs = std::span(&view, 1), .attributes = context.attributes}));
  return make_kernel([value = std::move(value)](const RunContext& c) -> Status {
    std::memcpy(c.outputs[0], value.bytes().data(), value.bytes().size());
    return {};
  });
}

}  // namespace aoq::cpu
