// LSTMs that PyTorch quantized statically (tests/data/static_lstm): the same observers, weights and output codes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "formats/io/file.h"
#include "formats/json/json.h"
#include "formats/npy/npy.h"
#include "ir/interpreter.h"
#include "ir/nn/recurrent.h"
#include "passes/pass.h"
#include "passes/quantize/quantize.h"
#include "passes/rewrite/common.h"

namespace aoq {
namespace {

const std::string kFolder = AOQ_SOURCE "/tests/data/static_lstm/";

struct Batches : CalibrationData {
  explicit Batches(std::vector<std::vector<Tensor>> b) : batches(std::move(b)) {}
  Result<bool> next(std::vector<Tensor>& batch) override {
    if (at == batches.size()) return false;
    batch = batches[at++];
    return true;
  }
  std::vector<std::vector<Tensor>> batches;
  std::size_t at = 0;
};

struct Model : nn::ModuleOf<Model> {
  nn::LSTM lstm;
  Model(std::int64_t input, std::int64_t hidden, nn::RecurrentOptions options)
      : lstm(at("lstm"), input, hidden, std::move(options)) {}
  const char* type_name() const override { return "Model"; }
  using Module::forward;
  nn::RecurrentResult forward(const nn::Proxy& x, const nn::Proxy& h, const nn::Proxy& c) { return lstm(x, h, c); }
};

class PyTorchCase {
 public:
  PyTorchCase(const Json& json, const NpzReader& arrays)
      : json_(json), arrays_(arrays), id_(json_string(json, "id").value()) {}

  const std::string& id() const { return id_; }
  bool flag(const char* key) const { return json_bool(json_, key).value(); }
  std::int64_t layers() const { return json_["layers"].get<std::int64_t>(); }
  Tensor array(const std::string& name) const { return arrays_.read(id_ + "." + name).value(); }
  std::vector<std::string> observers() const { return json_["observers"].get<std::vector<std::string>>(); }

  std::vector<Tensor> batch(int i) const {
    std::vector<Tensor> all;
    for (const char* name : {"x", "h", "c"}) all.push_back(array("batch" + std::to_string(i) + "." + name));
    return all;
  }

  Graph trace() const {
    const Tensor ih = array("state.weight_ih_l0"), hh = array("state.weight_hh_l0");
    Model model(ih.shape()[1], hh.shape()[1],
                {.layers = layers(),
                 .bias = flag("bias"),
                 .batch_first = flag("batch_first"),
                 .bidirectional = flag("bidirectional")});
    nn::StateDict state;
    for (const auto& [name, parameter] : model.parameters()) state[name] = array("state." + name.substr(5));
    REQUIRE(model.load_state(state).ok());
    std::vector<nn::TraceInput> inputs;
    const std::vector<Tensor> batch = this->batch(0);
    for (std::size_t i = 0; i < 3; ++i) {
      Type t;
      t.shape.assign(batch[i].shape().begin(), batch[i].shape().end());
      inputs.push_back({i == 0 ? "x" : i == 1 ? "h" : "c", t});
    }
    Result<Graph> graph = nn::symbolic_trace(model, inputs, [&](std::span<const nn::Proxy> in) {
      const nn::RecurrentResult r = model(in[0], in[1], in[2]);
      return nn::Proxies{r.output, r.h, r.c};
    });
    REQUIRE_MESSAGE(graph.ok(), graph.status().message());
    return std::move(*graph);
  }

  Recipe recipe(const std::string& more = "") const {
    const std::string weight = flag("per_channel") ? R"("per_channel_min_max", "qscheme": "per_channel_symmetric")"
                                                   : R"("min_max", "qscheme": "per_tensor_symmetric")";
    const std::string text = R"({"backend": "fbgemm", "object_type": [], "global": {"activation": {"kind": ")" +
                             json_string(json_, "observer").value() + R"(", "dtype": "u8", "reduce_range": )" +
                             (flag("reduce_range") ? "true" : "false") + R"(}, "weight": {"kind": )" + weight +
                             R"(, "dtype": "i8"}},
)" + more + R"("custom_modules": [{"mode": "static", "float": "LSTM", "observed": "quantizable.LSTM",
                            "quantized": "quantized.LSTM"}]})";
    Result<Recipe> recipe = parse_recipe(text);
    REQUIRE_MESSAGE(recipe.ok(), recipe.status().message());
    return std::move(*recipe);
  }

 private:
  const Json& json_;
  const NpzReader& arrays_;
  const std::string id_;
};

void check_observers(const PyTorchCase& c, const Ranges& ranges) {
  const std::vector<std::string> names = c.observers();
  const Tensor scales = c.array("scales"), zero_points = c.array("zero_points");
  CHECK(ranges.observers.size() == names.size());
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

// PyTorch's gates i, f, g, o are the op's i, o, f, g.
void check_weight(const PyTorchCase& c, const Node& n, std::int64_t layer, std::int64_t direction, bool of_state) {
  const std::string name = std::string("weight_") + (of_state ? "hh" : "ih") + "_l" + std::to_string(layer) +
                           (direction == 1 ? "_reverse" : "");
  CAPTURE(name);
  const Tensor expected = c.array("codes." + name), scale = c.array("scale." + name);
  const Tensor& found = *constant_tensor(n.input(of_state ? 2 : 1));
  const Tensor& found_scale = *constant_tensor(n.input(of_state ? 4 : 3));
  const std::size_t block = expected.bytes().size() / 4, rows = static_cast<std::size_t>(expected.shape()[0]);
  constexpr std::size_t kOrder[] = {0, 3, 1, 2};
  bool same = true;
  for (std::size_t g = 0; g < 4; ++g) {
    const std::size_t at = (static_cast<std::size_t>(direction) * 4 + g) * block;
    same = same &&
           std::ranges::equal(found.bytes().subspan(at, block), expected.bytes().subspan(kOrder[g] * block, block));
    for (std::size_t k = 0; c.flag("per_channel") && k < rows / 4; ++k) {
      same = same && found_scale.as<float>()[static_cast<std::size_t>(direction) * rows + g * rows / 4 + k] ==
                         scale.as<float>()[kOrder[g] * rows / 4 + k];
    }
  }
  if (!c.flag("per_channel"))
    same = same && found_scale.as<float>()[static_cast<std::size_t>(direction)] == scale.as<float>()[0];
  CHECK(same);
}

void check_weights(const PyTorchCase& c, const Graph& graph) {
  std::int64_t layer = 0;
  for (const Node* n : graph.nodes()) {
    if (!n->is(Op::qlstm_static)) continue;
    for (std::int64_t d = 0; d < (c.flag("bidirectional") ? 2 : 1); ++d) {
      check_weight(c, *n, layer, d, false);
      check_weight(c, *n, layer, d, true);
    }
    ++layer;
  }
  CHECK(layer == c.layers());
}

void check_outputs(const PyTorchCase& c, const std::vector<Tensor>& found) {
  const char* const names[] = {"y", "h", "c"};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string name = std::string("out.") + names[i];
    CAPTURE(name);
    const Tensor codes = c.array(name), q = c.array(name + ".qparams");
    REQUIRE(codes.shape() == found[i].shape());
    const float scale = q.as<float>()[0], zero_point = q.as<float>()[1];
    std::size_t equal = 0;
    for (std::size_t k = 0; k < codes.as<std::uint8_t>().size(); ++k) {
      const float code = found[i].as<float>()[k] / scale + zero_point;
      const float apart = std::fabs(code - static_cast<float>(codes.as<std::uint8_t>()[k]));
      equal += apart < 0.01f;
    }
    CHECK(equal == codes.as<std::uint8_t>().size());
  }
}

TEST_CASE("a statically quantized LSTM is PyTorch's") {
  const std::shared_ptr<const MappedFile> list = MappedFile::open(kFolder + "cases.json").value();
  const std::shared_ptr<const MappedFile> bytes = MappedFile::open(kFolder + "cases.npz").value();
  const NpzReader arrays = NpzReader::open(bytes->bytes(), bytes).value();
  const Json cases = parse_json({reinterpret_cast<const char*>(list->bytes().data()), list->bytes().size()}).value();
  CHECK(cases.size() == 5);
  for (const Json& json : cases) {
    const PyTorchCase c(json, arrays);
    CAPTURE(c.id());
    Graph graph = c.trace();
    Batches data({c.batch(0), c.batch(1), c.batch(2)});
    Ranges ranges;
    QuantizeOptions options;
    options.data = &data;
    options.ranges = &ranges;
    const Status done = quantize(graph, c.recipe(), options);
    REQUIRE_MESSAGE(done.ok(), done.message());
    check_observers(c, ranges);
    check_weights(c, graph);
    ReferenceExecutor executor;
    const std::unique_ptr<Executable> executable = executor.prepare(graph).value();
    check_outputs(c, executable->run(c.batch(3)).value());
  }
}

// x as codes of a scale of the caller's: nobody observes it, and the module takes the codes as they are.
TEST_CASE("a statically quantized LSTM reads an input that comes as codes") {
  const std::shared_ptr<const MappedFile> list = MappedFile::open(kFolder + "cases.json").value();
  const std::shared_ptr<const MappedFile> bytes = MappedFile::open(kFolder + "cases.npz").value();
  const NpzReader arrays = NpzReader::open(bytes->bytes(), bytes).value();
  const Json cases = parse_json({reinterpret_cast<const char*>(list->bytes().data()), list->bytes().size()}).value();
  for (const Json& json : cases) {
    const PyTorchCase c(json, arrays);
    CAPTURE(c.id());
    // PyTorch's own scale of x, so that its results are these too.
    const double scale = static_cast<double>(c.array("scales").as<float>()[0]);
    const std::int32_t zero_point = c.array("zero_points").as<std::int32_t>()[0];
    Graph graph = c.trace();
    Batches data({c.batch(0), c.batch(1), c.batch(2)});
    Ranges ranges;
    QuantizeOptions options;
    options.data = &data;
    options.ranges = &ranges;
    const Recipe recipe = c.recipe(fmt::format(
        R"("quantized_inputs": [{{"index": 0, "scale": "{}", "zero_point": {}}}], )", hex_float(scale), zero_point));
    const Status done = quantize(graph, recipe, options);
    REQUIRE_MESSAGE(done.ok(), done.message());
    CHECK(ranges.observers.size() + 1 == c.observers().size());
    for (const Node* n : graph.nodes()) CHECK_FALSE((n->is(Op::quantize) && n->input(0)->def() == graph.first()));
    std::vector<Tensor> batch = c.batch(3);
    Tensor codes = Tensor::make(DType::u8, batch[0].shape()).value();
    for (std::int64_t i = 0; i < codes.element_count(); ++i) {
      const float steps =
          std::nearbyint(batch[0].as<float>()[static_cast<std::size_t>(i)] * (1.0f / static_cast<float>(scale)));
      codes.mutable_as<std::uint8_t>()[static_cast<std::size_t>(i)] =
          static_cast<std::uint8_t>(std::clamp(steps + static_cast<float>(zero_point), 0.0f, 255.0f));
    }
    batch[0] = std::move(codes);
    ReferenceExecutor executor;
    const std::unique_ptr<Executable> executable = executor.prepare(graph).value();
    check_outputs(c, executable->run(batch).value());
  }
}

}  // namespace
}  // namespace aoq
