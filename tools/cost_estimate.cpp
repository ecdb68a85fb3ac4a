#include "tools/cost_estimate.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "ir/bind.h"
#include "passes/quantize/weights.h"
#include "tools/tuning_file.h"

namespace aoq::tools {

namespace {

// Of one core: multiply-adds and elements per nanosecond.
struct Rates {
  const char* name;
  double float_macs, int8_macs;
  double float_depthwise, int8_depthwise;
  double float_elements, int8_elements;  // elementwise ops and pools
  double quantize, dequantize;           // elements
};

// `aoq tune` on a MobileNetV2 at 224 x 224, and of conversions alone: AMD EPYC (Zen 4), one thread of a shared machine.
constexpr double kStepMicroseconds = 0.15;  // to start a step of the plan
constexpr Rates kRates[] = {{"avx2", 48, 90, 25, 22, 6, 5, 10, 15}, {"avx512_vnni", 54, 180, 30, 44, 6, 12, 10, 15}};

// A region goes to float when it saves so much of its time and so many microseconds.
constexpr double kClearShare = 0.25;
constexpr double kClearMicroseconds = 3;

SymbolValues sizes_for(const Graph& graph) {
  SymbolValues values;
  for (const auto& [symbol, range] : graph.symbols) {
    values[symbol] = std::clamp<std::int64_t>(64, range.min, range.max);
  }
  for (const Node* n : graph.input_nodes()) {
    const std::vector<Dim>& shape = n->output()->type().shape;
    if (shape.empty() || !shape[0].is_symbol()) continue;
    const auto range = graph.symbols.find(shape[0].to_string());
    values[shape[0].to_string()] = range == graph.symbols.end() ? 1 : std::max<std::int64_t>(range->second.min, 1);
  }
  return values;
}

class Estimate {
 public:
  Estimate(const Rates& rates, const SymbolValues& sizes) : rates_(rates), sizes_(sizes) {}

  Status fill(PlacementModel& model) const {
    for (std::size_t i = 0; i < model.ops.size(); ++i) AOQ_TRY(fill_op(*model.ops[i], model.problem.ops[i]));
    for (std::size_t i = 0; i < model.values.size(); ++i) {
      AOQ_ASSIGN(const double count, elements(model.values[i].value));
      PlacementValue& value = model.problem.values[i];
      value.quantize_cost = kStepMicroseconds + count / rates_.quantize / 1000;
      // Weighted ops write floats themselves where nobody reads codes.
      const bool writes_floats =
          value.read_by.empty() && value.made_by != kFloatMade && !model.problem.ops[value.made_by].needs_reader;
      value.dequantize_cost = writes_floats ? 0 : kStepMicroseconds + count / rates_.dequantize / 1000;
    }
    return {};
  }

 private:
  Result<double> elements(const Value* v) const {
    AOQ_ASSIGN(const std::vector<std::int64_t> shape, evaluate(v->type().shape, sizes_));
    double count = 1;
    for (std::int64_t d : shape) count *= static_cast<double>(std::max<std::int64_t>(d, 0));
    return count;
  }

  Status fill_op(const Node& n, PlacementOp& op) const {
    if (n.def().has_trait(kView)) return {};
    AOQ_ASSIGN(const double out, elements(n.output()));
    if (constant_tensor(n.input(1)) != nullptr && !op.needs_reader) return fill_weighted(n, out, op);
    AOQ_ASSIGN(const double in, elements(n.input(0)));
    op.float_cost = kStepMicroseconds + std::max(in, out) / rates_.float_elements / 1000;
    op.int8_cost = kStepMicroseconds + std::max(in, out) / rates_.int8_elements / 1000;
    return {};
  }

  Status fill_weighted(const Node& n, double out, PlacementOp& op) const {
    const std::vector<std::int64_t>& weight = constant_tensor(n.input(1))->shape();
    double per_element = 1;
    if (is_recurrent(n)) {
      // Each step multiplies x and the state by the weights.
      AOQ_ASSIGN(const double in, elements(n.input(0)));
      out = in / static_cast<double>(std::max<std::int64_t>(weight.back(), 1));
      const Tensor& recurrent = *constant_tensor(n.input(2));
      per_element = static_cast<double>(constant_tensor(n.input(1))->element_count() + recurrent.element_count());
    } else {
      for (std::size_t i = 1; i < weight.size(); ++i) per_element *= static_cast<double>(weight[i]);
    }
    const bool is_depthwise =
        n.is(Op::conv) && weight.size() > 2 && weight[1] == 1 && n.attributes().integer("groups") > 1;
    const double macs = out * per_element / 1000;
    op.float_cost = kStepMicroseconds + macs / (is_depthwise ? rates_.float_depthwise : rates_.float_macs);
    op.int8_cost = kStepMicroseconds + macs / (is_depthwise ? rates_.int8_depthwise : rates_.int8_macs);
    return {};
  }

  const Rates& rates_;
  const SymbolValues& sizes_;
};

bool is_clear(const FloatRegion& region) {
  const double saved = region.int8_cost - region.float_cost;
  return saved > kClearMicroseconds && saved > kClearShare * region.int8_cost;
}

// The region of `regions` that has the op.
const FloatRegion* region_of(const std::vector<FloatRegion>& regions, std::size_t op) {
  const auto has = [&](const FloatRegion& r) { return std::find(r.ops.begin(), r.ops.end(), op) != r.ops.end(); };
  const auto found = std::find_if(regions.begin(), regions.end(), has);
  return found == regions.end() ? nullptr : &*found;
}

}  // namespace

Status estimate_costs(const Graph& traced, EstimatedClass machine, PlacementModel& model) {
  const SymbolValues sizes = sizes_for(traced);
  return Estimate(kRates[static_cast<int>(machine)], sizes).fill(model);
}

Result<std::size_t> decline_by_estimate(Graph& traced, const Recipe& recipe, const std::string& cpu_class) {
  AOQ_ASSIGN(PlacementModel model, placement_model(traced, recipe));
  std::vector<EstimatedClass> classes{EstimatedClass::avx2, EstimatedClass::avx512_vnni};
  for (EstimatedClass c : {EstimatedClass::avx2, EstimatedClass::avx512_vnni}) {
    if (cpu_class == kRates[static_cast<int>(c)].name) classes = {c};
  }
  std::vector<PlacementProblem> problems;
  Placement placement(model.ops.size(), false);
  for (EstimatedClass c : classes) {
    // What makes no sense at the sizes that are tried is not guessed about.
    if (!estimate_costs(traced, c, model).ok()) return std::size_t{0};
    problems.push_back(model.problem);
    const Placement best = solve(model.problem);
    for (std::size_t i = 0; i < best.size(); ++i) placement[i] = placement[i] || best[i];
  }
  std::size_t declined = 0;
  std::vector<std::vector<FloatRegion>> regions;
  for (const PlacementProblem& problem : problems) regions.push_back(float_regions(problem, placement));
  for (const FloatRegion& region : regions[0]) {
    const bool all_clear = std::all_of(regions.begin(), regions.end(), [&](const std::vector<FloatRegion>& other) {
      return is_clear(*region_of(other, region.ops[0]));
    });
    if (!all_clear) continue;
    for (std::size_t op : region.ops) {
      if (model.ops[op]->def().has_trait(kView)) continue;
      const std::string where = fmt::format("by an estimate for {}", kRates[static_cast<int>(classes[0])].name);
      decline(model.ops[op], figures(region.int8_cost, region.float_cost, where, "with conversions"));
      ++declined;
    }
  }
  return declined;
}

}  // namespace aoq::tools
