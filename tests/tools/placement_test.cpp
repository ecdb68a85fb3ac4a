// The decision which ops run in int8, on made-up costs: known answers, and every placement of small problems.
#include <doctest/doctest.h>

#include <random>

#include "tools/placement.h"

namespace aoq::tools {
namespace {

// A chain of ops: value i lies before op i, the last behind all.
PlacementProblem chain(const std::vector<PlacementOp>& ops, double quantize, double dequantize) {
  PlacementProblem problem;
  problem.ops = ops;
  for (std::size_t i = 0; i <= ops.size(); ++i) {
    PlacementValue v;
    v.made_by = i == 0 ? kFloatMade : i - 1;
    if (i < ops.size()) v.read_by = {i};
    v.is_read_in_float = i == ops.size();
    v.quantize_cost = quantize;
    v.dequantize_cost = dequantize;
    problem.values.push_back(v);
  }
  return problem;
}

bool is_allowed(const PlacementProblem& problem, const Placement& placement) {
  for (const auto& [op, needed] : problem.needs) {
    if (placement[op] && !placement[needed]) return false;
  }
  return true;
}

double least_cost(const PlacementProblem& problem) {
  const std::size_t ops = problem.ops.size();
  double least = cost_of(problem, Placement(ops, false));
  for (std::size_t bits = 1; bits < std::size_t{1} << ops; ++bits) {
    Placement placement(ops);
    for (std::size_t i = 0; i < ops; ++i) placement[i] = (bits >> i & 1) != 0;
    if (is_allowed(problem, placement)) least = std::min(least, cost_of(problem, placement));
  }
  return least;
}

// Up to 9 ops, each reading one or two values that were made before.
PlacementProblem random_problem(std::mt19937& random, bool has_readers_needed) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  PlacementProblem problem;
  const std::size_t ops = 1 + below(9);
  const auto cost = [&] { return static_cast<double>(below(40)) * 0.5; };
  const auto add_value = [&](std::size_t made_by) {
    PlacementValue v;
    v.made_by = made_by;
    v.quantize_cost = cost() / 4;
    v.dequantize_cost = cost() / 4;
    v.is_read_in_float = below(4) == 0;
    problem.values.push_back(v);
  };
  add_value(kFloatMade);
  for (std::size_t i = 0; i < ops; ++i) {
    PlacementOp op{.float_cost = cost(), .int8_cost = cost()};
    op.needs_reader = has_readers_needed && below(3) == 0;
    problem.ops.push_back(op);
    for (std::size_t k = 0; k <= below(2); ++k) {
      PlacementValue& v = problem.values[below(problem.values.size())];
      v.read_by.push_back(i);
      if (below(4) == 0 && v.made_by != kFloatMade) problem.needs.emplace_back(i, v.made_by);
    }
    add_value(i);
  }
  problem.values.back().is_read_in_float = true;
  return problem;
}

TEST_CASE("an op alone runs in int8 only if that pays for its conversions") {
  CHECK(solve(chain({{10, 4}}, 2, 2)) == Placement{true});
  CHECK(solve(chain({{10, 4}}, 4, 4)) == Placement{false});
  CHECK(cost_of(chain({{10, 4}}, 4, 4), {true}) == 12);
  CHECK(cost_of(chain({{10, 4}}, 4, 4), {false}) == 10);
}

TEST_CASE("neighbours share conversions, and a slow op between fast ones is not worth its borders") {
  // Each alone would cost 12 instead of 10; three in a row cost 20 instead of 30.
  CHECK(solve(chain({{10, 4}, {10, 4}, {10, 4}}, 4, 4)) == Placement{true, true, true});
  // The middle one loses 5, but converting around it would cost 8; if it loses 9 it is worth that.
  CHECK(solve(chain({{50, 4}, {10, 15}, {50, 4}}, 4, 4)) == Placement{true, true, true});
  CHECK(solve(chain({{50, 4}, {10, 19}, {50, 4}}, 4, 4)) == Placement{true, false, true});
}

TEST_CASE("of placements that cost the same the one with most int8 is taken") {
  CHECK(solve(chain({{10, 2}}, 4, 4)) == Placement{true});
  CHECK(solve(chain({{0, 0}, {0, 0}}, 0, 0)) == Placement{true, true});
}

TEST_CASE("a value is converted once, however many read it") {
  PlacementProblem problem;
  problem.ops = {{10, 4}, {10, 4}};
  PlacementValue input;
  input.read_by = {0, 1};
  input.quantize_cost = 9;
  problem.values = {input};
  CHECK(solve(problem) == Placement{true, true});
  CHECK(cost_of(problem, {true, true}) == 17);
  CHECK(cost_of(problem, {true, false}) == 23);
}

TEST_CASE("an op that nobody reads as codes goes to float, and what needs it too") {
  PlacementProblem problem = chain({{10, 4}, {5, 1}, {30, 40}}, 1, 1);
  problem.ops[1].needs_reader = true;
  problem.needs = {{1, 0}};
  const Placement best = solve(problem);
  CHECK(best == Placement{true, false, false});
}

TEST_CASE("the cut is the least of all placements of small problems") {
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    const PlacementProblem problem = random_problem(random, false);
    const Placement best = solve(problem);
    CAPTURE(i);
    REQUIRE(is_allowed(problem, best));
    REQUIRE(cost_of(problem, best) == doctest::Approx(least_cost(problem)).epsilon(1e-9));
  }
}

TEST_CASE("whatever needs readers, the decision is never worse than all in int8 and all in float") {
  std::mt19937 random(8);
  for (int i = 0; i < 2000; ++i) {
    const PlacementProblem problem = random_problem(random, true);
    const std::size_t ops = problem.ops.size();
    for (const Placement& p : {solve(problem), without_small_savings(problem, solve(problem), 0.1, 1)}) {
      CAPTURE(i);
      REQUIRE(is_allowed(problem, p));
      REQUIRE(cost_of(problem, p) <= cost_of(problem, Placement(ops, true)) + 1e-9);
    }
    REQUIRE(cost_of(problem, solve(problem)) <= cost_of(problem, Placement(ops, false)) + 1e-9);
  }
}

TEST_CASE("what regions save is what they cost less") {
  std::mt19937 random(9);
  for (int i = 0; i < 500; ++i) {
    const PlacementProblem problem = random_problem(random, false);
    const Placement best = solve(problem);
    double saved = 0;
    for (const FloatRegion& region : float_regions(problem, best)) saved += region.int8_cost - region.float_cost;
    CAPTURE(i);
    REQUIRE(cost_of(problem, Placement(best.size(), true)) - cost_of(problem, best) == doctest::Approx(saved));
  }
}

TEST_CASE("regions are told apart by values, with their figures") {
  const PlacementProblem problem = chain({{10, 30}, {9, 30}, {100, 20}, {10, 30}}, 1, 2);
  const Placement best = solve(problem);
  CHECK(best == Placement{false, false, true, false});
  const std::vector<FloatRegion> regions = float_regions(problem, best);
  REQUIRE(regions.size() == 2);
  CHECK(regions[0].ops == std::vector<std::size_t>{0, 1});
  CHECK(regions[0].float_cost == 20);  // with the quantize behind it
  CHECK(regions[0].int8_cost == 61);   // with the quantize before it
  CHECK(regions[1].ops == std::vector<std::size_t>{3});
  CHECK(regions[1].float_cost == 12);
  CHECK(regions[1].int8_cost == 32);
}

TEST_CASE("savings within chance are given back, region by region") {
  const PlacementProblem problem = chain({{10, 12}, {100, 20}, {10, 60}}, 1, 1);
  const Placement best = solve(problem);
  CHECK(best == Placement{false, true, false});
  CHECK(without_small_savings(problem, best, 0.05, 0.5) == Placement{false, true, false});
  CHECK(without_small_savings(problem, best, 0.05, 5) == Placement{true, true, false});
  CHECK(without_small_savings(problem, best, 0.3, 0) == Placement{true, true, false});
  CHECK(without_small_savings(problem, best, 1, 0) == Placement{true, true, true});
}

TEST_CASE("long chains and huge costs") {
  std::vector<PlacementOp> ops(3000, PlacementOp{.float_cost = 3, .int8_cost = 2});
  CHECK(solve(chain(ops, 1, 1)) == Placement(3000, true));
  CHECK(solve(chain({{1e300, 1}}, 1e300, 1)).size() == 1);
}

}  // namespace
}  // namespace aoq::tools
