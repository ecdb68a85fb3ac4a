#include "passes/fx/match_units.h"

#include <algorithm>

namespace aoq::fx {

namespace {

bool matches(const Unit& unit, const std::vector<std::string>& names) {
  if (!unit.is_call()) return false;
  const std::vector<std::string> keys = unit.keys();
  return std::any_of(keys.begin(), keys.end(),
                     [&](const std::string& key) { return std::find(names.begin(), names.end(), key) != names.end(); });
}

}  // namespace

std::vector<const BackendPattern*> by_length(const BackendConfig& config, Fused fused) {
  std::size_t longest = 0;
  for (const BackendPattern& p : config.patterns) longest = std::max(longest, p.pattern.size());
  std::vector<const BackendPattern*> out;
  for (std::size_t length = longest; length > 0; --length) {
    for (const BackendPattern& p : config.patterns) {
      if (p.pattern.size() == length && p.fused_module.empty() == (fused == Fused::not_at_all)) out.push_back(&p);
    }
  }
  return out;
}

std::vector<int> chain_ending_at(const Units& units, const BackendPattern& pattern, int last) {
  std::vector<int> chain;
  int at = last;
  for (std::size_t k = pattern.pattern.size(); k-- > 0;) {
    if (at < 0 || !matches(units.all()[static_cast<std::size_t>(at)], pattern.pattern[k])) return {};
    chain.insert(chain.begin(), at);
    if (k == 0) break;
    const Unit& unit = units.all()[static_cast<std::size_t>(at)];
    if (unit.inputs.empty()) return {};
    // The chain runs through the first operand; what it makes is read here only.
    const Value* v = unit.inputs.front();
    if (units.readers(v).size() != 1) return {};
    at = units.of(v);
  }
  return chain;
}

}  // namespace aoq::fx
