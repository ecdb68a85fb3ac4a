// Greedy placement in several orders, then a bounded local search on the order.
//
// A buffer goes into the lowest gap that fits between the buffers that are placed already and alive at the same time.
// The quality depends on the order only. The search starts from the best fixed order and moves a buffer that reaches
// the peak to the front, for as long as that does not make things worse.
#include "runtime/arena.h"

#include <algorithm>
#include <numeric>

#include "ir/checked.h"

namespace aoq {
namespace {

using Order = std::vector<std::uint32_t>;

constexpr std::uint64_t kMaxArena = std::uint64_t{1} << 62;
// Pairs that the search may look at, and pairs of buffers alive together above which nothing shares memory.
constexpr std::uint64_t kSearchBudget = 20'000'000;
constexpr std::uint64_t kMaxPairs = 50'000'000;

// Buffers that are equal keep the order of their numbers.
template <class F>
void sort_stably(Order& order, const F& before) {
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    if (before(a, b)) return true;
    return !before(b, a) && a < b;
  });
}

// For every buffer those that are alive at the same time; empty when there are too many.
std::vector<Order> neighbours_of(std::span<const ArenaBuffer> buffers) {
  std::vector<Order> neighbours(buffers.size());
  Order by_start(buffers.size());
  std::iota(by_start.begin(), by_start.end(), 0);
  sort_stably(by_start, [&](auto a, auto b) { return buffers[a].first_step < buffers[b].first_step; });
  Order alive;
  std::uint64_t pairs = 0;
  for (std::uint32_t b : by_start) {
    std::erase_if(alive, [&](std::uint32_t a) { return buffers[a].last_step < buffers[b].first_step; });
    if ((pairs += alive.size()) > kMaxPairs) return {};
    for (std::uint32_t a : alive) {
      neighbours[a].push_back(b);
      neighbours[b].push_back(a);
    }
    alive.push_back(b);
  }
  return neighbours;
}

std::uint64_t most_alive(std::span<const ArenaBuffer> buffers) {
  struct Event {
    std::int64_t step;
    bool starts;
    std::uint64_t bytes;
  };
  std::vector<Event> events;
  for (const ArenaBuffer& b : buffers) {
    events.push_back({b.first_step, true, b.bytes});
    events.push_back({b.last_step, false, b.bytes});
  }
  std::sort(events.begin(), events.end(),
            [](const Event& a, const Event& b) { return a.step != b.step ? a.step < b.step : a.starts > b.starts; });
  std::uint64_t now = 0, most = 0;
  for (const Event& e : events) {
    now = e.starts ? now + e.bytes : now - e.bytes;
    most = std::max(most, now);
  }
  return most;
}

class Placer {
 public:
  explicit Placer(std::span<const ArenaBuffer> buffers) : buffers_(buffers), neighbours_(neighbours_of(buffers)) {}

  ArenaPlan place(const Order& order) {
    constexpr std::uint64_t kUnplaced = UINT64_MAX;
    ArenaPlan plan;
    plan.offsets.assign(buffers_.size(), kUnplaced);
    for (std::uint32_t b : order) {
      taken_.clear();
      for (std::uint32_t n : neighbours_[b]) {
        if (plan.offsets[n] != kUnplaced) taken_.push_back({plan.offsets[n], plan.offsets[n] + buffers_[n].bytes});
      }
      work_ += neighbours_[b].size() + 1;
      std::sort(taken_.begin(), taken_.end());
      std::uint64_t at = 0;
      for (const auto& [begin, end] : taken_) {
        if (begin >= at && begin - at >= buffers_[b].bytes) break;
        at = std::max(at, end);
      }
      plan.offsets[b] = at;
      plan.bytes = std::max(plan.bytes, at + buffers_[b].bytes);
    }
    return plan;
  }

  bool too_many() const { return neighbours_.empty(); }
  std::uint64_t work() const { return work_; }

 private:
  std::span<const ArenaBuffer> buffers_;
  std::vector<Order> neighbours_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> taken_;
  std::uint64_t work_ = 0;
};

std::vector<Order> fixed_orders(std::span<const ArenaBuffer> buffers) {
  Order order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  auto length = [&](std::uint32_t b) {
    return static_cast<std::uint64_t>(buffers[b].last_step - buffers[b].first_step) + 1;
  };
  std::vector<Order> orders;
  auto add = [&](auto before) {
    orders.push_back(order);
    sort_stably(orders.back(), before);
  };
  add([&](auto a, auto b) { return buffers[a].bytes > buffers[b].bytes; });
  add([&](auto a, auto b) {
    return static_cast<double>(buffers[a].bytes) * static_cast<double>(length(a)) >
           static_cast<double>(buffers[b].bytes) * static_cast<double>(length(b));
  });
  add([&](auto a, auto b) {
    return buffers[a].first_step != buffers[b].first_step ? buffers[a].first_step < buffers[b].first_step
                                                          : buffers[a].bytes > buffers[b].bytes;
  });
  add([&](auto a, auto b) {
    return length(a) != length(b) ? length(a) > length(b) : buffers[a].bytes > buffers[b].bytes;
  });
  add([&](auto a, auto b) { return buffers[a].last_step > buffers[b].last_step; });
  return orders;
}

// A small generator with a fixed seed: the plan must not depend on anything but the buffers.
struct Random {
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  std::uint64_t below(std::uint64_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % n;
  }
};

void move_in_order(Order& order, std::size_t from, std::size_t to) {
  const std::uint32_t b = order[from];
  order.erase(order.begin() + static_cast<std::ptrdiff_t>(from));
  order.insert(order.begin() + static_cast<std::ptrdiff_t>(to), b);
}

void improve(std::span<const ArenaBuffer> buffers, Placer& placer, Order order, ArenaPlan& best, std::uint64_t bound) {
  Random random;
  std::vector<std::size_t> at_peak;
  for (int round = 0; round < 2000 && best.bytes > bound && placer.work() < kSearchBudget; ++round) {
    at_peak.clear();
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (best.offsets[order[i]] + buffers[order[i]].bytes == best.bytes) at_peak.push_back(i);
    }
    Order trial = order;
    const bool push_peak = round % 4 != 3 && at_peak.size() > 0;
    const std::size_t from = push_peak ? at_peak[random.below(at_peak.size())] : random.below(order.size());
    move_in_order(trial, from, from == 0 ? random.below(order.size()) : random.below(from));
    ArenaPlan plan = placer.place(trial);
    if (plan.bytes <= best.bytes) {
      best = std::move(plan);
      order = std::move(trial);
    }
  }
}

ArenaPlan end_to_end(std::span<const ArenaBuffer> buffers) {
  ArenaPlan plan;
  for (const ArenaBuffer& b : buffers) {
    plan.offsets.push_back(plan.bytes);
    plan.bytes += b.bytes;
  }
  return plan;
}

ArenaPlan search(std::span<const ArenaBuffer> buffers, std::uint64_t bound) {
  Placer placer(buffers);
  if (placer.too_many()) return end_to_end(buffers);
  ArenaPlan best;
  Order best_order;
  for (Order& order : fixed_orders(buffers)) {
    ArenaPlan plan = placer.place(order);
    if (!best_order.empty() && plan.bytes >= best.bytes) continue;
    best = std::move(plan);
    best_order = std::move(order);
  }
  improve(buffers, placer, std::move(best_order), best, bound);
  return best;
}

}  // namespace

Result<ArenaPlan> plan_arena(std::span<const ArenaBuffer> buffers) {
  std::vector<ArenaBuffer> rounded(buffers.begin(), buffers.end());
  std::uint64_t total = 0;
  for (ArenaBuffer& b : rounded) {
    AOQ_CHECK(b.first_step <= b.last_step);
    std::optional<std::uint64_t> size = checked::align_up(b.bytes, kArenaAlignment);
    std::optional<std::uint64_t> sum = size ? checked::add(total, *size) : std::nullopt;
    if (!sum || *sum > kMaxArena) return error(Code::resource_limit, "the values of one run take more than 2^62 bytes");
    b.bytes = *size;
    total = *sum;
  }
  if (rounded.empty()) return ArenaPlan{};
  const std::uint64_t bound = most_alive(rounded);
  ArenaPlan best = search(rounded, bound);
  best.lower_bound = bound;
  return best;
}

}  // namespace aoq
