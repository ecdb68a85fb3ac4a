#include "runtime/arena.h"

#include <doctest/doctest.h>

#include <random>

namespace aoq {
namespace {

// No two buffers that are alive together share a byte, all are aligned and inside.
ArenaPlan checked_plan(const std::vector<ArenaBuffer>& buffers) {
  Result<ArenaPlan> plan = plan_arena(buffers);
  REQUIRE(plan.ok());
  REQUIRE(plan->offsets.size() == buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const ArenaBuffer& a = buffers[i];
    REQUIRE(plan->offsets[i] % kArenaAlignment == 0);
    REQUIRE(plan->offsets[i] + a.bytes <= plan->bytes);
    for (std::size_t j = 0; j < i; ++j) {
      const ArenaBuffer& b = buffers[j];
      const bool together = a.first_step <= b.last_step && b.first_step <= a.last_step;
      const bool apart =
          plan->offsets[i] + a.bytes <= plan->offsets[j] || plan->offsets[j] + b.bytes <= plan->offsets[i];
      REQUIRE((!together || apart));
    }
  }
  CHECK(plan->bytes >= plan->lower_bound);
  return std::move(plan).value();
}

TEST_CASE("nothing and empty buffers") {
  CHECK(checked_plan({}).bytes == 0);
  CHECK(checked_plan({{0, 0, 1}, {0, 0, 3}}).bytes == 0);
}

TEST_CASE("a chain needs its two largest neighbours") {
  std::vector<ArenaBuffer> chain;
  for (int i = 0; i < 50; ++i) chain.push_back({static_cast<std::uint64_t>(64 * (1 + i * 7 % 13)), i, i + 1});
  ArenaPlan plan = checked_plan(chain);
  CHECK(plan.bytes == plan.lower_bound);
}

TEST_CASE("random lifetimes stay near the lower bound") {
  std::mt19937 random(7);
  double worst = 0, sum = 0;
  for (int round = 0; round < 60; ++round) {
    std::vector<ArenaBuffer> buffers;
    const int n = 2 + static_cast<int>(random() % 80);
    for (int i = 0; i < n; ++i) {
      const std::int64_t first = static_cast<std::int64_t>(random() % 60);
      buffers.push_back({random() % 100000, first, first + static_cast<std::int64_t>(random() % 8)});
    }
    ArenaPlan plan = checked_plan(buffers);
    const double ratio = static_cast<double>(plan.bytes) / static_cast<double>(plan.lower_bound);
    worst = std::max(worst, ratio);
    sum += ratio;
  }
  MESSAGE("random: mean " << sum / 60 << ", worst " << worst);
  CHECK(sum / 60 <= 1.05);
  CHECK(worst <= 1.25);
}

// A residual network with branches: the shape of most convolution models.
std::vector<ArenaBuffer> residual_network() {
  std::vector<ArenaBuffer> buffers;
  std::int64_t step = 0;
  std::uint64_t size = 802816;
  for (int stage = 0; stage < 4; ++stage, size /= 2) {
    for (int block = 0; block < 3; ++block) {
      buffers.push_back({size, step, step + 4});          // the shortcut's source
      buffers.push_back({size / 4, step + 1, step + 2});  // bottleneck
      buffers.push_back({size / 4, step + 2, step + 3});
      buffers.push_back({size, step + 3, step + 4});
      buffers.push_back({size / 3 + 100, step + 1, step + 1});  // scratch
      step += 4;
    }
  }
  return buffers;
}

// Attention blocks: three projections, scores, context, a wide feed-forward layer.
std::vector<ArenaBuffer> transformer() {
  std::vector<ArenaBuffer> buffers;
  std::int64_t step = 0;
  const std::uint64_t hidden = 128 * 768 * 4;
  for (int layer = 0; layer < 12; ++layer) {
    buffers.push_back({hidden, step, step + 7});
    for (int i = 0; i < 3; ++i) buffers.push_back({hidden, step + 1 + i, step + (i < 2 ? 4 : 5)});
    buffers.push_back({12 * 128 * 128 * 4, step + 4, step + 5});
    buffers.push_back({hidden, step + 5, step + 6});
    buffers.push_back({hidden, step + 6, step + 7});
    buffers.push_back({hidden, step + 7, step + 10});
    buffers.push_back({hidden * 4, step + 8, step + 9});
    buffers.push_back({hidden, step + 9, step + 10});
    step += 10;
  }
  return buffers;
}

TEST_CASE("model-like lifetimes are within 5 percent of the lower bound") {
  for (const std::vector<ArenaBuffer>& buffers : {residual_network(), transformer()}) {
    ArenaPlan plan = checked_plan(buffers);
    MESSAGE("peak " << plan.bytes << ", lower bound " << plan.lower_bound);
    CHECK(static_cast<double>(plan.bytes) <= 1.05 * static_cast<double>(plan.lower_bound));
  }
}

TEST_CASE("the same buffers give the same plan") {
  CHECK(plan_arena(transformer())->offsets == plan_arena(transformer())->offsets);
}

TEST_CASE("very many buffers alive together still get a plan") {
  const std::vector<ArenaBuffer> buffers(12000, ArenaBuffer{64, 0, 9});
  Result<ArenaPlan> plan = plan_arena(buffers);
  REQUIRE(plan.ok());
  CHECK(plan->bytes == plan->lower_bound);
}

TEST_CASE("sizes that overflow are refused") {
  const std::vector<ArenaBuffer> huge(4, ArenaBuffer{UINT64_MAX / 2, 0, 1});
  Result<ArenaPlan> plan = plan_arena(huge);
  REQUIRE(!plan.ok());
  CHECK(plan.status().code() == Code::resource_limit);
  const std::vector<ArenaBuffer> one(1, ArenaBuffer{UINT64_MAX, 0, 1});
  CHECK(!plan_arena(one).ok());
}

}  // namespace
}  // namespace aoq
