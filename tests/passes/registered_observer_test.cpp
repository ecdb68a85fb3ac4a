// An observer of the program's own in recipes, calibration, ranges files and conversion.
#include "tests/passes/quantize_support.h"

namespace aoq {
namespace {

// Scale = (largest magnitude) * option "factor" / 127; keeps the magnitude under a name of its own.
class PeakObserver final : public Observer {
 public:
  PeakObserver(ObserverSpec spec, float factor) : Observer(std::move(spec)), factor_(factor) {}

  Status observe(const TensorView& x) override {
    AOQ_ASSIGN(const std::span<const float> values, observers::f32_elements(x));
    std::vector<float>& peak = state_.values["peak"];
    for (float v : values) {
      if (peak.empty()) peak = {0};
      peak[0] = std::max(peak[0], std::fabs(v));
    }
    return {};
  }

  Result<QParams> qparams() const override {
    QParams q;
    q.scale = {state_.values.at("peak")[0] * factor_ / 127.0f};
    q.zero_point = {0};
    q.dtype = DType::i8;
    q.range = {-128, 127};
    return q;
  }

 protected:
  Status merge_state(const ObserverState& other) override {
    float& peak = state_.values["peak"][0];
    peak = std::max(peak, other.values.at("peak")[0]);
    return {};
  }
  Status check_state(const ObserverState& state) const override {
    const auto peak = state.values.find("peak");
    if (peak != state.values.end() && peak->second.size() == 1 && state.values.size() == 1) return {};
    return error(Code::invalid_data, "acme_peak keeps one peak");
  }

 private:
  const float factor_;
};

Result<std::unique_ptr<Observer>> make_peak(const ObserverSpec& spec) {
  const auto factor = spec.options.find("factor");
  if (factor == spec.options.end()) return error(Code::invalid_argument, "the option \"factor\" is missing");
  return std::unique_ptr<Observer>(new PeakObserver(spec, std::stof(factor->second)));
}

constexpr const char* kRecipe = R"({"mode": "static", "bias_correction": false, "global": {
  "activation": {"kind": "acme_peak", "dtype": "qint8", "options": {"factor": "2"}},
  "weight": {"kind": "per_channel_min_max", "dtype": "qint8", "qscheme": "per_channel_symmetric"}}})";

TEST_CASE("a recipe may not name a kind before it is registered; then it goes all the way") {
  const Status unknown = parse_recipe(kRecipe).status();
  const bool is_numbered = unknown.id() == ErrorId::observer_unknown;
  CHECK(is_numbered);
  CHECK(says(unknown, "acme_peak"));
  CHECK(says(unknown, "global"));
  REQUIRE(register_observer({"acme_peak", "the largest magnitude", &make_peak}).ok());

  Workflow w{recipe_of(kRecipe)};
  REQUIRE(w.run(Stage::quantized).ok());
  const Node* x = node_named(w.graph, Op::quantize, "x");
  REQUIRE(x != nullptr);
  // The largest magnitude of x is 2.
  CHECK(x->attributes().real("scale") == static_cast<double>(2.0f * 2.0f / 127.0f));
  CHECK(x->attributes().dtype("dtype") == DType::i8);

  // The same scales from the saved ranges.
  Result<Ranges> saved = Ranges::from_json(w.ranges.to_json());
  REQUIRE_MESSAGE(saved.ok(), saved.status().message());
  CHECK(saved->observers.at("x")->state().values.at("peak") == std::vector<float>{2});
  Workflow again{recipe_of(kRecipe)};
  again.ranges = std::move(*saved);
  REQUIRE(again.run(Stage::quantized, nullptr).ok());
  CHECK(print_text(again.graph).text == print_text(w.graph).text);
  CHECK(again.ranges.merge(w.ranges).ok());
}

TEST_CASE("the options of a registered kind are its maker's to check") {
  std::string text = kRecipe;
  text.replace(text.find("factor"), 6, "fakter");
  CHECK(says(parse_recipe(text).status(), "the option \"factor\" is missing"));
}

TEST_CASE("what a registered observer gives must fit an activation") {
  struct Odd : Observer {
    using Observer::Observer;
    Status observe(const TensorView&) override {
      state_.values["n"] = {1};
      return {};
    }
    Result<QParams> qparams() const override {
      QParams q;
      q.scale = {1, 2};
      q.zero_point = {0, 0};
      return q;
    }
    Status merge_state(const ObserverState&) override { return {}; }
  };
  REQUIRE(register_observer({"acme_odd", "two scales",
                             [](const ObserverSpec& spec) {
                               return Result<std::unique_ptr<Observer>>(std::unique_ptr<Observer>(new Odd(spec)));
                             }})
              .ok());
  Workflow w{default_recipe()};
  w.recipe.global->activation = {.kind = "acme_odd"};
  const Status status = w.run();
  const bool is_numbered = status.id() == ErrorId::qconfig_unsupported;
  CHECK(is_numbered);
  CHECK(says(status, "2 scales"));
  CHECK(says(status, "observer \"x\""));
}

}  // namespace
}  // namespace aoq
