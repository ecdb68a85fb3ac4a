#include "backends/cpu/rows/axis_rows.h"

#include "ir/type.h"

namespace aoq::cpu {

AxisRows rows_along(std::span<const std::int64_t> shape, std::span<const bool> along) {
  AxisRows out;
  std::vector<std::int64_t> strides = row_major_strides(shape);
  std::vector<CopyAxis> axes;  // from the tensor to rows: kept axes, then those of a line
  out.rows = 1;
  out.columns = 1;
  for (bool is_line : {false, true}) {
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (along[d] != is_line) continue;
      axes.push_back({shape[d], strides[d], 0});
      (is_line ? out.columns : out.rows) *= shape[d];
    }
  }
  std::int64_t stride = 1;
  for (std::size_t i = axes.size(); i-- > 0;) {
    axes[i].to_stride = stride;
    stride *= axes[i].size;
  }
  out.is_last = true;
  for (const CopyAxis& axis : axes) out.is_last = out.is_last && (axis.size == 1 || axis.from_stride == axis.to_stride);
  if (out.is_last) return out;
  out.gather.emplace(axes, 0, 0, 4);
  for (CopyAxis& axis : axes) std::swap(axis.from_stride, axis.to_stride);
  out.scatter.emplace(axes, 0, 0, 4);
  out.scratch_bytes = static_cast<std::uint64_t>(bytes_to_cache_line(out.rows * out.columns * 4));
  return out;
}

AxisRows rows_along_axis(std::span<const std::int64_t> shape, std::size_t axis) {
  std::array<bool, kMaxRank> along = {};
  along[axis] = true;
  return rows_along(shape, std::span(along).first(shape.size()));
}

Split split_rows(const StridedCopy& copy, const PrepareContext& context) {
  return split_work(copy.rows(), copy.row_bytes() / 2 + 8, context);
}

void run_copy(const RunContext& context, const Split& split, const StridedCopy& copy, const std::byte* from,
              std::byte* to) {
  run_split(context, split, [&](int, std::int64_t begin, std::int64_t end) { copy.run(from, to, begin, end); });
}

}  // namespace aoq::cpu
