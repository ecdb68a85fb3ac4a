// Models that PyTorch quantized with a standalone module in them (tests/data/standalone): the same observers, scales,
// integer weights and results.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "formats/io/file.h"
#include "formats/json/json.h"
#include "formats/npy/npy.h"
#include "ir/interpreter.h"
#include "ir/nn/modules.h"
#include "passes/fx/workflow.h"
#include "passes/quantize/quantize.h"
#include "passes/rewrite/common.h"

namespace aoq {
namespace {

using nn::Proxy;

const std::string kFolder = AOQ_SOURCE "/tests/data/standalone/";

struct Batches : CalibrationData {
  explicit Batches(std::vector<Tensor> b) : batches(std::move(b)) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (at == batches.size()) return false;
    batch = {batches[at++]};
    return true;
  }
  std::vector<Tensor> batches;
  std::size_t at = 0;
};

struct LinearBlock : nn::Module {
  using Module::Module;
  nn::Linear fc1{at("fc1"), 6, 8}, fc2{at("fc2"), 8, 6};
  const char* type_name() const override { return "LinearBlock"; }
  Proxy forward(const Proxy& x) override { return fc2(nn::F::relu(fc1(x))); }
};

struct ConvBlock : nn::Module {
  using Module::Module;
  nn::Conv2d conv1{at("conv1"), 4, 5, {3}, {.padding = {1}}}, conv2{at("conv2"), 5, 4, {1}};
  const char* type_name() const override { return "ConvBlock"; }
  Proxy forward(const Proxy& x) override { return conv2(nn::F::relu(conv1(x))) + x; }
};

struct Linears : nn::Module {
  nn::Linear a{at("a"), 6, 6};
  LinearBlock block{at("block")};
  nn::Linear b{at("b"), 6, 3};
  Proxy forward(const Proxy& x) override { return b(block(a(x))); }
};

struct Convs : nn::Module {
  nn::Conv2d a{at("a"), 3, 4, {3}, {.padding = {1}}};
  ConvBlock block{at("block")};
  nn::Conv2d b{at("b"), 4, 2, {1}};
  Proxy forward(const Proxy& x) override { return b(block(a(x))); }
};

struct First : nn::Module {
  LinearBlock block{at("block")};
  nn::Linear b{at("b"), 6, 3};
  Proxy forward(const Proxy& x) override { return b(block(x).reshape({4, 6})); }
};

struct Last : nn::Module {
  nn::Linear a{at("a"), 6, 6};
  LinearBlock block{at("block")};
  Proxy forward(const Proxy& x) override { return block(a(x)); }
};

struct Shares : nn::Module {
  nn::Linear a{at("a"), 6, 6};
  LinearBlock block{at("block")};
  nn::Linear b{at("b"), 6, 3};
  Proxy forward(const Proxy& x) override { return b(block(a(x)).reshape({4, 6})); }
};

std::unique_ptr<nn::Module> make_model(const std::string& name) {
  if (name == "Linears") return std::make_unique<Linears>();
  if (name == "Convs") return std::make_unique<Convs>();
  if (name == "First") return std::make_unique<First>();
  if (name == "Last") return std::make_unique<Last>();
  return std::make_unique<Shares>();
}

class PyTorchCase {
 public:
  PyTorchCase(const Json& json, const NpzReader& arrays) : json_(json), arrays_(arrays) {}

  std::string text(const char* key) const { return json_string(json_, key).value(); }
  const Json& json() const { return json_; }
  Tensor array(const std::string& name) const { return arrays_.read(text("id") + "." + name).value(); }
  Tensor batch(int i) const { return array("batch" + std::to_string(i)); }

  Graph trace() const {
    const std::unique_ptr<nn::Module> model = make_model(text("model"));
    nn::StateDict state;
    for (const auto& [name, parameter] : model->parameters()) state[name] = array("state." + name);
    REQUIRE(model->load_state(state).ok());
    Type t;
    const Tensor x = batch(0);
    t.shape.assign(x.shape().begin(), x.shape().end());
    Result<Graph> graph = nn::symbolic_trace(*model, {"x", t});
    REQUIRE_MESSAGE(graph.ok(), graph.status().message());
    return std::move(*graph);
  }

  Recipe recipe() const {
    Json inner = nullptr;
    if (json_["inner"] != "inherit") {
      inner = Json{{"object_type", Json::array()},
                   {"global", json_["inner"]},
                   {"quantized_inputs", json_["inq"]},
                   {"quantized_outputs", json_["outq"]}};
    }
    Json json{{"backend", "fbgemm"}, {"object_type", Json::array()}, {"global", json_["outer"]}};
    if (!json_["null"].is_null()) json["module_name"] = Json::array({Json::array({json_["null"], nullptr})});
    const bool by_name = text("by") == "name";
    json[by_name ? "standalone_module_name" : "standalone_module_class"] =
        Json::array({Json::array({by_name ? "block" : text("block"), inner})});
    Result<Recipe> recipe = parse_recipe(dump_json(json));
    REQUIRE_MESSAGE(recipe.ok(), recipe.status().message());
    CHECK(print_recipe(parse_recipe(print_recipe(*recipe)).value()) == print_recipe(*recipe));
    return std::move(*recipe);
  }

 private:
  const Json& json_;
  const NpzReader& arrays_;
};

// What an observer observes, as the cases name it: "border" is what a standalone module reads.
std::string observed(const Node& o) {
  const bool is_inside = o.attributes().string("observer").starts_with("block.");
  const Node& def = *o.input(0)->def();
  if (is_inside && !def.scope.path.starts_with("block")) return "border";
  if (def.is(Op::input)) return "input";
  if (def.is(Op::observe)) return is_inside ? "border" : "block";
  if (def.scope.callee.empty()) return def.scope.path;
  return (def.scope.path.empty() ? "" : def.scope.path + ".") + def.origins[0];
}

void check_places(const PyTorchCase& c, const Graph& graph) {
  std::vector<std::pair<std::string, std::string>> found, expected;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::observe) && !n->input(0)->def()->is(Op::constant)) {
      found.emplace_back(n->attributes().string("observer"), observed(*n));
    }
  }
  for (const Json& place : c.json()["places"]) expected.emplace_back(place[0], place[1]);
  std::ranges::sort(found);
  std::ranges::sort(expected);
  CHECK(found == expected);
}

// "kind | name | target" of every line but placeholders, whose names a module does not tell, and of the module's graph
// behind the line that begins it.
void check_text(const PyTorchCase& c, const Graph& graph) {
  std::string expected;
  for (const char* part : {"prepared", "prepared_block"}) {
    if (std::string_view(part) == "prepared_block") expected += "standalone block:\n";
    for (const Json& line : c.json()[part]) {
      const std::string text = line.get<std::string>();
      if (!text.starts_with("placeholder")) expected += text + "\n";
    }
  }
  std::string found, printed = fx::print_fx(graph);
  for (std::size_t at = 0; at < printed.size(); at = printed.find('\n', at) + 1) {
    const std::string line = printed.substr(at, printed.find('\n', at) - at);
    if (!line.starts_with("placeholder")) found += line.substr(0, line.find(" | (")) + "\n";
  }
  CHECK(found == expected);
}

void check_observers(const PyTorchCase& c, const Ranges& ranges) {
  const auto names = c.json()["observers"].get<std::vector<std::string>>();
  const Tensor scales = c.array("scales"), zero_points = c.array("zero_points");
  // Weights have observers too.
  CHECK(std::ranges::count_if(ranges.observers, [](const auto& o) { return !o.first.ends_with(".weight"); }) ==
        std::ssize(names));
  for (std::size_t i = 0; i < names.size(); ++i) {
    CAPTURE(names[i]);
    const auto found = ranges.observers.find(names[i]);
    REQUIRE(found != ranges.observers.end());
    const QParams q = found->second->qparams().value();
    // Sums of products in another order: ranges differ in their last bits.
    CHECK(q.scale[0] == doctest::Approx(scales.as<float>()[i]).epsilon(1e-5));
    CHECK(q.zero_point[0] == zero_points.as<std::int32_t>()[i]);
  }
}

void check_weights(const PyTorchCase& c, const Graph& graph) {
  for (const Node* n : graph.nodes()) {
    if (!rewrite::is_one_of(*n, {Op::linear, Op::conv})) continue;
    CAPTURE(n->scope.path);
    const Node& dq = *n->input(1)->def();
    const Json& outer = c.json()["outer"];
    const Json& own = n->scope.path.starts_with("block") && c.json()["inner"] != "inherit" ? c.json()["inner"] : outer;
    REQUIRE(dq.is(Op::dequantize) == !own.is_null());
    if (own.is_null()) continue;
    const Tensor codes = c.array("codes." + n->scope.path), scale = c.array("scale." + n->scope.path);
    CHECK(std::ranges::equal(codes.bytes(), constant_tensor(dq.input(0))->bytes()));
    CHECK(std::ranges::equal(scale.as<float>(), constant_tensor(dq.input(1))->as<float>()));
  }
}

void check_result(const PyTorchCase& c, const Graph& graph, const Ranges& ranges) {
  ReferenceExecutor executor;
  const std::unique_ptr<Executable> executable = executor.prepare(graph).value();
  const std::vector<Tensor> batch{c.batch(3)};
  const Tensor found = executable->run(batch).value()[0], expected = c.array("y");
  REQUIRE(found.shape() == expected.shape());
  double step = 1e-5;
  if (!c.json()["result"].is_null()) {
    step = static_cast<double>(ranges.observers.at(c.text("result"))->qparams().value().scale[0]);
  }
  std::size_t equal = 0;
  for (std::size_t i = 0; i < expected.as<float>().size(); ++i) {
    const double apart =
        std::fabs(static_cast<double>(found.as<float>()[i]) - static_cast<double>(expected.as<float>()[i]));
    CHECK(apart < step * 1.01);
    equal += apart < step * 0.01;
  }
  CHECK(static_cast<double>(equal) >= 0.99 * static_cast<double>(expected.element_count()));
}

TEST_CASE("standalone modules are PyTorch's") {
  const std::shared_ptr<const MappedFile> list = MappedFile::open(kFolder + "cases.json").value();
  const std::shared_ptr<const MappedFile> bytes = MappedFile::open(kFolder + "cases.npz").value();
  const NpzReader arrays = NpzReader::open(bytes->bytes(), bytes).value();
  const Json cases = parse_json({reinterpret_cast<const char*>(list->bytes().data()), list->bytes().size()}).value();
  CHECK(cases.size() == 13);
  for (const Json& json : cases) {
    const PyTorchCase c(json, arrays);
    CAPTURE(c.text("id"));
    Graph graph = c.trace();
    const Recipe recipe = c.recipe();
    Batches data({c.batch(0), c.batch(1), c.batch(2)});
    Ranges ranges;
    QuantizeOptions options;
    options.data = &data;
    options.ranges = &ranges;
    options.last = Stage::prepared;
    Status done = quantize(graph, recipe, options);
    REQUIRE_MESSAGE(done.ok(), done.message());
    check_places(c, graph);
    check_text(c, graph);
    for (const Stage last : {Stage::quantized, Stage::lowered}) {
      options.last = last;
      done = quantize(graph, recipe, options);
      REQUIRE_MESSAGE(done.ok(), done.message());
      if (last == Stage::quantized) {
        check_observers(c, ranges);
        check_weights(c, graph);
      }
      check_result(c, graph, ranges);
    }
  }
}

Type floats(std::vector<Dim> shape) {
  Type t;
  t.shape = std::move(shape);
  return t;
}

Result<Graph> prepared(nn::Module& m, const std::string& json, Stage last = Stage::prepared) {
  float x = 0;
  for (const auto& [name, p] : m.parameters()) {
    Tensor t = Tensor::make(DType::f32, p->tensor().shape()).value();
    for (float& v : t.mutable_as<float>()) v = std::sin(x += 0.7f);
    REQUIRE(p->set(std::move(t)).ok());
  }
  Graph graph = nn::symbolic_trace(m, {"x", floats({4, 6})}).value();
  AOQ_ASSIGN(const Recipe recipe, parse_recipe(json));
  Tensor batch = Tensor::make(DType::f32, {4, 6}).value();
  for (float& v : batch.mutable_as<float>()) v = std::sin(x += 0.9f);
  Batches data({batch});
  QuantizeOptions options;
  options.data = &data;
  options.last = last;
  AOQ_TRY(quantize(graph, recipe, options));
  return graph;
}

std::vector<std::string> observers(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node* n : graph.nodes()) {
    if (n->is(Op::observe) && !n->input(0)->def()->is(Op::constant)) {
      names.push_back(n->attributes().string("observer"));
    }
  }
  return names;
}

TEST_CASE("wrong standalone modules are errors that name them") {
  Linears m;
  const auto message = [&](const std::string& json) {
    return std::string(prepared(m, R"({"backend": "x86", )" + json + "}").status().message());
  };
  CHECK(message(R"("standalone_module_name": [["blok", {}]])").find("the model has no module \"blok\"; did you mean") !=
        std::string::npos);
  CHECK(message(R"("standalone_module_class": [["Block", null]])")
            .find("standalone_module_class: the model has no module of class \"Block\"") != std::string::npos);
  CHECK(message(R"("standalone_module_name": [["block", {"module_name": [["fc3", null]]}]])")
            .find("standalone module \"block\": module_name: the model has no module \"fc3\"") != std::string::npos);
  CHECK(message(R"("standalone_module_name": [["block", {"quantized_inputs": [1]}]])")
            .find("standalone module \"block\": quantized_inputs: 1 is no input; it has 1") != std::string::npos);
  CHECK(message(R"("global": null, "object_type": [],
                   "standalone_module_name": [["block", {"global": "x86", "quantized_inputs": [0]}]])")
            .find("standalone module \"block\" takes input 0 as codes, but around it that is float: global") !=
        std::string::npos);
  CHECK(message(R"("standalone_module_name": [["block", {"custom_modules": [
                   {"mode": "static", "float": "A", "observed": "B", "quantized": "C"}]}]])")
            .find("custom module A has no converted form in a standalone module") != std::string::npos);
  CHECK(message(R"("standalone_module_name": [["block"]])").find("is no [name, recipe or null]") != std::string::npos);
  CHECK(prepared(m, R"({"backend": "x86", "quantized_inputs": [0]})", Stage::quantized)
            .status()
            .message()
            .find("quantized_inputs: input 0 has no scale") != std::string::npos);
}

TEST_CASE("a standalone module that something outside cuts in two is an error") {
  struct Twice : nn::Module {
    nn::Linear a{at("a"), 8, 8};
    LinearBlock block{at("block")};
    Proxy forward(const Proxy& x) override { return block.fc2(a(block.fc1(x))); }
  } m;
  CHECK(prepared(m, R"({"backend": "x86", "standalone_module_name": [["block", {}]]})")
            .status()
            .message()
            .find("standalone module \"block\" is not one piece") != std::string::npos);
}

TEST_CASE("a class of modules that hold others may be non-traceable") {
  Linears m;
  const Graph graph = prepared(m, R"({"backend": "x86", "non_traceable_module_class": ["LinearBlock"]})").value();
  CHECK(fx::print_fx(graph).find("call_module | block | block | (activation_post_process_1)\n") != std::string::npos);
  CHECK(observers(graph) == std::vector<std::string>{"activation_post_process_0", "activation_post_process_1",
                                                     "activation_post_process_2", "activation_post_process_3"});
}

TEST_CASE("two calls of a standalone module have the same observers") {
  struct Twice : nn::Module {
    nn::Linear a{at("a"), 6, 6};
    LinearBlock block{at("block")};
    Proxy forward(const Proxy& x) override { return block(a(block(x))); }
  } m;
  const Graph graph = prepared(m, R"({"backend": "x86", "standalone_module_name": [["block", {}]]})").value();
  CHECK(observers(graph) ==
        std::vector<std::string>{"block.activation_post_process_0", "block.activation_post_process_1",
                                 "block.activation_post_process_2", "activation_post_process_0",
                                 "block.activation_post_process_0", "block.activation_post_process_1",
                                 "block.activation_post_process_2"});
}

TEST_CASE("standalone modules in standalone modules, and what is fused stays on one side") {
  struct Inner : nn::Module {
    using Module::Module;
    nn::Linear fc{at("fc"), 6, 6};
    const char* type_name() const override { return "Inner"; }
    Proxy forward(const Proxy& x) override { return fc(nn::F::relu(x)); }
  };
  struct Outer : nn::Module {
    using Module::Module;
    nn::Linear fc{at("fc"), 6, 6};
    Inner inner{at("inner")};
    const char* type_name() const override { return "Outer"; }
    Proxy forward(const Proxy& x) override { return inner(fc(x)); }
  };
  struct Model : nn::Module {
    Outer outer{at("outer")};
    Proxy forward(const Proxy& x) override { return outer(x); }
  } m;
  const std::string recipe = R"({"backend": "x86", "standalone_module_class": [["Outer", {
      "standalone_module_class": [["Inner", {"quantized_outputs": [0]}]]}]]})";
  const Graph graph = prepared(m, recipe).value();
  // The relu is not the first module's, so fc has an observer in front of it and the relu one of its own.
  CHECK(observers(graph) ==
        std::vector<std::string>{"outer.activation_post_process_0", "outer.activation_post_process_1",
                                 "outer.inner.activation_post_process_0", "outer.inner.activation_post_process_0",
                                 "outer.inner.activation_post_process_2"});
  CHECK(fx::print_fx(graph).find("standalone outer.inner:\nplaceholder | input_0 | input_0 | ()\n"
                                 "call_module | activation_post_process_0 | activation_post_process_0 | (input_0)\n"
                                 "call_function | relu | relu | (activation_post_process_0)\n") != std::string::npos);
  CHECK(graph.metadata.at("standalone_modules") == "outer\nouter.inner\n");
  CHECK_FALSE(graph.metadata.contains("module_classes"));
  CHECK(prepared(m, recipe, Stage::lowered).ok());
}

}  // namespace
}  // namespace aoq
