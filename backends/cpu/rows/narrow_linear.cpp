// linear_weight_only and linear_dynamic: weights of 1 to 8 bits that stay packed, exact.
//
// A run has two steps, each split over the workers: what depends on a row of x only (sums of its groups, its codes
// or digits), then the products.
#include "backends/cpu/kernels/narrow_linear.h"

#include <cmath>
#include <limits>

#include "backends/cpu/kernels/quantize.h"
#include "backends/cpu/rows/layouts.h"
#include "backends/cpu/rows/rows.h"
#include "ir/dynamic_qparams.h"
#include "ir/narrow_linear.h"
#include "ir/ops/qparams.h"

namespace aoq::cpu {
namespace {

enum Operand : std::size_t { kX, kWeight, kScale, kZeroPoint, kBias, kXScale, kXZeroPoint };

// The constants of a node; arrays are [panels][groups][16], zeros behind the last column.
struct Prepared {
  NarrowLinearPlan plan;
  const std::byte* codes = nullptr;
  const float *packed_scales = nullptr, *packed_zeros = nullptr;  // or, when they are not f32:
  std::vector<float> scales, zeros;
  std::vector<std::int16_t> zero_points;
  std::vector<float> bias;
  Split row_split, split;

  // Of linear_weight_only.
  bool is_fixed_point() const { return plan.codes == NarrowCodes::nibble_integers; }
  bool needs_sums() const {
    return packed_zeros != nullptr || !zeros.empty() || (!zero_points.empty() && !is_fixed_point());
  }
  NarrowWeight weight() const {
    NarrowWeight w;
    w.codes = codes;
    w.scales = packed_scales != nullptr ? packed_scales : scales.data();
    if (!zero_points.empty()) w.zero_points = zero_points.data();
    w.zeros = packed_zeros != nullptr || zeros.empty() ? packed_zeros : zeros.data();
    if (!bias.empty()) w.bias = bias.data();
    return w;
  }
};

// Constants [N, groups] as panels, each through `convert`.
template <typename T, typename Convert>
std::vector<T> panels_of(const NarrowLinearPlan& plan, Convert convert) {
  std::vector<T> out(static_cast<std::size_t>(plan.panels * plan.groups * 16));
  for (std::int64_t column = 0; column < plan.columns; ++column) {
    for (std::int64_t g = 0; g < plan.groups; ++g) {
      const std::int64_t at = (column / 16 * plan.groups + g) * 16 + column % 16;
      out[static_cast<std::size_t>(at)] = static_cast<T>(convert(column * plan.groups + g));
    }
  }
  return out;
}

// f32 numbers [N, groups] as panels, where the file or the model has them.
Result<const float*> packed_panels(const PrepareContext& context, std::size_t operand, const NarrowLinearPlan& plan) {
  AOQ_ASSIGN(const std::byte* packed, packed_input(context, operand, kLayoutF32, plan.panels * plan.groups * 64));
  return reinterpret_cast<const float*>(packed);
}

// Narrower ones as panels of f32.
Result<std::vector<float>> widened_panels(const PrepareContext& context, std::size_t operand,
                                          const NarrowLinearPlan& plan) {
  const Tensor* tensor = constant_input(context, operand);
  if (tensor == nullptr) return refuse("{} is not a plain constant", context.node.def().inputs[operand].name);
  std::vector<float> values(static_cast<std::size_t>(tensor->element_count()));
  dtype_info(tensor->dtype()).to_float(tensor->bytes().data(), 0, values);
  return panels_of<float>(plan, [&](std::int64_t i) { return values[static_cast<std::size_t>(i)]; });
}

Status prepare_scales(const PrepareContext& context, Prepared* p) {
  if (context.inputs[kScale].dtype == DType::f32) {
    AOQ_ASSIGN(p->packed_scales, packed_panels(context, kScale, p->plan));
    return {};
  }
  AOQ_ASSIGN(p->scales, widened_panels(context, kScale, p->plan));
  return {};
}

Status prepare_zero_points(const PrepareContext& context, Prepared* p) {
  if (context.node.input(kZeroPoint) == nullptr) return {};
  const DType dtype = context.inputs[kZeroPoint].dtype;
  if (dtype == DType::f32) {
    AOQ_ASSIGN(p->packed_zeros, packed_panels(context, kZeroPoint, p->plan));
    return {};
  }
  if (is_float(dtype)) {
    AOQ_ASSIGN(p->zeros, widened_panels(context, kZeroPoint, p->plan));
    return {};
  }
  const Tensor* tensor = constant_input(context, kZeroPoint);
  if (tensor == nullptr) return refuse("zero_point is not a plain constant");
  const std::byte* data = tensor->bytes().data();
  const std::int32_t centre = code_centre(context.inputs[kWeight].dtype);
  p->zero_points =
      panels_of<std::int16_t>(p->plan, [&](std::int64_t i) { return load_integer(dtype, data, i) - centre; });
  return {};
}

Result<Prepared> prepare(const PrepareContext& context, Isa isa) {
  if (isa > best_isa()) return refuse("this machine is {}", isa_name(best_isa()));
  const std::vector<std::int64_t>& weight = context.inputs[kWeight].shape;
  const std::int64_t group = std::min(context.attributes.integer("group"), weight[1]);
  const std::int64_t outputs = element_count(context.outputs[0]);
  if (outputs == 0 || weight[1] == 0) return refuse("there is nothing to multiply");
  if (group % 8 != 0 && group != weight[1])
    return refuse("a group has {} codes, the kernel takes multiples of 8", group);
  const DType dtype = context.inputs[kWeight].dtype;
  Prepared p;
  p.plan = plan_narrow_linear({outputs / weight[0], weight[0], weight[1], group}, dtype, isa);
  const bool nibbles = has_nibble_codes(dtype);
  AOQ_ASSIGN(p.codes, packed_input(context, kWeight, nibbles ? kLayoutNibbles : kLayoutBytes,
                                   packed_bytes_narrow(nibbles, weight[0], weight[1])));
  AOQ_TRY(prepare_scales(context, &p));
  AOQ_TRY(prepare_zero_points(context, &p));
  AOQ_ASSIGN(p.bias, float_constants(context, kBias, weight[0]));
  if (!p.bias.empty()) p.bias.resize(static_cast<std::size_t>(p.plan.panels * 16));
  const NarrowLinearPlan& plan = p.plan;
  p.split = split_work(plan.units, plan.rows * plan.columns * plan.depth / 8 / plan.units + 1, context);
  p.row_split = split_work(plan.rows, plan.depth / 4 + 1, context);
  return p;
}

// t of ir/narrow_linear.h for each group of a row; eight groups side by side, as each is one chain.
void sum_groups(const NarrowLinearPlan& plan, const float* x, float* sums) {
  constexpr std::int64_t kAbreast = 8;
  std::int64_t g = 0;
  for (; (g + kAbreast) * plan.group <= plan.depth; g += kAbreast) {
    const float* from = x + g * plan.group;
    for (std::int64_t j = 0; j < kAbreast; ++j) sums[g + j] = from[j * plan.group];
    for (std::int64_t k = 1; k < plan.group; ++k) {
      for (std::int64_t j = 0; j < kAbreast; ++j) sums[g + j] = sums[g + j] + from[j * plan.group + k];
    }
  }
  for (; g < plan.groups; ++g) {
    const std::int64_t end = std::min(plan.depth, (g + 1) * plan.group);
    sums[g] = x[g * plan.group];
    for (std::int64_t k = g * plan.group + 1; k < end; ++k) sums[g] = sums[g] + x[k];
  }
}

// Scratch of one run, or its size without memory.
class Carver {
 public:
  explicit Carver(std::byte* memory) : memory_(memory) {}
  template <typename T>
  T* take(std::int64_t count) {
    std::byte* at = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += bytes_to_cache_line(count * static_cast<std::int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(at);
  }
  std::int64_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::int64_t used_ = 0;
};

// Of the digits of a row of x.
std::int64_t digit_pitch(const NarrowLinearPlan& plan) {
  return (plan.depth + 7) / 8 * kFixedPointStep;
}

std::int64_t code_pitch(const NarrowLinearPlan& plan) {
  return (plan.depth + 7) / 8 * 8;
}

// What is known of the rows of x before they are multiplied: t, and with fixed point the numbers.
struct RowBuffers {
  float* sums = nullptr;
  std::int8_t* digits = nullptr;
  FixedPointBlock* blocks = nullptr;
};

RowBuffers carve_rows(const Prepared& p, Carver* carver) {
  const NarrowLinearPlan& plan = p.plan;
  RowBuffers b;
  if (p.needs_sums()) b.sums = carver->take<float>(plan.rows * plan.groups);
  if (!p.is_fixed_point()) return b;
  b.digits = carver->take<std::int8_t>(plan.rows * digit_pitch(plan));
  b.blocks = carver->take<FixedPointBlock>(plan.rows * fixed_point_blocks(plan));
  return b;
}

void prepare_rows(const RunContext& c, const Prepared& p, const RowBuffers& b) {
  const NarrowLinearPlan& plan = p.plan;
  const auto* x = input_of<float>(c, kX);
  const std::int64_t pitch = digit_pitch(plan), blocks = fixed_point_blocks(plan);
  run_split(c, p.row_split, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const float* row = x + r * plan.depth;
      if (b.sums != nullptr) sum_groups(plan, row, b.sums + r * plan.groups);
      if (b.digits != nullptr) fix_row(plan, {row, b.digits + r * pitch, b.blocks + r * blocks});
    }
  });
}

void multiply_fixed_point(const RunContext& c, const Prepared& p, const RowBuffers& b) {
  LinearFixedPointArgs args;
  args.weight = p.weight();
  args.digits = b.digits;
  args.row_digits = digit_pitch(p.plan);
  args.blocks = b.blocks;
  args.sums = b.sums;
  args.out = output_of<float>(c);
  run_split(c, p.split,
            [&](int, std::int64_t begin, std::int64_t end) { run_linear_fixed_point(p.plan, args, begin, end); });
}

void multiply_floats(const RunContext& c, const Prepared& p, const RowBuffers& b) {
  LinearWeightOnlyArgs args;
  args.weight = p.weight();
  args.x = input_of<float>(c, kX);
  args.sums = b.sums;
  args.out = output_of<float>(c);
  run_split(c, p.split,
            [&](int, std::int64_t begin, std::int64_t end) { run_linear_weight_only(p.plan, args, begin, end); });
}

KernelResult make_weight_only(const PrepareContext& context, Isa isa) {
  AOQ_ASSIGN(Prepared prepared, prepare(context, isa));
  Carver size(nullptr);
  carve_rows(prepared, &size);
  const KernelNeeds needs{.scratch_bytes = static_cast<std::uint64_t>(size.used())};
  return make_kernel(
      [p = std::move(prepared)](const RunContext& c) -> Status {
        Carver carver(c.scratch);
        const RowBuffers b = carve_rows(p, &carver);
        if (b.sums != nullptr || b.digits != nullptr) prepare_rows(c, p, b);
        p.is_fixed_point() ? multiply_fixed_point(c, p, b) : multiply_floats(c, p, b);
        return {};
      },
      needs);
}

// How x becomes codes, and where they lie.
struct Quantizer {
  DynamicQParams how;
  bool is_static = false;
  bool has_zero_points = false;
};

Quantizer quantizer_of(const PrepareContext& context) {
  Quantizer q;
  q.how = DynamicQParams::narrow_linear(context.attributes);
  q.is_static = context.node.input(kXScale) != nullptr;
  q.has_zero_points =
      q.is_static ? context.node.input(kXZeroPoint) != nullptr : q.how.formula != DynamicQParams::Formula::symmetric;
  return q;
}

struct CodeBuffers {
  std::int8_t* codes = nullptr;
  std::int16_t* wide = nullptr;
  std::int32_t *sums = nullptr, *starts = nullptr, *zero_points = nullptr;
  float* scales = nullptr;
};

CodeBuffers carve(const NarrowLinearPlan& plan, Carver* carver) {
  CodeBuffers b;
  b.codes = carver->take<std::int8_t>(plan.rows * code_pitch(plan));
  if (reads_wide_codes(plan)) b.wide = carver->take<std::int16_t>(plan.rows * code_pitch(plan));
  b.sums = carver->take<std::int32_t>(plan.rows * plan.groups);
  b.starts = carver->take<std::int32_t>(plan.rows * plan.groups);
  b.zero_points = carver->take<std::int32_t>(plan.rows);
  b.scales = carver->take<float>(plan.rows);
  return b;
}

// Codes and sums of row r, whose scale and zero point are known.
void quantize_row(const NarrowLinearPlan& plan, const float* x, std::int64_t r, const CodeBuffers& b) {
  const std::int64_t pitch = code_pitch(plan);
  std::int8_t* codes = b.codes + r * pitch;
  const std::int32_t zero_point = b.zero_points[r];
  quantize_f32(plan.isa, {DType::i8, 1.0f / b.scales[r], zero_point, -128, 127}, x + r * plan.depth, codes, plan.depth);
  std::fill(codes + plan.depth, codes + pitch, std::int8_t{0});
  for (std::int64_t g = 0; g < plan.groups; ++g) {
    const std::int64_t begin = g * plan.group, end = std::min(plan.depth, begin + plan.group);
    std::int32_t sum = 0;
    for (std::int64_t k = begin; k < end; ++k) sum += codes[k];
    const std::int32_t centred = sum - static_cast<std::int32_t>(end - begin) * zero_point;
    b.sums[r * plan.groups + g] = centred;
    b.starts[r * plan.groups + g] = start_of(plan, {sum, centred, zero_point});
  }
  if (decodes_panels(plan)) {
    for (std::int64_t k = 0; k < plan.depth; ++k) codes[k] = static_cast<std::int8_t>(codes[k] ^ -128);
  }
  if (b.wide == nullptr) return;
  std::int16_t* wide = b.wide + r * pitch;
  for (std::int64_t k = 0; k < plan.depth; ++k) wide[k] = static_cast<std::int16_t>(codes[k] - zero_point);
  std::fill(wide + plan.depth, wide + pitch, std::int16_t{0});
}

Status check_given(float scale, std::int32_t zero_point) {
  if (ops::check_scale("x_scale", static_cast<double>(scale)).ok() && zero_point >= -128 && zero_point <= 127) {
    return {};
  }
  return error(Code::invalid_data, "x_scale is {} and x_zero_point {}, out of range for i8", scale, zero_point);
}

Status quantize_rows(const RunContext& c, const Prepared& p, const Quantizer& q, const CodeBuffers& b) {
  const NarrowLinearPlan& plan = p.plan;
  const auto* x = input_of<float>(c, kX);
  const float given_scale = q.is_static ? *input_of<float>(c, kXScale) : 1.0f;
  const std::int32_t given_zero_point = q.is_static && q.has_zero_points ? *input_of<std::int32_t>(c, kXZeroPoint) : 0;
  if (q.is_static) AOQ_TRY(check_given(given_scale, given_zero_point));
  auto choose = [&](std::int64_t r) {
    const Range range = range_of(plan.isa, x + r * plan.depth, plan.depth);
    return choose_dynamic_qparams(q.how, range.min, range.max);
  };
  run_split(c, p.row_split, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      b.scales[r] = given_scale;
      b.zero_points[r] = given_zero_point;
      if (!q.is_static) {
        // A row that cannot be quantized is marked, and found below.
        const Result<ChosenQParams> chosen = choose(r);
        b.scales[r] = chosen.ok() ? chosen->scale : std::numeric_limits<float>::quiet_NaN();
        b.zero_points[r] = chosen.ok() ? chosen->zero_point : 0;
        if (!chosen.ok()) continue;
      }
      quantize_row(plan, x, r, b);
    }
  });
  for (std::int64_t r = 0; r < plan.rows; ++r) {
    if (std::isnan(b.scales[r])) return choose(r).status();
  }
  return {};
}

KernelResult make_dynamic(const PrepareContext& context, Isa isa) {
  AOQ_ASSIGN(Prepared prepared, prepare(context, isa));
  // It sums half of a group's nibbles times 16, of which the low bits are shifted out at the end.
  constexpr std::int64_t kMostNibbles = std::int64_t{1} << 17;
  if (isa >= Isa::avx512_vnni && prepared.plan.codes == NarrowCodes::nibble_integers &&
      prepared.plan.group > kMostNibbles) {
    return refuse("a group has {} codes, the kernel takes {}", prepared.plan.group, kMostNibbles);
  }
  const Quantizer quantizer = quantizer_of(context);
  const std::int64_t worker_bytes = bytes_to_cache_line(scratch_bytes_linear_dynamic(prepared.plan));
  Carver size(nullptr);
  carve(prepared.plan, &size);
  size.take<std::byte>(worker_bytes * prepared.split.workers);
  const KernelNeeds needs{.scratch_bytes = static_cast<std::uint64_t>(size.used())};
  return make_kernel(
      [p = std::move(prepared), quantizer, worker_bytes](const RunContext& c) -> Status {
        Carver carver(c.scratch);
        const CodeBuffers b = carve(p.plan, &carver);
        auto* worker_scratch = carver.take<std::byte>(worker_bytes * p.split.workers);
        AOQ_TRY(quantize_rows(c, p, quantizer, b));
        LinearDynamicArgs args;
        args.weight = p.weight();
        args.x = b.codes;
        args.x16 = b.wide;
        args.pitch = code_pitch(p.plan);
        args.sums = b.sums;
        args.starts = b.starts;
        args.x_scales = b.scales;
        args.x_zero_points = b.zero_points;
        args.has_x_zero_points = quantizer.has_zero_points;
        args.out = output_of<float>(c);
        run_split(c, p.split, [&](int worker, std::int64_t begin, std::int64_t end) {
          run_linear_dynamic(p.plan, args, begin, end, worker_scratch + worker_bytes * worker);
        });
        return {};
      },
      needs);
}

}  // namespace

KernelResult make_linear_weight_only_avx512(const PrepareContext& context) {
  return make_weight_only(context, Isa::avx512_vnni);
}
KernelResult make_linear_weight_only_avx2(const PrepareContext& context) {
  return make_weight_only(context, Isa::avx2);
}
KernelResult make_linear_dynamic_avx512(const PrepareContext& context) {
  return make_dynamic(context, Isa::avx512_vnni);
}
KernelResult make_linear_dynamic_avx2(const PrepareContext& context) {
  return make_dynamic(context, Isa::avx2);
}

}  // namespace aoq::cpu
