#include "backends/cpu/kernels/safe_order.h"

#include <algorithm>
#include <array>
#include <utility>

namespace aoq::cpu {
namespace {

constexpr int kChannels = 16;
constexpr int kMostCodes = static_cast<int>(kOrderWindow);
// Most that weights of one sign may sum to.
constexpr int kMostSum = 128;
// Windows behind a window whose words are tried for doubles: bounds the search where few fit.
constexpr std::size_t kReach = 64;

// Sums of positive weights in 16 channels, then of negative ones without their sign.
struct Load {
  std::array<std::int16_t, 2 * kChannels> sums;
};

Load load_of(const std::int8_t* weights) {
  Load load;
  for (std::size_t c = 0; c < kChannels; ++c) {
    const auto w = static_cast<std::int16_t>(weights[c]);
    load.sums[c] = std::max<std::int16_t>(w, 0);
    load.sums[kChannels + c] = std::max<std::int16_t>(static_cast<std::int16_t>(-w), 0);
  }
  return load;
}
Load sum_of(const Load& a, const Load& b) {
  Load sum;
  for (std::size_t i = 0; i < sum.sums.size(); ++i) sum.sums[i] = static_cast<std::int16_t>(a.sums[i] + b.sums[i]);
  return sum;
}
bool fit(const Load& a, const Load& b) {
  std::int16_t most = 0;
  for (std::size_t i = 0; i < a.sums.size(); ++i) {
    const auto sum = static_cast<std::int16_t>(a.sums[i] + b.sums[i]);
    most = sum > most ? sum : most;
  }
  return most <= kMostSum;
}
int product_of(const Load& a, const Load& b) {
  int sum = 0;
  for (std::size_t i = 0; i < a.sums.size(); ++i) sum += a.sums[i] * b.sums[i];
  return sum;
}
// Evenly loaded pairs fit others more often, hence squares.
int heaviness(const Load& load) {
  return product_of(load, load);
}

struct Pair {
  int first, second;  // codes of the window
  bool is_safe;
  Load load;
  bool is_taken = false;  // for a word
};

// Pairs all codes of a window: as many safe pairs as a greedy search with trades finds, evenly loaded.
class Matching {
 public:
  Matching(const std::int8_t* weights, int count) : count_(count) {
    int heavy[kMostCodes];
    for (int i = 0; i < count; ++i) {
      loads_[i] = load_of(weights + i * kChannels);
      heavy[i] = heaviness(loads_[i]);
    }
    for (int i = 0; i < count; ++i) {
      fit_[i][i] = false;
      for (int j = 0; j < i; ++j) {
        fit_[i][j] = fit_[j][i] = fit(loads_[i], loads_[j]);
        // One pair that is not safe outweighs all squares.
        const int together = heavy[i] + heavy[j] + 2 * product_of(loads_[i], loads_[j]);
        const int cost = together + (fit_[i][j] ? 0 : 1 << 26);
        cost_[i][j] = cost_[j][i] = cost;
      }
    }
    for (int i = 0; i < count; ++i) choices_[i] = static_cast<int>(std::count(fit_[i], fit_[i] + count, true));
    std::fill(std::begin(mate_), std::end(mate_), -1);
  }

  std::vector<Pair> pairs() {
    while (pair_scarcest()) {
    }
    while (trade_for_two()) {
    }
    pair_rest();
    for (int turn = 0; turn < kMostTurns && trade_lighter(); ++turn) {
    }
    std::vector<Pair> pairs;
    for (int i = 0; i < count_; ++i) {
      const int j = mate_[i];
      if (j > i) pairs.push_back({i, j, fit_[i][j], sum_of(loads_[i], loads_[j])});
    }
    return pairs;
  }

 private:
  static constexpr int kMostTurns = 20;

  void join(int i, int j) {
    mate_[i] = j;
    mate_[j] = i;
  }
  // The free code that fits `with`, any if that is negative, and has the fewest choices itself, at least one.
  int scarcest(int with) const {
    int best = -1, fewest = kMostCodes;
    for (int i = 0; i < count_; ++i) {
      const bool is_choice = mate_[i] < 0 && i != with && (with < 0 || fit_[i][with]);
      if (!is_choice || choices_[i] == 0 || choices_[i] >= fewest) continue;
      best = i;
      fewest = choices_[i];
    }
    return best;
  }
  bool pair_scarcest() {
    const int i = scarcest(-1);
    if (i < 0) return false;
    const int j = scarcest(i);
    join(i, j);
    for (int k = 0; k < count_; ++k) choices_[k] -= (fit_[i][k] ? 1 : 0) + (fit_[j][k] ? 1 : 0);
    return true;
  }
  // Two free codes for the two of a pair.
  bool trade_for_two() {
    for (int i = 0; i < count_; ++i) {
      for (int j = 0; mate_[i] < 0 && j < count_; ++j) {
        if (j == i || mate_[j] >= 0) continue;
        for (int a = 0; a < count_; ++a) {
          const int b = mate_[a];
          if (b < 0 || !fit_[i][a] || !fit_[j][b]) continue;
          join(i, a);
          join(j, b);
          return true;
        }
      }
    }
    return false;
  }
  void pair_rest() {
    for (int i = 0; i < count_; ++i) {
      for (int j = i + 1; mate_[i] < 0 && j < count_; ++j) {
        if (mate_[j] < 0) join(i, j);
      }
    }
  }
  bool trade_lighter() {
    bool is_better = false;
    for (int a = 0; a < count_; ++a) {
      // The pair of the lowest code with each behind it, both ways, as c is either of its codes.
      if (mate_[a] < a) continue;
      for (int c = a + 1; c < count_; ++c) {
        const int b = mate_[a], d = mate_[c];
        if (c == b || d < a || cost_[a][c] + cost_[b][d] >= cost_[a][b] + cost_[c][d]) continue;
        join(a, c);
        join(b, d);
        is_better = true;
      }
    }
    return is_better;
  }

  int count_;
  Load loads_[kMostCodes];
  bool fit_[kMostCodes][kMostCodes];
  int cost_[kMostCodes][kMostCodes];
  int choices_[kMostCodes];  // free codes that fit
  int mate_[kMostCodes];
};

struct Window {
  OrderWindow codes;
  std::vector<Pair> pairs;  // the heaviest first
  int words = 0;            // that have been placed
};

Window window_of(std::span<const std::int8_t> weights, std::int64_t index) {
  Window window = {order_window(index, static_cast<std::int64_t>(weights.size()) / kChannels), {}};
  const std::int8_t* first = weights.data() + window.codes.first * kChannels;
  window.pairs = Matching(first, static_cast<int>(window.codes.count)).pairs();
  std::sort(window.pairs.begin(), window.pairs.end(),
            [](const Pair& a, const Pair& b) { return heaviness(a.load) > heaviness(b.load); });
  return window;
}

// A pair of one window and one of another or the same that fit together.
struct Quad {
  Pair* first = nullptr;
  Pair* second = nullptr;
};

// Takes the heaviest pair that has a partner, and the heaviest partner that fits.
Quad take_quad(Window& u, Window& v) {
  for (Pair& a : u.pairs) {
    if (!a.is_safe || a.is_taken) continue;
    for (Pair& b : v.pairs) {
      if (&a == &b || !b.is_safe || b.is_taken || !fit(a.load, b.load)) continue;
      a.is_taken = b.is_taken = true;
      return {&a, &b};
    }
  }
  return {};
}

// Places words and notes their numbers.
class Placing {
 public:
  explicit Placing(std::span<const std::int8_t> weights) {
    order_.places.resize(weights.size() / kChannels);
    const auto codes = static_cast<std::int64_t>(order_.places.size());
    for (std::int64_t i = 0; i * kOrderWindow < codes; ++i) windows_.push_back(window_of(weights, i));
  }

  SafeOrder order() {
    for (std::size_t u = 0; u < windows_.size(); ++u) {
      for (std::size_t v = u; v < std::min(windows_.size(), u + kReach); ++v) {
        while (place_double(windows_[u], windows_[v])) ++order_.doubles;
      }
    }
    for (Window& window : windows_) place_rest(window);
    order_.singles = static_cast<std::int64_t>(singles_.size());
    order_.numbers.insert(order_.numbers.end(), singles_.begin(), singles_.end());
    order_.numbers.insert(order_.numbers.end(), unsafe_.begin(), unsafe_.end());
    return std::move(order_);
  }

 private:
  // The number of the word.
  std::uint16_t place(Window& window, const Pair& a, const Pair& b) {
    const std::int64_t at = window.codes.first + 4 * window.words++;
    const std::int64_t skipped = window.codes.first - window.codes.begin;
    std::uint8_t* to = order_.places.data() + at;
    for (const int code : {a.first, a.second, b.first, b.second}) *to++ = static_cast<std::uint8_t>(skipped + code);
    return static_cast<std::uint16_t>(at / 4);
  }

  bool place_double(Window& u, Window& v) {
    const Quad a = take_quad(u, v);
    if (a.first == nullptr) return false;
    const Quad b = take_quad(u, v);
    if (b.first == nullptr) {
      a.first->is_taken = a.second->is_taken = false;
      return false;
    }
    order_.numbers.push_back(place(u, *a.first, *b.first));
    order_.numbers.push_back(place(v, *a.second, *b.second));
    return true;
  }

  // A window has an even number of pairs, so with an odd safe one goes one that is not.
  void place_rest(Window& window) {
    std::vector<const Pair*> rest;
    for (const bool is_safe : {true, false}) {
      for (const Pair& pair : window.pairs) {
        if (!pair.is_taken && pair.is_safe == is_safe) rest.push_back(&pair);
      }
    }
    for (std::size_t i = 0; i < rest.size(); i += 2) {
      (rest[i + 1]->is_safe ? singles_ : unsafe_).push_back(place(window, *rest[i], *rest[i + 1]));
    }
  }

  std::vector<Window> windows_;
  std::vector<std::uint16_t> singles_, unsafe_;
  SafeOrder order_;
};

}  // namespace

OrderWindow order_window(std::int64_t index, std::int64_t codes) {
  const std::int64_t first = index * kOrderWindow;
  return {first, std::min(kOrderWindow, codes - first),
          std::max<std::int64_t>(std::min(first, codes - kOrderWindow), 0)};
}

SafeOrder order_safely(std::span<const std::int8_t> weights) {
  return Placing(weights).order();
}

}  // namespace aoq::cpu
