// Every row of kernels.def against the reference of the op table, on random one-node graphs and 1 to 4 threads: exact
// rows bit for bit. And: integer nodes do not use the float rows.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <thread>

#include "backends/cpu/backend.h"
#include "backends/cpu/rows/row.h"
#include "ir/interpreter.h"
#include "tests/backends/cpu/rows_cases.h"
#include "tests/support/count_allocations.h"

namespace aoq::cpu::test {
namespace {

// Packs on demand and keeps everything.
class TestStore : public PackedStore {
 public:
  Result<std::span<const std::byte>> packed(const Value& constant, std::string_view layout) override {
    const Tensor* plain = constant_tensor(&constant);
    if (plain == nullptr) return error(Code::unsupported, "no constant");
    AOQ_ASSIGN(std::vector<std::byte> bytes, CpuBackend().pack(*plain, layout));
    AOQ_ASSIGN(Tensor back, CpuBackend().unpack(bytes, plain->dtype(), plain->shape(), layout));
    CHECK(std::memcmp(back.bytes().data(), plain->bytes().data(), plain->bytes().size()) == 0);
    AOQ_ASSIGN(Tensor kept, Tensor::copy_of(DType::u8, {static_cast<std::int64_t>(bytes.size())}, bytes));
    kept_.push_back(std::move(kept));
    return kept_.back().bytes();
  }

 private:
  std::deque<Tensor> kept_;
};

// Memory with guards on both sides.
class Guarded {
 public:
  explicit Guarded(std::int64_t bytes, std::uint8_t fill = 0xcd) : size_(static_cast<std::size_t>(bytes)) {
    memory_.assign(size_ + 192, std::byte{fill});
    auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    data_ = memory_.data() + 64 + (64 - address % 64) % 64;
    fill_ = std::byte{fill};
  }
  std::byte* data() { return data_; }
  bool intact() const {
    for (const std::byte* p = memory_.data(); p < data_; ++p) {
      if (*p != fill_) return false;
    }
    for (const std::byte* p = data_ + size_; p < memory_.data() + memory_.size(); ++p) {
      if (*p != fill_) return false;
    }
    return true;
  }

 private:
  std::size_t size_;
  std::vector<std::byte> memory_;
  std::byte* data_;
  std::byte fill_;
};

std::vector<ConcreteType> concrete(const std::vector<Tensor>& data) {
  std::vector<ConcreteType> types;
  for (const Tensor& t : data) types.push_back({t.dtype(), t.shape()});
  return types;
}

bool same_element(DType dtype, const std::byte* a, const std::byte* b, std::int64_t i) {
  auto bytes = static_cast<std::size_t>(dtype_info(dtype).bits / 8);
  auto at = static_cast<std::size_t>(i) * bytes;
  if (std::memcmp(a + at, b + at, bytes) == 0) return true;
  if (!is_float(dtype)) return false;
  return std::isnan(load_as_double(dtype, a, i)) && std::isnan(load_as_double(dtype, b, i));
}

bool close_element(const std::byte* a, const std::byte* b, std::int64_t i, double magnitude) {
  double x = load_as_double(DType::f32, a, i), y = load_as_double(DType::f32, b, i);
  return std::fabs(x - y) <= 2e-5 * (magnitude + std::fabs(y));
}

struct Expected {
  Result<std::vector<Tensor>> tensors;
  std::vector<ConcreteType> types;
};

// The index of the first element that differs; -1 for none.
std::int64_t first_difference(const Tensor& expected, const std::byte* found, Exactness exactness) {
  double magnitude = 0.0;
  if (exactness == Exactness::inexact) {
    for (float v : expected.as<float>()) magnitude = std::max(magnitude, std::fabs(static_cast<double>(v)));
  }
  for (std::int64_t i = 0; i < expected.element_count(); ++i) {
    bool same = exactness == Exactness::exact ? same_element(expected.dtype(), expected.bytes().data(), found, i)
                                              : close_element(expected.bytes().data(), found, i, magnitude);
    if (!same) return i;
  }
  return -1;
}

std::string describe_case(const KernelRow& row, const Case& c) {
  std::string text = fmt::format("row {} of {}:", row.name, op_name(row.op));
  for (std::size_t i = 0; i < c.data.size(); ++i) {
    if (c.values[i] == nullptr) continue;
    text += fmt::format(" {}{}", dtype_name(c.data[i].dtype()), shape_to_string(c.data[i].shape()));
  }
  for (const auto& [name, value] : c.node->attributes()) {
    if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&value))
      text += fmt::format(" {}={}", name, shape_to_string(*ints));
    if (const auto* i = std::get_if<std::int64_t>(&value)) text += fmt::format(" {}={}", name, *i);
    if (const auto* b = std::get_if<bool>(&value)) text += fmt::format(" {}={}", name, *b);
    if (const auto* r = std::get_if<double>(&value)) text += fmt::format(" {}={}", name, *r);
    if (const auto* s = std::get_if<std::string>(&value)) text += fmt::format(" {}={}", name, *s);
    if (const auto* d = std::get_if<DType>(&value)) text += fmt::format(" {}={}", name, dtype_name(*d));
  }
  return text;
}

ThreadPool& pool_of(int threads) {
  static std::map<int, std::unique_ptr<ThreadPool>> pools;
  std::unique_ptr<ThreadPool>& pool = pools[threads];
  if (pool == nullptr) pool = std::make_unique<ThreadPool>(threads);
  return *pool;
}

enum class Buffers : std::uint8_t { separate, in_place };

void run_and_compare(const KernelRow& row, const Case& c, const Kernel& kernel, const Expected& expected, int threads,
                     Buffers buffers) {
  std::vector<const std::byte*> inputs;
  for (std::size_t i = 0; i < c.data.size(); ++i) {
    inputs.push_back(c.values[i] == nullptr ? nullptr : c.data[i].bytes().data());
  }
  std::deque<Guarded> outputs;
  std::vector<std::byte*> pointers;
  for (const ConcreteType& type : expected.types) {
    outputs.emplace_back(element_count(type) * element_bytes(type.dtype));
    pointers.push_back(outputs.back().data());
  }
  if (buffers == Buffers::in_place) {
    auto shared = static_cast<std::size_t>(kernel.in_place_input());
    std::span<const std::byte> bytes = c.data[shared].bytes();
    std::memcpy(pointers[0], bytes.data(), bytes.size());
    inputs[shared] = pointers[0];
  }
  Guarded scratch(static_cast<std::int64_t>(kernel.scratch_bytes()), 0xff);  // floats of NaN
  ThreadPool& pool = pool_of(threads);
  aoq::test::start_counting_allocations();
  Status status = kernel.run({inputs, pointers, scratch.data(), &pool});
  std::int64_t allocations = aoq::test::stop_counting_allocations();
  if (row.exactness == Exactness::exact && status.ok()) CHECK(allocations == 0);
  CHECK_MESSAGE(status.ok() == expected.tensors.ok(), status.message());
  CHECK(scratch.intact());
  for (Guarded& g : outputs) CHECK(g.intact());
  if (!status.ok() || !expected.tensors.ok()) return;
  for (std::size_t i = 0; i < pointers.size(); ++i) {
    std::int64_t at = first_difference((*expected.tensors)[i], pointers[i], row.exactness);
    if (at < 0) continue;
    const Tensor& want = (*expected.tensors)[i];
    FAIL_CHECK(fmt::format("result {} element {}: {} instead of {}, {} threads{}", i, at,
                           load_as_double(want.dtype(), pointers[i], at),
                           load_as_double(want.dtype(), want.bytes().data(), at), threads,
                           buffers == Buffers::in_place ? ", in place" : ""));
    return;
  }
}

// False when the row does not take this instance.
bool check_row(const KernelRow& row, Draw& draw) {
  Case c;
  REQUIRE_MESSAGE(generate(draw, row.op, &c), "no generator for " << op_name(row.op));
  Result<Node*> node = c.graph.create(row.op, c.values, c.attributes);
  REQUIRE_MESSAGE(node.ok(), op_name(row.op) << ": " << node.status().message());
  c.node = *node;
  INFO(describe_case(row, c));
  std::vector<ConcreteType> inputs = concrete(c.data);
  Expected expected{error(Code::internal, ""), {}};
  for (std::size_t i = 0; i < c.node->output_count(); ++i) {
    const Type& type = c.node->output(i)->type();
    expected.types.push_back({type.dtype, {}});
    for (const Dim& d : type.shape) expected.types.back().shape.push_back(d.constant());
  }
  bool computed = false;
  for (int threads : {1, 2, 3, 4}) {
    TestStore store;
    PrepareContext context{*c.node, inputs, expected.types, c.node->attributes(), store, threads, false};
    Result<std::unique_ptr<Kernel>> kernel = row.make(context);
    if (!kernel.ok()) {
      CHECK_MESSAGE(kernel.status().code() == Code::unsupported, kernel.status().message());
      return false;
    }
    if (!computed) expected.tensors = evaluate_node(*c.node, c.data);
    computed = true;
    run_and_compare(row, c, **kernel, expected, threads, Buffers::separate);
    if ((*kernel)->in_place_input() >= 0) run_and_compare(row, c, **kernel, expected, threads, Buffers::in_place);
  }
  return true;
}

bool is_here(const KernelRow& row) {
  if (row.isa <= best_isa()) return true;
  std::printf("[SKIP] no %.*s: row %.*s\n", static_cast<int>(isa_name(row.isa).size()), isa_name(row.isa).data(),
              static_cast<int>(row.name.size()), row.name.data());
  return false;
}

}  // namespace

TEST_CASE("every row equals the reference") {
  if (best_isa() < Isa::avx2) std::printf("[SKIP] no avx2: the rows run in their scalar form\n");
  std::string report;
  unsigned seed = 1;
  for (const KernelRow& row : kernel_rows()) {
    seed += 1;
    if (!is_here(row)) continue;
    Draw draw(seed);
    int taken = 0;
    constexpr int kTries = 60, kMostTries = 600, kWanted = 10;  // rows that take few instances are tried longer
    for (int i = 0; i < kTries || (taken < kWanted && i < kMostTries); ++i) {
      draw.large = i % 12 == 5;
      taken += check_row(row, draw) ? 1 : 0;
    }
    report += fmt::format(" {}/{}:{}", op_name(row.op), row.name, taken);
    CHECK_MESSAGE(taken > 0, "row " << row.name << " of " << op_name(row.op) << " was never exercised");
  }
  std::printf("rows and instances:%s\n", report.c_str());
}

TEST_CASE("a kernel made for one worker is run by several at once") {
  for (const KernelRow& row : kernel_rows()) {
    if (row.name != "conv_f32_onednn" || !is_here(row)) continue;
    Case c;
    Draw draw(11);
    c.input(random_tensor(draw, DType::f32, {1, 20, 20, 16}));
    c.constant(random_tensor(draw, DType::f32, {32, 16, 3, 3}));
    c.attributes.set("channels_last", true);
    const Node* node = c.graph.create(row.op, c.values, c.attributes).value();
    const std::vector<ConcreteType> inputs = concrete(c.data), outputs{{DType::f32, {1, 18, 18, 32}}};
    TestStore store;
    const std::unique_ptr<Kernel> kernel =
        row.make({*node, inputs, outputs, node->attributes(), store, 1, false}).value();
    auto run = [&] {
      Guarded scratch(static_cast<std::int64_t>(kernel->scratch_bytes())), y(18 * 18 * 32 * 4);
      const std::vector<const std::byte*> operands{c.data[0].bytes().data(), c.data[1].bytes().data()};
      const std::vector<std::byte*> results{y.data()};
      ThreadPool one(1);
      if (!kernel->run({operands, results, scratch.data(), &one}).ok() || !y.intact()) return std::vector<std::byte>();
      return std::vector<std::byte>(y.data(), y.data() + 18 * 18 * 32 * 4);
    };
    const std::vector<std::byte> expected = run();
    REQUIRE_FALSE(expected.empty());
    std::atomic<int> right{0};
    std::vector<std::thread> callers;
    for (int t = 0; t < 4; ++t) {
      callers.emplace_back([&] {
        for (int i = 0; i < 20; ++i) right += run() == expected ? 1 : 0;
      });
    }
    for (std::thread& t : callers) t.join();
    CHECK(right.load() == 80);
  }
}

namespace {

// A float kernel that must not be called.
KernelResult make_poison(const PrepareContext&) {
  return make_kernel([](const RunContext&) -> Status { return error(Code::internal, "a float row was used"); });
}

// Runs a graph node by node with the first row that takes each node.
Result<std::vector<Tensor>> run_graph(const Graph& graph, const CpuBackend& backend,
                                      const std::vector<Tensor>& inputs) {
  std::map<const Value*, Tensor> values;
  std::size_t next = 0;
  TestStore store;
  for (Node* node : graph.nodes()) {
    if (node->is(Op::input)) values[node->output()] = inputs[next++];
    if (node->is(Op::constant)) values[node->output()] = node->attributes().tensor("value");
    if (node->is(Op::output)) return std::vector<Tensor>{values.at(node->input(0))};
    if (node->def().has_trait(kStructural)) continue;
    std::vector<ConcreteType> types, results;
    std::vector<const std::byte*> pointers;
    for (const Value* v : node->inputs()) {
      types.push_back(v == nullptr ? ConcreteType{} : ConcreteType{values.at(v).dtype(), values.at(v).shape()});
      pointers.push_back(v == nullptr ? nullptr : values.at(v).bytes().data());
    }
    const Type& type = node->output()->type();
    results.push_back({type.dtype, {}});
    for (const Dim& d : type.shape) results[0].shape.push_back(d.constant());
    AOQ_ASSIGN(PreparedKernel prepared, backend.prepare({*node, types, results, node->attributes(), store, 2, false}));
    AOQ_ASSIGN(Tensor out, Tensor::make(results[0].dtype, results[0].shape));
    std::byte* target = out.mutable_bytes().data();
    Guarded scratch(static_cast<std::int64_t>(prepared.kernel->scratch_bytes()));
    AOQ_TRY(prepared.kernel->run({pointers, std::span(&target, 1), scratch.data(), &pool_of(2)}));
    values[node->output()] = std::move(out);
  }
  return error(Code::internal, "no output");
}

Value* create(Graph& graph, Op op, std::vector<Value*> inputs, Attributes attributes) {
  Result<Node*> node = graph.create(op, std::move(inputs), std::move(attributes));
  REQUIRE_MESSAGE(node.ok(), node.status().message());
  return (*node)->output();
}

// quantize, qconv (with a residual), depthwise qconv, qavg_pool, reshape, qlinear to f32.
Graph lowered_network(Draw& draw) {
  Graph graph;
  graph.stage = Stage::lowered;
  auto weight = [&](Shape shape) { return graph.constant(random_tensor(draw, DType::i8, std::move(shape))); };
  auto scales = [&](std::int64_t n) { return graph.constant(random_tensor(draw, DType::f32, {n}, Values::positive)); };
  Value* x = graph.input("x", Type{DType::f32, {1, 12, 12, 16}, std::nullopt});
  x = create(graph, Op::quantize, {x}, {{"dtype", DType::u8}, {"scale", 0.02}, {"zero_point", std::int64_t{128}}});
  // The quantized type of the stub ends here: lowered nodes read plain codes.
  Attributes conv = {{"channels_last", true},
                     {"pads", std::vector<std::int64_t>{1, 1, 1, 1}},
                     {"x_scale", 0.02},
                     {"x_zero_point", std::int64_t{128}},
                     {"out_dtype", DType::u8},
                     {"out_scale", 40.0},
                     {"out_zero_point", std::int64_t{100}},
                     {"activation", std::string("relu")},
                     {"residual_scale", 0.5},
                     {"residual_zero_point", std::int64_t{3}}};
  Value* y = create(graph, Op::qconv, {x, weight({16, 16, 3, 3}), scales(16), nullptr, x}, conv);
  conv.set("groups", std::int64_t{16});
  y = create(graph, Op::qconv, {y, weight({16, 1, 3, 3}), scales(16)}, conv);
  y = create(graph, Op::qavg_pool, {y},
             {{"channels_last", true},
              {"kernel", std::vector<std::int64_t>{12, 12}},
              {"x_scale", 0.1},
              {"out_dtype", DType::u8},
              {"out_scale", 0.1},
              {"out_zero_point", std::int64_t{0}}});
  y = create(graph, Op::reshape, {y}, {{"shape", std::vector<Dim>{1, 16}}});
  y = create(graph, Op::qlinear, {y, weight({10, 16}), scales(10)}, {{"x_scale", 0.1}, {"out_dtype", DType::f32}});
  REQUIRE(graph.output({y}, {"y"}).ok());
  return graph;
}

}  // namespace

TEST_CASE("integer nodes do not use the float rows") {
  Draw draw(77);
  Graph graph = lowered_network(draw);
  std::vector<Tensor> inputs{random_tensor(draw, DType::f32, {1, 12, 12, 16})};
  Result<std::vector<Tensor>> clean = run_graph(graph, CpuBackend(), inputs);
  REQUIRE_MESSAGE(clean.ok(), clean.status().message());

  std::vector<KernelRow> poisoned(kernel_rows().begin(), kernel_rows().end());
  for (KernelRow& row : poisoned) {
    bool is_float_row = row.op == Op::conv || row.op == Op::linear || row.op == Op::matmul ||
                        row.op == Op::dequantize || row.op == Op::avg_pool;
    if (is_float_row) row.make = make_poison;
  }
  Result<std::vector<Tensor>> guarded = run_graph(graph, CpuBackend(best_isa(), poisoned), inputs);
  REQUIRE_MESSAGE(guarded.ok(), guarded.status().message());
  CHECK(std::memcmp((*clean)[0].bytes().data(), (*guarded)[0].bytes().data(), (*clean)[0].bytes().size()) == 0);
  CHECK(first_difference((*ReferenceExecutor().prepare(graph))->run(inputs, {}).value()[0], (*clean)[0].bytes().data(),
                         Exactness::exact) < 0);

  // The poison works: a float node meets it.
  Graph float_graph;
  Value* x = float_graph.input("x", Type{DType::f32, {4, 16}, std::nullopt});
  Value* y = create(float_graph, Op::linear, {x, float_graph.constant(random_tensor(draw, DType::f32, {8, 16}))}, {});
  REQUIRE(float_graph.output({y}, {"y"}).ok());
  std::vector<Tensor> rows{random_tensor(draw, DType::f32, {4, 16})};
  CHECK_FALSE(run_graph(float_graph, CpuBackend(best_isa(), poisoned), rows).ok());
}

TEST_CASE("preferred layouts name what the kernel reads") {
  Draw draw(5);
  Graph graph;
  Value* x = graph.input("x", Type{DType::u8, {Dim::symbol("N"), 8, 8, 16}, std::nullopt});
  Value* w = graph.constant(random_tensor(draw, DType::i8, {32, 4, 3, 3}));
  Value* s = graph.constant(random_tensor(draw, DType::f32, {32}, Values::positive));
  Value* y = create(graph, Op::qconv, {x, w, s},
                    {{"channels_last", true}, {"groups", std::int64_t{4}}, {"x_scale", 0.1}, {"out_scale", 3.0}});
  CHECK(CpuBackend(Isa::avx2).preferred_layout(*y->def(), 1, "") == "s8_k4_n16_safe.g4");
  CHECK(CpuBackend(Isa::avx512_vnni).preferred_layout(*y->def(), 1, "") == "s8_k4_n16.g4");
  CHECK(CpuBackend().preferred_layout(*y->def(), 0, "").empty());
  CHECK(CpuTarget().supports(*y->def()).ok());
  y->def()->set_attribute("channels_last", false);
  CHECK_FALSE(CpuTarget().supports(*y->def()).ok());
}

TEST_CASE("panels of words that cannot saturate have each word once, and not too many") {
  const CpuBackend backend;
  Draw draw(7);
  const Tensor plain = random_tensor(draw, DType::i8, {20, 40});
  std::vector<std::byte> packed = backend.pack(plain, "s8_k4_n16_safe").value();
  REQUIRE(backend.unpack(packed, DType::i8, plain.shape(), "s8_k4_n16_safe").ok());
  // Behind the 16 sums and 3 counts of the second panel: the numbers of its first two words.
  std::byte* const numbers = packed.data() + packed.size() / 2 + 64 + 6;
  std::memcpy(numbers, numbers + 2, 2);
  CHECK(backend.unpack(packed, DType::i8, plain.shape(), "s8_k4_n16_safe").status().code() == Code::invalid_model);
  const Tensor deep = Tensor::make(DType::i8, {1, 300000}).value();
  CHECK(backend.pack(deep, "s8_k4_n16_safe").status().code() == Code::unsupported);
}

TEST_CASE("attention without elements in its result needs no memory, whatever its shapes") {
  constexpr std::int64_t kMany = std::int64_t{1} << 30;
  const std::vector<Shape> shapes[] = {{{1, kMany, 1, 0}, {1, kMany, 1, 0}, {1, kMany, 1, 0}},
                                       {{1, kMany, 0, kMany}, {1, kMany, 0, kMany}, {1, kMany, 0, kMany}},
                                       {{0, kMany, 1, kMany}, {0, kMany, 1, kMany}, {0, kMany, 1, kMany}}};
  for (const std::vector<Shape>& of_inputs : shapes) {
    for (const char* arithmetic : {"f32", "int8"}) {
      Case c;
      for (const Shape& shape : of_inputs) c.input(Tensor::make(DType::f32, shape).value());
      c.absent();
      c.attributes.set("arithmetic", std::string(arithmetic));
      const Node* node = c.graph.create(Op::attention, c.values, c.attributes).value();
      TestStore store;
      const std::vector<ConcreteType> inputs = concrete(c.data), outputs{inputs[0]};
      const PreparedKernel prepared =
          CpuBackend().prepare({*node, inputs, outputs, node->attributes(), store, 2, true}).value();
      CHECK(prepared.kernel->scratch_bytes() == 0);
      const std::vector<const std::byte*> operands(4, nullptr);
      const std::vector<std::byte*> results(1, nullptr);
      CHECK(prepared.kernel->run({operands, results, nullptr, &pool_of(2)}).ok());
    }
  }
}

TEST_CASE("narrow weights and their scales have layouts") {
  if (best_isa() < Isa::avx2) return;
  Draw draw(6);
  Graph graph;
  Value* x = graph.input("x", Type{DType::f32, {Dim::symbol("N"), 64}, std::nullopt});
  Value* s = graph.constant(random_tensor(draw, DType::f32, {20, 2}, Values::positive));
  for (Op op : {Op::linear_weight_only, Op::linear_dynamic}) {
    for (DType type : {DType::i4, DType::u2, DType::u8, DType::i5}) {
      Value* w = graph.constant(random_tensor(draw, type, {20, 64}));
      Value* y = create(graph, op, {x, w, s}, {{"group", std::int64_t{32}}});
      CHECK(CpuBackend().preferred_layout(*y->def(), 1, "") ==
            (dtype_info(type).bits <= 4 ? "n4_k8_n16" : "b8_k4_n16"));
      CHECK(CpuBackend().preferred_layout(*y->def(), 2, "") == "f32_n16");
      CHECK(CpuTarget(CpuBackend(Isa::avx2)).supports(*y->def()).ok());
    }
  }
}

}  // namespace aoq::cpu::test
