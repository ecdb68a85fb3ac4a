#include "ir/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace aoq {

namespace {

// Levenshtein's distance, where swapped neighbours count once.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1] ? 1 : 0)});
      bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

}  // namespace

std::string nearest_name(std::string_view name, std::span<const std::string> known) {
  const std::string* best = nullptr;
  std::size_t best_distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const std::string& k : known) {
    // A long name is often typed by its beginning.
    bool begins = name.size() >= 4 && k.starts_with(name);
    std::size_t distance = begins ? 1 : edit_distance(name, k);
    if (distance < best_distance) {
      best = &k;
      best_distance = distance;
    }
  }
  return best != nullptr ? *best : std::string();
}

std::string did_you_mean(std::string_view name, std::span<const std::string> known) {
  std::string best = nearest_name(name, known);
  return best.empty() ? std::string() : "; did you mean \"" + best + "\"?";
}

}  // namespace aoq
