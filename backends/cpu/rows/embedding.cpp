// embedding_bag and qembedding: rows of a table, added in the order of the reference, so equal bit for bit.
#include <cmath>

#include "backends/cpu/kernels/narrow_linear.h"
#include "backends/cpu/rows/layouts.h"
#include "backends/cpu/rows/rows.h"
#include "ir/math.h"
#include "ir/ops/fma.h"
#include "ir/ops/narrow_rows.h"

namespace aoq::cpu {
namespace {

std::int64_t integer_at(DType dtype, const std::byte* data, std::int64_t i) {
  if (dtype == DType::i32) return reinterpret_cast<const std::int32_t*>(data)[i];
  return reinterpret_cast<const std::int64_t*>(data)[i];
}

// Where the rows of each result begin among the indices (ir/ops/embedding.h).
struct Bags {
  std::size_t operand = 0;  // of the indices; the offsets are behind them
  DType indices_type = DType::i64, offsets_type = DType::i64;
  std::int64_t count = 0, indices = 0, offsets = -1, table_rows = 0;

  std::int64_t offset(const RunContext& c, std::int64_t b) const {
    if (offsets < 0) return b * (indices / std::max<std::int64_t>(count, 1));
    return b < offsets ? integer_at(offsets_type, c.inputs[operand + 1], b) : indices;
  }
  std::int64_t row(const RunContext& c, std::int64_t i) const {
    const std::int64_t index = integer_at(indices_type, c.inputs[operand], i);
    return index < 0 ? index + table_rows : index;
  }

  // Indices and offsets are data.
  Status check(const RunContext& c) const {
    for (std::int64_t b = 0; b < offsets; ++b) {
      const std::int64_t low = b == 0 ? 0 : offset(c, b - 1), high = b == 0 ? 0 : indices, found = offset(c, b);
      if (found >= low && found <= high) continue;
      return error(Code::invalid_data, "offsets element {} is {}, expected a value in [{}, {}]", b, found, low, high);
    }
    const std::int64_t end = count == 0 ? 0 : offset(c, count);
    for (std::int64_t i = offset(c, 0); i < end; ++i) {
      const std::int64_t r = row(c, i);
      if (r >= 0 && r < table_rows) continue;
      return error(Code::invalid_data, "index {} is {}, expected a value in [{}, {})", i,
                   integer_at(indices_type, c.inputs[operand], i), -table_rows, table_rows);
    }
    return {};
  }
};

Bags bags_of(const PrepareContext& context, std::size_t operand) {
  Bags bags{operand, context.inputs[operand].dtype};
  bags.indices = element_count(context.inputs[operand]);
  bags.table_rows = context.inputs[0].shape[0];
  const std::vector<std::int64_t>& y = context.outputs[0].shape;
  bags.count = element_count(std::span(y).first(y.size() - 1));
  if (context.node.input(operand + 1) == nullptr) return bags;
  bags.offsets_type = context.inputs[operand + 1].dtype;
  bags.offsets = element_count(context.inputs[operand + 1]);
  return bags;
}

enum class BagMode : std::uint8_t { sum, mean, max };

// Calls add(worker, row, acc, is_first) for the rows of every bag.
template <typename Add>
KernelResult bag_kernel(const PrepareContext& context, const Bags& bags, BagMode mode, Add add,
                        std::int64_t scratch_floats = 0) {
  const std::int64_t columns = context.outputs[0].shape.back();
  const std::int64_t average = bags.indices / std::max<std::int64_t>(bags.count, 1) + 1;
  Split split = split_work(bags.count, average * (columns / 2 + 4), context);
  const std::int64_t scratch = bytes_to_cache_line((scratch_floats == 0 ? columns : scratch_floats) * 4);
  KernelNeeds needs{.scratch_bytes = static_cast<std::uint64_t>(scratch) * static_cast<std::uint64_t>(split.workers)};
  return make_kernel(
      [=](const RunContext& c) -> Status {
        AOQ_TRY(bags.check(c));
        run_split(c, split, [&](int worker, std::int64_t first, std::int64_t last) {
          for (std::int64_t b = first; b < last; ++b) {
            float* acc = output_of<float>(c) + b * columns;
            std::fill_n(acc, columns, 0.0f);
            const std::int64_t begin = bags.offset(c, b), end = bags.offset(c, b + 1);
            for (std::int64_t i = begin; i < end; ++i) add(c, worker, bags.row(c, i), acc, i == begin);
            if (mode != BagMode::mean || begin == end) continue;
            const float share = 1.0f / static_cast<float>(end - begin);
            for (std::int64_t k = 0; k < columns; ++k) acc[k] = acc[k] * share;
          }
        });
        return {};
      },
      needs);
}

BagMode mode_of(const Attributes& attributes) {
  const std::string& mode = attributes.string("mode");
  return mode == "mean" ? BagMode::mean : mode == "max" ? BagMode::max : BagMode::sum;
}

}  // namespace

KernelResult make_embedding_bag(const PrepareContext& context) {
  if (context.inputs[0].dtype != DType::f32) return refuse("the kernel reads f32");
  const BagMode mode = mode_of(context.attributes);
  const std::int64_t columns = context.outputs[0].shape.back();
  return bag_kernel(context, bags_of(context, 1), mode,
                    [=](const RunContext& c, int, std::int64_t row, float* acc, bool is_first) {
                      const float* x = input_of<float>(c, 0) + row * columns;
                      if (mode == BagMode::max && is_first) {
                        std::copy_n(x, columns, acc);
                      } else if (mode == BagMode::max) {
                        for (std::int64_t k = 0; k < columns; ++k) acc[k] = math::maximum(acc[k], x[k]);
                      } else {
                        for (std::int64_t k = 0; k < columns; ++k) acc[k] = acc[k] + x[k];
                      }
                    });
}

KernelResult make_qembedding(const PrepareContext& context) {
  if (context.attributes.integer("group") > 0) return refuse("the kernel reads bytes with a scale and a bias");
  const std::int64_t columns = context.outputs[0].shape.back();
  const std::int64_t row_bytes = context.inputs[0].shape[1];
  const bool is_byte_wide = context.attributes.integer("bits") == 8;
  const std::int64_t stride = bytes_to_cache_line(columns * 4) / 4;
  return bag_kernel(context, bags_of(context, 3), mode_of(context.attributes),
                    [=](const RunContext& c, int worker, std::int64_t row, float* acc, bool) {
                      const auto* codes = input_of<std::uint8_t>(c, 0) + row * row_bytes;
                      float* values = reinterpret_cast<float*>(c.scratch) + worker * stride;
                      const float bias = input_of<float>(c, 2)[row];
                      for (std::int64_t k = 0; k < columns; ++k) acc[k] = acc[k] + bias;
                      if (is_byte_wide) {
                        for (std::int64_t k = 0; k < columns; ++k) values[k] = static_cast<float>(codes[k]);
                      } else {
                        for (std::int64_t k = 0; k < columns; ++k) {
                          values[k] = static_cast<float>((codes[k / 2] >> (k % 2 * 4)) & 15);
                        }
                      }
                      ops::fma_accumulate(input_of<float>(c, 1)[row], values, acc, columns);
                    });
}

namespace {

enum TableOperand : std::size_t { kCodes, kScale, kZeroPoint, kIndices };

// f32 numbers [rows, groups] or [1, 1]; or what a linear layer with the same weight has made of them.
struct RowNumbers {
  std::size_t operand = 0;
  DType dtype = DType::f32;
  bool is_one = false;            // for all rows
  const float* panels = nullptr;  // [rows / 16][groups][16]; null: the operand, plain

  void read(const RunContext& c, std::int64_t row, std::span<float> groups) const {
    const auto count = static_cast<std::int64_t>(groups.size());
    if (panels != nullptr) {
      for (std::int64_t g = 0; g < count; ++g) {
        groups[static_cast<std::size_t>(g)] = panels[(row / 16 * count + g) * 16 + row % 16];
      }
    } else if (is_one) {
      dtype_info(dtype).to_float(c.inputs[operand], 0, groups.first(1));
      std::ranges::fill(groups, groups[0]);
    } else {
      dtype_info(dtype).to_float(c.inputs[operand], row * count, groups);
    }
  }
};

// A table of narrow codes: where its numbers lie.
struct NarrowTable {
  ops::NarrowRowFormat format;
  RowNumbers scales, zero_points;
  std::int64_t columns = 0, groups = 0;
  std::vector<std::int64_t> shape;          // of the codes
  const std::byte* packed_codes = nullptr;  // shared with a linear layer; null: plain

  explicit NarrowTable(const PrepareContext& context) : shape(context.inputs[kCodes].shape) {
    format = {context.inputs[kCodes].dtype, context.attributes.integer("group"), context.inputs[kZeroPoint].dtype};
    columns = shape[1];
    groups = context.inputs[kScale].shape[1];
    scales = {kScale, context.inputs[kScale].dtype, false, nullptr};
    zero_points = {kZeroPoint, format.zero_points, element_count(context.inputs[kZeroPoint]) == 1, nullptr};
  }

  // Floats for one row: scales, zero points, values and unpacked codes.
  std::int64_t scratch() const { return 2 * groups + 2 * columns; }

  void add(const RunContext& c, std::int64_t row, float* scratch_of_worker, float* acc) const {
    const auto part = [&](std::int64_t begin, std::int64_t size) {
      return std::span(scratch_of_worker + begin, static_cast<std::size_t>(size));
    };
    const std::span<float> row_scales = part(0, groups), row_zeros = part(groups, groups);
    const std::span<float> values = part(2 * groups, columns);
    scales.read(c, row, row_scales);
    zero_points.read(c, row, row_zeros);
    if (packed_codes == nullptr) {
      dtype_info(format.codes).to_float(c.inputs[kCodes], row * columns, values);
    } else {
      const std::span<std::byte> codes = std::as_writable_bytes(part(2 * groups + columns, columns));
      unpack_narrow_row(format.codes, packed_codes, shape, row, codes.data());
      dtype_info(format.codes).to_float(codes.data(), 0, values);
    }
    ops::scale_narrow_row(format, row_scales, row_zeros, values);
    for (std::int64_t k = 0; k < columns; ++k) acc[k] = acc[k] + values[static_cast<std::size_t>(k)];
  }
};

KernelResult narrow_rows_kernel(const PrepareContext& context, NarrowTable table) {
  const std::int64_t scratch = table.scratch(), stride = bytes_to_cache_line(scratch * 4) / 4;
  return bag_kernel(
      context, bags_of(context, kIndices), mode_of(context.attributes),
      [t = std::move(table), stride](const RunContext& c, int worker, std::int64_t row, float* acc, bool) {
        t.add(c, row, reinterpret_cast<float*>(c.scratch) + worker * stride, acc);
      },
      scratch);
}

// Whether a linear layer multiplies with the same codes, and so has them packed; or a file has them packed already.
bool is_shared_with_linear(const Value& codes) {
  if (codes.def()->is(Op::packed_constant)) return true;
  return std::ranges::any_of(codes.uses(), [](const Use& use) {
    return use.user->is(Op::linear_weight_only) || use.user->is(Op::linear_dynamic);
  });
}

}  // namespace

KernelResult make_qembedding_narrow(const PrepareContext& context) {
  if (context.attributes.integer("group") == 0) return refuse("the kernel reads narrow codes with a group");
  return narrow_rows_kernel(context, NarrowTable(context));
}

// Tied weights: the codes that a linear layer has packed, so that there is one copy of them.
KernelResult make_qembedding_packed(const PrepareContext& context) {
  if (context.attributes.integer("group") == 0) return refuse("the kernel reads narrow codes with a group");
  if (best_isa() < Isa::avx2) return refuse("this machine is {}", isa_name(best_isa()));
  const Value& codes = *context.node.input(kCodes);
  if (!is_shared_with_linear(codes)) return refuse("no linear layer has the same weight");
  NarrowTable table(context);
  if (table.format.group % 8 != 0 && table.format.group < table.columns) {
    return refuse("a group has {} codes, linear layers pack multiples of 8", table.format.group);
  }
  const bool nibbles = has_nibble_codes(table.format.codes);
  AOQ_ASSIGN(table.packed_codes, packed_input(context, kCodes, nibbles ? kLayoutNibbles : kLayoutBytes,
                                              packed_bytes_narrow(nibbles, table.shape[0], table.columns)));
  for (RowNumbers* numbers : {&table.scales, &table.zero_points}) {
    if (numbers->dtype != DType::f32 || numbers->is_one) continue;
    const std::int64_t panels = (table.shape[0] + 15) / 16;
    AOQ_ASSIGN(const std::byte* packed,
               packed_input(context, numbers->operand, kLayoutF32, panels * table.groups * 64));
    numbers->panels = reinterpret_cast<const float*>(packed);
  }
  return narrow_rows_kernel(context, std::move(table));
}

}  // namespace aoq::cpu
