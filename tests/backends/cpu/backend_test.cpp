#include "backends/cpu/backend.h"

#include <doctest/doctest.h>

#include "runtime/kernel_choice.h"
#include "runtime/session.h"

namespace aoq {
namespace {

using cpu::Exactness;
using cpu::Isa;
using cpu::KernelRow;

class Nothing : public Kernel {
 public:
  Status run(const RunContext&) const override { return {}; }
};

Result<std::unique_ptr<Kernel>> take(const PrepareContext&) {
  return std::unique_ptr<Kernel>(std::make_unique<Nothing>());
}
Result<std::unique_ptr<Kernel>> refuse(const PrepareContext&) {
  return error(Code::unsupported, "odd shapes only");
}
Result<std::unique_ptr<Kernel>> fail(const PrepareContext&) {
  return error(Code::resource_limit, "no memory");
}
Result<std::unique_ptr<Kernel>> take_packed(const PrepareContext& c) {
  AOQ_TRY(c.store.packed(*c.node.input(1), "same").status());
  return take(c);
}
Result<std::vector<std::byte>> pack_same(const Tensor& t, std::int64_t) {
  return std::vector<std::byte>(t.bytes().begin(), t.bytes().end());
}
Result<Tensor> unpack_same(const cpu::PackedConstant& c) {
  return Tensor::copy_of(c.dtype, {c.shape.begin(), c.shape.end()}, c.bytes);
}

constexpr KernelRow kRows[] = {
    {Op::relu, "relu_avx2", Isa::avx2, Exactness::exact, take},
    {Op::relu, "relu_odd", Isa::reference, Exactness::exact, refuse},
    {Op::relu, "relu_rough", Isa::reference, Exactness::inexact, take},
    {Op::add, "add_packed", Isa::reference, Exactness::exact, take_packed},
    {Op::exp, "exp_fails", Isa::reference, Exactness::exact, fail},
};
constexpr cpu::LayoutRow kLayouts[] = {{"same", pack_same, unpack_same}};

CpuBackend backend(Isa isa) {
  return CpuBackend(isa, kRows, kLayouts);
}

Graph graph_of(Op op) {
  Graph g;
  g.symbols["N"] = {};
  Value* x = g.input("x", Type{DType::f32, {Dim::symbol("N"), 4}, std::nullopt});
  std::vector<Value*> operands{x};
  if (op == Op::add) operands.push_back(g.constant(Tensor::make(DType::f32, {4}).value()));
  REQUIRE(g.output({g.create(op, operands).value()->output()}, {"y"}).ok());
  return g;
}

// `chosen` is recorded in the graph, unless it is empty.
Result<StepInfo> step_of(Op op, Isa isa, bool deterministic, const std::string& chosen = "") {
  ModelOptions options;
  options.backends = {std::make_shared<CpuBackend>(backend(isa))};
  options.threads = 1;
  options.deterministic = deterministic;
  Graph graph = graph_of(op);
  if (!chosen.empty()) graph.metadata[kernel_choice_key(*graph.output_node()->previous())] = chosen;
  AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_graph(std::move(graph), options));
  AOQ_ASSIGN(Session session, Session::create(std::move(model)));
  AOQ_ASSIGN(PlanInfo info, session.describe({{2, 4}}));
  return info.steps.at(0);
}

const Node& last_step(const Graph& g) {
  return *g.output_node()->previous();
}

TEST_CASE("the first row that takes the node wins, and the others say why not") {
  StepInfo best = step_of(Op::relu, Isa::avx2, false).value();
  CHECK(best.row == "relu_avx2");
  CHECK(best.refused.empty());
  StepInfo rough = step_of(Op::relu, Isa::reference, false).value();
  CHECK(rough.row == "relu_rough");
  CHECK(rough.inexact);
  REQUIRE(rough.refused.size() == 2);
  CHECK(rough.refused[0].reason == "needs avx2, this is reference");
  CHECK(rough.refused[1].reason == "odd shapes only");
}

TEST_CASE("deterministic leaves inexact rows out and ends in the reference") {
  StepInfo step = step_of(Op::relu, Isa::reference, true).value();
  CHECK(step.row == "reference");
  CHECK(!step.inexact);
  CHECK(step.refused.size() == 3);
}

TEST_CASE("a row that was chosen when the model was compiled comes first") {
  StepInfo step = step_of(Op::relu, Isa::avx2, false, "relu_rough").value();
  CHECK(step.row == "relu_rough");
  CHECK(step.inexact);
  CHECK(step.refused.empty());
}

TEST_CASE("a chosen row that cannot be had gives way to the usual order, and says why") {
  StepInfo other_machine = step_of(Op::relu, Isa::reference, false, "relu_avx2").value();
  CHECK(other_machine.row == "relu_rough");
  REQUIRE(other_machine.refused.size() == 2);
  CHECK(other_machine.refused[0].row == "relu_avx2");
  CHECK(other_machine.refused[0].reason == "needs avx2, this is reference (it was chosen when the model was tuned)");
  StepInfo deterministic = step_of(Op::relu, Isa::avx2, true, "relu_rough").value();
  CHECK(deterministic.row == "relu_avx2");
  CHECK(deterministic.refused[0].row == "relu_rough");
  StepInfo unfit = step_of(Op::relu, Isa::avx2, false, "relu_odd").value();
  CHECK(unfit.row == "relu_avx2");
  CHECK(unfit.refused[0].reason == "odd shapes only (it was chosen when the model was tuned)");
  StepInfo unknown = step_of(Op::relu, Isa::avx2, false, "relu_of_tomorrow").value();
  CHECK(unknown.row == "relu_avx2");
  REQUIRE(unknown.refused.size() == 1);
  CHECK(unknown.refused[0].reason == "is not in this build (it was chosen when the model was tuned)");
  StepInfo other_op = step_of(Op::relu, Isa::avx2, false, "add_packed").value();
  CHECK(other_op.row == "relu_avx2");
}

TEST_CASE("an error that is no refusal is passed on") {
  Status status = step_of(Op::exp, Isa::avx2, false).status();
  CHECK(status.code() == Code::resource_limit);
  CHECK(status.message().find("exp_fails") != std::string::npos);
}

TEST_CASE("the target knows ops with rows, at unknown dimensions too") {
  CpuTarget target(backend(Isa::avx2));
  const Graph relu = graph_of(Op::relu), add = graph_of(Op::add), sigmoid = graph_of(Op::sigmoid);
  CHECK(target.supports(last_step(relu)).ok());
  CHECK(target.supports(last_step(add)).ok());
  CHECK(target.supports(last_step(sigmoid)).code() == Code::unsupported);
}

TEST_CASE("the preferred layout is the one the row asks for") {
  const Graph add = graph_of(Op::add), relu = graph_of(Op::relu);
  CHECK(backend(Isa::avx2).preferred_layout(last_step(add), 1, "") == "same");
  CHECK(backend(Isa::avx2).preferred_layout(last_step(add), 0, "").empty());
  CHECK(backend(Isa::avx2).preferred_layout(last_step(relu), 0, "").empty());
  CHECK(backend(Isa::avx2).preferred_layout(last_step(add), 1, "add_of_tomorrow") == "same");
  CHECK(backend(Isa::avx2).pack(Tensor::make(DType::f32, {2}).value(), "other").status().code() == Code::unsupported);
}

TEST_CASE("every op with a reference has a last row") {
  for (const OpDef* def : all_ops()) {
    if (def == nullptr || def->has_trait(kStructural)) continue;
    CAPTURE(def->name);
    CHECK((def->reference != nullptr));
  }
}

}  // namespace
}  // namespace aoq
