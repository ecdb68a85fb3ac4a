// resize, nearest and linear, over any dimensions: sample positions are found once.
#include <cmath>
#include <cstring>

#include "backends/cpu/rows/rows.h"
#include "backends/cpu/rows/strided_copy.h"
#include "ir/resize.h"

namespace aoq::cpu {
namespace {

using namespace resize;

// What one position of the result reads along one axis: one element, or two with weights.
struct Sample {
  std::int64_t first, second;
  float first_weight, second_weight;
};

Sample sample_at(const Attributes& attributes, const AxisSizes& d, std::int64_t position) {
  double x = coordinate(attributes.string("coordinates"), d, position);
  if (attributes.string("mode") == "nearest") {
    std::int64_t index = inside(to_nearest(attributes.string("nearest"), x), d.in);
    return {index, index, 1.0f, 0.0f};
  }
  double base = std::floor(x);
  auto t = static_cast<float>(x - base);
  return {inside(base, d.in), inside(base + 1.0, d.in), 1.0f - t, t};
}

// One axis of the tensor that is resized: [outer, in, inner] to [outer, out, inner].
struct Stage {
  std::int64_t outer, in, out, inner;
  std::vector<Sample> samples;
  Split split;  // over outer * out
};

Result<std::vector<Stage>> stages_of(const PrepareContext& context) {
  std::vector<std::int64_t> shape = context.inputs[0].shape;
  const std::vector<std::int64_t>& result = context.outputs[0].shape;
  if (element_count(shape) == 0 || element_count(result) == 0) return refuse("a tensor is empty");
  const auto& scales = context.attributes.get<std::vector<double>>("scales");
  std::vector<Stage> stages;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    AxisSizes sizes{shape[d], result[d], static_cast<double>(result[d]) / static_cast<double>(shape[d])};
    if (!scales.empty()) sizes.scale = scales[d];
    if (sizes.in == sizes.out && sizes.scale == 1.0) continue;
    Stage stage{element_count(std::span(shape).first(d)),       shape[d], result[d],
                element_count(std::span(shape).subspan(d + 1)), {},       {}};
    for (std::int64_t i = 0; i < sizes.out; ++i) stage.samples.push_back(sample_at(context.attributes, sizes, i));
    stage.split = split_work(stage.outer * stage.out, stage.inner + 4, context);
    stages.push_back(std::move(stage));
    shape[d] = result[d];
  }
  return stages;
}

void copy_nearest(const Stage& s, std::int64_t bytes, const std::byte* x, std::byte* y, std::int64_t begin,
                  std::int64_t end) {
  std::int64_t size = s.inner * bytes;
  for (std::int64_t unit = begin; unit < end; ++unit) {
    std::int64_t from = unit / s.out * s.in + s.samples[static_cast<std::size_t>(unit % s.out)].first;
    std::memcpy(y + unit * size, x + from * size, static_cast<std::size_t>(size));
  }
}

// The reference's order: 0 + first + second, every product and sum rounded.
void interpolate(const Stage& s, const float* x, float* y, std::int64_t begin, std::int64_t end) {
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const Sample& at = s.samples[static_cast<std::size_t>(unit % s.out)];
    const float* a = x + (unit / s.out * s.in + at.first) * s.inner;
    const float* b = x + (unit / s.out * s.in + at.second) * s.inner;
    float* out = y + unit * s.inner;
    for (std::int64_t i = 0; i < s.inner; ++i) out[i] = (0.0f + at.first_weight * a[i]) + at.second_weight * b[i];
  }
}

}  // namespace

KernelResult make_resize(const PrepareContext& context) {
  const std::string& mode = context.attributes.string("mode");
  bool nearest = mode == "nearest";
  if (!nearest && mode != "linear") return refuse("the kernel has no mode {}", mode);
  std::int64_t bytes = element_bytes(context.inputs[0].dtype);
  if (bytes == 0) return refuse("elements of {} share bytes", dtype_name(context.inputs[0].dtype));
  if (!nearest) AOQ_TRY(require_f32(context));
  AOQ_ASSIGN(std::vector<Stage> stages, stages_of(context));
  // Stages go from buffer to buffer: input, two halves of scratch in turns, result.
  std::int64_t largest = 0;
  for (std::size_t i = 0; i + 1 < stages.size(); ++i) {
    largest = std::max(largest, stages[i].outer * stages[i].out * stages[i].inner * bytes);
  }
  auto half = static_cast<std::uint64_t>(bytes_to_cache_line(largest));
  std::int64_t total = element_count(context.outputs[0]) * bytes;
  KernelNeeds needs{.scratch_bytes = 2 * half};
  return make_kernel(
      [stages = std::move(stages), bytes, nearest, half, total](const RunContext& c) -> Status {
        const std::byte* from = c.inputs[0];
        if (stages.empty()) std::memcpy(c.outputs[0], from, static_cast<std::size_t>(total));
        for (std::size_t i = 0; i < stages.size(); ++i) {
          const Stage& stage = stages[i];
          std::byte* to = i + 1 == stages.size() ? c.outputs[0] : c.scratch + i % 2 * half;
          run_split(c, stage.split, [&](int, std::int64_t begin, std::int64_t end) {
            if (nearest) {
              copy_nearest(stage, bytes, from, to, begin, end);
            } else {
              interpolate(stage, reinterpret_cast<const float*>(from), reinterpret_cast<float*>(to), begin, end);
            }
          });
          from = to;
        }
        return {};
      },
      needs);
}

}  // namespace aoq::cpu
