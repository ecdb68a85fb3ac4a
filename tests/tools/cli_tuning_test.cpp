// The real binary: tune, and compile with what it measured or guesses.
#include <doctest/doctest.h>

#include "tests/tools/workplace.h"
#include "tools/machine.h"

namespace aoq::tools {
namespace {

// What `aoq tune` might have measured where fc1 loses in int8.
constexpr const char* kTuning = R"({"format": "aoq-tuning", "version": 1, "isa": "ISA",
  "ops": [{"name": "fc1", "op": "linear", "float_us": 35, "int8_us": 38, "runs": "float32", "region": 0},
          {"name": "fc2", "op": "linear", "float_us": 9, "int8_us": 4, "runs": "int8"}],
  "regions": [{"float_us": 35, "int8_us": 41}],
  "rows": [{"name": "fc1", "op": "linear", "row": "linear_of_tomorrow"}]})";

std::string tuning_for(const std::string& isa) {
  std::string text = kTuning;
  return text.replace(text.find("ISA"), 3, isa);
}

// Of an op, as permutes have the name of the op they serve.
const Json& entry(const Json& list, const std::string& name) {
  for (const Json& e : list) {
    if (e["name"] == name && e["op"] != "permute") return e;
  }
  FAIL("no entry " << name << " in " << list.dump());
  return list;
}

TEST_CASE("tune, then compile with what it measured") {
  Workplace w;
  Outcome tuned = w.aoq("tune model.aoqir -o t.json --seconds 0.05 --threads 1 --json");
  REQUIRE_MESSAGE(tuned.code == 0, tuned.err);
  for (const char* key : {"output", "isa", "threads", "noise", "ops", "rows", "float_us", "int8_us", "chosen_us"}) {
    CHECK_MESSAGE(tuned.json().contains(key), key);
  }
  CHECK(tuned.json()["threads"] == 1);
  const Json file = parse_json(w.read("t.json")).value();
  REQUIRE(file["ops"].size() == 2);
  const Json& fc1 = entry(file["ops"], "fc1");
  CHECK(fc1["key"] == "linear f32[N, 4] f32[3, 4] f32[3] -> f32[N, 3]");
  CHECK(fc1["float_us"].get<double>() > 0);
  CHECK(fc1["int8_us"].get<double>() > 0);
  CHECK(file["shapes"]["x"] == Json::array({1, 4}));
  Outcome compiled = w.aoq("compile model.aoqir -o tuned.aoq --calibrate data.npz --tuning t.json --json");
  REQUIRE_MESSAGE(compiled.code == 0, compiled.err);
  // What the file says is what runs.
  const Json ops = w.aoq("inspect tuned.aoq --json").json()["ops"];
  for (const char* name : {"fc1", "fc2"}) CHECK(entry(ops, name)["runs"] == entry(file["ops"], name)["runs"]);
  // With data, other shapes, other recipes, and where there is nothing to decide.
  for (const char* flags : {"--calibrate data.npz --batch 4", "--shape x=3x4", "--quantize dynamic", "--quantize none",
                            "--quantize weight-only", "--recipe fx-x86 --calibrate data.npz", "--keep-float fc2"}) {
    Outcome other = w.aoq(std::string("tune model.aoqir -o o.json --seconds 0.02 ") + flags);
    CHECK_MESSAGE(other.code == 0, flags << ": " << other.err);
  }
  CHECK(parse_json(w.read("o.json")).value()["ops"].size() == 1);
}

TEST_CASE("tune refuses what it cannot measure") {
  Workplace w;
  CHECK(w.aoq("tune model.aoqir -o t.json --seconds 0").code == 2);
  CHECK(w.aoq("tune model.aoqir -o t.json --shape y=1x4").code == 2);
  CHECK(w.aoq("tune none.onnx -o t.json").code == 3);
  CHECK(w.aoq("tune model.aoqir -o missing/t.json --seconds 0.02").code == 3);
  REQUIRE(w.aoq("compile model.aoqir -o float.aoq").code == 0);
  CHECK(w.aoq("tune float.aoq -o t.json").code == 2);
  CHECK(!w.has("t.json"));
}

TEST_CASE("an op that loses in int8 stays in float, and says so with both figures") {
  Workplace w;
  const std::string isa = machine_info().isa;
  w.write("t.json", tuning_for(isa));
  const std::string reason = "float is faster: int8 takes 41 us, float 35 us here, with its conversions";
  Outcome tuned = w.aoq("compile model.aoqir -o tuned.aoq --calibrate data.npz --tuning t.json --report r.html --json");
  REQUIRE_MESSAGE(tuned.code == 0, tuned.err);
  CHECK(tuned.json()["ops"]["int8"] == 1);
  CHECK(entry(tuned.json()["float_because"], "fc1")["reason"] == reason);
  CHECK(w.read("r.html").find(reason) != std::string::npos);
  const Json inspected = w.aoq("inspect tuned.aoq --json").json();
  const Json& fc1 = entry(inspected["ops"], "fc1");
  CHECK(fc1["requested"] == "int8");
  CHECK(fc1["runs"] == "float32");
  CHECK(fc1["reason"] == reason);
  // A row that this build lacks gives way, and says so.
  CHECK(fc1["kernel"] == "linear_f32");
  CHECK(fc1["refused"][0]["row"] == "linear_of_tomorrow");
  CHECK(inspected["provenance"]["tuning"]["isa"] == isa);
  CHECK(entry(inspected["ops"], "fc2")["runs"] == "int8");
  CHECK(w.aoq("run tuned.aoq --input data.npz -o y.npz").code == 0);
  CHECK(w.aoq("verify tuned.aoq").code == 0);

  Outcome strict = w.aoq("compile model.aoqir -o strict.aoq --calibrate data.npz --tuning t.json --strict");
  CHECK(strict.code == 1);
  CHECK(strict.says("fc1"));
  CHECK(strict.says(reason));
  CHECK(strict.says("--tuning none"));
  CHECK(w.aoq("compile model.aoqir -o strict.aoq --calibrate data.npz --tuning none --strict").code == 0);
  REQUIRE(w.shell("rm strict.aoq").code == 0);
  CHECK(!w.has("strict.aoq"));
  // The same inputs give the same bytes, from ranges learnt before too.
  REQUIRE(w.aoq("compile model.aoqir -o again.aoq --calibrate data.npz --tuning t.json --threads 2").code == 0);
  CHECK(w.read("again.aoq") == w.read("tuned.aoq"));
  REQUIRE(w.aoq("calibrate model.aoqir --input data.npz -o ranges.json").code == 0);
  Outcome from_ranges = w.aoq("compile model.aoqir -o ranges.aoq --ranges ranges.json --tuning t.json --json");
  REQUIRE_MESSAGE(from_ranges.code == 0, from_ranges.err);
  CHECK(from_ranges.json()["ops"] == tuned.json()["ops"]);
}

TEST_CASE("tuning files that do not fit") {
  Workplace w;
  const std::string compile = "compile model.aoqir -o x.aoq --calibrate data.npz --tuning ";
  CHECK(w.aoq(compile + "missing.json").code == 3);
  w.write("cut.json", tuning_for("avx2").substr(0, 100));
  CHECK(w.aoq(compile + "cut.json").code == 3);
  CHECK(w.aoq(compile + "cut.json").says("cut.json"));
  std::string other = tuning_for("avx2");
  other.replace(other.find("fc1"), 3, "fc7").replace(other.find("fc2"), 3, "fc8");
  w.write("other.json", other);
  CHECK(w.aoq(compile + "other.json").code == 3);
  CHECK(w.aoq(compile + "other.json").says("of another model"));
  w.write("alien.json", tuning_for("riscv"));
  CHECK(w.aoq(compile + "alien.json --cpu native").code == 3);
  CHECK(w.aoq(compile + "alien.json --cpu native").says("it was measured on riscv"));
  CHECK(!w.has("x.aoq"));
  Outcome portable = w.aoq(compile + "alien.json --json");
  CHECK(portable.code == 0);
  CHECK(portable.json()["warnings"][0].get<std::string>().find("measured on riscv") != std::string::npos);
  // Recipes of PyTorch's stay as they are.
  Outcome fx = w.aoq(compile + "alien.json --recipe fx-x86 --json");
  CHECK_MESSAGE(fx.code == 0, fx.err);
  CHECK(fx.json()["ops"]["int8"].get<int>() >= 2);
  // What was measured for static quantization says nothing about others.
  std::string of_static = tuning_for("avx2");
  w.write("static.json", of_static.insert(1, "\"quantize\": \"static\", "));
  Outcome dynamic = w.aoq("compile model.aoqir -o d.aoq --quantize dynamic --tuning static.json --json");
  CHECK(dynamic.json()["ops"]["int8"].get<int>() >= 2);
  CHECK(dynamic.json()["warnings"].dump().find("measured with --quantize static, this is dynamic") !=
        std::string::npos);
  w.write("old.json", tuning_for("avx2").insert(1, "\"aoq\": \"0.0.1\", "));
  CHECK(w.aoq(compile + "old.json --deterministic --json").json()["warnings"].dump().find("aoq 0.0.1 measured it") !=
        std::string::npos);
  CHECK(w.aoq(compile + "old.json --deterministic").says("tune with it as well"));
  // In float the file can only name rows.
  CHECK(w.aoq("compile model.aoqir -o f.aoq --tuning alien.json").code == 0);
}

// A small depthwise convolution between ops without an integer form.
constexpr const char* kLone = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[1, 2, 256, 256]}
%1 = softmax(%0) {axis=1} origins("before")
%2 = constant() {value=f32[2, 1, 1, 1]{0.5, -0.25}}
%3 = conv(%1, %2) {groups=2} origins("lone")
%4 = softmax(%3) {axis=1} origins("after")
output(%4) {names=["y"]}
)";

TEST_CASE("without a tuning file what clearly loses is guessed, unless that is switched off") {
  Workplace w;
  w.write("lone.aoqir", kLone);
  Tensor x = *Tensor::make(DType::f32, {2, 2, 256, 256});
  for (float& v : x.mutable_as<float>()) v = 0.5f;
  w.save("lone.npz", {{"x", x}});
  const std::string compile = "compile lone.aoqir --calibrate lone.npz --json -o ";
  const Json guessed = w.aoq(compile + "a.aoq").json();
  CHECK(guessed["ops"]["int8"] == 0);
  CHECK(entry(guessed["float_because"], "lone")["reason"].get<std::string>().find("by an estimate for avx2") !=
        std::string::npos);
  CHECK(w.aoq(compile + "b.aoq --tuning none").json()["ops"]["int8"] > 0);
  // A recipe of one's own means what it says, unless a guess is asked for.
  w.write("recipe.json", "{}");
  CHECK(w.aoq(compile + "c.aoq --recipe recipe.json").json()["ops"]["int8"] > 0);
  CHECK(w.aoq(compile + "d.aoq --recipe recipe.json --tuning estimate").json()["ops"]["int8"] == 0);
  // The guess depends on the class that is compiled for, not on this machine.
  REQUIRE(w.shell("AOQ_CPU_CLASS=reference '" AOQ_BINARY "' " + compile + "e.aoq").code == 0);
  CHECK(w.read("e.aoq") == w.read("a.aoq"));
}

}  // namespace
}  // namespace aoq::tools
