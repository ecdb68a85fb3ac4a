// A program that brings a pass, an op with its code (a region class) and a kernel for it, and changes nothing here.
//
//   add(mul(x, c), d)   =>   region(x, c, d) {class = "example.scale_shift"}   run by a kernel of the program's own
#include <cstdio>

#include "backends/cpu/backend.h"
#include "formats/aoq/aoq.h"
#include "ir/region.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "runtime/session.h"

namespace {

using namespace aoq;

constexpr const char* kClass = "example.scale_shift";

// The op: types, and what it means.
RegionClass scale_shift() {
  RegionClass region;
  region.name = kClass;
  region.doc = "x * scale + shift, all of one shape, f32.";
  region.infer = [](const InferContext& c) -> Result<std::vector<Type>> {
    if (c.inputs.size() != 3)
      return error(Code::invalid_model, "has {} inputs, expected x, scale, shift", c.inputs.size());
    for (std::size_t i = 0; i < 3; ++i) {
      if (!c.has(i) || !(c.input(i) == c.input(0)) || c.input(i).dtype != DType::f32) {
        return error(Code::invalid_model, "expected three inputs of one f32 type");
      }
    }
    return std::vector<Type>{c.input(0)};
  };
  region.reference = [](const EvalContext& c) -> Status {
    const auto* x = reinterpret_cast<const float*>(c.inputs[0].data);
    const auto* scale = reinterpret_cast<const float*>(c.inputs[1].data);
    const auto* shift = reinterpret_cast<const float*>(c.inputs[2].data);
    auto* y = reinterpret_cast<float*>(c.outputs[0].data);
    for (std::int64_t i = 0; i < c.outputs[0].element_count(); ++i) y[i] = x[i] * scale[i] + shift[i];
    return {};
  };
  return region;
}

// The pass.
Result<bool> make_regions(Graph& graph, PassContext&) {
  bool changed = false;
  for (Node* add : graph.nodes()) {
    if (!add->is(Op::add) || !add->input(0)->def()->is(Op::mul) || !add->input(0)->has_one_use()) continue;
    const Node* mul = add->input(0)->def();
    std::vector<Value*> inputs{mul->input(0), mul->input(1), add->input(1)};
    Result<Node*> region = graph.create_like(*add, Op::region, inputs, {{"class", std::string(kClass)}}, add);
    if (!region.ok()) continue;  // types that the class does not take
    graph.replace_uses(add->output(), (*region)->output());
    changed = true;
  }
  return changed;
}
constexpr PassDef kMakeRegions = {
    .name = "example-scale-shift", .summary = "Makes x * c + d one region.", .run = make_regions};

// The kernel.
int kernel_runs = 0;

class ScaleShift : public Kernel {
 public:
  explicit ScaleShift(std::int64_t n) : n_(n) {}
  Status run(const RunContext& c) const override {
    ++kernel_runs;
    const auto* x = reinterpret_cast<const float*>(c.inputs[0]);
    const auto* scale = reinterpret_cast<const float*>(c.inputs[1]);
    const auto* shift = reinterpret_cast<const float*>(c.inputs[2]);
    auto* y = reinterpret_cast<float*>(c.outputs[0]);
    for (std::int64_t i = 0; i < n_; ++i) y[i] = x[i] * scale[i] + shift[i];
    return {};
  }
  int in_place_input() const override { return 0; }

 private:
  std::int64_t n_;
};

Result<std::unique_ptr<Kernel>> make_scale_shift(const PrepareContext& context) {
  if (context.attributes.string("class") != kClass) return error(Code::unsupported, "another region class");
  std::int64_t n = 1;
  for (std::int64_t d : context.outputs[0].shape) n *= d;
  return std::unique_ptr<Kernel>(std::make_unique<ScaleShift>(n));
}

Status run() {
  AOQ_TRY(register_region(scale_shift()));
  AOQ_TRY(register_pass(&kMakeRegions));
  AOQ_TRY(cpu::register_kernel(
      {Op::region, "example_scale_shift_f32", cpu::Isa::reference, cpu::Exactness::exact, make_scale_shift}));

  AOQ_ASSIGN(Graph graph, parse_text("aoqir 1 traced\n%0 = input() {dtype=f32, name=\"x\", shape=[2]}\n"
                                     "%1 = constant() {value=f32[2]{2, 3}}\n%2 = constant() {value=f32[2]{10, 20}}\n"
                                     "%3 = mul(%0, %1)\n%4 = add(%3, %2)\noutput(%4) {names=[\"y\"]}\n",
                                     {}));
  PassContext context;
  const std::string names[] = {"example-scale-shift", "dce"};
  AOQ_ASSIGN(bool changed, run_passes(graph, names, context));
  if (!changed) return error(Code::check_failed, "the pass found nothing");
  std::printf("%s\n", print_text(graph).text.c_str());

  // Through a file and back: the file has the name, this program the code.
  AOQ_ASSIGN(std::vector<std::byte> file, write_aoq(graph));
  ModelOptions options;
  options.backends = {std::make_shared<const CpuBackend>()};
  options.threads = 1;
  AOQ_ASSIGN(std::shared_ptr<const Model> model, Model::from_bytes(file, nullptr, options));
  AOQ_ASSIGN(Session session, Session::create(model));
  const float x[] = {1, 2};
  const std::int64_t shape[] = {2};
  const TensorView inputs[] = {{DType::f32, shape, reinterpret_cast<const std::byte*>(x)}};
  AOQ_ASSIGN(std::span<const TensorView> results, session.run(inputs));
  const auto* y = reinterpret_cast<const float*>(results[0].data);
  AOQ_ASSIGN(PlanInfo plan, session.describe({{2}}));
  std::printf("y = %g %g, by %s\n", static_cast<double>(y[0]), static_cast<double>(y[1]),
              plan.steps.back().row.c_str());
  const bool is_right =
      y[0] == 12.0f && y[1] == 26.0f && kernel_runs == 1 && plan.steps.back().row == "example_scale_shift_f32";
  return is_right ? Status() : error(Code::check_failed, "expected 12 and 26 from example_scale_shift_f32");
}

}  // namespace

int main() {
  const Status status = run();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
