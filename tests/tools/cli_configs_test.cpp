// The command line with configurations of linear layers (docs/torchao.md).
#include <algorithm>
#include <cmath>

#include "backends/cpu/cpu_features.h"
#include "passes/torchao/quantize_model.h"
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

TEST_CASE("every short name is in the help and is tried") {
  const std::string help = Workplace().aoq("compile --help").out;
  for (const std::string& name : torchao::rule_names()) {
    CHECK_MESSAGE(std::ranges::any_of(kNamed, [&](const Named& n) { return n.recipe == name; }), name);
    CHECK_MESSAGE(help.find(name) != std::string::npos, name);
  }
}

TEST_CASE("configurations go by name; the files name precision and kernel") {
  WideWorkplace w;
  const bool has_rows = cpu::best_isa() >= cpu::Isa::avx2;
  if (!has_rows) std::printf("[SKIP] no avx2: narrow layers run by the reference\n");
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
    const std::string kernel = op["kernel"].get<std::string>();
    CHECK_MESSAGE((has_rows ? kernel.starts_with(named.op) : kernel == "reference"), kernel);
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
      {R"j({"configs": {"fc2": {"type": "Int8WeightOnlyConfig"}}})j", "no linear layer or embedding \"fc2\""},
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
  const Outcome unused = w.aoq("compile wide.aoqir -o wrong.aoq --recipe int8-weight-only --quantize none");
  CHECK(unused.code == 2);
  CHECK_MESSAGE(unused.says("--recipe int8-weight-only has no effect with --quantize none"), unused.err);
  CHECK(!w.has("wrong.aoq"));
  const Outcome unknown = w.aoq("compile wide.aoqir -o wrong.aoq --recipe int5-weight-only");
  CHECK(unknown.code == 3);
  CHECK_MESSAGE(unknown.says("did you mean \"int8-weight-only\"?"), unknown.err);
}

// The entry of a layer in a list of compare's.
Json named(const Json& list, std::string_view name) {
  for (const Json& entry : list) {
    if (entry["name"] == name) return entry;
  }
  return Json();
}

TEST_CASE("compare --per-op has narrow layers beside the float ones, and their weights, packed or not") {
  WideWorkplace w;
  w.write("codebook.json", R"j({"configs": {"_default": {"type": "CodebookWeightOnlyConfig"}}})j");
  w.write("shared.json", R"j({"configs": {"_default": {"type": "AWQConfig", "base_config": {
      "type": "UIntxWeightOnlyConfig", "dtype": "uint6", "group_size": 32}}}})j");
  const std::pair<const char*, const char*> cases[] = {{"int8-weight-only", "linear_weight_only"},
                                                       {"int4-weight-only", "linear_weight_only"},
                                                       {"8da4w", "linear_dynamic"},
                                                       {"smoothquant-int8", "linear_dynamic"},
                                                       {"awq-int4", "linear_weight_only"},
                                                       {"shared.json", "linear_weight_only"},
                                                       {"float8-dynamic", "linear_weight_only"},
                                                       {"mxfp4", "linear_weight_only"},
                                                       {"nvfp4", "linear_weight_only"},
                                                       {"codebook.json", "linear"}};
  for (const auto& [recipe, op] : cases) {
    for (const char* cpu : {"portable", "native"}) {
      CAPTURE(std::string(recipe));
      CAPTURE(std::string(cpu));
      const Outcome made = w.aoq(std::string("compile wide.aoqir -o narrow.aoq --json --calibrate wide.npz --recipe ") +
                                 recipe + " --cpu " + cpu);
      REQUIRE_MESSAGE(made.code == 0, made.err);
      const Outcome compared = w.aoq("compare float.aoq narrow.aoq --input wide.npz --per-op --json");
      REQUIRE_MESSAGE(compared.code == 0, compared.err);
      const Json found = compared.json();
      REQUIRE(found["ops"].size() == 2);
      REQUIRE(found["weights"].size() == 2);
      for (int i = 0; i < 2; ++i) {
        const std::string layer = i == 0 ? "fc1" : "fc3";
        const Json own = named(found["ops"], layer), weight = named(found["weights"], layer + ".weight");
        CHECK(own["op"] == op);
        CHECK(own["relative_error"].get<double>() < 0.2);
        CHECK(own["relative_error"].get<double>() > 0);
        // What the compiler said about the same weight.
        const double told = made.json()["layers"][static_cast<std::size_t>(i)]["relative_error"].get<double>();
        CHECK(weight["relative_error"].get<double>() == doctest::Approx(told).epsilon(1e-4));
      }
    }
  }
}

TEST_CASE("bench and inspect take files with narrow layers") {
  WideWorkplace w;
  REQUIRE(w.aoq("compile wide.aoqir -o narrow.aoq --recipe int4-weight-only --cpu native").code == 0);
  const Outcome bench = w.aoq("bench narrow.aoq --against float.aoq --seconds 0.02 --threads 1 --json");
  CHECK_MESSAGE(bench.code == 0, bench.err);
  const Outcome text = w.aoq("inspect narrow.aoq");
  CHECK(text.out.find("linear_weight_only") != std::string::npos);
  CHECK(text.out.find("2 int4") != std::string::npos);
  const Outcome told = w.aoq("compile wide.aoqir -o narrow.aoq --recipe int4-weight-only");
  CHECK((told.out + told.err).find("2 of 2 linear layers are quantized") != std::string::npos);
  CHECK((told.out + told.err).find("fc1  Int4WeightOnlyConfig  6.00 bits a weight") != std::string::npos);
}

TEST_CASE("--strict refuses a layer that its configuration leaves in float, and tells why") {
  WideWorkplace w;
  w.write("recipe.json", R"j({"configs": {"fc1": {"type": "Int4WeightOnlyConfig", "group_size": 24},
                                          "fc3": {"type": "Int4WeightOnlyConfig", "group_size": 32}}})j");
  const Outcome refused = w.aoq("compile wide.aoqir -o narrow.aoq --recipe recipe.json --strict");
  CHECK(refused.code == 1);
  CHECK_MESSAGE(refused.says("64 inputs are no multiple of group_size 24"), refused.err);
  CHECK(!w.has("narrow.aoq"));
  const Outcome made = w.aoq("compile wide.aoqir -o narrow.aoq --recipe recipe.json --json");
  REQUIRE(made.code == 0);
  CHECK(made.json()["ops"]["int4"] == 1);
  const Json layer = made.json()["layers"][0];
  CHECK(layer["config"] == "Int4WeightOnlyConfig");
  CHECK(layer["kept_because"] == "64 inputs are no multiple of group_size 24");
  const Json op = op_named(w.aoq("inspect narrow.aoq --json").json(), "fc1");
  CHECK(op["requested"] == "Int4WeightOnlyConfig");
  CHECK(op["runs"] == "float32");
  CHECK(op["reason"] == "64 inputs are no multiple of group_size 24");
  // What a recipe leaves alone was not asked for.
  w.write("recipe.json", R"j({"configs": {"fc1": null, "fc3": {"type": "Int4WeightOnlyConfig", "group_size": 32}}})j");
  CHECK(w.aoq("compile wide.aoqir -o narrow.aoq --recipe recipe.json --strict").code == 0);
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

// One layer of 64 inputs, or so many, whose weight is `number` everywhere.
std::string constant_model(const std::string& number, int columns = 64) {
  const std::string k = std::to_string(columns);
  std::string text = "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=f32, name=\"x\", shape=[N, " + k + "]}\n";
  text += "%1 = constant() {value=f32[16, " + k + "]{";
  for (int i = 0; i < 16 * columns; ++i) text += (i == 0 ? "" : ", ") + number;
  text += "}} origins(\"fc.weight\")\n%2 = linear(%0, %1) scope(\"fc\", \"Linear\") origins(\"fc\")\n";
  return text + "output(%2) {names=[\"y\"]}\n";
}

TEST_CASE("weights of zeros, of one number, of the least one, and that are none, by every short name") {
  Workplace w;
  w.save("wide.npz", {{"x", Workplace::samples(12, 64)}});
  const auto compile = [&](const Named& named, const std::string& flags = {}) {
    return w.aoq(std::string("compile constant.aoqir -o narrow.aoq --json --calibrate wide.npz --recipe ") +
                 named.recipe + flags);
  };
  for (const char* number : {"0", "0.25", "-3", "1e-45"}) {
    w.write("constant.aoqir", constant_model(number));
    for (const Named& named : kNamed) {
      CAPTURE(std::string(number));
      CAPTURE(std::string(named.recipe));
      const Outcome made = compile(named, " --strict");
      REQUIRE_MESSAGE(made.code == 0, made.err);
      CHECK(std::isfinite(made.json()["layers"][0]["relative_error"].get<double>()));
      const Outcome compared = w.aoq("compare constant.aoqir narrow.aoq --input wide.npz --json");
      CHECK_MESSAGE(compared.code == 0, compared.err);
    }
  }
  for (const char* number : {"nan", "inf"}) {
    w.write("constant.aoqir", constant_model(number));
    for (const Named& named : kNamed) {
      CAPTURE(std::string(number));
      CAPTURE(std::string(named.recipe));
      const Outcome refused = compile(named);
      CHECK(refused.code == 3);
      CHECK_MESSAGE(refused.says("layer \"fc\""), refused.err);
      CHECK_MESSAGE(refused.says(number), refused.err);
    }
  }
}

TEST_CASE("a layer whose inputs groups do not divide stays in float by every short name, and says so") {
  Workplace w;
  w.write("constant.aoqir", constant_model("0.5", 20));
  w.save("wide.npz", {{"x", Workplace::samples(12, 20)}});
  for (const Named& named : kNamed) {
    CAPTURE(std::string(named.recipe));
    const std::string recipe = named.recipe;
    const bool has_groups = recipe.find("int4") != std::string::npos || recipe == "8da4w" || recipe.ends_with("fp4");
    const std::string command = "compile constant.aoqir -o narrow.aoq --json --calibrate wide.npz --recipe " + recipe;
    const Outcome made = w.aoq(command);
    REQUIRE_MESSAGE(made.code == 0, made.err);
    const Json layer = made.json()["layers"][0];
    CHECK(layer.contains("kept_because") == has_groups);
    if (!has_groups) continue;
    CHECK(layer["kept_because"].get<std::string>().starts_with("20 inputs are no multiple of"));
    const Outcome strict = w.aoq(command + " --strict");
    CHECK(strict.code == 1);
    CHECK_MESSAGE(strict.says("20 inputs are no multiple of"), strict.err);
  }
}

// A table of 64 rows, a layer, and a head that reads the table too.
std::string tied_model() {
  std::string text = "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=i64, name=\"ids\", shape=[N, 3]}\n";
  std::uint32_t state = 9;
  const auto constant = [&](int id, const char* name) {
    text += "%" + std::to_string(id) + " = constant() {value=f32[64, 64]{";
    for (int i = 0; i < 64 * 64; ++i) {
      state = state * 1664525u + 1013904223u;
      text += (i == 0 ? "" : ", ") + std::to_string(static_cast<double>(state >> 8) / (1 << 24) - 0.5);
    }
    text += std::string("}} origins(\"") + name + ".weight\")\n";
  };
  constant(1, "embed");
  text += "%2 = gather(%1, %0) {axis=0} scope(\"embed\", \"Embedding\") origins(\"embed\")\n";
  constant(3, "fc");
  text += "%4 = linear(%2, %3) {activation=\"relu\"} scope(\"fc\", \"Linear\") origins(\"fc\")\n";
  text += "%5 = linear(%4, %1) scope(\"head\", \"Linear\") origins(\"head\")\n";
  return text + "output(%5) {names=[\"y\"]}\n";
}

Json listed(const Json& listing, std::string_view op) {
  for (const Json& entry : listing["ops"]) {
    if (entry["op"] == op) return entry;
  }
  return Json();
}

TEST_CASE("--embeddings packs tables; a tied weight is there once, plain and packed") {
  Workplace w;
  w.write("tied.aoqir", tied_model());
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < 30; ++i) ids.push_back(i * 7 % 64);
  w.save("ids.npz", {{"ids", *Workplace::labels(ids).reshaped({10, 3})}});
  REQUIRE(w.aoq("compile tied.aoqir -o float.aoq").code == 0);
  const bool has_rows = cpu::best_isa() >= cpu::Isa::avx2;
  const auto size_of = [&](const std::string& name) { return w.read(name).size(); };
  for (const char* recipe : {"int4-weight-only", "int8-weight-only", "8da4w", "mxfp4", "nvfp4"}) {
    CAPTURE(std::string(recipe));
    for (const char* cpu : {"portable", "native"}) {
      CAPTURE(std::string(cpu));
      const std::string to = std::string(" --json --cpu ") + cpu + " --recipe " + recipe;
      REQUIRE(w.aoq("compile tied.aoqir -o head.aoq" + to).code == 0);
      const Outcome made = w.aoq("compile tied.aoqir -o both.aoq --strict" + to + " --embeddings " + recipe);
      REQUIRE_MESSAGE(made.code == 0, made.err);
      const Json layers = made.json()["layers"];
      REQUIRE(layers.size() == 3);
      CHECK(layers[0]["kind"] == "embedding");
      CHECK(layers[0]["shares_codes"] == true);
      CHECK(layers[2]["shares_codes"] == true);
      CHECK(!layers[0].contains("float_weight_stays"));
      // Without the table of floats; room for what the graph itself takes more.
      CHECK(size_of("both.aoq") + 64 * 64 * 4 < size_of("head.aoq") + 1000);
      const Json listing = w.aoq("inspect both.aoq --json").json(), op = listed(listing, "qembedding");
      CHECK(op["requested"] == op["runs"]);
      CHECK(op["reason"] == "its table is narrow, its rows are float");
      CHECK(op["kernel"] == (has_rows ? "qembedding_packed" : "qembedding_narrow"));
      if (std::string(cpu) == "native") CHECK(listing["packed_bytes"] == 0);
      const Outcome compared = w.aoq("compare float.aoq both.aoq --input ids.npz --min-sqnr 10");
      CHECK_MESSAGE(compared.code == 0, compared.err);
    }
  }
  // The same numbers from both files, and by another class of machine.
  for (const char* cpu : {"portable", "native"}) {
    REQUIRE(w.aoq(std::string("compile tied.aoqir -o ") + cpu + ".aoq --recipe int4-weight-only --embeddings " +
                  "int4-weight-only --cpu " + cpu)
                .code == 0);
  }
  CHECK(w.aoq("compare portable.aoq native.aoq --input ids.npz --min-sqnr 300").code == 0);
}

TEST_CASE("--embeddings alone leaves linear layers in float; what does not fit is told") {
  Workplace w;
  w.write("tied.aoqir", tied_model());
  const Outcome alone = w.aoq("compile tied.aoqir -o alone.aoq --embeddings int4-weight-only");
  REQUIRE_MESSAGE(alone.code == 0, alone.err);
  CHECK((alone.out + alone.err).find("1 of 1 embeddings are quantized") != std::string::npos);
  CHECK((alone.out + alone.err).find("kept in float as well for what else reads it") != std::string::npos);
  const Json listing = w.aoq("inspect alone.aoq --json").json();
  CHECK(listed(listing, "qembedding")["runs"] == "int4");
  CHECK(listed(listing, "linear")["runs"] == "float32");
  w.write("recipe.json", R"j({"configs": {"_embedding": {"type": "IntxWeightOnlyConfig", "weight_dtype": "int4",
      "mapping_type": "asymmetric"}, "_default": {"type": "Int8WeightOnlyConfig"}}})j");
  const Outcome typed = w.aoq("compile tied.aoqir -o typed.aoq --recipe recipe.json --strict --json");
  REQUIRE_MESSAGE(typed.code == 0, typed.err);
  CHECK(typed.json()["layers"][0]["config"] == "IntxWeightOnlyConfig");
  CHECK(typed.json()["layers"][2]["config"] == "Int8WeightOnlyConfig");
  const std::pair<const char*, const char*> wrong[] = {
      {"--embeddings int4-weight-onl", "did you mean \"int4-weight-only\"?"},
      {"--embeddings gptq-int4", "learns from a layer's inputs"},
      {"--embeddings int4-weight-only --recipe fx-x86", "has no effect with --recipe fx-x86"},
      {"--embeddings int4-weight-only --quantize none", "--embeddings"}};
  for (const auto& [flags, text] : wrong) {
    CAPTURE(std::string(flags));
    const Outcome outcome = w.aoq(std::string("compile tied.aoqir -o wrong.aoq ") + flags);
    CHECK(outcome.code != 0);
    CHECK_MESSAGE(outcome.says(text), outcome.err);
    CHECK(!w.has("wrong.aoq"));
  }
}

}  // namespace
}  // namespace aoq::tools
