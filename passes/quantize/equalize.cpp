#include "passes/quantize/equalize.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "passes/rewrite/common.h"

namespace aoq {

namespace {

using namespace rewrite;

// Factors are 2^(step / 4); a step is one letter of the metadata, '?' for none, up to 24 letters before and behind it.
constexpr int kStepsPerOctave = 4;
constexpr int kMaxSteps = 24;
constexpr char kNoStep = '?';
constexpr const char* kMetadata = "aoq.equalized ";

// How much of the spread the activations lose; the weights behind take it. Depthwise weights have a scale per channel.
constexpr double kShareDense = 0.7;
constexpr double kShareDepthwise = 1.0;

float factor_of(int step) {
  constexpr double kRoots[] = {1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429};
  int octave = step >= 0 ? step / kStepsPerOctave : -((-step + kStepsPerOctave - 1) / kStepsPerOctave);
  return static_cast<float>(std::ldexp(kRoots[step - octave * kStepsPerOctave], octave));
}

bool is_anchor(const Node& n) {
  return is_one_of(n, {Op::conv, Op::linear}) && n.requested == "int8" && n.reason.empty();
}

// The value behind an observer.
const Value* observed(const Value* v) {
  return v != nullptr && v->def()->is(Op::observe) ? v->def()->input(0) : v;
}

struct WeightShape {
  std::size_t out, in, spatial, groups;  // in: of one group
  explicit WeightShape(const Node& n) {
    const std::vector<std::int64_t>& shape = constant_tensor(n.input(1))->shape();
    out = static_cast<std::size_t>(shape[0]);
    in = static_cast<std::size_t>(shape[1]);
    spatial = 1;
    for (std::size_t d = 2; d < shape.size(); ++d) spatial *= static_cast<std::size_t>(shape[d]);
    groups = n.is(Op::conv) ? static_cast<std::size_t>(n.attributes().integer("groups")) : 1;
  }
  std::size_t channels() const { return in * groups; }
  // The channel of the input that weight [o, i] multiplies.
  std::size_t channel(std::size_t o, std::size_t i) const { return o / (out / groups) * in + i; }
};

struct Member {
  Node* producer = nullptr;
  std::string observer;
  std::vector<std::string> statistics;  // names in Ranges::channels
};

// Values that must have the same factors.
struct Group {
  std::vector<Member> members;
  std::vector<Node*> readers;  // as the first operand
  bool is_usable = true;
};

class Equalizer {
 public:
  Equalizer(Graph& graph, const Recipe& recipe, const Ranges& ranges) : graph_(graph), recipe_(recipe) {
    result_.channels = ranges.channels;
  }

  Result<Equalization> run() {
    for (const Node* n : graph_.nodes()) {
      if (n->is(Op::observe)) ++observer_uses_[n->attributes().string("observer")];
    }
    for (Node* n : graph_.nodes()) {
      if (is_anchor(*n) && n->input(3) != nullptr) unite(n->output(), observed(n->input(3)));
    }
    for (Node* n : graph_.nodes()) {
      if (is_anchor(*n)) add_value(n);
    }
    // In the graph's order, so that the same graph gives the same weights.
    for (const Value* root : order_) {
      Group& group = groups_[root];
      if (group.is_usable) apply(group);
    }
    for (Node* n : graph_.nodes()) replace_constants(n);
    return std::move(result_);
  }

 private:
  const Value* root(const Value* v) {
    for (auto it = parent_.find(v); it != parent_.end(); it = parent_.find(v)) v = it->second;
    return v;
  }
  void unite(const Value* a, const Value* b) {
    if (root(a) != root(b)) parent_[root(b)] = root(a);
  }

  void add_value(Node* producer) {
    const Value* v = producer->output();
    auto [it, is_new] = groups_.try_emplace(root(v));
    Group& group = it->second;
    if (is_new) order_.push_back(it->first);
    Member member{.producer = producer, .observer = {}, .statistics = {}};
    bool is_fine = is_homogeneous(*producer) && has_scale_per_channel(*producer);
    // A residual that no weighted op makes has no weights to change.
    if (producer->input(3) != nullptr) is_fine = is_fine && is_anchor(*observed(producer->input(3))->def());
    for (const Use& use : v->uses()) {
      if (!use.user->is(Op::observe)) {
        is_fine = add_reader(use, group, member) && is_fine;
        continue;
      }
      member.observer = use.user->attributes().string("observer");
      for (const Use& behind : use.user->output()->uses()) is_fine = add_reader(behind, group, member) && is_fine;
    }
    is_fine = is_fine && observer_uses_[member.observer] == 1 && scale_follows_range(*v);
    group.is_usable = group.is_usable && is_fine;
    group.members.push_back(std::move(member));
  }

  bool add_reader(const Use& use, Group& group, Member& member) {
    // A convolution and a linear layer have their channels on different axes.
    if (!is_anchor(*use.user) || use.user->op() != member.producer->op()) return false;
    if (use.operand == 3) {
      member.statistics.push_back(channels_of_residual(*use.user));
      return true;
    }
    if (use.operand != 0) return false;
    member.statistics.push_back(channels_of_input(*use.user));
    group.readers.push_back(use.user);
    return has_scale_per_channel(*use.user);
  }

  bool has_scale_per_channel(const Node& n) const {
    QConfigMatch match = match_qconfig(recipe_, n);
    return match.qconfig != nullptr && is_per_channel(match.qconfig->weight.qscheme);
  }

  // Where another rule gives the scale, a range says nothing about it.
  static bool scale_follows_range(const Value& v) {
    constexpr std::string_view kKinds[] = {
        "min_max", "moving_average_min_max", "histogram", "affine_min_max", "affine_mse", "percentile", "entropy",
        "mse"};
    for (const Use& use : v.uses()) {
      if (!use.user->is(Op::observe)) continue;
      Result<ObserverSpec> spec = parse_observer_spec(use.user->attributes().string("spec"));
      if (!spec.ok() || std::find(std::begin(kKinds), std::end(kKinds), spec->kind) == std::end(kKinds)) return false;
    }
    return true;
  }

  static bool is_clamp(const Node& n) { return n.attributes().string("activation") == "clamp"; }
  static bool is_homogeneous(const Node& n) {
    const std::string& activation = n.attributes().string("activation");
    return activation == "none" || activation == "relu" || (is_clamp(n) && n.attributes().real("activation_min") == 0);
  }

  // What was recorded of a value; all of its readers saw the same.
  const ChannelStatistics* statistics_of(const Member& member, std::size_t channels) const {
    auto it = member.statistics.empty() ? result_.channels.end() : result_.channels.find(member.statistics[0]);
    return it != result_.channels.end() && it->second.min.size() == channels ? &it->second : nullptr;
  }

  // The largest magnitude of each channel in the whole group; empty where it was not recorded.
  std::vector<double> sizes_of(const Group& group, std::size_t channels) const {
    std::vector<double> sizes(channels);
    for (const Member& member : group.members) {
      const ChannelStatistics* s = statistics_of(member, channels);
      if (s == nullptr) return {};
      for (std::size_t c = 0; c < channels; ++c) {
        sizes[c] =
            std::max({sizes[c], std::abs(static_cast<double>(s->min[c])), std::abs(static_cast<double>(s->max[c]))});
      }
    }
    return sizes;
  }

  // By channel, the largest weight behind it in proportion to the largest of its row, which the scale is made for.
  std::vector<double> weight_shares(const Group& group, std::size_t channels) {
    std::vector<double> shares(channels, 0.0);
    for (Node* n : group.readers) {
      WeightShape shape(*n);
      std::span<const float> w = weight(n).as<float>();
      std::size_t row = shape.in * shape.spatial;
      for (std::size_t o = 0; o < shape.out; ++o) {
        std::span<const float> values = w.subspan(o * row, row);
        auto largest = [](std::span<const float> list) {
          double most = 0;
          for (float v : list) most = std::max(most, std::abs(static_cast<double>(v)));
          return most;
        };
        double of_row = largest(values);
        if (of_row == 0) continue;
        for (std::size_t i = 0; i < shape.in; ++i) {
          double share = largest(values.subspan(i * shape.spatial, shape.spatial)) / of_row;
          std::size_t c = shape.channel(o, i);
          shares[c] = std::max(shares[c], share);
        }
      }
    }
    return shares;
  }

  std::vector<int> steps_of(const Group& group, const std::vector<double>& size) {
    std::size_t channels = size.size();
    bool is_depthwise =
        std::all_of(group.readers.begin(), group.readers.end(), [](const Node* n) { return WeightShape(*n).in == 1; });
    bool has_clamp =
        std::any_of(group.members.begin(), group.members.end(), [](const Member& m) { return is_clamp(*m.producer); });
    if (has_clamp && !is_depthwise) return std::vector<int>(channels, 0);
    double share = is_depthwise ? kShareDepthwise : kShareDense;
    std::vector<double> shares = weight_shares(group, channels);
    auto wanted = [&](std::size_t c) { return std::pow(shares[c], 1 - share) / std::pow(size[c], share); };
    auto largest = static_cast<std::size_t>(std::max_element(size.begin(), size.end()) - size.begin());
    std::vector<int> steps(channels, 0);
    if (size[largest] == 0 || shares[largest] == 0) return steps;
    for (std::size_t c = 0; c < channels; ++c) {
      if (size[c] == 0 || shares[c] == 0) continue;
      double factor = wanted(c) / wanted(largest);
      if (has_clamp) factor = std::clamp(factor, 1.0, size[largest] / size[c]);
      double step = std::floor(std::log2(factor) * kStepsPerOctave + 1e-6);
      steps[c] = static_cast<int>(std::clamp<double>(step, -kMaxSteps, kMaxSteps));
    }
    return steps;
  }

  void apply(const Group& group) {
    std::size_t channels = WeightShape(*group.members[0].producer).out;
    bool fits = !group.readers.empty();
    for (const Member& m : group.members) fits = fits && WeightShape(*m.producer).out == channels;
    for (const Node* n : group.readers) fits = fits && WeightShape(*n).channels() == channels;
    std::vector<double> sizes = fits ? sizes_of(group, channels) : std::vector<double>();
    if (sizes.empty()) return;
    std::vector<int> steps = steps_of(group, sizes);
    if (std::all_of(steps.begin(), steps.end(), [](int s) { return s == 0; })) return;
    std::vector<float> factors;
    std::string letters;
    for (int s : steps) {
      factors.push_back(factor_of(s));
      letters += static_cast<char>(kNoStep + s);
    }
    for (const Member& member : group.members) {
      scale_rows(member.producer, factors);
      graph_.metadata[kMetadata + member.producer->label()] = letters;
      for (const std::string& name : std::set<std::string>(member.statistics.begin(), member.statistics.end())) {
        scale(factors, &result_.channels[name]);
      }
      const ChannelStatistics& s = *statistics_of(member, channels);
      result_.ranges[member.observer] = {std::min(0.0f, *std::min_element(s.min.begin(), s.min.end())),
                                         std::max(0.0f, *std::max_element(s.max.begin(), s.max.end()))};
    }
    for (Node* n : group.readers) scale_columns(n, factors);
  }

  static void scale(const std::vector<float>& factors, ChannelStatistics* s) {
    for (std::size_t c = 0; c < factors.size() && c < s->sum.size(); ++c) {
      s->sum[c] *= static_cast<double>(factors[c]);
      s->min[c] *= factors[c];
      s->max[c] *= factors[c];
    }
  }

  void replace_constants(Node* n) {
    for (auto& [changed, operand] : {std::pair{&weights_, 1}, std::pair{&biases_, 2}}) {
      auto it = changed->find(n);
      if (it == changed->end()) continue;
      auto i = static_cast<std::size_t>(operand);
      graph_.set_input(n, i, graph_.constant(it->second, n, n->input(i)->def()->label()));
    }
  }

  Tensor& weight(Node* n) { return weights_.try_emplace(n, *constant_tensor(n->input(1))).first->second; }

  void scale_rows(Node* n, const std::vector<float>& factors) {
    std::span<float> w = weight(n).mutable_as<float>();
    std::size_t row = w.size() / factors.size();
    for (std::size_t i = 0; i < w.size(); ++i) w[i] *= factors[i / row];
    if (n->input(2) == nullptr) return;
    Tensor& bias = biases_.try_emplace(n, *constant_tensor(n->input(2))).first->second;
    std::span<float> b = bias.mutable_as<float>();
    for (std::size_t i = 0; i < b.size(); ++i) b[i] *= factors[i];
  }

  void scale_columns(Node* n, const std::vector<float>& factors) {
    WeightShape shape(*n);
    std::span<float> w = weight(n).mutable_as<float>();
    for (std::size_t o = 0; o < shape.out; ++o) {
      for (std::size_t i = 0; i < shape.in; ++i) {
        float factor = factors[shape.channel(o, i)];
        for (std::size_t k = 0; k < shape.spatial; ++k) w[(o * shape.in + i) * shape.spatial + k] /= factor;
      }
    }
  }

  Graph& graph_;
  const Recipe& recipe_;
  Equalization result_;
  std::map<std::string, int> observer_uses_;
  std::unordered_map<const Value*, const Value*> parent_;
  std::unordered_map<const Value*, Group> groups_;
  std::vector<const Value*> order_;
  std::unordered_map<Node*, Tensor> weights_, biases_;
};

}  // namespace

Result<Equalization> equalize(Graph& graph, const Recipe& recipe, const Ranges& ranges) {
  return Equalizer(graph, recipe, ranges).run();
}

bool holds_channel_factors(std::string_view metadata_key) {
  return metadata_key.starts_with(kMetadata);
}

std::vector<float> channel_factors(const Graph& graph, const Node& node) {
  auto it = graph.metadata.find(kMetadata + node.label());
  std::vector<float> factors;
  if (it == graph.metadata.end()) return factors;
  for (char letter : it->second) factors.push_back(factor_of(std::clamp(letter - kNoStep, -kMaxSteps, kMaxSteps)));
  return factors;
}

}  // namespace aoq
