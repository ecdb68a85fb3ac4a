// The real binary on tiny models: exit codes, JSON keys, error texts, and that nothing half-written is left.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "formats/json/json.h"
#include "formats/npy/npy.h"
#include "tests/support/onnx_builder.h"
#include "tests/tools/workplace.h"
#include "tools/cli.h"
#include "tools/output_file.h"

namespace aoq::tools {
namespace {

constexpr const char* kFixed = R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[2, 4]}
%1 = input() {dtype=f32, name="gain", shape=[]}
%2 = mul(%0, %1) origins("scaled")
output(%2) {names=["y"]}
)";

std::vector<std::string> split(const std::string& text) {
  std::stringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

TEST_CASE("every example of every help parses, and there are at least two") {
  for (const CommandDef* def : all_commands()) {
    CHECK_MESSAGE(def->examples.size() >= 2, def->name);
    std::vector<std::string> help{def->name, "--help"};
    Result<Invocation> shown = parse_command_line(help);
    REQUIRE(shown.ok());
    for (const char* example : def->examples) {
      CHECK_MESSAGE(shown->text.find(std::string("aoq ") + example) != std::string::npos, example);
      std::vector<std::string> words = split(example);
      Result<Invocation> parsed = parse_command_line(words);
      CHECK_MESSAGE(parsed.ok(), example << ": " << parsed.status().message());
    }
  }
}

// An image classifier with what the examples of the help name.
std::vector<std::byte> classifier() {
  using namespace test;
  auto ramp = [](std::size_t n, float step) {
    std::vector<float> v(n);
    for (std::size_t i = 0; i < n; ++i) v[i] = std::sin(static_cast<float>(i) * step);
    return v;
  };
  OnnxBuilder b;
  b.input("x", kFloat, {DimSpec("N"), DimSpec(3), DimSpec(224), DimSpec(224)});
  b.initializer(floats("w", {16, 3, 16, 16}, ramp(16 * 3 * 256, 0.37f)))
      .initializer(floats("m", {16, 10}, ramp(160, 1.3f)));
  b.add("Conv", {"x", "w"}, {"c"}, {attribute("strides", std::vector<std::int64_t>{16, 16})}, "/stem/Conv");
  b.add("Relu", {"c"}, {"r"}).add("GlobalAveragePool", {"r"}, {"p"}).add("Flatten", {"p"}, {"f"});
  b.add("MatMul", {"f", "m"}, {"s"}, {}, "/fc/MatMul")
      .add("Softmax", {"s"}, {"y"}, {attribute("axis", std::int64_t{-1})});
  return b.output("y").bytes();
}

// Writes it as model.onnx; the result is that many images.
Tensor save_classifier(const Workplace& w, std::int64_t images) {
  const std::vector<std::byte> model = classifier();
  w.write("model.onnx", std::string_view(reinterpret_cast<const char*>(model.data()), model.size()));
  Tensor x = *Tensor::make(DType::f32, {images, 3, 224, 224});
  float phase = 0;
  for (float& v : x.mutable_as<float>()) v = std::sin(phase += 0.61803f);
  return x;
}

TEST_CASE("every example of every help runs") {
  Workplace w;
  w.write("recipe.json", "{}");
  const Tensor x = save_classifier(w, 12);
  w.save("x.npy", x);
  w.save("data.npz", {{"x", x}});
  // Labels that the float model gives.
  REQUIRE(w.aoq("run model.onnx --input data.npz -o float.npz").code == 0);
  const std::string results = w.read("float.npz");
  const NpzReader reader = NpzReader::open(std::as_bytes(std::span(results))).value();
  const Tensor y = reader.read("y").value();
  std::vector<std::int64_t> labels;
  for (std::size_t i = 0; i < 12; ++i) {
    std::span<const float> row = y.as<float>().subspan(i * 10, 10);
    labels.push_back(std::max_element(row.begin(), row.end()) - row.begin());
  }
  w.save("labels.npy", Workplace::labels(labels));
  // As the examples call what earlier commands make.
  Outcome tuned = w.aoq("tune model.onnx -o tuning.json --seconds 0.05");
  REQUIRE_MESSAGE(tuned.code == 0, tuned.err);
  for (const char* file : {"ranges.json", "monday.json", "tuesday.json"}) {
    Outcome made = w.aoq(std::string("calibrate model.onnx --input data.npz -o ") + file);
    REQUIRE_MESSAGE(made.code == 0, made.err);
  }
  for (const CommandDef* def : all_commands()) {
    for (std::string example : def->examples) {
      if (example.starts_with("bench")) example += " --seconds 0.05";
      if (example.starts_with("tune")) example += " --seconds 0.05";
      if (std::size_t at = example.find("--seconds 10 "); at != example.npos) example.erase(at, 13);
      Outcome ran = w.aoq(example);
      CHECK_MESSAGE(ran.code == 0, example << ": " << ran.err);
    }
  }
}

// The determinism ladder, on a whole model, in float and in int8, by the bytes of the results.
TEST_CASE("results are the same bytes run to run, for every thread count, batch position and kernel class") {
  Workplace w;
  const Tensor x = save_classifier(w, 7);
  w.save("data.npz", {{"x", x}});
  // Compiling: other thread counts, another class, another directory.
  REQUIRE(w.aoq("compile model.onnx -o float.aoq --deterministic").code == 0);
  REQUIRE(w.aoq("compile model.onnx -o int8.aoq --deterministic --calibrate data.npz").code == 0);
  const std::string int8_file = w.read("int8.aoq");
  REQUIRE(w.shell("mkdir other && cp model.onnx data.npz other/").code == 0);
  for (const char* how : {"cd other && '" AOQ_BINARY "'", "AOQ_CPU_CLASS=reference '" AOQ_BINARY "'"}) {
    for (const char* threads : {"1", "3"}) {
      Outcome again =
          w.shell(std::string("( ") + how +
                  " compile model.onnx -o again.aoq --deterministic --calibrate data.npz --threads " + threads + " )");
      REQUIRE_MESSAGE(again.code == 0, again.err);
      CHECK(w.read(std::string(how).starts_with("cd") ? "other/again.aoq" : "again.aoq") == int8_file);
    }
  }
  for (const std::string name : {"float", "int8"}) {
    auto results = [&](const std::string& before, const std::string& flags) {
      Outcome ran = w.shell(before + "'" AOQ_BINARY "' run " + name +
                            ".aoq --input data.npz -o out.npz --deterministic " + flags);
      REQUIRE_MESSAGE(ran.code == 0, ran.err);
      return w.read("out.npz");
    };
    const std::string expected = results("", "--threads 1");
    for (int run = 0; run < 100; ++run) CHECK(results("", run % 2 == 0 ? "--threads 1" : "--threads 2") == expected);
    for (const char* threads : {"2", "3", "4", "7"})
      CHECK(results("", std::string("--threads ") + threads) == expected);
    for (const char* batch : {"2", "3", "7"}) CHECK(results("", std::string("--batch ") + batch) == expected);
    CHECK(results("AOQ_CPU_CLASS=reference ", "--threads 2 --batch 3") == expected);
    CHECK(results("AOQ_CPU_CLASS=avx2 ", "--threads 2 --batch 3") == expected);
  }
}

TEST_CASE("usage errors are exit 2 and say what was meant") {
  Workplace w;
  Outcome command = w.aoq("complie model.aoqir");
  CHECK(command.code == 2);
  CHECK(command.says("did you mean \"compile\""));
  Outcome option = w.aoq("compile model.aoqir -o x.aoq --calibrat data.npz");
  CHECK(option.code == 2);
  CHECK(option.says("did you mean \"--calibrate\""));
  CHECK(w.aoq("compile model.aoqir").says("--output is required"));
  CHECK(w.aoq("").code == 2);
  Outcome choice = w.aoq("compile model.aoqir -o x.aoq --quantize statc");
  CHECK(choice.code == 2);
  CHECK(choice.says("did you mean \"static\""));
  CHECK(w.aoq("run model.aoqir --input data.npz -o o.npz --threads 0").code == 2);
  CHECK(w.aoq("compile model.aoqir -o x.aoq --quantize static").says("needs --calibrate"));
  Outcome json = w.aoq("compile --json");
  CHECK(json.code == 2);
  CHECK(json.json()["error"]["code"] == "invalid_argument");
  CHECK(w.aoq("--help").code == 0);
  CHECK(w.aoq("--version").out.starts_with("aoq "));
  CHECK(w.aoq("help compile").out.find("Examples:") != std::string::npos);
}

TEST_CASE("every error has a number, and explain knows them all") {
  Workplace w;
  CHECK(w.aoq("inspect none.aoq").says("AOQ-0201"));
  CHECK(w.aoq("complie").says("AOQ-0101"));
  CHECK(w.aoq("compile --calibrat x").says("AOQ-0102"));
  CHECK(w.aoq("compile model.aoqir -o x.aoq --target cuda").says("AOQ-0902"));
  CHECK(w.aoq("inspect data.npz").says("AOQ-"));
  Outcome json = w.aoq("inspect none.aoq --json");
  CHECK(json.json()["error"]["id"] == "AOQ-0201");
  Outcome list = w.aoq("explain --list --json");
  REQUIRE(list.code == 0);
  for (const Json& e : list.json()) {
    Outcome one = w.aoq("explain " + e["code"].get<std::string>());
    CHECK(one.code == 0);
    CHECK(one.out.find(e["title"].get<std::string>()) != std::string::npos);
  }
  Outcome unknown = w.aoq("explain AOQ-0302x");
  CHECK(unknown.code == 2);
  CHECK(unknown.says("did you mean \"AOQ-0302\""));
}

TEST_CASE("completion scripts complete") {
  Workplace w;
  CHECK(w.aoq("completion tcsh").code == 2);
  for (const char* shell : {"bash", "zsh", "fish"}) {
    Outcome script = w.aoq(std::string("completion ") + shell);
    CHECK(script.code == 0);
    for (const CommandDef* def : all_commands()) CHECK(script.out.find(def->name) != std::string::npos);
  }
  Outcome tried = w.shell(
      "bash -c 'source <(\"$0\" completion bash); COMP_WORDS=(aoq compile --calib); COMP_CWORD=2; _aoq; echo "
      "${COMPREPLY[*]}; "
      "COMP_WORDS=(aoq insp); COMP_CWORD=1; _aoq; echo ${COMPREPLY[*]}' " AOQ_BINARY);
  CHECK(tried.out == "--calibrate\ninspect\n");
}

TEST_CASE("what is not built yet is exit 4") {
  Workplace w;
  w.write("model.pt2", "PK");
  CHECK(w.aoq("compile model.pt2 -o x.aoq").code == 4);
  CHECK(w.aoq("compile model.pt2 -o x.aoq").says("not built yet"));
  CHECK(w.aoq("compile model.aoqir -o x.aoq --target cuda").code == 4);
  CHECK(!w.has("x.aoq"));
}

TEST_CASE("compile in float and in int8") {
  Workplace w;
  Outcome real = w.aoq("compile model.aoqir -o float.aoq --json");
  REQUIRE_MESSAGE(real.code == 0, real.err);
  Json document = real.json();
  CHECK(has_keys(document, {"ops", "float_because", "input_bytes", "output_bytes", "seconds"}));
  CHECK(document["ops"]["int8"] == 0);
  CHECK(document["ops"]["float32"] == 3);
  CHECK(document["output_bytes"] == fs::file_size(w.path("float.aoq")));
  Outcome int8 = w.aoq("compile model.aoqir -o int8.aoq --calibrate data.npz --report report.html --json");
  REQUIRE_MESSAGE(int8.code == 0, int8.err);
  document = int8.json();
  CHECK(document["ops"]["int8"] == 2);
  REQUIRE(document["float_because"].size() == 1);
  CHECK(document["float_because"][0]["op"] == "softmax");
  CHECK(document["float_because"][0]["name"] == "probabilities");
  CHECK(document["float_because"][0]["reason"].get<std::string>().size() > 5);
  CHECK(w.read("report.html").find("probabilities") != std::string::npos);
}

TEST_CASE("the same inputs give the same bytes") {
  Workplace w;
  w.make_int8();
  CHECK(w.aoq("compile model.aoqir -o again.aoq --calibrate data.npz").code == 0);
  CHECK(w.read("int8.aoq") == w.read("again.aoq"));
}

TEST_CASE("dynamic quantization needs no data and runs its linears on integers") {
  Workplace w;
  REQUIRE(w.aoq("compile model.aoqir -o float.aoq").code == 0);
  Outcome made = w.aoq("compile model.aoqir -o dynamic.aoq --quantize dynamic --strict --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  CHECK(made.json()["ops"]["int8"] == 2);
  Outcome listed = w.aoq("inspect dynamic.aoq --json");
  int linears = 0;
  const Json listing = listed.json();
  for (const Json& op : listing["ops"]) {
    if (op["op"] == "choose_qparams") CHECK(op["kernel"] == "choose_qparams_f32");
    if (op["requested"] != "int8") continue;
    ++linears;
    CHECK(op["runs"] == "int8");
    CHECK(op["kernel"].get<std::string>().starts_with("qlinear_s8"));
  }
  CHECK(linears == 2);
  Outcome compared = w.aoq("compare float.aoq dynamic.aoq --input data.npz --json");
  REQUIRE(compared.code == 0);
  const Json errors = compared.json();
  for (const Json& output : errors["outputs"]) CHECK(output["sqnr_db"].get<double>() > 25);
  // Not what was asked for.
  CHECK(w.aoq("compile model.aoqir -o x.aoq --quantize dynamic --calibrate data.npz").code == 2);
  CHECK(w.aoq("compile model.aoqir -o none.aoq --quantize dynamic --keep-float linear --json").json()["ops"]["int8"] ==
        0);
  // The stages, and a recipe of one's own.
  CHECK(w.aoq("import model.aoqir -o p.aoqir --stage prepared --quantize dynamic").code == 0);
  CHECK(w.read("p.aoqir").find("observe(%0)") != std::string::npos);
  CHECK(w.aoq("import model.aoqir -o q.aoqir --stage quantized --quantize dynamic").code == 0);
  CHECK(w.read("q.aoqir").find("choose_qparams") != std::string::npos);
  w.write("recipe.json", R"({"mode": "dynamic", "object_type": [["linear", {
      "activation": {"kind": "placeholder", "dtype": "i8", "qscheme": "per_tensor_symmetric"},
      "weight": {"kind": "min_max", "dtype": "i8", "qscheme": "per_tensor_symmetric"}}]], "global": null})");
  Outcome own = w.aoq("compile model.aoqir -o own.aoq --recipe recipe.json --json");
  REQUIRE_MESSAGE(own.code == 0, own.err);
  CHECK(own.json()["ops"]["int8"] == 2);
}

// The other rung for a batch: what a sample gives does not depend on its neighbours, when each row has a scale of its
// own.
TEST_CASE("dynamic quantization per token does not depend on the batch or the threads") {
  Workplace w;
  w.write("recipe.json", R"({"mode": "dynamic", "global": {
      "activation": {"kind": "placeholder", "dtype": "i8", "qscheme": "per_tensor_symmetric", "granularity": "PerToken"},
      "weight": {"kind": "per_channel_min_max", "dtype": "i8", "qscheme": "per_channel_symmetric"}}})");
  Outcome made = w.aoq("compile model.aoqir -o token.aoq --recipe recipe.json --strict --deterministic --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  CHECK(made.json()["ops"]["int8"] == 2);
  auto results = [&](const std::string& before, const std::string& flags) {
    Outcome ran =
        w.shell(before + "'" AOQ_BINARY "' run token.aoq --input data.npz -o out.npz --deterministic " + flags);
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    return w.read("out.npz");
  };
  const std::string expected = results("", "--threads 1");
  for (const char* batch : {"2", "3", "7", "10"}) CHECK(results("", std::string("--batch ") + batch) == expected);
  for (const char* threads : {"2", "3", "4", "7"}) CHECK(results("", std::string("--threads ") + threads) == expected);
  CHECK(results("AOQ_CPU_CLASS=reference ", "--batch 3") == expected);
  CHECK(w.aoq("compare model.aoqir token.aoq --input data.npz --min-sqnr 25").code == 0);
  w.write("bad.json", R"({"mode": "dynamic", "global": {
      "activation": {"kind": "placeholder", "dtype": "u8", "granularity": "PerToken"},
      "weight": {"kind": "per_channel_min_max", "dtype": "i8", "qscheme": "per_channel_symmetric"}}})");
  CHECK(w.aoq("compile model.aoqir -o x.aoq --recipe bad.json").says("per token"));
}

// n numbers of a wave as the IR's text has them.
std::string wave_text(int n, double frequency) {
  std::string text = "{";
  for (int i = 0; i < n; ++i) text += fmt::format("{}{:.4f}", i == 0 ? "" : ", ", 0.5 * std::sin(frequency * (i + 1)));
  return text + "}";
}

// The entry of the op named `name`.
Json listed_op(const Json& listing, std::string_view name) {
  for (const Json& op : listing["ops"]) {
    if (op["name"] == name) return op;
  }
  FAIL(name << " is not listed");
  return {};
}

TEST_CASE("dynamic quantization runs recurrent layers on integers") {
  Workplace w;
  std::string text = "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=f32, name=\"x\", shape=[N, 5, 4]}\n";
  text += "%1 = permute(%0) {perm=[1, 0, 2]}\n";
  text += fmt::format("%2 = constant() {{value=f32[2, 24, 4]{}}}\n", wave_text(192, 0.9));
  text += fmt::format("%3 = constant() {{value=f32[2, 24, 6]{}}}\n", wave_text(288, 1.7));
  text += "%4, %5, %6 = lstm(%1, %2, %3) {hidden=6, direction=\"bidirectional\"} origins(\"lstm\")\n";
  text += "%7 = slice(%4) {axes=[1], starts=[0], ends=[1], steps=[1]}\n";
  text += "%8 = permute(%7) {perm=[0, 2, 3, 1]}\n%9 = reshape(%8) {shape=[5, N, 6]}\n";
  text += fmt::format("%10 = constant() {{value=f32[1, 9, 6]{}}}\n", wave_text(54, 1.1));
  text += fmt::format("%11 = constant() {{value=f32[1, 9, 3]{}}}\n", wave_text(27, 2.1));
  text += "%12, %13 = gru(%9, %10, %11) {hidden=3} origins(\"gru\")\n";
  text += "%14 = permute(%13) {perm=[1, 0, 2]}\noutput(%14) {names=[\"y\"]}\n";
  w.write("model.aoqir", text);
  w.save("data.npz", {{"x", *Workplace::samples(10, 20).reshaped({10, 5, 4})}});
  Outcome made = w.aoq("compile model.aoqir -o dynamic.aoq --quantize dynamic --strict --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  CHECK(made.json()["ops"]["int8"] == 2);
  const Json listing = w.aoq("inspect dynamic.aoq --json").json();
  CHECK(listed_op(listing, "lstm")["kernel"] == "qlstm_s8");
  CHECK(listed_op(listing, "gru")["kernel"] == "qgru_s8");
  CHECK(listed_op(listing, "gru")["runs"] == "int8");
  Outcome compared = w.aoq("compare model.aoqir dynamic.aoq --input data.npz --min-sqnr 25");
  CHECK_MESSAGE(compared.code == 0, compared.err);
  // With static scales: products by default, every value inside with an inner observer.
  REQUIRE(w.aoq("compile model.aoqir -o products.aoq --calibrate data.npz").code == 0);
  CHECK(listed_op(w.aoq("inspect products.aoq --json").json(), "lstm")["kernel"] == "qlstm_s8");
  w.write(
      "codes.json",
      R"({"global": {"activation": {"kind": "histogram", "dtype": "u8"}, "inner": {"kind": "histogram", "dtype": "u8"},
              "weight": {"kind": "per_channel_min_max", "dtype": "i8", "qscheme": "per_channel_symmetric"}}})");
  REQUIRE(w.aoq("compile model.aoqir -o codes.aoq --recipe codes.json --calibrate data.npz").code == 0);
  const Json codes = w.aoq("inspect codes.aoq --json").json();
  CHECK(listed_op(codes, "lstm")["kernel"] == "qlstm_static_u8");
  CHECK(listed_op(codes, "lstm")["runs"] == "int8");
  for (const char* made_file : {"products.aoq --min-sqnr 25", "codes.aoq --min-sqnr 15"}) {
    compared = w.aoq(std::string("compare model.aoqir --input data.npz ") + made_file);
    CHECK_MESSAGE(compared.code == 0, compared.err);
  }
  // What has no kernel stays in float and says why.
  text.replace(text.find("{hidden=3}"), 10, "{hidden=3, clip=2.0}");
  w.write("clipped.aoqir", text);
  REQUIRE(w.aoq("compile clipped.aoqir -o clipped.aoq --quantize dynamic").code == 0);
  const Json clipped = listed_op(w.aoq("inspect clipped.aoq --json").json(), "gru");
  CHECK(clipped["op"] == "gru");
  CHECK(clipped["requested"] == "int8");
  CHECK(clipped["reason"].get<std::string>().find("clip") != std::string::npos);
  CHECK(w.aoq("compile clipped.aoqir -o x.aoq --quantize dynamic --strict").code == 1);
}

// A table of 256 rows and a linear layer on the rows' sum.
std::string embedding_model() {
  std::string text = "aoqir 1 traced\nsymbol N [1, 64]\n%0 = input() {dtype=i64, name=\"ids\", shape=[N, 3]}\n";
  text += fmt::format("%1 = constant() {{value=f32[256, 32]{}}}\n", wave_text(8192, 0.7));
  text += "%2 = gather(%1, %0) {axis=0} scope(\"embedding\", \"Embedding\") origins(\"embedding\")\n";
  text += "%3 = reduce_sum(%2) {axes=[1], keepdims=false}\n";
  text += fmt::format("%4 = constant() {{value=f32[16, 32]{}}}\n", wave_text(512, 0.7));
  text += "%5 = linear(%3, %4) origins(\"fc\")\noutput(%5) {names=[\"y\"]}\n";
  return text;
}

TEST_CASE("weight-only quantization makes tables rows of codes and keeps activations in float") {
  Workplace w;
  w.write("model.aoqir", embedding_model());
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < 30; ++i) ids.push_back(i * 7 % 256);
  w.save("data.npz", {{"ids", *Workplace::labels(ids).reshaped({10, 3})}});
  Outcome real = w.aoq("compile model.aoqir -o float.aoq --json");
  Outcome made = w.aoq("compile model.aoqir -o narrow.aoq --quantize weight-only --strict --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  CHECK(made.json()["output_bytes"].get<int>() < real.json()["output_bytes"].get<int>() / 2);
  const Json listing = w.aoq("inspect narrow.aoq --json").json();
  const Json embedding = listed_op(listing, "embedding"), fc = listed_op(listing, "fc");
  CHECK(embedding["op"] == "qembedding");
  CHECK(embedding["runs"] == "int8");
  CHECK(embedding["kernel"] == "qembedding_u8");
  // The weight is computed once; the arithmetic is that of float and says so.
  CHECK(fc["op"] == "linear");
  CHECK(fc["runs"] == "float32");
  CHECK(fc["kernel"].get<std::string>().starts_with("linear_f32"));
  CHECK(fc["reason"].get<std::string>().find("weight-only") != std::string::npos);
  for (const Json& op : listing["ops"]) {
    if (op["op"] == "dequantize") CHECK(op["kernel"] == "at load");
  }
  Outcome compared = w.aoq("compare float.aoq narrow.aoq --input data.npz --min-sqnr 35");
  CHECK_MESSAGE(compared.code == 0, compared.err);
  CHECK(w.aoq("compile model.aoqir -o x.aoq --quantize weight-only --calibrate data.npz").code == 2);
  // Four bits for the table alone.
  w.write("recipe.json", R"({"mode": "weight-only", "global": null, "object_type": [["Embedding", {
      "activation": {"kind": "placeholder", "dtype": "f32"},
      "weight": {"kind": "per_channel_min_max", "dtype": "u4", "qscheme": "per_channel_affine_float_qparams"}}]]})");
  Outcome own = w.aoq("compile model.aoqir -o own.aoq --recipe recipe.json --strict --json");
  REQUIRE_MESSAGE(own.code == 0, own.err);
  CHECK(own.json()["ops"]["int4"] == 1);
  CHECK(w.aoq("compare float.aoq own.aoq --input data.npz --min-sqnr 15").code == 0);
}

TEST_CASE("a float16 recipe rounds weights and computes in float") {
  Workplace w;
  w.write("recipe.json", R"({"mode": "dynamic", "global": {"activation": {"kind": "placeholder", "dtype": "f16"},
      "weight": {"kind": "placeholder", "dtype": "f16"}}})");
  Outcome made = w.aoq("compile model.aoqir -o half.aoq --recipe recipe.json --strict --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  CHECK(made.json()["ops"]["int8"] == 0);
  const Json fc = listed_op(w.aoq("inspect half.aoq --json").json(), "fc1");
  CHECK(fc["runs"] == "float32");
  CHECK(fc["reason"].get<std::string>().find("float16") != std::string::npos);
  // The weights of this model are f16 numbers already.
  CHECK(w.aoq("compare model.aoqir half.aoq --input data.npz --min-sqnr 140").code == 0);
}

TEST_CASE("recipes of PyTorch's backends go by name, and by file with a backend") {
  Workplace w;
  Outcome made = w.aoq("compile model.aoqir -o fx.aoq --calibrate data.npz --recipe fx-x86 --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  CHECK(made.json()["ops"]["int8"].get<int>() >= 2);
  CHECK(listed_op(w.aoq("inspect fx.aoq --json").json(), "fc1")["runs"] == "int8");
  CHECK(w.aoq("compare model.aoqir fx.aoq --input data.npz --min-sqnr 20").code == 0);

  REQUIRE(w.aoq("import model.aoqir -o p.aoqir --stage prepared --recipe fx-qnnpack --calibrate data.npz").code == 0);
  CHECK(w.read("p.aoqir").find("activation_post_process_0") != std::string::npos);

  w.write("type.json", R"({"backend": "x86", "object_type": [["linear", null]]})");
  Outcome none = w.aoq("compile model.aoqir -o none.aoq --calibrate data.npz --recipe type.json --json");
  REQUIRE_MESSAGE(none.code == 0, none.err);
  CHECK(listed_op(w.aoq("inspect none.aoq --json").json(), "fc1")["runs"] == "float32");

  Outcome unknown = w.aoq("compile model.aoqir -o x.aoq --calibrate data.npz --recipe fx-tpu");
  CHECK(unknown.code == 2);
  CHECK(unknown.err.find("known: fbgemm, x86, qnnpack, onednn") != std::string::npos);
  Outcome dynamic = w.aoq("compile model.aoqir -o x.aoq --recipe fx-x86 --quantize dynamic");
  CHECK(dynamic.code == 2);
  CHECK(dynamic.err.find("fx-x86 is static") != std::string::npos);
}

TEST_CASE("ranges replace calibration data") {
  Workplace w;
  w.make_int8();
  Outcome calibrated = w.aoq("calibrate model.aoqir --input data.npz -o r.json --json");
  REQUIRE_MESSAGE(calibrated.code == 0, calibrated.err);
  CHECK(calibrated.json()["samples"] == 10);
  Outcome compiled = w.aoq("compile model.aoqir -o ranges.aoq --ranges r.json --json");
  REQUIRE_MESSAGE(compiled.code == 0, compiled.err);
  CHECK(w.read("ranges.aoq") == w.read("int8.aoq"));
  Outcome merged = w.aoq("calibrate --merge r.json r.json -o both.json --json");
  REQUIRE_MESSAGE(merged.code == 0, merged.err);
  CHECK(merged.json()["samples"] == 20);
  CHECK(w.aoq("calibrate model.aoqir --merge r.json -o x.json").code == 2);
  w.write("broken.json", "{\"observers\": 1");
  CHECK(w.aoq("compile model.aoqir -o x.aoq --ranges broken.json").code == 3);
}

TEST_CASE("keep-float leaves ops in float and knows its names") {
  Workplace w;
  Outcome kept = w.aoq("compile model.aoqir -o x.aoq --calibrate data.npz --keep-float fc2 --json");
  REQUIRE_MESSAGE(kept.code == 0, kept.err);
  CHECK(kept.json()["ops"]["int8"] == 1);
  Outcome unknown = w.aoq("compile model.aoqir -o y.aoq --calibrate data.npz --keep-float probabilites");
  CHECK(unknown.code == 2);
  CHECK(unknown.says("did you mean \"probabilities\""));
  CHECK(!w.has("y.aoq"));
}

TEST_CASE("strict writes nothing when an op would run in float") {
  Workplace w;
  // A weight that is an input cannot be quantized, yet the recipe asks for it.
  w.write("open.aoqir", R"(aoqir 1 traced
symbol N [1, 64]
%0 = input() {dtype=f32, name="x", shape=[N, 4]}
%1 = input() {dtype=f32, name="w", shape=[3, 4]}
%2 = linear(%0, %1) origins("open")
output(%2) {names=["y"]}
)");
  w.save("w.npy", Workplace::samples(3, 4));
  std::string arguments = "compile open.aoqir -o open.aoq --calibrate data.npz --constant w=w.npy";
  w.save("data.npz", {{"x", Workplace::samples(10, 4)}});
  Outcome strict = w.aoq(arguments + " --strict");
  CHECK(strict.code == 1);
  CHECK(strict.says("open (linear)"));
  CHECK(!w.has("open.aoq"));
  CHECK(w.aoq(arguments).code == 0);
}

TEST_CASE("NaN in calibration data is exit 3 and named") {
  Workplace w;
  Tensor x = Workplace::samples(10, 4);
  x.mutable_as<float>()[13] = std::nanf("");
  w.save("nan.npz", {{"x", x}});
  Outcome bad = w.aoq("compile model.aoqir -o nan.aoq --calibrate nan.npz");
  CHECK(bad.code == 3);
  CHECK(bad.says("\"x\""));
  CHECK(bad.says("nan"));
  CHECK(bad.says("sample 3"));
  CHECK(!w.has("nan.aoq"));
  CHECK(w.partial_files() == 0);
}

TEST_CASE("data that does not fit is exit 3 and says found and expected") {
  Workplace w;
  w.save("other.npz", {{"y", Workplace::samples(2, 4)}});
  Outcome missing = w.aoq("run model.aoqir --input other.npz -o o.npz");
  CHECK(missing.code == 3);
  CHECK(missing.says("input \"x\" is missing"));
  CHECK(missing.says("\"y\""));
  w.save("extra.npz", {{"x", Workplace::samples(2, 4)}, {"z", Workplace::samples(2, 4)}});
  CHECK(w.aoq("run model.aoqir --input extra.npz -o o.npz").says("array \"z\" is for no input"));
  w.save("wide.npz", {{"x", Workplace::samples(2, 5)}});
  Outcome wide = w.aoq("run model.aoqir --input wide.npz -o o.npz");
  CHECK(wide.code == 3);
  CHECK(wide.says("found f32[2, 5], expected f32[samples, 4]"));
  w.save("integers.npz", {{"x", Workplace::labels({1, 2, 3})}});
  CHECK(w.aoq("run model.aoqir --input integers.npz -o o.npz").says("found i64[3]"));
  CHECK(w.aoq("run model.aoqir --input absent.npz -o o.npz").code == 3);
  w.write("junk.npz", "junk");
  CHECK(w.aoq("run model.aoqir --input junk.npz -o o.npz").says("neither .npz nor .npy"));
  std::string npz = w.read("data.npz");
  w.write("cut.npz", npz.substr(0, npz.size() / 2));
  CHECK(w.aoq("run model.aoqir --input cut.npz -o o.npz").code == 3);
  CHECK(w.aoq("run model.aoqir --input data.npz -o no/such/o.npz").code == 3);
  CHECK(!w.has("o.npz"));
}

TEST_CASE("run joins batches, the last one smaller") {
  Workplace w;
  REQUIRE(w.aoq("run model.aoqir --input data.npz -o one.npz").code == 0);
  Outcome four = w.aoq("run model.aoqir --input data.npz --batch 4 -o four.npz --json --threads 2");
  REQUIRE_MESSAGE(four.code == 0, four.err);
  CHECK(four.json()["samples"] == 10);
  CHECK(four.json()["outputs"][1]["shape"] == Json::array({10, 3}));
  CHECK(w.read("one.npz") == w.read("four.npz"));
  w.save("x.npy", Workplace::samples(10, 4));
  CHECK(w.aoq("run model.aoqir --input x.npy -o npy.npz").code == 0);
  CHECK(w.read("one.npz") == w.read("npy.npz"));
  CHECK(w.aoq("run model.aoqir --input data.npz --samples 3 -o three.npz --json").json()["samples"] == 3);
}

TEST_CASE("a fixed first dimension is the batch, and constants have no samples") {
  Workplace w;
  w.write("fixed.aoqir", kFixed);
  std::vector<float> half{0.5f};
  Tensor gain = *Tensor::from_values<float>(DType::f32, {}, half);
  w.save("gain.npy", gain);
  w.save("whole.npz", {{"x", Workplace::samples(4, 4)}, {"gain", gain}});
  CHECK(w.aoq("run fixed.aoqir --input whole.npz -o a.npz").code == 0);
  w.save("x.npy", Workplace::samples(4, 4));
  CHECK(w.aoq("run fixed.aoqir --input x.npy --constant gain=gain.npy -o b.npz").code == 0);
  CHECK(w.read("a.npz") == w.read("b.npz"));
  CHECK(w.aoq("run fixed.aoqir --input x.npy -o c.npz").code == 3);
  CHECK(w.aoq("run fixed.aoqir --input x.npy --constant gian=gain.npy -o c.npz").says("did you mean \"gain\""));
  CHECK(w.aoq("run fixed.aoqir --input whole.npz --batch 4 -o c.npz").code == 2);
  w.save("odd.npy", Workplace::samples(5, 4));
  Outcome odd = w.aoq("run fixed.aoqir --input odd.npy --constant gain=gain.npy -o c.npz");
  CHECK(odd.code == 3);
  CHECK(odd.says("no whole number of batches of 2"));
  CHECK(!w.has("c.npz"));
}

TEST_CASE("eval measures against labels") {
  Workplace w;
  w.save("y.npy", Workplace::labels({0, 1, 2, 0, 1, 2, 0, 1, 2, 0}));
  Outcome top1 = w.aoq("eval model.aoqir --input data.npz --labels y.npy --metric top1 --json");
  REQUIRE_MESSAGE(top1.code == 0, top1.err);
  Json document = top1.json();
  CHECK(has_keys(document, {"metric", "value", "samples"}));
  CHECK(document["samples"] == 10);
  CHECK(w.aoq("eval model.aoqir --input data.npz --labels y.npy --metric top5 --json").json()["value"] == 1.0);
  CHECK(w.aoq("eval model.aoqir --input data.npz --labels y.npy --batch 3 --json").json()["value"] ==
        document["value"]);
  Outcome below = w.aoq("eval model.aoqir --input data.npz --labels y.npy --at-least 1.1 --json");
  CHECK(below.code == 1);
  CHECK(below.json()["metric"] == "top1");
  w.save("short.npy", Workplace::labels({0, 1}));
  CHECK(w.aoq("eval model.aoqir --input data.npz --labels short.npy").code == 3);
  w.save("large.npy", Workplace::labels({0, 1, 2, 0, 1, 2, 0, 1, 2, 7}));
  CHECK(w.aoq("eval model.aoqir --input data.npz --labels large.npy").says("element 9 is 7, expected 0 to 2"));
  CHECK(w.aoq("eval model.aoqir --input data.npz --labels y.npy --metric top2").code == 2);
}

TEST_CASE("compare reports the error of outputs and of ops") {
  Workplace w;
  w.make_int8();
  w.save("y.npy", Workplace::labels({0, 1, 2, 0, 1, 2, 0, 1, 2, 0}));
  Outcome both = w.aoq("compare model.aoqir int8.aoq --input data.npz --labels y.npy --metric top1 --per-op --json");
  REQUIRE_MESSAGE(both.code == 0, both.err);
  Json document = both.json();
  REQUIRE(has_keys(document, {"outputs", "metric", "ops"}));
  REQUIRE(document["outputs"].size() == 2);
  CHECK(has_keys(document["outputs"][0], {"name", "sqnr_db", "cosine", "max_abs", "mean_abs", "agreement"}));
  CHECK(document["outputs"][1]["sqnr_db"].get<double>() > 20);
  CHECK(document["outputs"][1]["sqnr_db"].get<double>() < 90);
  CHECK(has_keys(document["metric"], {"name", "a", "b"}));
  REQUIRE(document["ops"].size() >= 2);
  CHECK(has_keys(document["ops"][0], {"name", "op", "sqnr_db"}));
  CHECK(document["ops"][0]["sqnr_db"].get<double>() <= document["ops"][1]["sqnr_db"].get<double>());
  Json same = w.aoq("compare model.aoqir model.aoqir --input data.npz --json").json();
  CHECK(same["outputs"][0]["sqnr_db"] == 999.0);
  CHECK(same["outputs"][0]["agreement"] == 1.0);
  CHECK(!same.contains("ops"));
  CHECK(w.aoq("compare model.aoqir int8.aoq --input data.npz --min-sqnr 200").code == 1);
  CHECK(w.aoq("compare model.aoqir int8.aoq --input data.npz --metric top1").code == 2);
}

// The named entry of an error report.
Json entry_of(const Json& list, const std::string& name) {
  for (const Json& e : list) {
    if (e["name"] == name) return e;
  }
  FAIL("no entry " << name);
  return {};
}

TEST_CASE("compare --per-op has relative errors and saturation, of weights too, packed or not") {
  Workplace w;
  w.make_int8();
  Json ops = w.aoq("compare model.aoqir int8.aoq --input data.npz --per-op --json").json();
  for (const char* list : {"ops", "weights"}) {
    REQUIRE(ops[list].size() >= 2);
    CHECK(has_keys(ops[list][0], {"name", "op", "sqnr_db", "relative_error", "saturation"}));
  }
  // 20 log10 of one over the other.
  const Json fc1 = entry_of(ops["ops"], "fc1");
  CHECK(fc1["sqnr_db"].get<double>() == doctest::Approx(-20 * std::log10(fc1["relative_error"].get<double>())));
  CHECK(fc1["saturation"].get<double>() <= 0.1);
  CHECK(entry_of(ops["ops"], "fc2")["saturation"].is_null());  // its result is float
  // Rows of fc1 with the scale of their largest weight over 127 (or 127.5): at most half a step off.
  const double error = entry_of(ops["weights"], "fc1.weight")["relative_error"].get<double>();
  CHECK(error > 1e-4);
  CHECK(error < 0.5 / 127 * std::sqrt(12.0) / 1.9);
  CHECK(entry_of(ops["weights"], "fc1.weight")["saturation"] == 0.0);
  REQUIRE(w.aoq("compile model.aoqir -o native.aoq --calibrate data.npz --cpu native").code == 0);
  Json native = w.aoq("compare model.aoqir native.aoq --input data.npz --per-op --json").json();
  CHECK(native["weights"] == ops["weights"]);
}

TEST_CASE("compare --simulate runs a recipe in float: static, dynamic and weight-only") {
  Workplace w;
  w.make_int8();
  Json lowered = w.aoq("compare model.aoqir int8.aoq --input data.npz --per-op --json").json();
  Outcome made = w.aoq("compare model.aoqir --simulate --calibrate data.npz --input data.npz --per-op --json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  Json simulated = made.json();
  REQUIRE(has_keys(simulated, {"outputs", "metric", "ops", "weights", "values"}));
  // Integers compute what the stubs say, so that the figures are nearly those of the lowered model.
  CHECK(simulated["outputs"][1]["sqnr_db"].get<double>() ==
        doctest::Approx(lowered["outputs"][1]["sqnr_db"].get<double>()).epsilon(0.01));
  for (const char* name : {"fc1.weight", "fc2.weight"}) {
    CHECK(entry_of(simulated["weights"], name)["relative_error"].get<double>() ==
          doctest::Approx(entry_of(lowered["weights"], name)["relative_error"].get<double>()).epsilon(1e-4));
  }
  CHECK(entry_of(simulated["ops"], "x")["op"] == "input");
  CHECK(entry_of(simulated["values"], "fc2")["sqnr_db"].get<double>() ==
        doctest::Approx(simulated["outputs"][1]["sqnr_db"].get<double>()));
  // The same from ranges, from a prepared and from a quantized graph.
  REQUIRE(w.aoq("calibrate model.aoqir --input data.npz -o r.json").code == 0);
  CHECK(w.aoq("compare model.aoqir --simulate --ranges r.json --input data.npz --per-op --json").json() == simulated);
  REQUIRE(w.aoq("import model.aoqir -o p.aoqir --stage prepared --quantize dynamic").code == 0);
  REQUIRE(w.aoq("import model.aoqir -o q.aoqir --stage quantized --ranges r.json").code == 0);
  CHECK(w.aoq("compare model.aoqir q.aoqir --simulate --input data.npz --json").json()["outputs"] ==
        simulated["outputs"]);

  Json dynamic = w.aoq("compare model.aoqir --simulate --quantize dynamic --input data.npz --per-op --json").json();
  CHECK(dynamic["ops"].size() == 2);
  CHECK(dynamic["outputs"][1]["sqnr_db"].get<double>() > 25);
  Json again =
      w.aoq("compare model.aoqir p.aoqir --simulate --quantize dynamic --input data.npz --per-op --json").json();
  CHECK(again["outputs"] == dynamic["outputs"]);
  Json weights = w.aoq("compare model.aoqir --simulate --quantize weight-only --input data.npz --per-op --json").json();
  CHECK(weights["ops"].empty());
  CHECK(weights["weights"].size() == 2);
  CHECK(weights["outputs"][1]["sqnr_db"].get<double>() < 90);
}

TEST_CASE("compare --simulate says what is missing") {
  Workplace w;
  w.make_int8();
  CHECK(w.aoq("compare model.aoqir --input data.npz").says("B is missing"));
  CHECK(w.aoq("compare model.aoqir --simulate --input data.npz").says("--simulate needs what to simulate"));
  CHECK(w.aoq("compare model.aoqir model.aoqir --recipe r.json --input data.npz").says("add --simulate"));
  CHECK(w.aoq("compare model.aoqir int8.aoq --simulate --input data.npz").says("lowered"));
  CHECK(w.aoq("compare int8.aoq --simulate --quantize dynamic --input data.npz").says("expected a float model"));
}

TEST_CASE("names in a recipe that match nothing are errors or warnings") {
  Workplace w;
  w.write("bad.json", R"({"module_name": [["fc3", null]]})");
  Outcome bad = w.aoq("compile model.aoqir -o x.aoq --recipe bad.json --calibrate data.npz");
  CHECK(bad.code == 2);
  CHECK(bad.says("AOQ-0706"));
  CHECK(bad.says("did you mean \"fc1\"?"));
  CHECK(!w.has("x.aoq"));
  w.write("odd.json", R"({"object_type": [["Conv2d", null]]})");
  Outcome odd = w.aoq("compile model.aoqir -o x.aoq --recipe odd.json --calibrate data.npz --report r.html --json");
  REQUIRE_MESSAGE(odd.code == 0, odd.err);
  CHECK(odd.says("warning: object_type \"Conv2d\""));
  CHECK(odd.json()["warnings"].size() == 1);
  CHECK(w.read("r.html").find("object_type &quot;Conv2d&quot;") != std::string::npos);
  CHECK(w.aoq("calibrate model.aoqir --input data.npz -o r.json --recipe odd.json").says("warning: "));
  CHECK(w.aoq("compile model.aoqir -o y.aoq --quantize weight-only --json").json()["warnings"].empty());
}

TEST_CASE("calibrate records with a recipe of recordings; compile refuses them by name") {
  Workplace w;
  w.write("record.json", R"({"global": {"activation": {"kind": "recording"}, "weight": {
    "kind": "per_channel_min_max", "dtype": "i8", "qscheme": "per_channel_symmetric"}}})");
  Outcome made = w.aoq("calibrate model.aoqir --input data.npz --recipe record.json -o r.json");
  REQUIRE_MESSAGE(made.code == 0, made.err);
  const Json ranges = *parse_json(w.read("r.json"));
  CHECK(ranges["observers"]["x"]["state"]["batches"].size() == 10);
  CHECK(ranges["observers"]["x"]["state"]["batches"][9]["shape"] == Json({1, 4}));
  Outcome refused = w.aoq("compile model.aoqir -o x.aoq --recipe record.json --ranges r.json");
  CHECK(refused.code == 2);
  CHECK(refused.says("observer \"x\""));
}

TEST_CASE("bench has all its keys and takes turns") {
  Workplace w;
  w.make_int8();
  Outcome alone = w.aoq("bench int8.aoq --seconds 0.05 --threads 1 --json");
  REQUIRE_MESSAGE(alone.code == 0, alone.err);
  std::vector<std::string> keys{"median_ms", "min_ms",  "p90_ms", "runs",        "threads",
                                "isa",       "load_ms", "rss_mb", "ratio_median"};
  CHECK(has_keys(alone.json(), keys));
  CHECK(alone.json()["threads"] == 1);
  Json pair = w.aoq("bench int8.aoq --against model.aoqir --input data.npz --seconds 0.05 --json").json();
  CHECK(has_keys(pair, keys));
  CHECK(pair["against"]["runs"] == pair["runs"]);
  CHECK(pair["ratio_median"].get<double>() > 0);
  CHECK(w.aoq("bench int8.aoq --seconds 0").code == 2);
}

TEST_CASE("bench --per-op times every op and knows its products") {
  Workplace w;
  w.write("conv.aoqir", R"(aoqir 1 traced
%0 = input() {dtype=f32, name="x", shape=[2, 1, 6, 5]}
%1 = constant() {value=f32[3, 1, 2, 2]{0.5, -0.25, 0.125, 1, -1, 0.75, 0.5, -0.5, 0.25, 0.25, -0.75, 0.5}}
%2 = conv(%0, %1) origins("c")
%3 = softmax(%2) origins("s")
output(%3) {names=["y"]}
)");
  Outcome timed = w.aoq("bench conv.aoqir --per-op --seconds 0.05 --threads 1 --json");
  REQUIRE_MESSAGE(timed.code == 0, timed.err);
  const Json document = timed.json();
  CHECK(has_keys(document, {"median_ms", "ops", "sum_ms"}));
  double slowest = 0;
  int convolutions = 0;
  for (const Json& op : document["ops"]) {
    CHECK(has_keys(op, {"name", "op", "kernel", "slices", "median_us", "alone_us", "macs", "gmac_per_s"}));
    CHECK(op["slices"] == 1);  // the batch of 2 is no reason to cut values of a few bytes
    slowest = std::max(slowest, op["median_us"].get<double>() * 1e-3);
    if (op["op"] != "conv") {
      CHECK(op["macs"] == 0);
      CHECK(op["gmac_per_s"] == 0);
      continue;
    }
    ++convolutions;
    CHECK(op["macs"] == 2 * 3 * 5 * 4 * 4);
    CHECK(op["gmac_per_s"].get<double>() == doctest::Approx(480 / op["median_us"].get<double>() * 1e-3));
  }
  CHECK(convolutions == 1);
  CHECK(slowest > 0);
  CHECK(document["sum_ms"].get<double>() >= slowest);
  Outcome text = w.aoq("bench conv.aoqir --per-op --seconds 0.05 --threads 1");
  CHECK(text.out.find("GMAC/s") != std::string::npos);
  CHECK(text.out.find("the ops take") != std::string::npos);
  CHECK_FALSE(w.aoq("bench conv.aoqir --seconds 0.05 --json").json().contains("ops"));
  CHECK(w.aoq("bench conv.aoqir --whole-batch --seconds 0.05 --json").code == 0);
  CHECK(w.aoq("inspect conv.aoqir --whole-batch --json").json()["ops"][0]["slices"] == 1);
  Outcome both = w.aoq("bench conv.aoqir --per-op --against conv.aoqir");
  CHECK(both.code == 2);
  CHECK(both.says("--against"));
}

TEST_CASE("inspect lists every op with what was asked and what runs") {
  Workplace w;
  w.make_int8();
  Outcome shown = w.aoq("inspect int8.aoq --json");
  REQUIRE_MESSAGE(shown.code == 0, shown.err);
  Json document = shown.json();
  CHECK(
      has_keys(document, {"format_version", "inputs", "outputs", "ops", "weights_bytes", "arena_bytes", "provenance"}));
  CHECK(document["inputs"][0] == Json({{"name", "x"}, {"dtype", "f32"}, {"shape", {"N", 4}}}));
  CHECK(has_keys(document["ops"][0], {"name", "op", "requested", "runs", "reason", "kernel"}));
  std::int64_t int8 = 0;
  for (const Json& op : document["ops"]) {
    if (op["runs"] == "int8") ++int8;
    CHECK(!op["kernel"].get<std::string>().empty());
    if (op["op"] == "qlinear") CHECK(op["requested"] == "int8");
    if (op["runs"] == "float32") CHECK(!op["reason"].get<std::string>().empty());
  }
  CHECK(int8 == 2);
  CHECK(document["provenance"]["quantize"] == "static");
  CHECK(document["provenance"]["recipe"]["name"] == "default");
  CHECK(w.aoq("inspect int8.aoq").out.find("fc1") != std::string::npos);
  CHECK(w.aoq("inspect model.aoqir --json").code == 0);
}

TEST_CASE("packing for this machine gives the same numbers") {
  Workplace w;
  w.make_int8();
  Outcome native = w.aoq("compile model.aoqir -o native.aoq --calibrate data.npz --cpu native");
  REQUIRE_MESSAGE(native.code == 0, native.err);
  CHECK(w.aoq("compare int8.aoq native.aoq --input data.npz --max-abs 0").code == 0);
  CHECK(w.aoq("verify native.aoq").code == 0);
  CHECK(w.aoq("compare native.aoq native.aoq --input data.npz --per-op").code == 0);
}

TEST_CASE("verify is silent when fine and finds damage") {
  Workplace w;
  w.make_int8();
  Outcome fine = w.aoq("verify int8.aoq");
  CHECK(fine.code == 0);
  CHECK(fine.out.empty());
  CHECK(fine.err.empty());
  CHECK(w.aoq("verify int8.aoq --json").json()["ok"] == true);
  std::string file = w.read("int8.aoq");
  w.write("cut.aoq", file.substr(0, file.size() - 1));
  CHECK(w.aoq("verify cut.aoq").code == 3);
  CHECK(w.aoq("inspect cut.aoq").code == 3);
  file.back() = static_cast<char>(file.back() ^ 1);
  w.write("damaged.aoq", file);
  Outcome damaged = w.aoq("verify damaged.aoq");
  CHECK(damaged.code == 3);
  CHECK(damaged.says("damaged.aoq"));
  CHECK(w.aoq("verify absent.aoq").code == 3);
}

TEST_CASE("import writes the IR of every stage, and it reads back") {
  Workplace w;
  w.make_int8();
  for (const char* stage : {"traced", "prepared", "quantized", "lowered"}) {
    std::string file = std::string(stage) + ".aoqir";
    std::string data =
        std::string_view(stage) == "prepared" || std::string_view(stage) == "traced" ? "" : " --calibrate data.npz";
    Outcome imported = w.aoq("import model.aoqir -o " + file + " --stage " + stage + data + " --json");
    REQUIRE_MESSAGE(imported.code == 0, imported.err);
    CHECK(imported.json()["stage"] == stage);
    CHECK(w.read(file).starts_with(std::string("aoqir 1 ") + stage));
  }
  CHECK(w.aoq("compare int8.aoq lowered.aoqir --input data.npz --max-abs 0").code == 0);
  CHECK(w.aoq("compile quantized.aoqir -o q.aoq --calibrate data.npz").code == 2);
  CHECK(w.aoq("compile quantized.aoqir -o q.aoq").code == 0);
  CHECK(w.aoq("compare int8.aoq q.aoq --input data.npz --max-abs 0").code == 0);
  CHECK(w.aoq("compile prepared.aoqir -o p.aoq --calibrate data.npz").code == 0);
  CHECK(w.aoq("compare int8.aoq p.aoq --input data.npz --max-abs 0").code == 0);
  CHECK(w.aoq("import int8.aoq -o back.aoqir").code == 0);
  CHECK(w.aoq("compare int8.aoq back.aoqir --input data.npz --max-abs 0").code == 0);
}

TEST_CASE("larger constants lie in a safetensors file beside the text") {
  Workplace w;
  std::string values = "1";
  for (int i = 1; i < 40; ++i) values += ", " + std::to_string(i % 7);
  w.write("long.aoqir",
          "aoqir 1 traced\n%0 = input() {dtype=f32, name=\"x\", shape=[40]}\n%1 = constant() {value=f32[40]{" + values +
              "}} origins(\"table\")\n%2 = add(%0, %1)\noutput(%2) {names=[\"y\"]}\n");
  REQUIRE(w.aoq("import long.aoqir -o out.aoqir").code == 0);
  CHECK(w.has("out.safetensors"));
  CHECK(w.aoq("inspect out.aoqir").code == 0);
  fs::remove(w.path("out.safetensors"));
  Outcome missing = w.aoq("inspect out.aoqir");
  CHECK(missing.code == 3);
  CHECK(missing.says("out.safetensors"));
}

TEST_CASE("opt runs passes and names them") {
  Workplace w;
  CHECK(w.aoq("opt --list").out.find("dce") != std::string::npos);
  CHECK(w.aoq("opt --list --json").json().size() > 5);
  Outcome text = w.aoq("opt model.aoqir --passes dce,fold-constants --print-after dce");
  CHECK(text.code == 0);
  CHECK(text.out.starts_with("aoqir 1 traced"));
  CHECK(text.says("// after dce"));
  CHECK(w.aoq("opt model.aoqir --passes standard -o o.aoqir").code == 0);
  CHECK(w.has("o.aoqir"));
  Json partial = w.aoq("opt model.aoqir --passes dce,fold-constants,fuse-bias --skip dce --stop-after 1 --json").json();
  REQUIRE(partial["passes"].size() == 1);
  CHECK(partial["passes"][0]["name"] == "fold-constants");
  Outcome unknown = w.aoq("opt model.aoqir --passes fold-constant");
  CHECK(unknown.code == 2);
  CHECK(unknown.says("did you mean \"fold-constants\""));
  w.write("bad.aoqir", "aoqir 1 traced\n%0 = reluu(%1)\n");
  Outcome bad = w.aoq("opt bad.aoqir --passes dce");
  CHECK(bad.code == 3);
  CHECK(bad.says("line 2"));
  CHECK(bad.says("did you mean relu"));
}

TEST_CASE("doctor tells the class, features and threads") {
  Workplace w;
  Json document = w.aoq("doctor --json").json();
  CHECK(has_keys(document, {"isa", "features", "onednn", "cuda", "threads"}));
  CHECK(document["threads"].get<int>() >= 1);
}

TEST_CASE("files that are no model are exit 3") {
  Workplace w;
  w.write("text.txt", "hello");
  CHECK(w.aoq("inspect text.txt").says("no model that aoq knows"));
  w.write("junk.onnx", "\xff\xff\xff");
  CHECK(w.aoq("compile junk.onnx -o x.aoq").code == 3);
  w.write("empty.aoq", "");
  CHECK(w.aoq("inspect empty.aoq").code == 3);
  CHECK(w.aoq("inspect absent.onnx").code == 3);
  CHECK(!w.has("x.aoq"));
}

TEST_CASE("--bind gives a number to a dimension that the model leaves open") {
  Workplace w;
  test::OnnxBuilder b;
  b.input("x", test::kFloat, {"N", "height", 4}).output("y");
  b.initializer(test::int64s("axes", {1}, {1})).add("Squeeze", {"x", "axes"}, {"y"});
  std::vector<std::byte> bytes = b.bytes();
  w.write("open.onnx", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  Outcome refused = w.aoq("compile open.onnx -o open.aoq");
  CHECK(refused.code == 4);
  CHECK(refused.says("--bind SYMBOL=N"));
  REQUIRE(w.aoq("compile open.onnx -o open.aoq --bind height=1").code == 0);
  Json ops = w.aoq("inspect open.onnx --bind height=1 --json").json();
  CHECK(ops["inputs"][0]["shape"] == Json({"N", 1, 4}));
  Outcome unknown = w.aoq("compile open.onnx -o x.aoq --bind width=1");
  CHECK(unknown.code == 2);
  CHECK(unknown.says("height"));
  for (const char* wrong : {"height", "height=", "=1", "height=one", "height=-1"}) {
    CHECK(w.aoq(std::string("compile open.onnx -o x.aoq --bind ") + wrong).code == 2);
  }
  CHECK(w.aoq("inspect open.aoq --bind N=1").code == 2);
  CHECK(!w.has("x.aoq"));
}

TEST_CASE("stdout that is full is an error") {
  Workplace w;
  if (!fs::exists("/dev/full")) return;
  std::string command = std::string("'" AOQ_BINARY "' doctor >/dev/full 2>/dev/null");
  CHECK(WEXITSTATUS(std::system(command.c_str())) == 3);
}

TEST_CASE("an interrupt is exit 130 and leaves no file") {
  Workplace w;
  w.make_int8();
  std::string model = w.path("int8.aoq").string();
  pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(9);
    ::execl(AOQ_BINARY, "aoq", "bench", model.c_str(), "--seconds", "60", static_cast<char*>(nullptr));
    ::_exit(9);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(child, SIGINT);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 130);
  CHECK(w.partial_files() == 0);
}

}  // namespace
}  // namespace aoq::tools
