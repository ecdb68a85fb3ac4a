// Runs the real binary in a directory of its own. For tests of the command line.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "formats/json/json.h"
#include "formats/npy/npy.h"
#include "tools/output_file.h"

namespace aoq::tools {

namespace fs = std::filesystem;

// y = linear(relu(linear(x))) with a softmax beside it: two integer ops, one that stays in float.
inline constexpr const char* kModel = R"(aoqir 1 traced
symbol N [1, 64]
%0 = input() {dtype=f32, name="x", shape=[N, 4]}
%1 = constant() {value=f32[3, 4]{0.5, -0.25, 0.125, 1, -1, 0.75, 0.5, -0.5, 0.25, 0.25, -0.75, 0.5}}
%2 = constant() {value=f32[3]{0.125, -0.25, 0.5}}
%3 = linear(%0, %1, %2) {activation="relu"} scope("fc1", "Linear") origins("fc1")
%4 = constant() {value=f32[3, 3]{1, -0.5, 0.25, 0.5, 0.75, -1, -0.25, 0.5, 1}}
%5 = linear(%3, %4) scope("fc2", "Linear") origins("fc2")
%6 = softmax(%5) origins("probabilities")
output(%6, %5) {names=["p", "y"]}
)";

struct Outcome {
  int code = -1;
  std::string out, err;
  Json json() const {
    Result<Json> parsed = parse_json(out);
    REQUIRE_MESSAGE(parsed.ok(), out);
    return *parsed;
  }
  bool says(std::string_view text) const { return err.find(text) != std::string::npos; }
};

// A directory of its own for every test case.
class Workplace {
 public:
  Workplace() {
    std::string name = (fs::temp_directory_path() / "aoq-cli-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    directory_ = name;
    write("model.aoqir", kModel);
    save("data.npz", {{"x", samples(10, 4)}});
  }
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  fs::path path(const std::string& name) const { return directory_ / name; }
  bool has(const std::string& name) const { return fs::exists(path(name)); }
  void write(const std::string& name, std::string_view text) const {
    std::ofstream(path(name), std::ios::binary) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void save(const std::string& name, const std::vector<NamedTensor>& arrays) const {
    REQUIRE(write_output(path(name), [&](const ByteSink& sink) { return write_npz(arrays, sink); }).ok());
  }
  void save(const std::string& name, const Tensor& array) const {
    std::vector<std::byte> bytes = *write_npy(array);
    write(name, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  // Files that are in no test's plan, such as the unfinished copy of an output.
  std::size_t partial_files() const {
    std::size_t count = 0;
    for (const fs::directory_entry& e : fs::directory_iterator(directory_)) {
      if (e.path().string().ends_with(".partial")) ++count;
    }
    return count;
  }

  static Tensor samples(std::int64_t rows, std::int64_t columns) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      values.push_back(static_cast<float>(std::sin(static_cast<double>(i) * 0.7)) * 2.0f);
    }
    return *Tensor::from_values<float>(DType::f32, {rows, columns}, values);
  }
  static Tensor labels(const std::vector<std::int64_t>& values) {
    return *Tensor::from_values<std::int64_t>(DType::i64, {static_cast<std::int64_t>(values.size())}, values);
  }

  Outcome aoq(const std::string& arguments) const { return shell("'" AOQ_BINARY "' " + arguments); }
  Outcome shell(const std::string& line) const {
    std::string command = "cd '" + directory_.string() + "' && " + line + " >.out 2>.err";
    int status = std::system(command.c_str());
    return {WEXITSTATUS(status), read(".out"), read(".err")};
  }
  // Compiles the model to int8.aoq.
  void make_int8() const {
    Outcome made = aoq("compile model.aoqir -o int8.aoq --calibrate data.npz");
    REQUIRE_MESSAGE(made.code == 0, made.err);
  }

 private:
  fs::path directory_;
};

inline bool has_keys(const Json& object, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    if (json_find(object, key) == nullptr) {
      MESSAGE("missing key: " << key);
      return false;
    }
  }
  return true;
}

}  // namespace aoq::tools
