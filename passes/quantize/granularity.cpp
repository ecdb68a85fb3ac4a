#include "passes/quantize/granularity.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "ir/tensor.h"

namespace aoq {
namespace {

struct KindName {
  std::string_view name;
  Granularity::Kind kind;
};

constexpr KindName kKinds[] = {
    {"PerTensor", Granularity::Kind::tensor}, {"PerAxis", Granularity::Kind::axis},
    {"PerGroup", Granularity::Kind::group},   {"PerRow", Granularity::Kind::row},
    {"PerToken", Granularity::Kind::token},   {"PerBlock", Granularity::Kind::block},
};

bool needs_value(Granularity::Kind kind) {
  return kind == Granularity::Kind::axis || kind == Granularity::Kind::group || kind == Granularity::Kind::block;
}

// "128, 128)" or "(128, 128))", behind the bracket.
bool read_block(std::string_view text, Granularity& g) {
  if (text.starts_with('(')) text = text.substr(1, text.size() - 2);
  const char* end = text.data() + text.size();
  const std::from_chars_result rows = std::from_chars(text.data(), end, g.value);
  if (rows.ec != std::errc() || rows.ptr == end || *rows.ptr != ',') return false;
  const char* next = rows.ptr + 1;
  while (next != end && *next == ' ') ++next;
  const std::from_chars_result columns = std::from_chars(next, end, g.columns);
  return columns.ec == std::errc() && std::string_view(columns.ptr, end) == ")";
}

}  // namespace

Result<Granularity> parse_granularity(std::string_view text) {
  const Status malformed =
      error(Code::invalid_argument, "\"{}\" is no granularity, such as PerTensor or PerAxis(0)", text);
  const std::size_t bracket = text.find('(');
  for (const KindName& k : kKinds) {
    if (k.name != text.substr(0, bracket)) continue;
    Granularity g{k.kind, k.kind == Granularity::Kind::row ? -1 : 0};
    if (bracket == text.npos) return needs_value(k.kind) ? Result<Granularity>(malformed) : Result<Granularity>(g);
    std::string_view digits = text.substr(bracket + 1);
    if (k.kind == Granularity::Kind::block) {
      return read_block(digits, g) ? Result<Granularity>(g) : Result<Granularity>(malformed);
    }
    if (digits.starts_with("dim=")) digits.remove_prefix(4);
    const std::from_chars_result r = std::from_chars(digits.data(), digits.data() + digits.size(), g.value);
    if (r.ec != std::errc() || std::string_view(r.ptr, digits.data() + digits.size()) != ")") return malformed;
    return g;
  }
  return malformed;
}

std::string to_string(const Granularity& granularity) {
  for (const KindName& k : kKinds) {
    if (k.kind != granularity.kind) continue;
    if (k.kind == Granularity::Kind::block)
      return fmt::format("{}({}, {})", k.name, granularity.value, granularity.columns);
    const bool has_value = needs_value(k.kind) || (k.kind == Granularity::Kind::row && granularity.value != -1);
    return has_value ? fmt::format("{}({})", k.name, granularity.value) : std::string(k.name);
  }
  return {};
}

Result<std::vector<std::int64_t>> block_size_of(const Granularity& granularity, std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> block(shape.begin(), shape.end());
  if (granularity.kind == Granularity::Kind::tensor) return block;
  const std::int64_t rank = static_cast<std::int64_t>(shape.size());
  if (granularity.kind == Granularity::Kind::block) {
    if (rank < 2) return error(Code::invalid_argument, "{} of a tensor of {} dimensions", to_string(granularity), rank);
    std::ranges::fill(block, 1);
    block[rank - 2] = granularity.value;
    block[rank - 1] = granularity.columns;
    AOQ_TRY(Blocks::make(shape, block).status());
    return block;
  }
  const bool names_axis = granularity.kind == Granularity::Kind::axis || granularity.kind == Granularity::Kind::row;
  std::int64_t axis = names_axis ? granularity.value : rank - 1;
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) {
    return error(Code::invalid_argument, "{} of a tensor of {} dimensions", to_string(granularity), rank);
  }
  if (granularity.kind == Granularity::Kind::axis) {
    block[axis] = 1;
    return block;
  }
  for (std::int64_t d = 0; d < rank; ++d) block[d] = d == axis ? shape[d] : 1;
  if (granularity.kind == Granularity::Kind::group) {
    if (granularity.value < 1 || shape[axis] % granularity.value != 0) {
      return error(Code::invalid_argument, "groups of {} do not divide a dimension of {}", granularity.value,
                   shape[axis]);
    }
    block[axis] = granularity.value;
  }
  return block;
}

Result<Blocks> Blocks::make(std::span<const std::int64_t> shape, std::span<const std::int64_t> block_size) {
  Blocks b;
  b.shape_.assign(shape.begin(), shape.end());
  b.block_.assign(block_size.begin(), block_size.end());
  b.count_ = b.elements_per_block_ = 1;
  if (shape.size() != block_size.size()) {
    return error(Code::invalid_argument, "block size {} for a tensor of shape {}", shape_to_string(block_size),
                 shape_to_string(shape));
  }
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const bool is_whole = block_size[d] == shape[d];
    if (!is_whole && (block_size[d] < 1 || shape[d] % block_size[d] != 0)) {
      return error(Code::invalid_argument, "blocks of {} do not divide shape {}", shape_to_string(block_size),
                   shape_to_string(shape));
    }
    b.count_ *= is_whole ? 1 : shape[d] / block_size[d];
    b.elements_per_block_ *= block_size[d];
  }
  return b;
}

std::vector<std::int64_t> Blocks::parameter_shape(KeepDimensions keep) const {
  std::vector<std::int64_t> result;
  for (std::size_t d = 0; d < shape_.size(); ++d) {
    const bool is_whole = block_[d] == shape_[d];
    if (keep == KeepDimensions::no && is_whole && block_[d] != 1) continue;
    result.push_back(is_whole ? 1 : shape_[d] / block_[d]);
  }
  return result;
}

void Blocks::for_each_run(const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& visit) const {
  if (elements_per_block_ == 0 || count_ == 0) return;
  if (count_ == 1) return visit(0, 0, elements_per_block_);
  const std::size_t rank = shape_.size();
  const std::int64_t run = block_[rank - 1];
  std::vector<std::int64_t> index(rank);
  const std::int64_t total = count_ * elements_per_block_;
  for (std::int64_t at = 0; at < total; at += run) {
    std::int64_t block = 0;
    for (std::size_t d = 0; d < rank; ++d) block = block * (shape_[d] / block_[d]) + index[d] / block_[d];
    visit(block, at, run);
    index[rank - 1] += run;
    for (std::size_t d = rank - 1; d > 0 && index[d] == shape_[d]; --d) {
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

}  // namespace aoq
