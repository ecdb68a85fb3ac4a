#include "runtime/session.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>

#include "ir/interpreter.h"
#include "runtime/graph_executor.h"
#include "runtime/reference_backend.h"
#include "tests/support/count_allocations.h"

namespace aoq {
namespace {

// relu and add on f32 without broadcasting, in place, split over the pool; add of a constant reads it packed (negated).
class FastKernel : public Kernel {
 public:
  FastKernel(bool is_add, std::int64_t count, const float* packed) : is_add_(is_add), count_(count), packed_(packed) {}
  int in_place_input() const override { return 0; }
  Status run(const RunContext& context) const override {
    const auto* a = reinterpret_cast<const float*>(context.inputs[0]);
    const float* b = is_add_ ? (packed_ ? packed_ : reinterpret_cast<const float*>(context.inputs[1])) : nullptr;
    auto* out = reinterpret_cast<float*>(context.outputs[0]);
    context.pool->parallel_for(count_, [&](int, std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        out[i] = !is_add_ ? (a[i] > 0 ? a[i] : 0.0f) : packed_ ? a[i] - b[i] : a[i] + b[i];
      }
    });
    return {};
  }

 private:
  bool is_add_;
  std::int64_t count_;
  const float* packed_;
};

class FastBackend : public ReferenceBackend {
 public:
  std::string_view name() const override { return "fast"; }
  Result<PreparedKernel> prepare(const PrepareContext& c) const override {
    const bool is_add = c.node.is(Op::add);
    if (!is_add && !c.node.is(Op::relu)) return error(Code::unsupported, "only add and relu");
    if (is_add && c.inputs[0].shape != c.inputs[1].shape) return error(Code::unsupported, "broadcasting");
    const float* packed = nullptr;
    const Value* b = c.node.input(1);
    if (is_add && (b->def()->is(Op::constant) || b->def()->is(Op::packed_constant))) {
      AOQ_ASSIGN(std::span<const std::byte> bytes, c.store.packed(*b, "negated"));
      packed = reinterpret_cast<const float*>(bytes.data());
    }
    std::int64_t count = 1;
    for (std::int64_t d : c.outputs[0].shape) count *= d;
    return PreparedKernel{std::make_unique<FastKernel>(is_add, count, packed),
                          is_add ? "add_fast" : "relu_fast",
                          false,
                          {{"row_x", "not today"}}};
  }
  Result<std::vector<std::byte>> pack(const Tensor& plain, std::string_view layout) const override {
    if (layout != "negated") return error(Code::unsupported, "layout {}", layout);
    ++packs;
    std::vector<std::byte> out(plain.bytes().size());
    for (std::size_t i = 0; i < plain.as<float>().size(); ++i) {
      const float v = -plain.as<float>()[i];
      std::memcpy(out.data() + 4 * i, &v, 4);
    }
    return out;
  }
  Result<Tensor> unpack(std::span<const std::byte> packed, DType dtype, std::span<const std::int64_t> shape,
                        std::string_view layout) const override {
    if (layout != "negated") return error(Code::unsupported, "layout {}", layout);
    AOQ_ASSIGN(Tensor t, Tensor::copy_of(dtype, {shape.begin(), shape.end()}, packed));
    for (float& v : t.mutable_as<float>()) v = -v;
    return t;
  }
  mutable std::atomic<int> packs{0};
};

ModelOptions options_with(std::vector<std::shared_ptr<const Backend>> backends, int threads = 2) {
  ModelOptions o;
  o.backends = std::move(backends);
  o.threads = threads;
  return o;
}

ModelOptions fast_options(int threads = 2) {
  return options_with({std::make_shared<FastBackend>(), std::make_shared<ReferenceBackend>()}, threads);
}

Node* make(Graph& g, Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
  Result<Node*> node = g.create(op, std::move(inputs), std::move(attributes));
  INFO(node.status().message());
  REQUIRE(node.ok());
  return *node;
}

Tensor floats(std::vector<std::int64_t> shape, float first = 0, float step = 1) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  float v = first;
  for (float& x : t.mutable_as<float>()) x = std::exchange(v, v + step);
  return t;
}

// y = relu(relu(x) + x); z = reshape(y) ; N rows of 4.
Graph small_graph() {
  Graph g;
  g.symbols["N"] = {1, 64};
  Value* x = g.input("x", Type{DType::f32, {Dim::symbol("N"), 4}, std::nullopt});
  Value* a = make(g, Op::relu, {x})->output();
  Value* b = make(g, Op::add, {a, x})->output();
  Value* y = make(g, Op::relu, {b})->output();
  Value* z = make(g, Op::reshape, {y}, {{"shape", std::vector<Dim>{Dim::symbol("N") * Dim(4)}}})->output();
  REQUIRE(g.output({y, z}, {"y", "z"}).ok());
  return g;
}

std::shared_ptr<const Model> model_of(Graph graph, ModelOptions options) {
  Result<std::shared_ptr<const Model>> model = Model::from_graph(std::move(graph), std::move(options));
  INFO(model.status().message());
  REQUIRE(model.ok());
  return *model;
}

Session session_of(std::shared_ptr<const Model> model) {
  return Session::create(std::move(model)).value();
}

std::vector<float> values(const TensorView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.element_count()));
  if (!out.empty()) std::memcpy(out.data(), view.data, out.size() * sizeof(float));
  return out;
}

std::vector<float> values(const Tensor& t) {
  return {t.as<float>().begin(), t.as<float>().end()};
}

// Runs with both backends and with the interpreter; all must agree.
void check_against_interpreter(const Graph& graph, const std::vector<Tensor>& inputs) {
  std::unique_ptr<Executable> interpreter = ReferenceExecutor().prepare(graph).value();
  Result<std::vector<Tensor>> expected = interpreter->run(inputs, {});
  REQUIRE(expected.ok());
  for (const ModelOptions& options : {fast_options(), options_with({std::make_shared<ReferenceBackend>()})}) {
    Session session = session_of(model_of(graph.clone(), options));
    std::vector<TensorView> views;
    for (const Tensor& t : inputs) views.push_back(t.view());
    for (int round = 0; round < 2; ++round) {
      Result<std::span<const TensorView>> found = session.run(views);
      INFO(found.status().message());
      REQUIRE(found.ok());
      REQUIRE(found->size() == expected->size());
      for (std::size_t i = 0; i < expected->size(); ++i) {
        CHECK(values((*found)[i]) == values((*expected)[i]));
        CHECK(std::vector<std::int64_t>((*found)[i].shape.begin(), (*found)[i].shape.end()) == (*expected)[i].shape());
      }
    }
  }
}

TEST_CASE("a session gives the interpreter's results for several shapes") {
  Graph g = small_graph();
  for (std::int64_t n : {1, 3, 64}) check_against_interpreter(g, {floats({n, 4}, -5)});
}

TEST_CASE("results that are inputs, constants, views or each other") {
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {2, 3}, std::nullopt});
  Value* c = g.constant(floats({2}, 7));
  Value* v = make(g, Op::reshape, {x}, {{"shape", std::vector<Dim>{6}}})->output();
  Value* r = make(g, Op::relu, {v})->output();
  REQUIRE(g.output({x, c, v, r, r}, {"x", "c", "v", "r1", "r2"}).ok());
  check_against_interpreter(g, {floats({2, 3}, -2)});
}

TEST_CASE("an in-place kernel does not destroy what is read later") {
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {8}, std::nullopt});
  Value* a = make(g, Op::add, {x, x})->output();
  Value* b = make(g, Op::relu, {a})->output();    // a is read again
  Value* c = make(g, Op::add, {b, b})->output();  // b is read twice here
  Value* d = make(g, Op::add, {c, a})->output();
  Value* e = make(g, Op::relu, {d})->output();
  REQUIRE(g.output({e, d}, {"e", "d"}).ok());
  check_against_interpreter(g, {floats({8}, -4)});
}

TEST_CASE("timed runs give the same, whatever is repeated") {
  const Graph g = small_graph();
  const Tensor x = floats({3, 4}, -5);
  const TensorView views[] = {x.view()};
  Session plain = session_of(model_of(g.clone(), fast_options(1)));
  const std::vector<float> expected = values(plain.run(views).value()[0]);
  for (const ModelOptions& options : {fast_options(1), options_with({std::make_shared<ReferenceBackend>()}, 1)}) {
    Session session = session_of(model_of(g.clone(), options));
    const std::size_t steps = session.describe({{3, 4}}).value().steps.size();
    for (int repeats : {1, 4}) {
      std::vector<std::int64_t> times(steps, -1);
      Result<std::span<const TensorView>> found = session.run(views, StepTimes{times, repeats});
      REQUIRE_MESSAGE(found.ok(), found.status().message());
      CHECK(values((*found)[0]) == expected);
      for (std::int64_t t : times) CHECK(t >= 0);
    }
    std::vector<std::int64_t> times(steps + 1);
    const Status refused = session.run(views, StepTimes{times}).status();
    CHECK(refused.code() == Code::invalid_argument);
    CHECK(refused.message().find(std::to_string(steps + 1) + " times") != std::string::npos);
  }
}

TEST_CASE("random chains agree with the interpreter") {
  std::uint32_t seed = 1;
  auto next = [&](std::uint32_t n) { return (seed = seed * 1664525u + 1013904223u) / 65536u % n; };
  for (int round = 0; round < 25; ++round) {
    Graph g;
    std::vector<Value*> pool{g.input("x", Type{DType::f32, {4, 3}, std::nullopt}),
                             g.input("y", Type{DType::f32, {4, 3}, std::nullopt}), g.constant(floats({4, 3}, -3))};
    for (int i = 0; i < 12; ++i) {
      Value* a = pool[next(static_cast<std::uint32_t>(pool.size()))];
      Value* b = pool[next(static_cast<std::uint32_t>(pool.size()))];
      switch (next(3)) {
        case 0:
          pool.push_back(make(g, Op::relu, {a})->output());
          break;
        case 1:
          pool.push_back(make(g, Op::add, {a, b})->output());
          break;
        default:
          pool.push_back(make(g, Op::reshape, {a}, {{"shape", std::vector<Dim>{4, 3}}})->output());
      }
    }
    REQUIRE(g.output({pool.back(), pool[pool.size() - 3], pool[5]}, {"a", "b", "c"}).ok());
    check_against_interpreter(g, {floats({4, 3}, -5), floats({4, 3}, 2, -1)});
  }
}

TEST_CASE("a steady run allocates nothing") {
  for (int threads : {1, 2}) {
    Session session = session_of(model_of(small_graph(), fast_options(threads)));
    const Tensor x = floats({16, 4}, -9);
    const TensorView views[] = {x.view()};
    const NamedInput named[] = {{"x", x.view()}};
    Tensor y = floats({16, 4}), z = floats({64});
    const MutableTensorView outputs[] = {y.mutable_view(), z.mutable_view()};
    REQUIRE(session.run(views).ok());
    REQUIRE(session.run_into(views, outputs).ok());
    test::start_counting_allocations();
    bool ok = true;
    for (int i = 0; i < 10; ++i) {
      ok = ok && session.run(views).ok() && session.run(named).ok() && session.run_into(views, outputs).ok();
    }
    std::int64_t allocations = test::stop_counting_allocations();
    CHECK(ok);
    CHECK(allocations == 0);
  }
}

TEST_CASE("callers' buffers at any alignment, and over the input") {
  const Tensor x = floats({3, 4}, -5);
  Session expected_session = session_of(model_of(small_graph(), fast_options()));
  const TensorView plain[] = {x.view()};
  const std::vector<float> expected = values(expected_session.run(plain).value()[0]);
  for (std::size_t shift = 0; shift < 5; ++shift) {
    Session session = session_of(model_of(small_graph(), fast_options()));
    std::vector<std::byte> in(48 + shift), y(48 + shift), z(48 + shift);
    std::memcpy(in.data() + shift, x.bytes().data(), 48);
    const std::vector<std::int64_t> shape{3, 4}, flat{12};
    const TensorView inputs[] = {{DType::f32, shape, in.data() + shift}};
    const MutableTensorView outputs[] = {{DType::f32, shape, y.data() + shift}, {DType::f32, flat, z.data() + shift}};
    REQUIRE(session.run_into(inputs, outputs).ok());
    CHECK(values(TensorView{DType::f32, shape, y.data() + shift}) == expected);
    CHECK(values(TensorView{DType::f32, flat, z.data() + shift}) == expected);
    const MutableTensorView over[] = {{DType::f32, shape, in.data() + shift}, {DType::f32, flat, z.data() + shift}};
    REQUIRE(session.run_into(inputs, over).ok());
    CHECK(values(TensorView{DType::f32, shape, in.data() + shift}) == expected);
  }
}

void check_error(const Status& status, Code code, std::initializer_list<std::string_view> parts) {
  CHECK(status.code() == code);
  for (std::string_view part : parts) {
    INFO(status.message());
    CHECK(status.message().find(part) != std::string::npos);
  }
}

TEST_CASE("inputs that do not fit are named") {
  Session session = session_of(model_of(small_graph(), fast_options()));
  const Tensor x = floats({2, 4});
  auto run = [&](const Tensor& t) {
    const TensorView views[] = {t.view()};
    return session.run(views).status();
  };
  CHECK(run(x).ok());
  check_error(run(floats({2, 5})), Code::invalid_data, {"\"x\"", "5", "4"});
  check_error(run(floats({2})), Code::invalid_data, {"\"x\"", "[2]"});
  check_error(run(floats({65, 4})), Code::invalid_data, {"\"x\"", "65", "64"});
  check_error(run(floats({0, 4})), Code::invalid_data, {"\"x\"", "0"});
  check_error(run(Tensor::make(DType::i32, {2, 4}).value()), Code::invalid_data, {"\"x\"", "i32", "f32"});
  check_error(session.run(std::span<const TensorView>()).status(), Code::invalid_data, {"0 inputs", "\"x\""});
  check_error(session.run(std::span<const NamedInput>()).status(), Code::invalid_data, {"\"x\" is missing"});
  const NamedInput wrong[] = {{"x", x.view()}, {"w", x.view()}};
  check_error(session.run(wrong).status(), Code::invalid_data, {"\"w\"", "\"x\""});
  const NamedInput twice[] = {{"x", x.view()}, {"x", x.view()}};
  check_error(session.run(twice).status(), Code::invalid_data, {"twice"});
  const std::int64_t shape[] = {2, 4}, huge[] = {INT64_MAX, 4}, negative[] = {-1, 4};
  for (std::span<const std::int64_t> s : {std::span(huge), std::span(negative), std::span(shape)}) {
    const TensorView views[] = {{DType::f32, s, nullptr}};
    check_error(session.run(views).status(), Code::invalid_data, {"\"x\""});
  }
  CHECK(run(x).ok());
}

TEST_CASE("buffers for results that do not fit are named") {
  Session session = session_of(model_of(small_graph(), fast_options()));
  const Tensor x = floats({2, 4});
  Tensor y = floats({2, 4}), z = floats({8}), wrong = floats({7});
  const TensorView inputs[] = {x.view()};
  const MutableTensorView bad[] = {y.mutable_view(), wrong.mutable_view()};
  check_error(session.run_into(inputs, bad), Code::invalid_data, {"\"z\"", "[7]", "[8]"});
  MutableTensorView same = y.mutable_view();
  const std::int64_t flat[] = {8};
  const MutableTensorView overlapping[] = {same, {DType::f32, flat, same.data}};
  check_error(session.run_into(inputs, overlapping), Code::invalid_data, {"overlap"});
  check_error(session.run_into(inputs, {}), Code::invalid_data, {"0 buffers"});
}

TEST_CASE("the plan says what runs and what it needs") {
  std::shared_ptr<const Model> model = model_of(small_graph(), fast_options());
  Session session = session_of(model);
  PlanInfo info = session.describe({{16, 4}}).value();
  REQUIRE(info.steps.size() == 3);
  CHECK(info.steps[0].row == "relu_fast");
  CHECK(info.steps[0].backend == "fast");
  CHECK(info.steps[0].refused.at(0).reason == "not today");
  CHECK(info.steps[1].in_place);
  CHECK(info.steps[2].in_place);
  CHECK(info.memory.arena_bytes == 0);  // everything happens in the result's buffer
  CHECK(info.memory.output_bytes == 512);
  CHECK(session.output_shapes({{16, 4}}).value() == Shapes{{16, 4}, {64}});
  CHECK(session.memory_needed({{1, 4}})->output_bytes == 128);
  CHECK(!session.memory_needed({{1, 5}}).ok());
  CHECK(!session.memory_needed({}).ok());
}

TEST_CASE("the memory cap refuses before anything runs") {
  ModelOptions options = fast_options();
  options.memory_cap = 1000;
  Session session = session_of(model_of(small_graph(), options));
  const Tensor little = floats({16, 4}), much = floats({32, 4});
  const TensorView a[] = {little.view()}, b[] = {much.view()};
  CHECK(session.run(a).ok());
  check_error(session.run(b).status(), Code::resource_limit, {"1024", "1000"});
}

TEST_CASE("plans are bounded and come back") {
  ModelOptions options = fast_options();
  options.max_cached_plans = 2;
  Session session = session_of(model_of(small_graph(), options));
  for (int round = 0; round < 3; ++round) {
    for (std::int64_t n : {1, 20, 3, 7}) {
      const Tensor x = floats({n, 4}, -3);
      const TensorView views[] = {x.view()};
      Result<std::span<const TensorView>> y = session.run(views);
      REQUIRE(y.ok());
      CHECK(values((*y)[0])[0] == 0.0f);
      CHECK(values((*y)[0]).back() == 2.0f * std::max(0.0f, static_cast<float>(n * 4 - 4)));
    }
  }
}

TEST_CASE("constants are packed once for all sessions") {
  auto backend = std::make_shared<FastBackend>();
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {4}, std::nullopt});
  REQUIRE(g.output({make(g, Op::add, {x, g.constant(floats({4}, 1))})->output()}, {"y"}).ok());
  std::shared_ptr<const Model> model = model_of(std::move(g), options_with({backend}));
  const Tensor in = floats({4}, 10);
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      Session session = session_of(model);
      const TensorView views[] = {in.view()};
      Result<std::span<const TensorView>> y = session.run(views);
      if (y.ok() && values((*y)[0]) == std::vector<float>{11, 13, 15, 17}) ++right;
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(right.load() == 4);
  CHECK(backend->packs.load() == 1);
  CHECK(model->weights_bytes() == 16);
  CHECK(model->packed_bytes() == 16);
}

TEST_CASE("a packed constant is used in place, or unpacked for the reference") {
  Graph g;
  g.stage = Stage::lowered;
  Value* x = g.input("x", Type{DType::f32, {4}, std::nullopt});
  const Tensor negated = floats({4}, -1, -1);
  Tensor bytes = Tensor::copy_of(DType::u8, {16}, negated.bytes()).value();
  Node* packed = make(g, Op::packed_constant, {},
                      {{"value", bytes},
                       {"dtype", DType::f32},
                       {"shape", std::vector<std::int64_t>{4}},
                       {"layout", std::string("negated")}});
  REQUIRE(g.output({make(g, Op::add, {x, packed->output()})->output()}, {"y"}).ok());
  const Tensor in = floats({4}, 10);
  const TensorView views[] = {in.view()};
  std::shared_ptr<const Model> fast = model_of(g.clone(), fast_options());
  Session session = session_of(fast);
  CHECK(values(session.run(views).value()[0]) == std::vector<float>{11, 13, 15, 17});
  CHECK(fast->packed_bytes() == 0);
  CHECK(fast->repacked().empty());
  std::shared_ptr<const Model> slow =
      model_of(g.clone(), options_with({std::make_shared<ReferenceBackend>(), std::make_shared<FastBackend>()}));
  Session slow_session = session_of(slow);
  CHECK(values(slow_session.run(views).value()[0]) == std::vector<float>{11, 13, 15, 17});
  CHECK(slow->repacked().size() == 1);
  Session none = session_of(model_of(g.clone(), options_with({std::make_shared<ReferenceBackend>()})));
  check_error(none.run(views).status(), Code::unsupported, {"negated"});
}

// y = x + the sum of `count` dequantized copies of one constant of n codes.
Graph dequantizing_graph(int count, std::int64_t n) {
  Graph g;
  g.stage = Stage::lowered;
  Value* sum = g.input("x", Type{DType::f32, {Dim(n)}, std::nullopt});
  Value* codes = g.constant(
      Tensor::from_values<std::int8_t>(DType::i8, {n}, std::vector<std::int8_t>(static_cast<std::size_t>(n), 3))
          .value());
  Value* scale = g.constant(floats({}, 0.5f));
  for (int i = 0; i < count; ++i) {
    Value* floats_again = make(g, Op::dequantize, {codes, scale})->output();
    sum = make(g, Op::add, {sum, floats_again})->output();
  }
  REQUIRE(g.output({sum}, {"y"}).ok());
  return g;
}

TEST_CASE("weights that lie in the file as codes are computed once, up to a bound") {
  auto steps_of = [](Session& session) {
    int dequantizes = 0;
    for (const StepInfo& step : session.describe({{1000}}).value().steps) dequantizes += step.op == "dequantize";
    return dequantizes;
  };
  for (int count : {1, 40}) {
    std::shared_ptr<const Model> model =
        Model::from_graph(dequantizing_graph(count, 1000), options_with({std::make_shared<ReferenceBackend>()}))
            .value();
    Session session = Session::create(model).value();
    const Tensor x = floats({1000}, 1.0f, 0.0f);
    const TensorView views[] = {x.view()};
    std::span<const TensorView> y = session.run(views).value();
    CHECK(reinterpret_cast<const float*>(y[0].data)[999] == 1.0f + 1.5f * static_cast<float>(count));
    // Codes of a byte allow floats of 16 times their size; what is beyond is computed in every run.
    CHECK(model->packed_bytes() <= 21000);
    CHECK((steps_of(session) > 0) == (count == 40));
  }
}

TEST_CASE("symbols that meet numbers are checked at their real size") {
  Graph g;
  g.symbols["N"] = {};
  Value* x = g.input("x", Type{DType::f32, {Dim::symbol("N")}, std::nullopt});
  REQUIRE(g.output({make(g, Op::add, {x, g.constant(floats({4}))})->output()}, {"y"}).ok());
  for (const ModelOptions& options : {fast_options(), options_with({std::make_shared<ReferenceBackend>()})}) {
    Session session = session_of(model_of(g.clone(), options));
    const Tensor four = floats({4}), five = floats({5});
    const TensorView good[] = {four.view()}, bad[] = {five.view()};
    CHECK(session.run(good).ok());
    CHECK(!session.run(bad).ok());
  }
}

TEST_CASE("the graph executor shows values to taps as the interpreter does") {
  Graph g = small_graph();
  Tap tap;
  for (const Node* n : g.nodes()) {
    if (n->output_count() > 0) tap.values.push_back(n->output());
  }
  using Seen = std::map<const Value*, std::vector<float>>;
  Seen seen, expected;
  const std::vector<Tensor> inputs{floats({3, 4}, -6)};
  auto run = [&](Executor& executor, Seen& into) {
    tap.callback = [&](const Value& v, TensorView t) {
      into[&v] = values(t);
      return Status();
    };
    return values(executor.prepare(g).value()->run(inputs, tap).value()[0]);
  };
  GraphExecutor fast(fast_options());
  ReferenceExecutor interpreter;
  CHECK(run(fast, seen) == run(interpreter, expected));
  CHECK(seen == expected);
  CHECK(seen.size() == 5);
  tap.callback = [](const Value&, TensorView) { return error(Code::interrupted, "enough"); };
  check_error(fast.prepare(g).value()->run(inputs, tap).status(), Code::interrupted, {"enough"});
}

TEST_CASE("a model without backends, or with an op nobody takes, is refused") {
  CHECK(Model::from_graph(small_graph(), {}).status().code() == Code::invalid_argument);
  auto only_fast = options_with({std::make_shared<FastBackend>()});
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {4}, std::nullopt});
  REQUIRE(g.output({make(g, Op::exp, {x})->output()}, {"y"}).ok());
  Session session = session_of(model_of(std::move(g), only_fast));
  const Tensor in = floats({4});
  const TensorView views[] = {in.view()};
  check_error(session.run(views).status(), Code::unsupported, {"exp", "fast: only add and relu"});
  CHECK(Session::create(nullptr).status().code() == Code::invalid_argument);
}

}  // namespace
}  // namespace aoq
