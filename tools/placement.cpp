#include "tools/placement.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>

namespace aoq::tools {

namespace {

using Capacity = std::int64_t;

constexpr Capacity kInfinite = Capacity{1} << 60;

// In picoseconds; what takes longer than a quarter of an hour is as bad as that.
Capacity capacity_of(double microseconds) {
  if (!(microseconds > 0)) return 0;
  return static_cast<Capacity>(std::llround(std::min(microseconds, 1e9) * 1e6));
}

// A flow network; the largest flow from 0 to 1 by shortest augmenting paths in level graphs (Dinitz).
class Network {
 public:
  explicit Network(std::size_t nodes) : first_(nodes, kNone), level_(nodes), at_(nodes) {}

  void add(std::size_t from, std::size_t to, Capacity capacity) {
    if (capacity == 0 || from == to) return;
    link(from, to, capacity);
    link(to, from, 0);
  }

  void maximise() {
    while (find_levels()) {
      at_ = first_;
      while (augment() > 0) {
      }
    }
  }

  // Nodes from which the sink can still be reached, after maximise(): the smallest side of the sink.
  std::vector<bool> sink_side() const {
    std::vector<bool> seen(first_.size());
    std::deque<std::size_t> open{kSink};
    seen[kSink] = true;
    while (!open.empty()) {
      const std::size_t n = open.front();
      open.pop_front();
      for (std::size_t e = first_[n]; e != kNone; e = arcs_[e].next) {
        const std::size_t from = arcs_[e].to;
        if (seen[from] || arcs_[e ^ 1].capacity == 0) continue;
        seen[from] = true;
        open.push_back(from);
      }
    }
    return seen;
  }

  static constexpr std::size_t kSource = 0, kSink = 1;

 private:
  static constexpr std::size_t kNone = SIZE_MAX;
  struct Arc {
    std::size_t to, next;
    Capacity capacity;
  };

  void link(std::size_t from, std::size_t to, Capacity capacity) {
    arcs_.push_back({to, first_[from], capacity});
    first_[from] = arcs_.size() - 1;
  }

  bool find_levels() {
    std::fill(level_.begin(), level_.end(), -1);
    level_[kSource] = 0;
    std::deque<std::size_t> open{kSource};
    while (!open.empty()) {
      const std::size_t n = open.front();
      open.pop_front();
      for (std::size_t e = first_[n]; e != kNone; e = arcs_[e].next) {
        if (arcs_[e].capacity == 0 || level_[arcs_[e].to] >= 0) continue;
        level_[arcs_[e].to] = level_[n] + 1;
        open.push_back(arcs_[e].to);
      }
    }
    return level_[kSink] >= 0;
  }

  // One path of the level graph, on a stack of our own: paths are as long as models are deep.
  Capacity augment() {
    std::vector<std::size_t> path;
    std::size_t n = kSource;
    while (n != kSink) {
      std::size_t& e = at_[n];
      while (e != kNone && (arcs_[e].capacity == 0 || level_[arcs_[e].to] != level_[n] + 1)) e = arcs_[e].next;
      if (e != kNone) {
        path.push_back(e);
        n = arcs_[e].to;
        continue;
      }
      if (path.empty()) return 0;
      n = arcs_[path.back() ^ 1].to;
      at_[n] = arcs_[path.back()].next;
      path.pop_back();
    }
    Capacity flow = kInfinite;
    for (std::size_t e : path) flow = std::min(flow, arcs_[e].capacity);
    for (std::size_t e : path) {
      arcs_[e].capacity -= flow;
      arcs_[e ^ 1].capacity += flow;
    }
    return flow;
  }

  std::vector<Arc> arcs_;
  std::vector<std::size_t> first_;
  std::vector<int> level_;
  std::vector<std::size_t> at_;
};

// The side of the source is int8. A value has two nodes besides: `codes` is on that side when an int8 op reads the
// value, `floats` is on the other when it is read in float.
Placement minimum_cut(const PlacementProblem& problem) {
  const std::size_t ops = problem.ops.size();
  const std::size_t source = Network::kSource, sink = Network::kSink;
  Network network(2 + ops + 2 * problem.values.size());
  const auto op_node = [](std::size_t op) { return 2 + op; };
  for (std::size_t i = 0; i < ops; ++i) {
    network.add(source, op_node(i), capacity_of(problem.ops[i].float_cost));
    network.add(op_node(i), sink, capacity_of(problem.ops[i].int8_cost));
  }
  for (std::size_t v = 0; v < problem.values.size(); ++v) {
    const PlacementValue& value = problem.values[v];
    const std::size_t codes = 2 + ops + 2 * v, floats = codes + 1;
    const bool is_float_made = value.made_by == kFloatMade;
    network.add(codes, is_float_made ? sink : op_node(value.made_by), capacity_of(value.quantize_cost));
    for (std::size_t reader : value.read_by) network.add(op_node(reader), codes, kInfinite);
    if (is_float_made) continue;
    network.add(op_node(value.made_by), floats, capacity_of(value.dequantize_cost));
    for (std::size_t reader : value.read_by) network.add(floats, op_node(reader), kInfinite);
    if (value.is_read_in_float) network.add(floats, sink, kInfinite);
  }
  for (const auto& [op, needed] : problem.needs) network.add(op_node(op), op_node(needed), kInfinite);
  network.maximise();
  const std::vector<bool> is_float = network.sink_side();
  Placement placement(ops);
  for (std::size_t i = 0; i < ops; ++i) placement[i] = !is_float[op_node(i)];
  return placement;
}

// Ops that need a reader and have none, and those that need them, go to float until nothing changes.
void drop_unread(const PlacementProblem& problem, Placement& placement) {
  for (bool changed = true; changed;) {
    changed = false;
    std::vector<bool> is_read(problem.ops.size());
    for (const PlacementValue& value : problem.values) {
      if (value.made_by == kFloatMade) continue;
      for (std::size_t reader : value.read_by) is_read[value.made_by] = is_read[value.made_by] || placement[reader];
    }
    for (std::size_t i = 0; i < problem.ops.size(); ++i) {
      if (!placement[i] || !problem.ops[i].needs_reader || is_read[i]) continue;
      placement[i] = false;
      changed = true;
    }
    for (const auto& [op, needed] : problem.needs) {
      if (!placement[op] || placement[needed]) continue;
      placement[op] = false;
      changed = true;
    }
  }
}

double op_cost(const PlacementProblem& problem, const Placement& placement, std::size_t op) {
  return placement[op] ? problem.ops[op].int8_cost : problem.ops[op].float_cost;
}

double value_cost(const PlacementValue& value, const Placement& placement) {
  const bool made_as_codes = value.made_by != kFloatMade && placement[value.made_by];
  bool is_read_as_codes = false, is_read_in_float = value.is_read_in_float;
  for (std::size_t reader : value.read_by) {
    is_read_as_codes = is_read_as_codes || placement[reader];
    is_read_in_float = is_read_in_float || !placement[reader];
  }
  if (made_as_codes) return is_read_in_float ? value.dequantize_cost : 0;
  return is_read_as_codes ? value.quantize_cost : 0;
}

std::size_t root_of(std::vector<std::size_t>& parent, std::size_t i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
}

bool touches(const PlacementValue& value, const std::vector<bool>& ops) {
  if (value.made_by != kFloatMade && ops[value.made_by]) return true;
  return std::any_of(value.read_by.begin(), value.read_by.end(), [&](std::size_t reader) { return ops[reader]; });
}

double region_cost(const PlacementProblem& problem, const Placement& placement, const std::vector<bool>& ops) {
  double cost = 0;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (ops[i]) cost += op_cost(problem, placement, i);
  }
  for (const PlacementValue& value : problem.values) {
    if (touches(value, ops)) cost += value_cost(value, placement);
  }
  return cost;
}

}  // namespace

double cost_of(const PlacementProblem& problem, const Placement& placement) {
  double cost = 0;
  for (std::size_t i = 0; i < problem.ops.size(); ++i) cost += op_cost(problem, placement, i);
  for (const PlacementValue& value : problem.values) cost += value_cost(value, placement);
  return cost;
}

Placement solve(const PlacementProblem& problem) {
  Placement best = minimum_cut(problem);
  drop_unread(problem, best);
  const Placement all_int8(problem.ops.size(), true), all_float(problem.ops.size(), false);
  if (cost_of(problem, all_float) < cost_of(problem, best)) best = all_float;
  if (cost_of(problem, all_int8) <= cost_of(problem, best)) best = all_int8;
  return best;
}

std::vector<FloatRegion> float_regions(const PlacementProblem& problem, const Placement& placement) {
  std::vector<std::size_t> parent(problem.ops.size());
  for (std::size_t i = 0; i < parent.size(); ++i) parent[i] = i;
  const auto unite = [&](std::size_t a, std::size_t b) { parent[root_of(parent, b)] = root_of(parent, a); };
  for (const PlacementValue& value : problem.values) {
    std::size_t first = SIZE_MAX;
    const auto add = [&](std::size_t op) {
      if (placement[op]) return;
      if (first == SIZE_MAX) first = op;
      unite(first, op);
    };
    if (value.made_by != kFloatMade) add(value.made_by);
    for (std::size_t reader : value.read_by) add(reader);
  }
  for (const auto& [op, needed] : problem.needs) {
    if (!placement[op] && !placement[needed]) unite(op, needed);
  }
  std::vector<FloatRegion> regions;
  std::vector<std::size_t> region_of(problem.ops.size(), SIZE_MAX);
  for (std::size_t i = 0; i < problem.ops.size(); ++i) {
    if (placement[i]) continue;
    std::size_t& region = region_of[root_of(parent, i)];
    if (region == SIZE_MAX) {
      region = regions.size();
      regions.emplace_back();
    }
    regions[region].ops.push_back(i);
  }
  for (FloatRegion& region : regions) {
    std::vector<bool> is_in(problem.ops.size());
    Placement in_int8 = placement;
    for (std::size_t i : region.ops) is_in[i] = in_int8[i] = true;
    region.float_cost = region_cost(problem, placement, is_in);
    region.int8_cost = region_cost(problem, in_int8, is_in);
  }
  return regions;
}

Placement without_small_savings(const PlacementProblem& problem, Placement placement, double share, double least) {
  for (const FloatRegion& region : float_regions(problem, placement)) {
    const double saved = region.int8_cost - region.float_cost;
    if (saved > least && saved > share * region.int8_cost) continue;
    for (std::size_t i : region.ops) placement[i] = true;
  }
  return placement;
}

}  // namespace aoq::tools
