// A row of the table says where an op keeps samples apart. An op without one, and every op whose attributes let it look
// along the leading dimension (an axis of 0, a range over the whole tensor), joins them.
#include "ir/samples.h"

#include <algorithm>
#include <array>

namespace aoq {
namespace {

using Mask = std::vector<bool>;

bool counts_samples(const SampleContext& c, std::size_t i) {
  return i < c.inputs.size() && !c.inputs[i].empty() && !c.output.empty() && c.inputs[i][0] == c.output[0] &&
         c.output[0] > 1;
}

std::int64_t rank(const SampleContext& c, std::size_t i) {
  return i < c.inputs.size() ? static_cast<std::int64_t>(c.inputs[i].size()) : 0;
}

Mask none(const SampleContext& c) {
  return Mask(c.inputs.size(), false);
}

// x, and what is added to the result.
Mask first(const SampleContext& c) {
  Mask mask = none(c);
  const int residual = c.def.input_index("residual");
  for (int i : {0, residual}) {
    if (i >= 0 && counts_samples(c, static_cast<std::size_t>(i))) mask[static_cast<std::size_t>(i)] = true;
  }
  // A residual of one sample would be added to all.
  const bool has_residual = residual >= 0 && rank(c, static_cast<std::size_t>(residual)) > 0;
  return has_residual && !mask[static_cast<std::size_t>(residual)] ? none(c) : mask;
}

// Rows of x; a vector is one row.
Mask in_rows(const SampleContext& c) {
  return rank(c, 0) > 1 ? first(c) : none(c);
}

// Broadcasting puts dimensions of inputs of lower rank behind the leading one.
Mask aligned(const SampleContext& c) {
  Mask mask = none(c);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    mask[i] = counts_samples(c, i) && c.inputs[i].size() == c.output.size();
  }
  return mask;
}

bool is_leading(std::int64_t axis, std::int64_t rank) {
  return axis == 0 || axis == -rank;
}

// One axis, the first of a row or the only one.
Mask off_axis(const SampleContext& c) {
  return is_leading(c.attributes.integer("axis"), rank(c, 0)) ? none(c) : first(c);
}

Mask off_axis_all(const SampleContext& c) {
  return is_leading(c.attributes.integer("axis"), rank(c, 0)) ? none(c) : aligned(c);
}

// Several axes; none stands for all.
Mask off_axes(const SampleContext& c) {
  const std::vector<std::int64_t>& axes = c.attributes.integers("axes");
  const bool meets = std::any_of(axes.begin(), axes.end(), [&](std::int64_t a) { return is_leading(a, rank(c, 0)); });
  return axes.empty() || meets ? none(c) : first(c);
}

Mask permuted(const SampleContext& c) {
  const std::vector<std::int64_t>& perm = c.attributes.integers("perm");
  return perm.empty() || perm[0] != 0 ? none(c) : first(c);
}

Mask padded(const SampleContext& c) {
  const std::vector<std::int64_t>& pads = c.attributes.integers("pads");
  const auto dims = static_cast<std::size_t>(rank(c, 0));
  return pads.size() != 2 * dims || dims == 0 || pads[0] != 0 || pads[dims] != 0 ? none(c) : first(c);
}

// Indices choose rows of a table for each sample, or the same places in each sample.
Mask gathered(const SampleContext& c) {
  if (!is_leading(c.attributes.integer("axis"), rank(c, 0))) return first(c);
  Mask mask = none(c);
  if (counts_samples(c, 1)) mask[1] = true;
  return mask;
}

// The batch of matrices, or the rows of one.
Mask multiplied(const SampleContext& c) {
  const std::int64_t a = rank(c, 0), b = rank(c, 1);
  if (a < 2 || b < 2) return a >= 2 ? first(c) : none(c);
  return a > 2 || b > 2 ? aligned(c) : first(c);
}

// One scale for all: a scale for each part would have to be cut along.
Mask with_one_scale(const SampleContext& c) {
  for (std::size_t i = 1; i < c.inputs.size(); ++i) {
    for (std::int64_t d : c.inputs[i]) {
      if (d != 1) return none(c);
    }
  }
  return first(c);
}

// A range for each row.
Mask by_token(const SampleContext& c) {
  return c.attributes.string("granularity") == "token" && rank(c, 0) > 1 ? first(c) : none(c);
}

struct Row {
  Op op;
  Mask (*rule)(const SampleContext&);
};

constexpr std::array kRows{
    Row{Op::conv, first},
    Row{Op::qconv, first},
    Row{Op::conv_transpose, first},
    Row{Op::linear, in_rows},
    Row{Op::qlinear, in_rows},
    Row{Op::linear_dynamic, in_rows},
    Row{Op::linear_weight_only, in_rows},
    Row{Op::matmul, multiplied},
    Row{Op::qmatmul, multiplied},
    Row{Op::max_pool, first},
    Row{Op::avg_pool, first},
    Row{Op::qavg_pool, first},
    Row{Op::batch_norm, first},
    Row{Op::group_norm, first},
    Row{Op::instance_norm, first},
    Row{Op::local_response_norm, first},
    Row{Op::layer_norm, off_axis},
    Row{Op::qlayer_norm, off_axis},
    Row{Op::attention, aligned},
    Row{Op::rms_norm, off_axis},
    Row{Op::softmax, off_axis},
    Row{Op::log_softmax, off_axis},
    Row{Op::argmax, off_axis},
    Row{Op::argmin, off_axis},
    Row{Op::cumsum, off_axis},
    Row{Op::topk, off_axis},
    Row{Op::reduce_l1, off_axes},
    Row{Op::reduce_l2, off_axes},
    Row{Op::reduce_log_sum_exp, off_axes},
    Row{Op::reduce_max, off_axes},
    Row{Op::reduce_mean, off_axes},
    Row{Op::reduce_min, off_axes},
    Row{Op::reduce_prod, off_axes},
    Row{Op::reduce_sum, off_axes},
    Row{Op::reduce_sum_square, off_axes},
    Row{Op::flip, off_axes},
    Row{Op::slice, off_axes},
    Row{Op::concat, off_axis_all},
    Row{Op::permute, permuted},
    Row{Op::pad, padded},
    Row{Op::gather, gathered},
    Row{Op::expand, aligned},
    Row{Op::depth_to_space, first},
    Row{Op::space_to_depth, first},
    Row{Op::lookup, first},
    Row{Op::quantize, with_one_scale},
    Row{Op::dequantize, with_one_scale},
    Row{Op::choose_qparams, by_token},
};

}  // namespace

std::vector<bool> sample_inputs(const SampleContext& context) {
  if (context.def.has_trait(kElementwise)) return aligned(context);
  if (context.def.has_trait(kView)) return first(context);
  for (const Row& row : kRows) {
    if (row.op == context.def.op) return row.rule(context);
  }
  return none(context);
}

}  // namespace aoq
