#include "tools/step_costs.h"

#include <algorithm>

namespace aoq::tools {

namespace {

// One quantize and one dequantize for every size.
Result<Graph> conversion_graph(const std::set<std::int64_t>& sizes) {
  Graph graph;
  std::vector<Value*> results;
  std::vector<std::string> names;
  for (std::int64_t size : sizes) {
    names.push_back(std::to_string(size));
    Value* x = graph.input("x" + names.back(), Type{DType::f32, {size}, std::nullopt});
    const Attributes scale{{"scale", 0.0078125}, {"zero_point", std::int64_t{128}}};
    Attributes to_codes = scale;
    to_codes.set("dtype", DType::u8);
    AOQ_ASSIGN(Node * q, graph.create(Op::quantize, {x}, std::move(to_codes)));
    AOQ_ASSIGN(Node * dq, graph.create(Op::dequantize, {q->output()}, scale));
    q->origins = dq->origins = {names.back()};
    results.push_back(dq->output());
  }
  AOQ_TRY(graph.output(std::move(results), std::move(names)));
  graph.stage = Stage::lowered;
  return graph;
}

// Sums by label, shared evenly by the nodes that have it.
class Sums {
 public:
  void add(const std::string& label, double us) { sums_[label] += us; }
  void share(const std::string& label) { ++shares_[label]; }
  double of(const std::string& label) const {
    const auto sum = sums_.find(label);
    const auto shares = shares_.find(label);
    return sum == sums_.end() || shares == shares_.end() ? 0 : sum->second / shares->second;
  }
  bool has(const std::string& label) const { return sums_.contains(label); }

 private:
  std::map<std::string, double> sums_;
  std::map<std::string, int> shares_;
};

bool is_made_in_float(const PlacementValue& v) {
  return v.made_by == kFloatMade;
}

}  // namespace

bool is_conversion(const std::string& op) {
  return op == "quantize" || op == "dequantize" || op == "choose_qparams";
}

Result<MeasuredConversions> measure_conversions(const std::set<std::int64_t>& sizes, const ModelOptions& options,
                                                double seconds, const Console& console) {
  MeasuredConversions out;
  if (sizes.empty()) return out;
  AOQ_ASSIGN(const Graph graph, conversion_graph(sizes));
  std::vector<Tensor> inputs;
  for (std::int64_t size : sizes) {
    AOQ_ASSIGN(Tensor t, Tensor::make(DType::f32, {size}));
    std::fill(t.mutable_as<float>().begin(), t.mutable_as<float>().end(), 0.5f);
    inputs.push_back(std::move(t));
  }
  AOQ_ASSIGN(std::unique_ptr<TimedGraph> timed, TimedGraph::make(graph, options, inputs));
  TimedGraph* const graphs[] = {timed.get()};
  AOQ_TRY(take_turns({graphs, inputs, true, seconds, "conversions"}, console).status());
  for (std::size_t s = 0; s < timed->steps().size(); ++s) {
    const std::int64_t size = std::stoll(timed->steps()[s].label);
    std::pair<double, double>& cost = out.by_elements[size];
    (timed->steps()[s].op == "quantize" ? cost.first : cost.second) = median(timed->step_times(s));
  }
  return out;
}

void fill_costs(std::span<const MeasuredStep> in_float, std::span<const MeasuredStep> in_int8,
                const MeasuredConversions& conversions, PlacementModel& model) {
  Sums floats, codes, quantizes, dequantizes;
  for (const MeasuredStep& s : in_float) floats.add(s.label, s.us);
  for (const MeasuredStep& s : in_int8) {
    (!is_conversion(s.op) ? codes : s.op == "dequantize" ? dequantizes : quantizes).add(s.label, s.us);
  }
  for (const Node* n : model.ops) {
    floats.share(n->label());
    codes.share(n->label());
  }
  for (std::size_t i = 0; i < model.ops.size(); ++i) {
    model.problem.ops[i].float_cost = floats.of(model.ops[i]->label());
    model.problem.ops[i].int8_cost = codes.of(model.ops[i]->label());
  }
  for (std::size_t i = 0; i < model.values.size(); ++i) {
    const PlacementValue& v = model.problem.values[i];
    (is_made_in_float(v) ? quantizes : dequantizes).share(model.values[i].observer);
  }
  for (std::size_t i = 0; i < model.values.size(); ++i) {
    PlacementValue& v = model.problem.values[i];
    const PlacedValue& placed = model.values[i];
    const auto measured = conversions.by_elements.find(placed.elements);
    const auto [quantize, dequantize] =
        measured == conversions.by_elements.end() ? std::pair<double, double>() : measured->second;
    const bool is_quantized = is_made_in_float(v) && quantizes.has(placed.observer);
    v.quantize_cost = is_quantized ? quantizes.of(placed.observer) : quantize;
    const bool is_dequantized = !is_made_in_float(v) && v.is_read_in_float && dequantizes.has(placed.observer);
    // Weighted ops write floats themselves where nobody reads codes.
    const bool writes_floats = v.read_by.empty();
    v.dequantize_cost = writes_floats ? 0 : is_dequantized ? dequantizes.of(placed.observer) : dequantize;
  }
}

}  // namespace aoq::tools
