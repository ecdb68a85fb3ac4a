// A float weight [N, K] as f32 numbers, checked: what every weight algorithm starts from.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include "ir/status.h"
#include "ir/tensor.h"
#include "passes/quantize/arithmetic.h"

namespace aoq {

struct WeightMatrix {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<float> values;  // row after row, all finite

  std::span<const float> row(std::int64_t r) const { return std::span(values).subspan(r * columns, columns); }
  std::span<float> row(std::int64_t r) { return std::span(values).subspan(r * columns, columns); }
};

// `who` names the algorithm in messages. invalid_argument for another rank or type, invalid_data for an empty weight,
// NaN and infinity.
inline Result<WeightMatrix> weight_matrix(std::string_view who, TensorView weight) {
  if (weight.shape.size() != 2) {
    return error(Code::invalid_argument, "{}: a weight of shape {}, expected [outputs, inputs]", who,
                 shape_to_string(weight.shape));
  }
  WeightMatrix m{weight.shape[0], weight.shape[1], {}};
  AOQ_ASSIGN(m.values, to_floats(weight));
  if (m.values.empty()) return error(Code::invalid_data, "{}: the weight has no elements", who);
  for (std::size_t i = 0; i < m.values.size(); ++i) {
    if (!std::isfinite(m.values[i])) {
      return error(Code::invalid_data, "{}: weight element {} is {}", who, i, m.values[i]);
    }
  }
  return m;
}

inline Status check_group_size(std::string_view who, std::int64_t group_size, std::int64_t columns) {
  if (group_size >= 1 && columns % group_size == 0) return {};
  return error(Code::invalid_argument, "{}: groups of {} do not divide rows of {}", who, group_size, columns);
}

}  // namespace aoq
