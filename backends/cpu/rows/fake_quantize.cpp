// fake_quantize: small floats without their codes.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/kernels/small_float.h"
#include "backends/cpu/rows/rows.h"
#include "ir/math.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kFloatsPerLine = 64 / sizeof(float);

struct Scaling {
  SmallFloat type;
  float amax_min = 0.0f, amax_max = 0.0f;

  // NaN where an element is not finite, or the scale not above 0.
  float of(Range range) const {
    if (!std::isfinite(range.min) || !std::isfinite(range.max)) return std::numeric_limits<float>::quiet_NaN();
    const float amax = std::max(std::fabs(range.min), std::fabs(range.max));
    const float scale = std::clamp(amax, amax_min, amax_max) / type.highest;
    return scale > 0.0f ? scale : std::numeric_limits<float>::quiet_NaN();
  }
};

// Why a scale could not be chosen.
Status no_scale(const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) {
      return error(Code::invalid_data, "input has the element {}, expected finite numbers", x[i]);
    }
  }
  return error(Code::invalid_data, "scale is 0, expected above 0");
}

KernelResult with_given_scale(const PrepareContext& context, const Scaling& scaling, std::int64_t n) {
  const Split split = split_elements(n, 2, context);
  return make_kernel(
      [scaling, n, split](const RunContext& c) -> Status {
        if (n == 0) return {};
        const float scale = *input_of<float>(c, 1);
        if (!(std::isfinite(scale) && scale > 0.0f)) {
          return error(Code::invalid_data, "scale is {}, expected above 0", scale);
        }
        run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
          through_small_float(scaling.type, scale, input_of<float>(c, 0) + begin, output_of<float>(c) + begin,
                              end - begin);
        });
        return {};
      },
      {.in_place_input = 0});
}

// One scale for all: the extremes first, by pieces.
KernelResult by_tensor(const PrepareContext& context, const Scaling& scaling, std::int64_t n) {
  const Split split = split_elements(n, 2, context);
  const KernelNeeds needs{.scratch_bytes = static_cast<std::uint64_t>(split.workers) * 64, .in_place_input = 0};
  return make_kernel(
      [scaling, n, split, isa = best_isa()](const RunContext& c) -> Status {
        if (n == 0) return {};
        const auto* x = input_of<float>(c, 0);
        // A cache line of its own for each worker.
        auto* ranges = reinterpret_cast<float*>(c.scratch);
        std::fill_n(ranges, split.workers * kFloatsPerLine, 0.0f);
        run_split(c, split, [&](int worker, std::int64_t begin, std::int64_t end) {
          const std::int64_t first = begin * kBlockElements, last = std::min(end * kBlockElements, n);
          if (first >= last) return;
          const Range range = range_of(isa, x + first, last - first);
          float* own = ranges + worker * kFloatsPerLine;
          own[0] = math::minimum(own[0], range.min);
          own[1] = math::maximum(own[1], range.max);
        });
        Range all{0.0f, 0.0f};
        for (int w = 0; w < split.workers; ++w) {
          all.min = math::minimum(all.min, ranges[w * kFloatsPerLine]);
          all.max = math::maximum(all.max, ranges[w * kFloatsPerLine + 1]);
        }
        const float scale = scaling.of(all);
        if (std::isnan(scale)) return no_scale(x, n);
        run_elements(c, split, n, [&](std::int64_t begin, std::int64_t end) {
          through_small_float(scaling.type, scale, x + begin, output_of<float>(c) + begin, end - begin);
        });
        return {};
      },
      needs);
}

// A scale for every `length` elements.
KernelResult by_part(const PrepareContext& context, const Scaling& scaling, std::int64_t n, std::int64_t length) {
  const std::int64_t parts = length == 0 ? 0 : n / length;
  const Split split = split_work(parts, 2 * length + 4, context);
  return make_kernel(
      [scaling, n, length, split, isa = best_isa()](const RunContext& c) -> Status {
        std::atomic<bool> has_failed = false;
        run_split(c, split, [&](int, std::int64_t begin, std::int64_t end) {
          for (std::int64_t part = begin; part < end; ++part) {
            const float* x = input_of<float>(c, 0) + part * length;
            const float scale = scaling.of(range_of(isa, x, length));
            if (std::isnan(scale)) {
              has_failed = true;
              return;
            }
            through_small_float(scaling.type, scale, x, output_of<float>(c) + part * length, length);
          }
        });
        return has_failed ? no_scale(input_of<float>(c, 0), n) : Status();
      },
      {.in_place_input = 0});
}

}  // namespace

KernelResult make_fake_quantize(const PrepareContext& context) {
  const Attributes& a = context.attributes;
  const DType dtype = a.dtype("dtype");
  if (dtype_info(dtype).mantissa_bits < 1) return refuse("{} has no mantissa", dtype_name(dtype));
  const Scaling scaling{small_float(dtype), static_cast<float>(a.real("amax_min")),
                        static_cast<float>(a.real("amax_max"))};
  const std::int64_t n = element_count(context.inputs[0]);
  if (context.node.input(1) != nullptr) return with_given_scale(context, scaling, n);
  const std::string& granularity = a.string("granularity");
  if (granularity == "tensor") return by_tensor(context, scaling, n);
  return by_part(context, scaling, n, granularity == "token" ? context.inputs[0].shape.back() : a.integer("group"));
}

}  // namespace aoq::cpu
