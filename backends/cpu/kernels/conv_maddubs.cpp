#include "backends/cpu/kernels/conv_maddubs.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backends/cpu/kernels/conv_blocks.h"
#include "backends/cpu/kernels/entry_avx2.h"
#include "ir/status.h"

namespace aoq::cpu {
namespace {

constexpr std::int64_t kWordBytes = 4 * kPanelChannels;
constexpr std::int64_t kSumBytes = 4 * kPanelChannels;

std::int64_t steps_of(const ConvDims& dims) {
  return ceil_div(products_per_output(dims), 4);
}
// Sums and word numbers.
std::int64_t head_bytes(std::int64_t steps) {
  return kSumBytes + round_up(2 * (kMaddubsPairings + steps), 64);
}
std::int64_t panel_bytes_of(const ConvDims& dims) {
  return head_bytes(steps_of(dims)) + steps_of(dims) * kWordBytes;
}

// Where weight (channel, k) lies in memory, k in the order of K.
struct WeightOrder {
  std::int64_t group_in, taps;
  explicit WeightOrder(const ConvDims& d) : group_in(d.in_c / d.groups), taps(d.kernel_h * d.kernel_w) {}
  std::int64_t at(std::int64_t channel, std::int64_t k) const {
    return (channel * group_in + k % group_in) * taps + k / group_in;
  }
};

// One panel's weights as [steps][16][4], zeros where there is no channel or element.
using Words = std::vector<std::int8_t>;

// Pairings that are tried, and the form of a word that has no safe one.
constexpr int kWidened = kMaddubsPairings;
// Which element of a word stands where.
constexpr int kOrder[kMaddubsPairings][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}};

bool is_safe_pair(int a, int b) {
  return std::max(a, 0) + std::max(b, 0) <= 128 && std::min(a, 0) + std::min(b, 0) >= -128;
}

// The form of a word [16][4].
int form_of(const std::int8_t* word) {
  for (int pairing = 0; pairing < kMaddubsPairings; ++pairing) {
    const int(&order)[4] = kOrder[pairing];
    bool is_safe = true;
    for (const std::int8_t* w = word; w < word + kWordBytes; w += 4) {
      is_safe = is_safe && is_safe_pair(w[order[0]], w[order[1]]) && is_safe_pair(w[order[2]], w[order[3]]);
    }
    if (is_safe) return pairing;
  }
  return kWidened;
}

// Where byte i of a packed word of this form lies in [16][4].
std::int64_t source_of(int form, std::int64_t i) {
  if (form != kWidened) return i / 4 * 4 + kOrder[form][i % 4];
  const std::int64_t half = kWordBytes / 2;
  return i % half / 2 * 4 + i % 2 * 2 + i / half;
}

std::uint16_t number_at(const std::byte* panel, std::int64_t i) {
  std::uint16_t number;
  std::memcpy(&number, panel + kSumBytes + 2 * i, 2);
  return number;
}

// The form of the word that stands at a place, ascending.
int form_at(const std::byte* panel, std::int64_t place) {
  int form = 0;
  for (std::int64_t end = 0; form < kWidened; ++form) {
    end += number_at(panel, form);
    if (place < end) break;
  }
  return form;
}

void pack_panel(const Words& words, std::int64_t steps, std::byte* panel) {
  std::vector<std::uint16_t> numbers[kMaddubsPairings + 1];
  for (std::int64_t step = 0; step < steps; ++step) {
    numbers[form_of(words.data() + step * kWordBytes)].push_back(static_cast<std::uint16_t>(step));
  }
  std::vector<std::uint16_t> head;
  for (int form = 0; form < kWidened; ++form) head.push_back(static_cast<std::uint16_t>(numbers[form].size()));
  auto* to = reinterpret_cast<std::int8_t*>(panel + head_bytes(steps));
  std::int32_t sums[kPanelChannels] = {};
  for (int form = 0; form <= kWidened; ++form) {
    head.insert(head.end(), numbers[form].begin(), numbers[form].end());
    for (const std::uint16_t number : numbers[form]) {
      const std::int8_t* word = words.data() + number * kWordBytes;
      for (std::int64_t i = 0; i < kWordBytes; ++i) {
        sums[i / 4] += word[i];
        *to++ = word[source_of(form, i)];
      }
    }
  }
  std::memcpy(panel, sums, sizeof sums);
  std::memcpy(panel + kSumBytes, head.data(), head.size() * sizeof head[0]);
}

}  // namespace

ConvPanelsPlan plan_conv_maddubs(const ConvDims& dims, DType x_type, const EpilogueS8& epilogue) {
  return plan_conv_panels(dims, x_type, epilogue, {panel_bytes_of(dims), kMaddubsTileRows, 1});
}

std::int64_t packed_bytes_conv_maddubs(const ConvDims& dims) {
  return dims.groups * panels_per_group(dims) * panel_bytes_of(dims);
}

void pack_conv_maddubs(const ConvDims& dims, const std::int8_t* weights, std::span<std::byte> packed) {
  std::fill(packed.begin(), packed.end(), std::byte{0});
  const WeightOrder order(dims);
  const std::int64_t k = products_per_output(dims), steps = steps_of(dims), outputs = group_outputs(dims);
  Words words(static_cast<std::size_t>(steps * kWordBytes));
  std::byte* panel = packed.data();
  for (std::int64_t group = 0; group < dims.groups; ++group) {
    for (std::int64_t first = 0; first < outputs; first += kPanelChannels, panel += panel_bytes_of(dims)) {
      std::fill(words.begin(), words.end(), std::int8_t{0});
      for (std::int64_t column = 0; column < std::min(kPanelChannels, outputs - first); ++column) {
        for (std::int64_t i = 0; i < k; ++i) {
          words[static_cast<std::size_t>(i / 4 * kWordBytes + column * 4 + i % 4)] =
              weights[order.at(group * outputs + first + column, i)];
        }
      }
      pack_panel(words, steps, panel);
    }
  }
}

void unpack_conv_maddubs(const ConvDims& dims, const std::byte* packed, std::int8_t* weights) {
  const WeightOrder order(dims);
  const std::int64_t k = products_per_output(dims), steps = steps_of(dims), outputs = group_outputs(dims);
  const std::byte* panel = packed;
  for (std::int64_t group = 0; group < dims.groups; ++group) {
    for (std::int64_t first = 0; first < outputs; first += kPanelChannels, panel += panel_bytes_of(dims)) {
      const auto* words = reinterpret_cast<const std::int8_t*>(panel + head_bytes(steps));
      for (std::int64_t place = 0; place < steps; ++place, words += kWordBytes) {
        const int form = form_at(panel, place);
        const std::int64_t k0 = 4 * number_at(panel, kMaddubsPairings + place);
        for (std::int64_t i = 0; i < kWordBytes; ++i) {
          const std::int64_t source = source_of(form, i), column = first + source / 4, at = k0 + source % 4;
          if (column < outputs && at < k) weights[order.at(group * outputs + column, at)] = words[i];
        }
      }
    }
  }
}

bool is_well_formed_maddubs(const ConvDims& dims, const std::byte* packed) {
  const std::int64_t steps = steps_of(dims);
  std::vector<bool> seen(static_cast<std::size_t>(steps));
  for (std::int64_t p = 0; p < dims.groups * panels_per_group(dims); ++p, packed += panel_bytes_of(dims)) {
    std::int64_t paired = 0;
    for (int form = 0; form < kMaddubsPairings; ++form) paired += number_at(packed, form);
    if (paired > steps) return false;
    std::fill(seen.begin(), seen.end(), false);
    for (std::int64_t place = 0; place < steps; ++place) {
      const std::size_t word = number_at(packed, kMaddubsPairings + place);
      if (word >= seen.size() || seen[word]) return false;
      seen[word] = true;
    }
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
