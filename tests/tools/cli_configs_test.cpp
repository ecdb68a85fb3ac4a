// The command line with configurations of linear layers (docs/torchao.md).
#include "tests/tools/workplace.h"

namespace aoq::tools {
namespace {

// Two linear layers that groups of 32 divide.
std::string wide_model() {
  std::string text = "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=f32, name=\"x\", shape=[N, 64]}\n";
  std::uint32_t state = 1;
  const auto constant = [&](int id, int rows, int columns) {
    text += "%" + std::to_string(id) + " = constant() {value=f32[" + std::to_string(rows) + ", " +
            std::to_string(columns) + "]{";
    for (int i = 0; i < rows * columns; ++i) {
      state = state * 1664525u + 1013904223u;
      text += (i == 0 ? "" : ", ") + std::to_string(static_cast<double>(state >> 8) / (1 << 24) - 0.5);
    }
    text += "}} origins(\"fc" + std::to_string(id) + ".weight\")\n";
  };
  constant(1, 32, 64);
  text += "%2 = linear(%0, %1) {activation=\"relu\"} scope(\"fc1\", \"Linear\") origins(\"fc1\")\n";
  constant(3, 16, 32);
  text += "%4 = linear(%2, %3) scope(\"fc3\", \"Linear\") origins(\"fc3\")\n";
  return text + "output(%4) {names=[\"y\"]}\n";
}

class WideWorkplace : public Workplace {
 public:
  WideWorkplace() {
    write("wide.aoqir", wide_model());
    save("wide.npz", {{"x", samples(12, 64)}});
    REQUIRE(aoq("compile wide.aoqir -o float.aoq").code == 0);
  }
};

// The linear op of a layer.
Json op_named(const Json& listing, std::string_view name) {
  for (const Json& op : listing["ops"]) {
    if (op["name"] == name && op["op"].get<std::string>().starts_with("linear")) return op;
  }
  return Json();
}

struct Named {
  const char* recipe;
  const char* op;
  const char* runs;
  bool needs_data;
};

constexpr Named kNamed[] = {
    {"int8-weight-only", "linear_weight_only", "int8", false},
    {"int4-weight-only", "linear_weight_only", "int4", false},
    {"int8-dynamic", "linear_dynamic", "int8", false},
    {"8da4w", "linear_dynamic", "int4", false},
    {"float8-weight-only", "linear_weight_only", "f8_e4m3fn", false},
    {"float8-dynamic", "linear_weight_only", "f8_e4m3fn", false},
    {"mxfp4", "linear_weight_only", "f4_e2m1", false},
    {"nvfp4", "linear_weight_only", "f4_e2m1", false},
    {"hqq-int4", "linear_weight_only", "int4", false},
    {"int8-static", "linear_dynamic", "int8", true},
    {"awq-int4", "linear_weight_only", "int4", true},
    {"gptq-int4", "linear_weight_only", "int4", true},
    {"gptq-int8", "linear_weight_only", "int8", true},
    {"smoothquant-int8", "linear_dynamic", "int8", true},
};

TEST_CASE("configurations go by name; the files name precision and kernel") {
  WideWorkplace w;
  for (const Named& named : kNamed) {
    CAPTURE(std::string(named.recipe));
    const std::string command =
        std::string("compile wide.aoqir -o narrow.aoq --strict --json --recipe ") + named.recipe;
    if (named.needs_data) {
      const Outcome refused = w.aoq(command);
      CHECK(refused.code == 2);
      CHECK_MESSAGE(refused.says("learns from data: give --calibrate DATA"), refused.err);
    }
    const Outcome made = w.aoq(command + (named.needs_data ? " --calibrate wide.npz" : ""));
    REQUIRE_MESSAGE(made.code == 0, made.err);
    const Json report = made.json();
    CHECK(report["ops"][named.runs] == 2);
    REQUIRE(report["layers"].size() == 2);
    CHECK(report["layers"][0]["module"] == "fc1");
    CHECK(report["layers"][0]["relative_error"].get<double>() < 0.2);
    CHECK(report["layers"][0]["bits_per_weight"].get<double>() < 11);
    const Json listing = w.aoq("inspect narrow.aoq --json").json();
    const Json op = op_named(listing, "fc3");
    CHECK(op["op"] == named.op);
    CHECK(op["requested"] == named.runs);
    CHECK(op["runs"] == named.runs);
    CHECK(op["kernel"].get<std::string>().starts_with(named.op));
    CHECK(listing["provenance"]["layers"].size() == 2);
    const Outcome compared = w.aoq("compare float.aoq narrow.aoq --input wide.npz --min-sqnr 12");
    CHECK_MESSAGE(compared.code == 0, compared.err);
    CHECK(w.aoq("verify narrow.aoq").code == 0);
  }
}

TEST_CASE("a recipe file names layers; wrong names and fields are told with the nearest known one") {
  WideWorkplace w;
  w.write("recipe.json",
          R"j({"configs": [["fc1", {"type": "Int4WeightOnlyConfig", "group_size": 32}], ["fc3", null]]})j");
  const Outcome made = w.aoq("compile wide.aoqir -o narrow.aoq --recipe recipe.json --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  CHECK(made.json()["layers"][1]["kept_because"] == "its configuration is null");
  CHECK(op_named(w.aoq("inspect narrow.aoq --json").json(), "fc3")["runs"] == "float32");
  const std::pair<const char*, const char*> wrong[] = {
      {R"j({"configs": {"fc2": {"type": "Int8WeightOnlyConfig"}}})j", "no linear layer \"fc2\""},
      {R"j({"configs": {"fc1": {"type": "Int8WeightOnly"}}})j", "did you mean Int8WeightOnlyConfig?"},
      {R"j({"configs": {"fc1": {"type": "Int4WeightOnlyConfig", "group": 32}}})j", "did you mean group_size?"},
      {R"j({"configs": {"fc1": {"type": "IntxWeightOnlyConfig", "granularity": "PerGroup(24)"}}})j", "24"},
      {R"j({"configs": 3})j", "neither an object nor a list"}};
  for (const auto& [recipe, text] : wrong) {
    CAPTURE(std::string(recipe));
    w.write("recipe.json", recipe);
    const Outcome outcome = w.aoq("compile wide.aoqir -o wrong.aoq --recipe recipe.json");
    CHECK(outcome.code != 0);
    CHECK_MESSAGE(outcome.says(text), outcome.err);
    CHECK(!w.has("wrong.aoq"));
  }
  CHECK(w.aoq("compile wide.aoqir -o wrong.aoq --recipe int5-weight-only").code == 3);
}

TEST_CASE("NaN in calibration data names the layer") {
  WideWorkplace w;
  Tensor bad = Workplace::samples(3, 64);
  bad.mutable_as<float>()[70] = NAN;
  w.save("bad.npz", {{"x", bad}});
  const Outcome outcome = w.aoq("compile wide.aoqir -o wrong.aoq --recipe gptq-int4 --calibrate bad.npz");
  CHECK(outcome.code == 3);
  CHECK_MESSAGE(outcome.says("layer \"fc1\""), outcome.err);
  CHECK(!w.has("wrong.aoq"));
}

}  // namespace
}  // namespace aoq::tools
