#include "passes/quantize/observer.h"
#include "passes/quantize/primitives.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "passes/quantize/qparams.h"

namespace aoq {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

ObserverSpec spec_of(std::string_view kind) {
  ObserverSpec spec;
  spec.kind = kind;
  if (kind.find("per_channel") != kind.npos) spec.qscheme = QScheme::per_channel_affine;
  return spec;
}

std::unique_ptr<Observer> make(const ObserverSpec& spec) {
  Result<std::unique_ptr<Observer>> observer = make_observer(spec);
  REQUIRE(observer.ok());
  return std::move(observer).value();
}

std::unique_ptr<Observer> make(std::string_view kind) {
  return make(spec_of(kind));
}

Tensor tensor_of(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return Tensor::from_values<float>(DType::f32, std::move(shape), values).value();
}

Tensor random_tensor(unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(4 * 50);
  for (float& v : values) v = normal(random);
  return tensor_of({4, 50}, values);
}

bool equal(const ObserverState& a, const ObserverState& b) {
  return a == b;
}

TEST_CASE("every kind survives being saved, before and after data") {
  for (const ObserverKind& kind : observer_kinds()) {
    CAPTURE(kind.name);
    std::unique_ptr<Observer> observer = make(kind.name);
    for (unsigned batch = 0; batch < 3; ++batch) {
      Result<Json> text = parse_json(dump_json(observer_to_json(*observer)));
      REQUIRE(text.ok());
      Result<std::unique_ptr<Observer>> copy = observer_from_json(*text);
      REQUIRE(copy.ok());
      CHECK((*copy)->spec() == observer->spec());
      CHECK(equal((*copy)->state(), observer->state()));
      const Tensor x = random_tensor(batch, 1.0f + static_cast<float>(batch));
      const bool observes = kind.name != "reuse_input";
      CHECK((*copy)->observe(x.view()).ok() == observes);
      CHECK(observer->observe(x.view()).ok() == observes);
      CHECK(equal((*copy)->state(), observer->state()));
    }
  }
}

TEST_CASE("without data the scale is 1, and empty batches are no data") {
  for (const char* kind :
       {"min_max", "moving_average_min_max", "per_channel_min_max", "histogram", "percentile", "mse"}) {
    CAPTURE(kind);
    std::unique_ptr<Observer> observer = make(kind);
    CHECK(observer->observe(tensor_of({0, 3}, {}).view()).ok());
    Result<QParams> q = observer->qparams();
    REQUIRE(q.ok());
    CHECK(q->scale == std::vector<float>{1.0f});
    CHECK(q->zero_point == std::vector<std::int64_t>{0});
  }
  for (const char* kind : {"placeholder", "noop"}) CHECK(!make(kind)->qparams().ok());
}

TEST_CASE("NaN reaches the state of min-max observers and fails their qparams") {
  for (const char* kind : {"min_max", "moving_average_min_max", "per_channel_min_max"}) {
    CAPTURE(kind);
    std::unique_ptr<Observer> observer = make(kind);
    CHECK(observer->observe(tensor_of({1, 3}, {1, kNan, 2}).view()).ok());
    CHECK(observer->observe(tensor_of({1, 3}, {1, 5, 2}).view()).ok());
    CHECK(std::isnan(observer->state().min[0]));
    CHECK(observer->qparams().status().code() == Code::invalid_data);
  }
  CHECK(make("histogram")->observe(tensor_of({2}, {1, kNan}).view()).code() == Code::invalid_data);
}

TEST_CASE("histograms drop infinities, min-max observers keep them") {
  std::unique_ptr<Observer> histogram = make("histogram");
  CHECK(histogram->observe(tensor_of({2}, {kInfinity, -kInfinity}).view()).ok());
  CHECK(histogram->state().min.empty());
  CHECK(histogram->observe(tensor_of({4}, {kInfinity, 1, 3, -kInfinity}).view()).ok());
  CHECK(histogram->state().min == std::vector<float>{1});
  CHECK(histogram->state().max == std::vector<float>{3});
  std::unique_ptr<Observer> min_max = make("min_max");
  CHECK(min_max->observe(tensor_of({2}, {kInfinity, 1}).view()).ok());
  CHECK(min_max->state().max == std::vector<float>{kInfinity});
}

TEST_CASE("merging min-max observers equals seeing all batches") {
  for (const char* kind : {"min_max", "per_channel_min_max", "affine_min_max"}) {
    CAPTURE(kind);
    std::unique_ptr<Observer> all = make(kind), a = make(kind), b = make(kind), none = make(kind);
    for (unsigned i = 0; i < 4; ++i) {
      const Tensor x = random_tensor(i, 1.0f + static_cast<float>(i % 3));
      CHECK(all->observe(x.view()).ok());
      CHECK((i < 2 ? a : b)->observe(x.view()).ok());
    }
    CHECK(a->merge(*b).ok());
    CHECK(a->merge(*none).ok());
    CHECK(equal(a->state(), all->state()));
    CHECK(none->merge(*b).ok());
    CHECK(equal(none->state(), b->state()));
  }
}

TEST_CASE("merging histograms of one range adds them, of two ranges loses no count") {
  std::unique_ptr<Observer> all = make("histogram"), a = make("histogram"), b = make("histogram");
  const Tensor x = tensor_of({4}, {-2, -1, 1, 2}), wide = tensor_of({3}, {-5, 0, 9});
  CHECK(a->observe(x.view()).ok());
  CHECK(b->observe(x.view()).ok());
  CHECK(a->merge(*b).ok());
  CHECK(all->observe(x.view()).ok());
  CHECK(all->observe(x.view()).ok());
  CHECK(equal(a->state(), all->state()));
  std::unique_ptr<Observer> c = make("histogram");
  CHECK(c->observe(wide.view()).ok());
  CHECK(c->merge(*a).ok());
  CHECK(c->state().min == std::vector<float>{-5});
  CHECK(c->state().max == std::vector<float>{9});
  double total = 0;
  for (float count : c->state().histogram) total += count;
  CHECK(total == 11);
}

TEST_CASE("what cannot be merged says so") {
  for (const char* kind : {"moving_average_min_max", "moving_average_per_channel_min_max", "affine_mse"}) {
    std::unique_ptr<Observer> a = make(kind), b = make(kind);
    CHECK(a->merge(*b).code() == Code::unsupported);
  }
  ObserverSpec other = spec_of("min_max");
  other.dtype = DType::i8;
  CHECK(make("min_max")->merge(*make(other)).code() == Code::invalid_argument);
}

TEST_CASE("options that do not go together are refused") {
  ObserverSpec spec = spec_of("none_such");
  CHECK(make_observer(spec).status().code() == Code::not_found);
  spec = spec_of("min_max");
  spec.qscheme = QScheme::per_tensor_symmetric;
  spec.reduce_range = true;
  CHECK(make_observer(spec).status().code() == Code::invalid_argument);
  spec = spec_of("min_max");
  spec.qscheme = QScheme::per_channel_affine;
  CHECK(!make_observer(spec).ok());
  spec = spec_of("min_max");
  spec.quant_min = 3;
  spec.quant_max = 9;
  CHECK(!make_observer(spec).ok());
  spec.quant_min = 9;
  CHECK(!make_observer(spec).ok());
  spec = spec_of("histogram");
  for (int bins : {-1, 0, 1, 1 << 30}) {
    spec.bins = bins;
    CHECK(!make_observer(spec).ok());
  }
  spec = spec_of("affine_min_max");
  spec.mapping = MappingType::symmetric_no_clipping_error;
  CHECK(!make_observer(spec).ok());
  spec = spec_of("percentile");
  spec.percentile = 0;
  CHECK(!make_observer(spec).ok());
  spec = spec_of("min_max");
  spec.eps = 0;
  CHECK(!make_observer(spec).ok());
}

TEST_CASE("channels may not change in number, and an axis must exist") {
  std::unique_ptr<Observer> observer = make("per_channel_min_max");
  CHECK(observer->observe(tensor_of({2, 2}, {1, 2, 3, 4}).view()).ok());
  CHECK(observer->observe(tensor_of({4, 1}, {1, 2, 3, 4}).view()).code() == Code::invalid_data);
  ObserverSpec spec = spec_of("per_channel_min_max");
  spec.ch_axis = 2;
  CHECK(make(spec)->observe(tensor_of({2, 2}, {1, 2, 3, 4}).view()).code() == Code::invalid_argument);
}

TEST_CASE("states that no observer could have are refused") {
  const std::array<const char*, 6> bad{
      R"({"spec":{"kind":"min_max"},"state":{"min":["0x1p0"],"max":[]}})",
      R"({"spec":{"kind":"min_max"},"state":{"min":["0x1p0","0x1p0"],"max":["0x1p0","0x1p0"]}})",
      R"({"spec":{"kind":"min_max"},"state":{"min":[1],"max":[1]}})",
      R"({"spec":{"kind":"histogram"},"state":{"min":["0x1p0"],"max":["0x1p1"],"histogram":["0x1p0"]}})",
      R"({"spec":{"kind":"min_max","surprise":1},"state":{}})",
      R"({"spec":{"kind":"min_max"}})",
  };
  for (const char* text : bad) {
    CAPTURE(text);
    CHECK(observer_from_json(*parse_json(text)).status().code() == Code::invalid_data);
  }
}

// 10,000 values of a unit normal and one far away.
Tensor outlier() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> values(10000);
  for (float& v : values) v = normal(random);
  values.push_back(80.0f);
  return tensor_of({10001}, values);
}

TEST_CASE("our own observers cut off an outlier that min-max keeps") {
  const Tensor x = outlier();
  for (const char* kind : {"percentile", "entropy", "mse"}) {
    CAPTURE(kind);
    ObserverSpec spec = spec_of(kind);
    spec.dtype = DType::i8;
    spec.qscheme = QScheme::per_tensor_symmetric;
    spec.percentile = 99.9;
    spec.quant_min = kind == std::string_view("mse") ? std::optional<std::int64_t>(-8) : std::nullopt;
    spec.quant_max = kind == std::string_view("mse") ? std::optional<std::int64_t>(7) : std::nullopt;
    std::unique_ptr<Observer> observer = make(spec);
    CHECK(observer->observe(x.view()).ok());
    spec.kind = "min_max";
    std::unique_ptr<Observer> min_max = make(spec);
    CHECK(min_max->observe(x.view()).ok());
    CHECK(observer->qparams()->scale[0] < 0.9f * min_max->qparams()->scale[0]);
    CHECK(observer->qparams()->scale[0] > 0.01f * min_max->qparams()->scale[0]);
  }
}

TEST_CASE("our own observers give finite scales on degenerate data") {
  const std::vector<Tensor> inputs{tensor_of({1}, {0}), tensor_of({3}, {2, 2, 2}), tensor_of({2}, {-1e-38f, 1e-38f}),
                                   tensor_of({2}, {-3e38f, 3e38f}), tensor_of({2}, {0, 1})};
  for (const char* kind : {"percentile", "entropy", "mse", "histogram"}) {
    for (const Tensor& x : inputs) {
      CAPTURE(kind);
      CAPTURE(x.as<float>()[0]);
      std::unique_ptr<Observer> observer = make(kind);
      CHECK(observer->observe(x.view()).ok());
      CHECK(observer->observe(x.view()).ok());
      Result<QParams> q = observer->qparams();
      const bool is_typed = q.ok() ? q->scale[0] > 0 : q.status().code() == Code::invalid_data;
      CHECK(is_typed);
    }
  }
}

TEST_CASE("choose_quantization_params: sparsity and powers of two") {
  ChooseQuantizationOptions options;
  options.range = {-128, 127};
  options.preserve_sparsity = true;
  CHECK(choose_quantization_params(-1.0f, 3.0f, options).zero_point == 0);
  options.preserve_sparsity = false;
  options.force_power_of_two = true;
  CHECK(choose_quantization_params(-1.0f, 3.0f, options).scale == 1.0 / 32);
  CHECK(choose_quantization_params(-1000.0f, 3000.0f, options).scale == 16.0);
  options = {};
  const TensorQParams tiny = choose_quantization_params(0.0f, 1e-6f, options);
  CHECK(tiny.scale == static_cast<double>(6.1e-5f));
  CHECK(tiny.zero_point == 0);
}

TEST_CASE("granularities read back as written") {
  for (const char* text :
       {"PerTensor", "PerAxis(1)", "PerGroup(32)", "PerRow", "PerToken", "PerRow(0)", "PerBlock(128, 64)"}) {
    Result<Granularity> g = parse_granularity(text);
    REQUIRE(g.ok());
    CHECK(to_string(*g) == text);
  }
  for (const char* text : {"", "PerAxis", "PerAxis()", "PerAxis(1", "PerAxis(1) ", "Per", "PerGroup(x)", "PerBlock(2)",
                           "PerBlock(2, 3", "PerBlock"}) {
    CHECK(!parse_granularity(text).ok());
  }
  const std::array<std::int64_t, 2> shape{4, 6};
  CHECK(!block_size_of({Granularity::Kind::group, 4}, shape).ok());
  CHECK(!block_size_of({Granularity::Kind::group, 0}, shape).ok());
  CHECK(!block_size_of({Granularity::Kind::axis, 2}, shape).ok());
  CHECK(!block_size_of({Granularity::Kind::axis, -3}, shape).ok());
  CHECK(*block_size_of({Granularity::Kind::axis, -1}, shape) == std::vector<std::int64_t>{4, 1});
  CHECK(*block_size_of(*parse_granularity("PerBlock((2, 3))"), shape) == std::vector<std::int64_t>{2, 3});
  CHECK(!block_size_of({Granularity::Kind::block, 3, 3}, shape).ok());
  CHECK(!block_size_of({Granularity::Kind::block, 2, 2}, std::array<std::int64_t, 1>{4}).ok());
  const std::array<std::int64_t, 3> deep{5, 4, 6};
  CHECK(*block_size_of({Granularity::Kind::block, 2, 3}, deep) == std::vector<std::int64_t>{1, 2, 3});
}

TEST_CASE("fake quantization by blocks says which numbers were in range") {
  Tensor x = Tensor::make(DType::f32, {2, 2}).value();
  std::ranges::copy(std::array<float, 4>{0.24f, 9.0f, -9.0f, 1.0f}, x.mutable_as<float>().begin());
  QParams q;
  q.dtype = DType::i4;
  q.range = {-8, 7};
  q.scale = {0.5f, 1.0f};
  q.zero_point = {0, 0};
  const std::array<std::int64_t, 2> block{1, 2};
  const MaskedFakeQuantized found = fake_quantize_affine_with_mask(x.view(), block, q).value();
  CHECK(std::ranges::equal(found.values.as<float>(), std::array<float, 4>{0.0f, 3.5f, -8.0f, 1.0f}));
  CHECK(load_integer(DType::boolean, found.mask.bytes().data(), 0) == 1);
  CHECK(load_integer(DType::boolean, found.mask.bytes().data(), 1) == 0);
  CHECK(load_integer(DType::boolean, found.mask.bytes().data(), 2) == 0);
  CHECK(load_integer(DType::boolean, found.mask.bytes().data(), 3) == 1);
}

}  // namespace
}  // namespace aoq
