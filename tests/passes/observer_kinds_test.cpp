// Markers, recording, powers of two, PyTorch's types, and kinds that a program registers.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "ir/error_id.h"
#include "passes/quantize/observer.h"

namespace aoq {
namespace {

std::unique_ptr<Observer> make(const ObserverSpec& spec) {
  Result<std::unique_ptr<Observer>> observer = make_observer(spec);
  REQUIRE_MESSAGE(observer.ok(), observer.status().message());
  return std::move(observer).value();
}

std::unique_ptr<Observer> seen(const ObserverSpec& spec, const std::vector<float>& values) {
  std::unique_ptr<Observer> observer = make(spec);
  const auto n = static_cast<std::int64_t>(values.size());
  REQUIRE(observer->observe(Tensor::from_values<float>(DType::f32, {n}, values)->view()).ok());
  return observer;
}

bool says(const Status& status, std::string_view text) {
  return std::string_view(status.message()).find(text) != std::string_view::npos;
}

ObserverSpec read_spec(std::string_view text) {
  Result<ObserverSpec> spec = spec_from_json(*parse_json(text));
  REQUIRE_MESSAGE(spec.ok(), spec.status().message());
  return *spec;
}

TEST_CASE("reuse_input is a marker and says so when it is fed") {
  std::unique_ptr<Observer> marker = make({.kind = "reuse_input"});
  const Status fed = marker->observe(Tensor::from_values<float>(DType::f32, {1}, std::vector<float>{1})->view());
  CHECK(fed.code() == Code::invalid_argument);
  CHECK(says(fed, "shares the observer of its producer's first input"));
  CHECK(!marker->qparams().ok());
}

TEST_CASE("recording keeps every batch in order, saves it, merges it, and has no scale") {
  std::unique_ptr<Observer> recording = make({.kind = "recording"});
  CHECK(!recording->has_data());
  const auto a = *Tensor::from_values<float>(DType::f32, {2, 1}, std::vector<float>{1, -2});
  const auto b = *Tensor::from_values<float>(DType::f32, {1}, std::vector<float>{0.5f});
  CHECK(recording->observe(a.view()).ok());
  CHECK(recording->observe(b.view()).ok());
  const std::vector<ObserverState::Batch> both{{{2, 1}, {1, -2}}, {{1}, {0.5f}}};
  CHECK(recording->state().batches == both);
  CHECK(recording->has_data());
  CHECK(says(recording->qparams().status(), "has no scale"));
  const Json saved = *parse_json(dump_json(observer_to_json(*recording)));
  std::unique_ptr<Observer> copy = observer_from_json(saved).value();
  CHECK(copy->state() == recording->state());
  CHECK(copy->merge(*recording).ok());
  CHECK(copy->state().batches.size() == 4);
  CHECK(copy->state().batches[2] == both[0]);
}

TEST_CASE("recordings whose shape and values disagree are refused") {
  for (const char* shape : {"[3]", "[-1, -2]", "[2, 0]", "[4611686018427387904, 4]", "[2.5]", "2"}) {
    CAPTURE(shape);
    const std::string text = std::string(R"({"spec":{"kind":"recording"},"state":{"batches":[{"shape":)") + shape +
                             R"(,"values":["0x1p0","0x1p1"]}]}})";
    CHECK(observer_from_json(*parse_json(text)).status().code() == Code::invalid_data);
  }
  const char* elsewhere = R"({"spec":{"kind":"min_max"},"state":{"batches":[{"shape":[1],"values":["0x1p0"]}]}})";
  CHECK(says(observer_from_json(*parse_json(elsewhere)).status(), "keeps no batches"));
}

// Range [-1, 3]: affine u8 has the scale 4/255 = 0.0157, between 2^-6 = 0.015625 and 2^-5; zero point round(1 / 2^-5).
TEST_CASE("powers of two: the scale is the next one up, and the zero point follows from it") {
  const std::vector<float> values{-1, 0.25f, 3};
  for (const char* kind : {"min_max", "moving_average_min_max", "affine_min_max"}) {
    CAPTURE(kind);
    ObserverSpec spec{.kind = kind, .power_of_two_scale = true};
    if (spec.kind == "affine_min_max") spec.mapping = MappingType::asymmetric;
    const QParams q = *seen(spec, values)->qparams();
    CHECK(q.scale == std::vector<float>{0x1p-5f});
    CHECK(q.zero_point == std::vector<std::int64_t>{32});
  }
  // 3 / 127.5 = 0.0235.
  const ObserverSpec symmetric{
      .dtype = DType::i8, .qscheme = QScheme::per_tensor_symmetric, .power_of_two_scale = true};
  CHECK(seen(symmetric, values)->qparams()->scale == std::vector<float>{0x1p-5f});
  CHECK(seen(symmetric, values)->qparams()->zero_point == std::vector<std::int64_t>{0});
  // A scale that is one already stays: 255 * 2^-4.
  CHECK(seen({.power_of_two_scale = true}, {0, 255.0f / 16})->qparams()->scale == std::vector<float>{0x1p-4f});
}

TEST_CASE("powers of two: every observer that has a scale gives one") {
  std::vector<float> values;
  for (int i = 0; i < 300; ++i) values.push_back(std::sin(static_cast<float>(i)) * 1.7f + 0.3f);
  for (const ObserverKind& kind : observer_kinds()) {
    if (kind.name.starts_with("test_")) continue;
    CAPTURE(kind.name);
    ObserverSpec spec{.kind = kind.name, .power_of_two_scale = true};
    if (kind.name.find("per_channel") != std::string::npos) spec.qscheme = QScheme::per_channel_affine;
    if (kind.name == "placeholder" || kind.name == "noop" || kind.name == "reuse_input") {
      CHECK(says(make_observer(spec).status(), "power_of_two_scale"));
      continue;
    }
    if (kind.name == "recording") continue;
    const Result<QParams> q = seen(spec, values)->qparams();
    REQUIRE(q.ok());
    int exponent = 0;
    for (float s : q->scale) CHECK(std::frexp(s, &exponent) == 0.5f);
  }
  CHECK(!make_observer({.kind = "fixed_qparams", .scale = 0.3, .power_of_two_scale = true}).ok());
}

TEST_CASE("the new options survive the text form, and old texts have none of them") {
  const ObserverSpec spec{.kind = "min_max", .power_of_two_scale = true, .options = {{"a", "1"}, {"b", ""}}};
  CHECK(*spec_from_json(*parse_json(dump_json(spec_to_json(spec)))) == spec);
  CHECK(dump_json(spec_to_json(ObserverSpec())).find("power_of_two") == std::string::npos);
  for (const char* bad : {R"({"power_of_two_scale":1})", R"({"options":[]})", R"({"options":{"a":1}})"}) {
    CHECK(spec_from_json(*parse_json(bad)).status().code() == Code::invalid_data);
  }
  CHECK(says(make_observer({.options = {{"speed", "7"}}}).status(), "speed"));
}

TEST_CASE("PyTorch's types have PyTorch's ranges") {
  struct Row {
    const char* dtype;
    bool reduced;
    std::int64_t min, max;
  };
  const Row rows[] = {{"quint8", false, 0, 255},
                      {"quint8", true, 0, 127},
                      {"qint8", false, -128, 127},
                      {"torch.qint8", true, -64, 63},
                      {"qint32", false, -2147483648LL, 2147483647},
                      {"qint32", true, -2147483648LL, 2147483647},
                      {"quint4x2", false, 0, 15},
                      {"quint4x2", true, 0, 15},
                      {"int16", true, -32768, 32767},
                      {"uint16", false, 0, 65535}};
  for (const Row& row : rows) {
    CAPTURE(row.dtype);
    ObserverSpec spec = read_spec(std::string(R"({"kind":"min_max","dtype":")") + row.dtype + "\"}");
    spec.reduce_range = row.reduced;
    const QParams q = *seen(spec, {-1, 1})->qparams();
    CHECK(q.range.min == row.min);
    CHECK(q.range.max == row.max);
  }
}

TEST_CASE("half precision has no codes: placeholder and noop carry it, the others refuse it") {
  for (const char* dtype : {"float16", "bfloat16", "float32"}) {
    CAPTURE(dtype);
    ObserverSpec spec = read_spec(std::string(R"({"kind":"placeholder","dtype":")") + dtype + "\"}");
    CHECK(make_observer(spec).ok());
    spec.kind = "noop";
    CHECK(make_observer(spec).ok());
    for (const char* kind : {"min_max", "histogram", "fixed_qparams", "affine_min_max"}) {
      spec.kind = kind;
      spec.quant_min = std::nullopt;
      CHECK(says(make_observer(spec).status(), "no type to quantize to"));
      spec.quant_min = 0;
      spec.quant_max = 15;
      CHECK(says(make_observer(spec).status(), "no type to quantize to"));
    }
  }
}

TEST_CASE("a custom range is halved towards minus infinity, and eps bounds the scale") {
  ObserverSpec spec{.dtype = DType::i8, .reduce_range = true, .quant_min = -127, .quant_max = 127};
  CHECK(seen(spec, {-1, 1})->qparams()->range.min == -64);
  CHECK(seen(spec, {-1, 1})->qparams()->range.max == 63);
  spec = {.eps = 0x1p-12};
  CHECK(seen(spec, {0, 1e-6f})->qparams()->scale == std::vector<float>{0x1p-12f});
  CHECK(seen({}, {0, 0})->qparams()->scale == std::vector<float>{0x1p-23f});
}

Result<std::unique_ptr<Observer>> make_min_max_of(const ObserverSpec& spec) {
  ObserverSpec inner = spec;
  inner.kind = "min_max";
  inner.options.clear();
  return make_observer(inner);
}

TEST_CASE("kinds are registered once, under free names, and unknown ones name the nearest") {
  CHECK(register_observer({"test_once", "a test's", &make_min_max_of}).ok());
  CHECK(says(register_observer({"test_once", "again", &make_min_max_of}), "already"));
  CHECK(says(register_observer({"histogram", "taken", &make_min_max_of}), "already"));
  CHECK(!register_observer({"", "no name", &make_min_max_of}).ok());
  CHECK(!register_observer({"test_nothing", "no maker"}).ok());
  CHECK(make_observer({.kind = "test_once"}).ok());
  const Status unknown = make_observer({.kind = "test_onec"}).status();
  CHECK(says(unknown, "did you mean \"test_once\""));
  const bool is_numbered = unknown.id() == ErrorId::observer_unknown;
  CHECK(is_numbered);
  CHECK(says(make_observer({.kind = "histogramm"}).status(), "did you mean \"histogram\""));
  CHECK(check_observer_kind("histogram").ok());
}

TEST_CASE("threads may register and make observers at the same time") {
  std::atomic<int> registered{0}, made{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        // Every name twice: one of the two threads gets it.
        const std::string name = "test_race_" + std::to_string(t / 2) + "_" + std::to_string(i);
        registered += register_observer({name, "", &make_min_max_of}).ok();
        made += make_observer({.kind = name}).ok();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(registered == 100);
  CHECK(made == 200);
}

}  // namespace
}  // namespace aoq
