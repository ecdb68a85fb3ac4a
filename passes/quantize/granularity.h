// Which elements share quantization parameters: torchao's granularities and block sizes (spec D.1, D.2).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/status.h"

namespace aoq {

struct Granularity {
  enum class Kind : std::uint8_t { tensor, axis, group, row, token, block };
  Kind kind = Kind::tensor;
  std::int64_t value = 0;    // the axis, the row's dimension, the group size, or a block's rows
  std::int64_t columns = 0;  // of a block

  bool operator==(const Granularity&) const = default;
};

// "PerTensor", "PerAxis(1)", "PerGroup(32)", "PerRow", "PerRow(0)", "PerToken", "PerBlock(128, 128)".
Result<Granularity> parse_granularity(std::string_view text);
std::string to_string(const Granularity& granularity);

// The extent of a block in every dimension; PerBlock is of the last two. invalid_argument for an axis the shape lacks,
// and a group or block that does not divide.
Result<std::vector<std::int64_t>> block_size_of(const Granularity& granularity, std::span<const std::int64_t> shape);

enum class KeepDimensions : std::uint8_t { no, yes };

// A shape cut into equal blocks; block b covers the elements that share parameter b.
class Blocks {
 public:
  // invalid_argument unless every extent divides its dimension.
  static Result<Blocks> make(std::span<const std::int64_t> shape, std::span<const std::int64_t> block_size);

  std::int64_t count() const { return count_; }
  std::int64_t elements_per_block() const { return elements_per_block_; }
  // The shape of scales: fully reduced dimensions vanish, or stay as 1.
  std::vector<std::int64_t> parameter_shape(KeepDimensions keep) const;
  // Calls visit(block, first element, number of elements) for every contiguous run inside a block, in element order.
  void for_each_run(const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& visit) const;

 private:
  std::vector<std::int64_t> shape_;
  std::vector<std::int64_t> block_;
  std::int64_t count_ = 0;
  std::int64_t elements_per_block_ = 0;
};

}  // namespace aoq
