#include "ir/region.h"

#include <doctest/doctest.h>

#include "ir/error_id.h"
#include "ir/interpreter.h"
#include "ir/text.h"
#include "ir/verifier.h"

namespace aoq {
namespace {

// x + state, as code that was never traced.
RegionClass add_state() {
  RegionClass region;
  region.name = "test.add_state";
  region.doc = "Adds its state.";
  region.infer = [](const InferContext& c) -> Result<std::vector<Type>> {
    if (!c.has(1)) return error(Code::invalid_model, "the state is missing");
    return std::vector<Type>{c.input(0)};
  };
  region.reference = [](const EvalContext& c) -> Status {
    for (std::int64_t i = 0; i < c.outputs[0].element_count(); ++i) {
      const double sum =
          load_as_double(DType::f32, c.inputs[0].data, i) + load_as_double(DType::f32, c.inputs[1].data, i);
      store_from_double(DType::f32, c.outputs[0].data, i, sum);
    }
    return {};
  };
  return region;
}

const char* kText =
    "aoqir 1 traced\n%0 = input() {dtype=f32, name=\"x\", shape=[2]}\n%1 = constant() {value=f32[2]{10, 20}}\n"
    "%2 = region(%0, %1) {class=\"test.add_state\"}\noutput(%2) {names=[\"y\"]}\n";

TEST_CASE("a region runs by its class, and cannot be read without it") {
  Result<Graph> unknown = parse_text(kText, {});
  REQUIRE(!unknown.ok());
  CHECK(unknown.status().code() == Code::unsupported);
  CHECK(unknown.status().message().find("\"test.add_state\" is not registered") != std::string::npos);

  REQUIRE(register_region(add_state()).ok());
  CHECK(register_region(add_state()).code() == Code::invalid_argument);
  CHECK(register_region({}).code() == Code::invalid_argument);
  REQUIRE(find_region("test.add_state") != nullptr);

  Result<Graph> graph = parse_text(kText, {});
  REQUIRE(graph.ok());
  REQUIRE(verify(*graph).ok());
  ReferenceExecutor executor;
  Result<std::unique_ptr<Executable>> executable = executor.prepare(*graph);
  REQUIRE(executable.ok());
  const float x[] = {1, 2};
  std::vector<Tensor> inputs{Tensor::from_values<float>(DType::f32, {2}, x).value()};
  Result<std::vector<Tensor>> results = (*executable)->run(inputs, {});
  REQUIRE(results.ok());
  CHECK((*results)[0].as<float>()[0] == 11.0f);
  CHECK((*results)[0].as<float>()[1] == 22.0f);

  const std::string bad = std::string(kText).replace(std::string(kText).find("(%0, %1)"), 8, "(%0)");
  Result<Graph> refused = parse_text(bad, {});
  REQUIRE(!refused.ok());
  CHECK(refused.status().message().find("test.add_state: the state is missing") != std::string::npos);
}

TEST_CASE("an error keeps its number through context and copies, and out of memory needs none") {
  Status status = error(ErrorId::aoq_damaged, "it has {} bytes", 3);
  CHECK(status.code() == Code::invalid_model);
  Status copy = std::move(status).with_context("load");
  CHECK(copy.id() == ErrorId::aoq_damaged);
  CHECK(error_number(copy.id()) == "AOQ-0302");
  CHECK(error(Code::io_error, "x").id() == ErrorId::io_error);
  Status memory = Status::out_of_memory();
  Status second = memory;
  Status longer = std::move(second).with_context("load a model with quite a long name");
  CHECK(longer.code() == Code::resource_limit);
  CHECK(longer.message() == "load a model with quite a long name: out of memory");
  CHECK(Status::out_of_memory().message() == "out of memory");
  int last = 0;
  for (const ErrorInfo& e : all_errors()) {
    CHECK(static_cast<int>(e.id) > last);
    last = static_cast<int>(e.id);
    CHECK(find_error(error_number(e.id)) == &e);
    CHECK(find_error(e.name) == &e);
  }
  CHECK(find_error("AOQ-9999") == nullptr);
}

}  // namespace
}  // namespace aoq
