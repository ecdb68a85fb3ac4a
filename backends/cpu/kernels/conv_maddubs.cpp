#include "backends/cpu/kernels/conv_maddubs.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "backends/cpu/kernels/safe_order.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kWordBytes = 4 * kPanelChannels;
constexpr std::int64_t kSumBytes = 4 * kPanelChannels;

std::int64_t steps_of(const ConvDims& dims) {
  return ceil_div(products_per_output(dims), 4);
}
std::int64_t panel_bytes_of(const ConvDims& dims) {
  return maddubs_weights_offset(steps_of(dims)) + steps_of(dims) * kWordBytes;
}

// Where weight (channel, k) lies in memory, k in the order of K.
struct WeightOrder {
  std::int64_t group_in, taps;
  explicit WeightOrder(const ConvDims& d) : group_in(d.in_c / d.groups), taps(d.kernel_h * d.kernel_w) {}
  std::int64_t at(std::int64_t channel, std::int64_t k) const {
    return (channel * group_in + k % group_in) * taps + k / group_in;
  }
};

// What stands before the places.
struct Head {
  std::int64_t doubles, singles;
  const std::byte* numbers;

  explicit Head(const std::byte* panel)
      : doubles(u16_at(panel + kSumBytes)), singles(u16_at(panel + kSumBytes + 2)), numbers(panel + kSumBytes + 4) {}
  std::int64_t number(std::int64_t i) const { return u16_at(numbers + 2 * i); }
  std::int64_t paired() const { return 2 * doubles + singles; }

 private:
  static std::uint16_t u16_at(const std::byte* p) {
    std::uint16_t value;
    std::memcpy(&value, p, 2);
    return value;
  }
};

// Which codes of K stand in ordered word `number` of a panel.
std::array<std::int64_t, 4> codes_of(const std::byte* panel, std::int64_t steps, std::int64_t number) {
  const std::byte* places = panel + maddubs_places_offset(steps) + 4 * number;
  const std::int64_t begin = order_window(4 * number / kOrderWindow, 4 * steps).begin;
  std::array<std::int64_t, 4> codes;
  for (std::size_t i = 0; i < 4; ++i) codes[i] = begin + std::to_integer<std::int64_t>(places[i]);
  return codes;
}

// Where byte i of a packed word lies in [16][4].
std::int64_t source_of(bool is_widened, std::int64_t i) {
  if (!is_widened) return i;
  const std::int64_t half = kWordBytes / 2;
  return i % half / 2 * 4 + i % 2 * 2 + i / half;
}

void write_head(const SafeOrder& order, std::int64_t steps, std::byte* panel) {
  std::vector<std::uint16_t> head = {static_cast<std::uint16_t>(order.doubles),
                                     static_cast<std::uint16_t>(order.singles)};
  head.insert(head.end(), order.numbers.begin(), order.numbers.end());
  std::memcpy(panel + kSumBytes, head.data(), head.size() * sizeof head[0]);
  std::memcpy(panel + maddubs_places_offset(steps), order.places.data(), order.places.size());
}

// `weights`: [4 * steps][16], zeros where there is no channel or element.
void pack_panel(std::span<const std::int8_t> weights, std::int64_t steps, std::byte* panel) {
  write_head(order_safely(weights), steps, panel);
  const Head head(panel);
  auto* to = reinterpret_cast<std::int8_t*>(panel + maddubs_weights_offset(steps));
  std::int32_t sums[kPanelChannels] = {};
  for (std::int64_t place = 0; place < steps; ++place) {
    const std::array<std::int64_t, 4> codes = codes_of(panel, steps, head.number(place));
    for (std::int64_t i = 0; i < kWordBytes; ++i) {
      const std::int64_t source = source_of(place >= head.paired(), i);
      const std::int64_t code = codes[static_cast<std::size_t>(source % 4)];
      *to = weights[static_cast<std::size_t>(code * kPanelChannels + source / 4)];
      sums[source / 4] += *to++;
    }
  }
  std::memcpy(panel, sums, sizeof sums);
}

// Whether every code of a window stands somewhere.
bool is_order(const OrderWindow& window, const std::byte* places) {
  unsigned seen = 0;
  for (std::int64_t i = 0; i < window.count; ++i) {
    const std::int64_t place = std::to_integer<std::int64_t>(places[i]) - (window.first - window.begin);
    if (place >= 0 && place < window.count) seen |= 1u << place;
  }
  return seen + 1 == 1u << window.count;
}

bool is_well_formed(const std::byte* panel, std::int64_t steps, std::vector<bool>& seen) {
  const Head head(panel);
  if (head.paired() > steps) return false;
  std::fill(seen.begin(), seen.end(), false);
  for (std::int64_t place = 0; place < steps; ++place) {
    const auto word = static_cast<std::size_t>(head.number(place));
    if (word >= seen.size() || seen[word]) return false;
    seen[word] = true;
  }
  for (std::int64_t i = 0; i * kOrderWindow < 4 * steps; ++i) {
    const OrderWindow window = order_window(i, 4 * steps);
    if (!is_order(window, panel + maddubs_places_offset(steps) + window.first)) return false;
  }
  return true;
}

}  // namespace

std::int64_t maddubs_places_offset(std::int64_t steps) {
  return kSumBytes + round_up(2 * (2 + steps), 64);
}
std::int64_t maddubs_weights_offset(std::int64_t steps) {
  return maddubs_places_offset(steps) + round_up(4 * steps, 64);
}

std::int64_t ordered_pitch_maddubs(std::int64_t steps) {
  // Rows a multiple of a page apart would look alike to loads that follow stores.
  return round_up(4 * steps, 64) + 64;
}

ConvPanelsPlan plan_conv_maddubs(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  PanelShape shape = {panel_bytes_of(dims), kMaddubsTileRows, 1};
  shape.least_pitch = kOrderWindow;
  shape.tile_bytes = kMaddubsTileRows * ordered_pitch_maddubs(steps_of(dims));
  return plan_conv_panels(dims, x_type, epilogue, shape);
}

std::int64_t packed_bytes_conv_maddubs(const ConvDims& dims) {
  return dims.groups * panels_per_group(dims) * panel_bytes_of(dims);
}

void pack_conv_maddubs(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  std::fill(packed.begin(), packed.end(), std::byte{0});
  const WeightOrder order(dims);
  const std::int64_t k = products_per_output(dims), steps = steps_of(dims), outputs = group_outputs(dims);
  std::vector<std::int8_t> columns(static_cast<std::size_t>(steps * kWordBytes));
  std::byte* panel = packed.data();
  for (std::int64_t group = 0; group < dims.groups; ++group) {
    for (std::int64_t first = 0; first < outputs; first += kPanelChannels, panel += panel_bytes_of(dims)) {
      std::fill(columns.begin(), columns.end(), std::int8_t{0});
      for (std::int64_t column = 0; column < std::min(kPanelChannels, outputs - first); ++column) {
        for (std::int64_t i = 0; i < k; ++i) {
          columns[static_cast<std::size_t>(i * kPanelChannels + column)] =
              weights[order.at(group * outputs + first + column, i)];
        }
      }
      pack_panel(columns, steps, panel);
    }
  }
}

void unpack_conv_maddubs(const ConvDims& dims, const std::byte* packed, std::int8_t* weights) {
  const WeightOrder order(dims);
  const std::int64_t k = products_per_output(dims), steps = steps_of(dims), outputs = group_outputs(dims);
  const std::byte* panel = packed;
  for (std::int64_t group = 0; group < dims.groups; ++group) {
    for (std::int64_t first = 0; first < outputs; first += kPanelChannels, panel += panel_bytes_of(dims)) {
      const Head head(panel);
      const auto* words = reinterpret_cast<const std::int8_t*>(panel + maddubs_weights_offset(steps));
      for (std::int64_t place = 0; place < steps; ++place, words += kWordBytes) {
        const std::array<std::int64_t, 4> codes = codes_of(panel, steps, head.number(place));
        for (std::int64_t i = 0; i < kWordBytes; ++i) {
          const std::int64_t source = source_of(place >= head.paired(), i), column = first + source / 4;
          const std::int64_t code = codes[static_cast<std::size_t>(source % 4)];
          if (column < outputs && code < k) weights[order.at(group * outputs + column, code)] = words[i];
        }
      }
    }
  }
}

bool is_well_formed_maddubs(const ConvDims& dims, const std::byte* packed) {
  const std::int64_t steps = steps_of(dims);
  std::vector<bool> seen(static_cast<std::size_t>(steps));
  for (std::int64_t p = 0; p < dims.groups * panels_per_group(dims); ++p, packed += panel_bytes_of(dims)) {
    if (!is_well_formed(packed, steps, seen)) return false;
  }
  return true;
}

void run_conv_maddubs(const ConvPanelsPlan& plan, const ConvS8Args& args, std::int64_t unit_begin,
                      std::int64_t unit_end, std::byte* scratch) {
#if defined(AOQ_KERNELS_AVX2)
  run_conv_maddubs_avx2(plan, args, unit_begin, unit_end, scratch);
#else
  AOQ_CHECK(false);
#endif
}

}  // namespace aoq::cpu
