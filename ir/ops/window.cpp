#include "ir/ops/window.h"

namespace aoq::ops {

namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 31;

Status read_list(const Attributes& attributes, const char* name, std::size_t size, std::int64_t low,
                 std::int64_t default_value, Sizes& out) {
  out.assign(size, default_value);
  // Pools and convolutions have different subsets of these.
  if (!attributes.has(name) || attributes.integers(name).empty()) return {};
  const std::vector<std::int64_t>& list = attributes.integers(name);
  if (list.size() != size) return error(Code::invalid_model, "{} has {} entries, expected {}", name, list.size(), size);
  for (std::int64_t v : list) AOQ_TRY(require_range(name, v, low, kLimit - 1));
  out = list;
  return {};
}

}  // namespace

Result<Window> read_window(const Attributes& attributes, std::span<const std::int64_t> kernel) {
  Window w;
  w.kernel.assign(kernel.begin(), kernel.end());
  std::size_t rank = kernel.size();
  AOQ_TRY(read_list(attributes, "stride", rank, 1, 1, w.stride));
  AOQ_TRY(read_list(attributes, "dilation", rank, 1, 1, w.dilation));
  Sizes pads;
  AOQ_TRY(read_list(attributes, "pads", 2 * rank, 0, 0, pads));
  w.pad_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  w.pad_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
  std::int64_t positions = 1;
  for (std::size_t d = 0; d < rank; ++d) {
    AOQ_TRY(require_range("kernel", kernel[d], 1, kLimit - 1));
    AOQ_TRY(require_range("kernel * dilation", kernel[d] * w.dilation[d], 1, kLimit - 1));
    positions *= kernel[d];
    AOQ_TRY(require_range("number of kernel positions", positions, 1, kLimit - 1));
  }
  return w;
}

Result<Dim> window_output(const Dim& in, const Window& w, std::size_t d, Rounding rounding) {
  std::int64_t covered = w.dilation[d] * (w.kernel[d] - 1) + 1;
  Dim free = in + Dim(w.pad_begin[d] + w.pad_end[d] - covered);
  if (free.is_constant() && free.constant() < 0) {
    return error(Code::invalid_model, "window of {} is larger than the padded input {}", covered,
                 free.constant() + covered);
  }
  Dim stride(w.stride[d]);
  if (rounding == Rounding::floor) return floor_div(free, stride) + Dim(1);
  return min(ceil_div(free, stride) + Dim(1), ceil_div(in + Dim(w.pad_begin[d]), stride));
}

Layout layout_of(const Attributes& attributes, std::size_t rank) {
  return {attributes.boolean("channels_last"), rank};
}

Plane::Plane(Layout l, std::span<const std::int64_t> shape) : layout(l), batch(shape[0]), channels(shape[l.channel()]) {
  for (std::size_t d = 0; d < l.spatial_rank(); ++d) spatial.push_back(shape[l.spatial(d)]);
  pixels = count(spatial, 0, spatial.size());
}

TapFinder::TapFinder(Window window, Sizes in, Sizes out, WindowDirection direction)
    : window_(std::move(window)), in_(std::move(in)), out_(std::move(out)), direction_(direction) {}

// The input coordinate that kernel position k meets, or -1.
std::int64_t TapFinder::source(std::size_t d, std::int64_t out, std::int64_t k) const {
  std::int64_t offset = k * window_.dilation[d] - window_.pad_begin[d];
  std::int64_t i = out * window_.stride[d] + offset;
  if (direction_ == WindowDirection::transposed) {
    if ((out - offset) % window_.stride[d] != 0) return -1;
    i = (out - offset) / window_.stride[d];
  }
  return i >= 0 && i < in_[d] ? i : -1;
}

const std::vector<Tap>& TapFinder::at(std::int64_t out_pixel) {
  taps_.assign(1, {0, 0});
  std::int64_t rest = out_pixel;
  std::int64_t block = count(out_, 0, out_.size());
  for (std::size_t d = 0; d < out_.size(); ++d) {
    block /= out_[d];
    std::int64_t coordinate = rest / block;
    rest %= block;
    std::vector<Tap> next;
    for (const Tap& tap : taps_) {
      for (std::int64_t k = 0; k < window_.kernel[d]; ++k) {
        std::int64_t i = source(d, coordinate, k);
        if (i >= 0) next.push_back({tap.position * window_.kernel[d] + k, tap.pixel * in_[d] + i});
      }
    }
    taps_ = std::move(next);
  }
  return taps_;
}

std::int64_t TapFinder::padded_count(std::int64_t out_pixel) const {
  std::int64_t total = 1;
  for (std::size_t d = out_.size(); d-- > 0;) {
    std::int64_t start = out_pixel % out_[d] * window_.stride[d];
    out_pixel /= out_[d];
    std::int64_t inside = 0;
    for (std::int64_t k = 0; k < window_.kernel[d]; ++k) {
      if (start + k * window_.dilation[d] < window_.pad_begin[d] + in_[d] + window_.pad_end[d]) ++inside;
    }
    total *= inside;
  }
  return total;
}

Result<std::vector<Dim>> infer_pool_shape(const InferContext& c) {
  const Type& x = c.input(0);
  AOQ_TRY(require_rank(x, 3, 5));
  Layout layout = layout_of(c.attributes, x.shape.size());
  const std::vector<std::int64_t>& kernel = c.attributes.integers("kernel");
  if (kernel.size() != layout.spatial_rank()) {
    return error(Code::invalid_model, "kernel has {} entries, expected {}", kernel.size(), layout.spatial_rank());
  }
  AOQ_ASSIGN(Window window, read_window(c.attributes, kernel));
  std::vector<Dim> shape = x.shape;
  Rounding rounding = c.attributes.boolean("ceil_mode") ? Rounding::ceil : Rounding::floor;
  for (std::size_t d = 0; d < kernel.size(); ++d) {
    Dim& dim = shape[layout.spatial(d)];
    AOQ_ASSIGN(dim, window_output(dim, window, d, rounding));
  }
  return shape;
}

TapFinder pool_taps(const EvalContext& c, const Plane& in, const Plane& out) {
  Result<Window> window = read_window(c.attributes, c.attributes.integers("kernel"));
  AOQ_CHECK(window.ok());
  return TapFinder(std::move(window).value(), in.spatial, out.spatial, WindowDirection::forward);
}

}  // namespace aoq::ops
