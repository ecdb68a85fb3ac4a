// Steps that run slice by slice of the batch: which ones, that results are the same bits as on the whole batch and
// sample by sample, and that nobody who looks at a run sees a difference.
#include "runtime/batch_loops.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "ir/interpreter.h"
#include "runtime/reference_backend.h"
#include "runtime/session.h"
#include "tests/support/count_allocations.h"

namespace aoq {
namespace {

// relu and add without broadcasting: in place, split over the pool, and through scratch, a part for each worker.
class ScratchKernel : public Kernel {
 public:
  ScratchKernel(bool is_add, std::int64_t count, int workers) : is_add_(is_add), count_(count), workers_(workers) {}
  int in_place_input() const override { return 0; }
  std::uint64_t scratch_bytes() const override { return static_cast<std::uint64_t>(workers_) * worker_bytes(); }
  Status run(const RunContext& context) const override {
    const auto* a = reinterpret_cast<const float*>(context.inputs[0]);
    const float* b = is_add_ ? reinterpret_cast<const float*>(context.inputs[1]) : nullptr;
    auto* out = reinterpret_cast<float*>(context.outputs[0]);
    context.pool->parallel_for(
        count_,
        [&](int worker, std::int64_t begin, std::int64_t end) {
          auto* own = reinterpret_cast<float*>(context.scratch + worker_bytes() * static_cast<std::uint64_t>(worker));
          for (std::int64_t i = begin; i < end; ++i) own[i] = b != nullptr ? a[i] + b[i] : std::max(a[i], 0.0f);
          std::copy(own + begin, own + end, out + begin);
        },
        workers_);
    return {};
  }

 private:
  std::uint64_t worker_bytes() const { return (static_cast<std::uint64_t>(count_) * 4 + 63) / 64 * 64; }

  bool is_add_;
  std::int64_t count_;
  int workers_;
};

class ScratchBackend : public ReferenceBackend {
 public:
  std::string_view name() const override { return "scratch"; }
  Result<PreparedKernel> prepare(const PrepareContext& c) const override {
    const bool is_add = c.node.is(Op::add);
    if (!is_add && !c.node.is(Op::relu)) return error(Code::unsupported, "only add and relu");
    if (is_add && c.inputs[0].shape != c.inputs[1].shape) return error(Code::unsupported, "broadcasting");
    std::int64_t count = 1;
    for (std::int64_t d : c.outputs[0].shape) count *= d;
    return PreparedKernel{std::make_unique<ScratchKernel>(is_add, count, c.workers), "scratch", false, {}};
  }
};

ModelOptions options_of(BatchLoops loops, int threads) {
  ModelOptions o;
  o.backends = {std::make_shared<ScratchBackend>(), std::make_shared<ReferenceBackend>()};
  o.threads = threads;
  o.batch_loops = loops;
  return o;
}

Value* make(Graph& g, Op op, std::vector<Value*> inputs, Attributes attributes = {}) {
  Result<Node*> node = g.create(op, std::move(inputs), std::move(attributes));
  REQUIRE_MESSAGE(node.ok(), node.status().message());
  return (*node)->output();
}

using Ints = std::vector<std::int64_t>;
using Dims = std::vector<Dim>;

Dim batch() {
  return Dim::symbol("N");
}

Value* input(Graph& g, const char* name, Dims rest) {
  g.symbols["N"] = {1, 64};
  rest.insert(rest.begin(), batch());
  return g.input(name, Type{DType::f32, rest, std::nullopt});
}

Value* relu(Graph& g, Value* x) {
  return make(g, Op::relu, {x});
}
Value* add(Graph& g, Value* a, Value* b) {
  return make(g, Op::add, {a, b});
}
Value* softmax(Graph& g, Value* x, std::int64_t axis) {
  return make(g, Op::softmax, {x}, {{"axis", axis}});
}

// Numbers around 0 that repeat late.
Tensor numbers(Ints shape) {
  Tensor t = Tensor::make(DType::f32, std::move(shape)).value();
  std::uint32_t state = 7;
  for (float& x : t.mutable_as<float>()) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(state >> 16) / 8192.0f - 4.0f;
  }
  return t;
}

Session session_of(const Graph& graph, const ModelOptions& options) {
  Result<std::shared_ptr<const Model>> model = Model::from_graph(graph.clone(), options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return Session::create(*model).value();
}

using Bytes = std::vector<std::byte>;

std::vector<Bytes> run(Session& session, const std::vector<Tensor>& inputs) {
  std::vector<TensorView> views;
  for (const Tensor& t : inputs) views.push_back(t.view());
  Result<std::span<const TensorView>> results = session.run(views);
  REQUIRE_MESSAGE(results.ok(), results.status().message());
  std::vector<Bytes> out;
  for (const TensorView& r : *results) {
    const auto bytes = static_cast<std::size_t>(r.element_count() * dtype_info(r.dtype).bits / 8);
    out.emplace_back(r.data, r.data + bytes);
  }
  return out;
}

Shapes shapes_of(const std::vector<Tensor>& inputs) {
  Shapes shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  return shapes;
}

// How many slices each step runs in: "8 8 1 8".
std::string slices_of(const Graph& graph, const std::vector<Tensor>& inputs, int threads = 1) {
  Session session = session_of(graph, options_of(BatchLoops::everywhere, threads));
  std::string text;
  const PlanInfo info = session.describe(shapes_of(inputs)).value();
  for (const StepInfo& step : info.steps) text += (text.empty() ? "" : " ") + std::to_string(step.slices);
  return text;
}

// With loops on one, two and three threads the results are those without, each time.
void check_same(const Graph& graph, const std::vector<Tensor>& inputs) {
  Session plain = session_of(graph, options_of(BatchLoops::nowhere, 1));
  const std::vector<Bytes> expected = run(plain, inputs);
  for (int threads : {1, 2, 3}) {
    Session session = session_of(graph, options_of(BatchLoops::everywhere, threads));
    for (int round = 0; round < 2; ++round) CHECK(run(session, inputs) == expected);
  }
}

std::vector<Tensor> sample(const std::vector<Tensor>& inputs, std::int64_t index) {
  std::vector<Tensor> out;
  for (const Tensor& t : inputs) {
    Ints shape = t.shape();
    const std::size_t bytes = t.bytes().size() / static_cast<std::size_t>(shape[0]);
    shape[0] = 1;
    out.push_back(
        Tensor::copy_of(t.dtype(), shape, t.bytes().subspan(bytes * static_cast<std::size_t>(index), bytes)).value());
  }
  return out;
}

// The same, and what the samples give one by one.
void check_samples(const Graph& graph, const std::vector<Tensor>& inputs) {
  check_same(graph, inputs);
  Session whole = session_of(graph, options_of(BatchLoops::everywhere, 2));
  Session single = session_of(graph, options_of(BatchLoops::nowhere, 1));
  std::vector<Bytes> joined;
  for (std::int64_t i = 0; i < inputs[0].shape()[0]; ++i) {
    const std::vector<Bytes> one = run(single, sample(inputs, i));
    joined.resize(one.size());
    for (std::size_t r = 0; r < one.size(); ++r) joined[r].insert(joined[r].end(), one[r].begin(), one[r].end());
  }
  CHECK(run(whole, inputs) == joined);
}

// A little network: views, a permute, a product, a softmax, a value that is read late, and a pool.
Graph network() {
  Graph g;
  Value* x = input(g, "x", {Dim(3), Dim(4)});
  Value* a = relu(g, x);
  Value* flat = make(g, Op::reshape, {a}, {{"shape", Dims{batch(), Dim(12)}}});
  Value* b = make(g, Op::linear, {flat, g.constant(numbers({8, 12})), g.constant(numbers({8}))});
  Value* c = make(g, Op::reshape, {softmax(g, b, -1)}, {{"shape", Dims{batch(), Dim(2), Dim(4)}}});
  Value* d = make(g, Op::permute, {c}, {{"perm", Ints{0, 2, 1}}});
  Value* e = make(g, Op::matmul, {d, c});
  Value* f = make(g, Op::concat, {e, a}, {{"axis", std::int64_t{1}}});
  Value* y = make(g, Op::reduce_mean, {add(g, f, f)}, {{"axes", Ints{2}}, {"keepdims", false}});
  REQUIRE(g.output({y}, {"y"}).ok());
  return g;
}

}  // namespace

TEST_CASE("a network in slices gives what the whole batch and each sample give") {
  const Graph g = network();
  for (std::int64_t n : {1, 2, 3, 5, 8, 16}) check_samples(g, {numbers({n, 3, 4})});
  CHECK(slices_of(g, {numbers({8, 3, 4})}) == "8 8 8 8 8 8 8 8");
  CHECK(slices_of(g, {numbers({1, 3, 4})}) == "1 1 1 1 1 1 1 1");
}

TEST_CASE("results inside of a loop, results that are views, inputs, or each other") {
  Graph g;
  Value* x = input(g, "x", {Dim(4)});
  Value* a = relu(g, x);
  Value* b = add(g, a, x);
  Value* view = make(g, Op::reshape, {b}, {{"shape", Dims{batch(), Dim(2), Dim(2)}}});
  Value* flat = make(g, Op::reshape, {b}, {{"shape", Dims{batch() * Dim(4)}}});
  Value* c = relu(g, softmax(g, view, 1));
  REQUIRE(g.output({a, view, flat, c, c, x}, {"a", "view", "flat", "c", "c2", "x"}).ok());
  for (std::int64_t n : {2, 5}) check_samples(g, {numbers({n, 4})});
  CHECK(slices_of(g, {numbers({5, 4})}) == "5 5 5 5");
}

TEST_CASE("an op that joins samples splits the loop, and what crosses the border is whole") {
  Graph g;
  Value* x = input(g, "x", {Dim(6)});
  Value* a = relu(g, x);
  Value* b = softmax(g, a, 1);
  Value* joined = softmax(g, b, 0);
  Value* c = add(g, joined, a);
  Value* y = add(g, relu(g, c), b);
  REQUIRE(g.output({y}, {"y"}).ok());
  for (std::int64_t n : {2, 6, 7}) check_same(g, {numbers({n, 6})});
  CHECK(slices_of(g, {numbers({6, 6})}) == "6 6 1 6 6 6");
}

TEST_CASE("a whole value is kept until the last slice has read it") {
  Graph g;
  Value* x = input(g, "x", {Dim(4)});
  Value* a = softmax(g, x, 0);
  Value* wide = make(g, Op::concat, {softmax(g, a, 1), x, x}, {{"axis", std::int64_t{1}}});
  REQUIRE(g.output({softmax(g, wide, 0)}, {"y"}).ok());
  // The memory of a would do for the first slices of the wider value, where slices to come are still to be read.
  for (std::int64_t n : {4, 16}) check_same(g, {numbers({n, 4})});
  CHECK(slices_of(g, {numbers({16, 4})}) == "1 16 16 1");
}

TEST_CASE("a loop begins behind a value of the batch that it reads whole") {
  Graph g;
  Value* x = input(g, "x", {Dim(6)});
  Value* a = relu(g, x);
  Value* range = make(g, Op::reduce_max, {a}, {{"axes", Ints{0}}});  // [1, 6]
  Value* b = make(g, Op::sub, {a, range});
  // a is the right operand of the product as well: each slice needs all of it.
  Value* square = make(g, Op::matmul, {b, make(g, Op::permute, {relu(g, b)}, {{"perm", Ints{1, 0}}})});
  REQUIRE(g.output({relu(g, square)}, {"y"}).ok());
  for (std::int64_t n : {2, 6, 9}) check_same(g, {numbers({n, 6})});
  CHECK(slices_of(g, {numbers({6, 6})}) == "6 1 6 6 1 6 6");
}

TEST_CASE("a product with a value of the loop itself begins a new one") {
  Graph g;
  Value* x = input(g, "x", {Dim(6)});
  Value* a = relu(g, x);
  Value* b = relu(g, a);
  REQUIRE(g.output({relu(g, make(g, Op::matmul, {b, a}))}, {"y"}).ok());
  check_same(g, {numbers({6, 6})});
  Session session = session_of(g, options_of(BatchLoops::everywhere, 1));
  const PlanInfo info = session.describe({{6, 6}}).value();
  REQUIRE(info.steps.size() == 4);
  CHECK(info.steps[1].loop == 0);
  CHECK(info.steps[2].loop == 1);
  CHECK(info.steps[3].loop == 1);
}

TEST_CASE("a range over the batch is one for all samples") {
  Graph g;
  g.stage = Stage::quantized;
  Value* x = input(g, "x", {Dim(5)});
  Value* a = relu(g, x);
  Node* range = g.create(Op::choose_qparams, {a}, {{"dtype", DType::u8}}).value();
  Value* codes = make(g, Op::quantize, {a, range->output(0), range->output(1)}, {{"dtype", DType::u8}});
  Value* y = make(g, Op::dequantize, {codes, range->output(0), range->output(1)});
  REQUIRE(g.output({relu(g, y)}, {"y"}).ok());
  check_same(g, {numbers({7, 5})});
  CHECK(slices_of(g, {numbers({7, 5})}) == "7 1 7 7 7");
}

TEST_CASE("a batch that is a number in the graph") {
  Graph g;
  Value* x = g.input("x", Type{DType::f32, {4, 6}, std::nullopt});
  Value* a = add(g, relu(g, x), g.constant(numbers({4, 6})));  // a constant for each sample stays whole
  Value* b = make(g, Op::mul, {a, g.constant(numbers({6}))});
  Value* c = make(g, Op::expand, {b}, {{"shape", Dims{Dim(4), Dim(6)}}});  // the attribute holds the batch
  REQUIRE(g.output({relu(g, c)}, {"y"}).ok());
  check_same(g, {numbers({4, 6})});
  CHECK(slices_of(g, {numbers({4, 6})}) == "4 1 4 1 4");
}

TEST_CASE("a second input with another leading dimension, and one with the same") {
  Graph g;
  Value* x = input(g, "x", {Dim(6)});
  Value* table = g.input("table", Type{DType::f32, {6}, std::nullopt});
  Value* z = input(g, "z", {Dim(6)});
  Value* y = add(g, add(g, relu(g, x), table), relu(g, z));
  REQUIRE(g.output({y, relu(g, table)}, {"y", "t"}).ok());
  check_same(g, {numbers({6, 6}), numbers({6}), numbers({6, 6})});
  // The leading dimension of the table is no batch, even where it has its size.
  Session session = session_of(g, options_of(BatchLoops::everywhere, 1));
  const PlanInfo info = session.describe({{5, 6}, {6}, {5, 6}}).value();
  CHECK(info.steps.back().slices == 1);
}

TEST_CASE("random chains are the same in loops") {
  std::uint32_t seed = 5;
  auto next = [&](std::size_t n) {
    return (seed = seed * 1664525u + 1013904223u) / 65536u % static_cast<std::uint32_t>(n);
  };
  for (int round = 0; round < 40; ++round) {
    Graph g;
    std::vector<Value*> pool{input(g, "x", {Dim(2), Dim(3)}), input(g, "y", {Dim(2), Dim(3)}),
                             g.constant(numbers({2, 3}))};
    for (int i = 0; i < 14; ++i) {
      Value* a = pool[next(pool.size())];
      Value* b = pool[next(pool.size())];
      if (a->type().rank() < 3) a = pool[0];
      switch (next(6)) {
        case 0:
          pool.push_back(relu(g, a));
          break;
        case 1:
        case 2:
          pool.push_back(add(g, a, b));
          break;
        case 3:
          pool.push_back(softmax(g, a, next(4) == 0 ? 0 : 2));
          break;
        case 4:
          pool.push_back(make(g, Op::reduce_max, {a}, {{"axes", Ints{next(3)}}}));
          break;
        default:
          pool.push_back(
              make(g, Op::reshape, {make(g, Op::add, {a, pool[0]})}, {{"shape", Dims{batch(), Dim(2), Dim(3)}}}));
      }
    }
    REQUIRE(g.output({pool.back(), pool[pool.size() - 3], pool[6]}, {"a", "b", "c"}).ok());
    for (std::int64_t n : {2, 3, 4}) check_same(g, {numbers({n, 2, 3}), numbers({n, 2, 3})});
  }
}

TEST_CASE("values of a loop take a slice of the memory, for each worker") {
  Graph g;
  Value* v = input(g, "x", {Dim(1024)});
  for (int i = 0; i < 4; ++i) v = softmax(g, v, 1);
  REQUIRE(g.output({v}, {"y"}).ok());
  auto need = [&](BatchLoops loops, int threads) {
    return session_of(g, options_of(loops, threads)).memory_needed({{8, 1024}}).value();
  };
  const MemoryNeed whole = need(BatchLoops::nowhere, 1), loop = need(BatchLoops::everywhere, 1);
  CHECK(whole.arena_bytes >= 2 * 8 * 4096);
  CHECK(loop.arena_bytes < whole.arena_bytes / 4);
  CHECK(loop.output_bytes == whole.output_bytes);
  CHECK(need(BatchLoops::everywhere, 2).arena_bytes == 2 * loop.arena_bytes);
  CHECK(need(BatchLoops::everywhere, 4).arena_bytes == 4 * loop.arena_bytes);
  // Four of six workers would wait for the last two slices: they split each slice instead.
  CHECK(need(BatchLoops::everywhere, 6).arena_bytes == loop.arena_bytes);
  ModelOptions capped = options_of(BatchLoops::everywhere, 1);
  capped.memory_cap = loop.arena_bytes + loop.output_bytes;
  CHECK(session_of(g, capped).memory_needed({{8, 1024}}).ok());
  capped.batch_loops = BatchLoops::nowhere;
  CHECK(session_of(g, capped).memory_needed({{8, 1024}}).status().code() == Code::resource_limit);
}

TEST_CASE("small values stay whole unless loops are wanted everywhere") {
  const Graph g = network();
  Session session = session_of(g, options_of(BatchLoops::automatic, 1));
  for (const StepInfo& step : session.describe({{8, 3, 4}}).value().steps) CHECK(step.slices == 1);
}

TEST_CASE("an error in a loop names the op, and the session goes on") {
  Graph g;
  g.symbols["N"] = {1, 64};
  Value* x = g.input("x", Type{DType::i64, {batch(), 2}, std::nullopt});
  Node* gather = g.create(Op::gather, {g.constant(numbers({10, 3})), x}, {}).value();
  gather->origins = {"embedding"};
  REQUIRE(g.output({relu(g, gather->output())}, {"y"}).ok());
  auto indices = [](std::int64_t bad) {
    std::vector<std::int64_t> values(16, 3);
    values[11] = bad;
    return Tensor::from_values<std::int64_t>(DType::i64, {8, 2}, values).value();
  };
  for (int threads : {1, 2}) {
    Session session = session_of(g, options_of(BatchLoops::everywhere, threads));
    const Tensor good = indices(9), bad = indices(10);
    const std::vector<Bytes> expected = run(session, {good});
    const TensorView views[] = {bad.view()};
    const Status status = session.run(views).status();
    CHECK(status.code() == Code::invalid_data);
    for (const char* part : {"gather", "embedding", "10"}) {
      CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    }
    CHECK(run(session, {good}) == expected);
  }
}

TEST_CASE("every step has one time for all its slices") {
  const Graph g = network();
  const Tensor x = numbers({8, 3, 4});
  const TensorView views[] = {x.view()};
  Session plain = session_of(g, options_of(BatchLoops::nowhere, 1));
  const std::vector<Bytes> expected = run(plain, {x});
  for (int threads : {1, 2}) {
    Session session = session_of(g, options_of(BatchLoops::everywhere, threads));
    const std::size_t steps = session.describe({{8, 3, 4}}).value().steps.size();
    for (int repeats : {1, 3}) {
      std::vector<std::int64_t> times(steps, -1);
      Result<std::span<const TensorView>> y = session.run(views, StepTimes{times, repeats});
      REQUIRE_MESSAGE(y.ok(), y.status().message());
      CHECK(std::memcmp((*y)[0].data, expected[0].data(), expected[0].size()) == 0);
      for (std::int64_t t : times) CHECK(t >= 0);
      CHECK(std::any_of(times.begin(), times.end(), [](std::int64_t t) { return t > 0; }));
    }
    std::vector<std::int64_t> few(steps - 1);
    CHECK(session.run(views, StepTimes{few}).status().code() == Code::invalid_argument);
  }
}

TEST_CASE("a tap sees whole values, and runs beside it keep their loops") {
  const Graph g = network();
  const Tensor x = numbers({8, 3, 4});
  const TensorView views[] = {x.view()};
  Session session = session_of(g, options_of(BatchLoops::everywhere, 2));
  const std::vector<Bytes> expected = run(session, {x});
  Tap tap;
  for (const Node* n : session.model().graph().nodes()) {
    if (n->output_count() > 0 && !n->is(Op::constant)) tap.values.push_back(n->output());
  }
  std::size_t seen = 0;
  tap.callback = [&](const Value&, TensorView t) {
    ++seen;
    CHECK(t.shape[0] == 8);
    return Status();
  };
  Result<std::span<const TensorView>> y = session.run(views, tap);
  REQUIRE_MESSAGE(y.ok(), y.status().message());
  CHECK(std::memcmp((*y)[0].data, expected[0].data(), expected[0].size()) == 0);
  CHECK(seen == tap.values.size());
  CHECK(run(session, {x}) == expected);
  CHECK(session.describe({{8, 3, 4}}).value().steps[0].slices == 8);
}

TEST_CASE("a steady run with loops allocates nothing") {
  const Graph g = network();
  const Tensor x = numbers({8, 3, 4});
  const TensorView views[] = {x.view()};
  for (int threads : {1, 2}) {
    // The reference allocates in some ops: only relu and add here.
    Graph chain;
    Value* v = input(chain, "x", {Dim(3), Dim(4)});
    v = relu(chain, add(chain, relu(chain, v), v));
    REQUIRE(chain.output({v}, {"y"}).ok());
    Session session = session_of(chain, options_of(BatchLoops::everywhere, threads));
    REQUIRE(session.run(views).ok());
    REQUIRE(session.run(views).ok());
    test::start_counting_allocations();
    bool ok = true;
    for (int i = 0; i < 10; ++i) ok = ok && session.run(views).ok();
    const std::int64_t allocations = test::stop_counting_allocations();
    CHECK(ok);
    CHECK(allocations == 0);
  }
}

// Runs tasks on threads of its own, all at once.
class EagerHost : public HostExecutor {
 public:
  int concurrency() const override { return 3; }
  void run(int count, void (*task)(void*, int), void* context) override {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back(task, context, i);
    for (std::thread& t : threads) t.join();
  }
};

TEST_CASE("a host's threads share the slices, and several sessions a pool") {
  const Graph g = network();
  const Tensor x = numbers({9, 3, 4});
  Session plain = session_of(g, options_of(BatchLoops::nowhere, 1));
  const std::vector<Bytes> expected = run(plain, {x});
  EagerHost host;
  for (const auto& pool : {std::make_shared<ThreadPool>(host), std::make_shared<ThreadPool>(2)}) {
    ModelOptions options = options_of(BatchLoops::everywhere, 0);
    options.pool = pool;
    std::shared_ptr<const Model> model = Model::from_graph(g.clone(), options).value();
    std::atomic<int> right{0};
    std::vector<std::thread> callers;
    for (int t = 0; t < 3; ++t) {
      callers.emplace_back([&] {
        Session session = Session::create(model).value();
        const TensorView views[] = {x.view()};
        for (int i = 0; i < 20; ++i) {
          Result<std::span<const TensorView>> y = session.run(views);
          right += y.ok() && std::memcmp((*y)[0].data, expected[0].data(), expected[0].size()) == 0 ? 1 : 0;
        }
      });
    }
    for (std::thread& t : callers) t.join();
    CHECK(right.load() == 60);
  }
}

namespace {

constexpr std::uint64_t kMega = std::uint64_t{1} << 20;

// Steps in a chain: each reads the value of the one before it, of `bytes`, and `weights`.
LoopProblem chain(const std::vector<std::uint64_t>& bytes, const std::vector<std::uint64_t>& weights, double rows) {
  LoopProblem problem{{}, {}, {8, 4, 2}, {kMega, 32 * kMega}};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto step = static_cast<std::int64_t>(i);
    problem.steps.push_back({true, -1, bytes[i] + (i > 0 ? bytes[i - 1] : 0), weights[i], rows});
    if (i + 1 < bytes.size()) problem.values.push_back({step, step + 1, bytes[i], {step, step + 1}});
  }
  return problem;
}

}  // namespace

TEST_CASE("large values with small weights make one loop") {
  const LoopProblem problem = chain({8 * kMega, 8 * kMega, 8 * kMega}, {1000, 1000, 1000}, 8000);
  const std::vector<BatchLoop> loops = choose_loops(problem);
  REQUIRE(loops.size() == 1);
  CHECK(loops[0].first == 0);
  CHECK(loops[0].count == 3);
  CHECK(loops[0].slices == 8);
}

TEST_CASE("values that fit the cache, and weights that each slice would read again, stay whole") {
  CHECK(choose_loops(chain({1000, 1000, 1000}, {1000, 1000, 1000}, 8000)).empty());
  CHECK(choose_loops(chain({kMega, kMega, kMega}, {8 * kMega, 8 * kMega, 8 * kMega}, 8)).empty());
  const std::vector<BatchLoop> loops =
      choose_loops(chain({8 * kMega, 8 * kMega, 8 * kMega, 100000, 1000}, {1000, 1000, 1000, 1000, 8 * kMega}, 8));
  REQUIRE(loops.size() == 1);
  CHECK(loops[0].first + loops[0].count <= 4);
}

TEST_CASE("steps that join samples and whole operands divide loops") {
  LoopProblem problem = chain(std::vector<std::uint64_t>(6, 8 * kMega), std::vector<std::uint64_t>(6, 0), 1);
  problem.steps[2].is_sliceable = false;
  auto text = [](const std::vector<BatchLoop>& loops) {
    std::string t;
    for (const BatchLoop& l : loops) t += std::to_string(l.first) + "+" + std::to_string(l.count) + " ";
    return t;
  };
  CHECK(text(choose_loops(problem)) == "0+2 3+3 ");
  CHECK(text(all_loops(problem)) == "0+2 3+3 ");
  problem.steps[2].is_sliceable = true;
  problem.steps[4].whole_from = 2;
  CHECK(text(all_loops(problem)) == "0+4 4+2 ");
  for (const BatchLoop& l : choose_loops(problem)) CHECK((l.first > 2 || l.first + l.count <= 4));
  problem.slice_counts.clear();
  CHECK(choose_loops(problem).empty());
  CHECK(all_loops(problem).empty());
}

TEST_CASE("slices are shared out where no worker waits long") {
  CHECK(loop_workers(8, 1) == 1);
  CHECK(loop_workers(8, 2) == 2);
  CHECK(loop_workers(8, 3) == 3);
  CHECK(loop_workers(3, 2) == 1);
  CHECK(loop_workers(9, 2) == 2);
  CHECK(loop_workers(4, 16) == 1);
  // Two workers that take a sample each wait for each other once, not after every step.
  LoopProblem problem = chain({60000, 60000, 60000}, {1000, 1000, 1000}, 8000);
  problem.slice_counts = {2};
  CHECK(choose_loops(problem).empty());
  problem.workers = 2;
  CHECK(choose_loops(problem).size() == 1);
  // But each would read all of the large weights for one row.
  CHECK(choose_loops([&] {
          LoopProblem heavy = chain({60000, 60000, 60000}, {kMega, kMega, kMega}, 2);
          heavy.slice_counts = {2};
          heavy.workers = 2;
          return heavy;
        }())
            .empty());
}

TEST_CASE("a batch that is a large prime, and samples without elements, are planned at once") {
  Graph g;
  Value* x = input(g, "x", {Dim::symbol("M")});
  g.symbols["N"] = {1, std::int64_t{1} << 48};
  g.symbols["M"] = {0, 8};
  REQUIRE(g.output({relu(g, relu(g, x))}, {"y"}).ok());
  Session session = session_of(g, options_of(BatchLoops::everywhere, 1));
  constexpr std::int64_t kPrime = (std::int64_t{1} << 40) - 87;
  CHECK(session.describe({{kPrime, 1}}).value().steps[0].slices == kPrime);
  CHECK(session.describe({{kPrime, 0}}).value().steps[0].slices == 1);
  CHECK(run(session, {numbers({kPrime, 0})}) == std::vector<Bytes>{Bytes{}});
}

TEST_CASE("an input too large to be cut is an error, no end of the process") {
  Graph g;
  Value* x = g.input("x", Type{DType::f64, {batch(), Dim(std::int64_t{1} << 47)}, std::nullopt});
  g.symbols["N"] = {1, std::int64_t{1} << 40};
  REQUIRE(g.output({relu(g, x)}, {"y"}).ok());
  Session session = session_of(g, options_of(BatchLoops::everywhere, 1));
  const Status status = session.memory_needed({{1 << 13, std::int64_t{1} << 47}}).status();
  CHECK(status.code() == Code::resource_limit);
}

}  // namespace aoq
