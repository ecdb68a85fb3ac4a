// Golden IR tests: each file is
//
//   // RUN: pass,pass
//   (a graph)
//   // EXPECT
//   (the graph that must come out, byte for byte as the printer writes it)
//
// The runner reads the input, runs it with the reference interpreter on fixed random data, runs the passes, compares
// the text, runs the result on the same data and compares numbers (exactly, or within `// TOLERANCE: t` relative to the
// largest value), and runs the passes again, which must change nothing. Instead of EXPECT, `// UNCHANGED` says that the
// passes must leave the graph as it is. `// RECIPE: dynamic`, `weight-only` or JSON gives stages their recipe; they run
// once. With AOQ_UPDATE=1 expectations are written anew. Every rewrite must have a case
// where it fires and one where it must not.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <set>
#include <sstream>

#include "ir/interpreter.h"
#include "ir/text.h"
#include "ir/verifier.h"
#include "passes/pass.h"
#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"

namespace aoq {
namespace {

struct Case {
  std::vector<std::string> passes;
  std::string input, expected;
  bool unchanged = false;
  double tolerance = 0;
  std::string recipe;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  std::stringstream in(list);
  for (std::string item; std::getline(in, item, ',');) out.push_back(item);
  return out;
}

Case read_case(const std::string& text) {
  Case c;
  std::stringstream in(text);
  bool expect = false;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("// RUN: ")) {
      c.passes = split(line.substr(8));
    } else if (line.starts_with("// TOLERANCE: ")) {
      c.tolerance = std::stod(line.substr(14));
    } else if (line.starts_with("// RECIPE: ")) {
      c.recipe = line.substr(11);
    } else if (line == "// EXPECT") {
      expect = true;
    } else if (line == "// UNCHANGED") {
      c.unchanged = true;
    } else {
      (expect ? c.expected : c.input) += line + "\n";
    }
  }
  return c;
}

Result<std::vector<Tensor>> interpret(const Graph& g) {
  std::mt19937 rng(7);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<Tensor> inputs;
  for (const Node* n : g.input_nodes()) {
    std::vector<std::int64_t> shape;
    for (const Dim& d : n->output()->type().shape) shape.push_back(d.is_constant() ? d.constant() : 2);
    AOQ_ASSIGN(Tensor t, Tensor::make(n->output()->type().dtype, shape));
    for (std::int64_t i = 0; i < t.element_count(); ++i) {
      double v = t.dtype() == DType::f32 ? static_cast<double>(normal(rng)) : static_cast<double>(rng() % 4);
      store_from_double(t.dtype(), t.mutable_bytes().data(), i, v);
    }
    inputs.push_back(std::move(t));
  }
  ReferenceExecutor executor;
  AOQ_ASSIGN(std::unique_ptr<Executable> executable, executor.prepare(g));
  return executable->run(inputs, {});
}

std::string compare(const std::vector<Tensor>& a, const std::vector<Tensor>& b, double tolerance) {
  if (a.size() != b.size()) return "another number of results";
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].shape() != b[i].shape() || a[i].dtype() != b[i].dtype())
      return fmt::format("result {} has another type", i);
    double largest = 0, worst = 0;
    for (std::int64_t k = 0; k < a[i].element_count(); ++k) {
      double x = load_as_double(a[i].dtype(), a[i].bytes().data(), k),
             y = load_as_double(b[i].dtype(), b[i].bytes().data(), k);
      largest = std::max(largest, std::fabs(x));
      if (!(std::isnan(x) && std::isnan(y))) worst = std::max(worst, std::fabs(x - y));
      if (std::isnan(x) != std::isnan(y)) return fmt::format("result {} element {} is NaN on one side", i, k);
    }
    if (worst > tolerance * largest)
      return fmt::format("result {} differs by {} (largest value {})", i, worst, largest);
  }
  return {};
}

Result<Recipe> recipe_of(const std::string& text) {
  if (text == "dynamic") return default_dynamic_recipe();
  if (text == "weight-only") return default_weight_only_recipe();
  return parse_recipe(text.empty() ? "{}" : text);
}

Result<std::string> run_case(const Case& c, std::string* printed) {
  AOQ_ASSIGN(Graph g, parse_text(c.input, {}));
  AOQ_TRY(verify(g));
  std::string before_text = print_text(g).text;
  AOQ_ASSIGN(std::vector<Tensor> before, interpret(g));
  AOQ_ASSIGN(const Recipe recipe, recipe_of(c.recipe));
  Ranges ranges;
  PassContext context;
  context.recipe = &recipe;
  context.ranges = &ranges;
  AOQ_ASSIGN(bool changed, run_passes(g, c.passes, context));
  *printed = print_text(g).text;
  if (c.unchanged) {
    if (changed || *printed != before_text) return std::string("the passes changed the graph:\n") + *printed;
    return std::string();
  }
  if (*printed != c.expected) return "expected\n" + c.expected + "found\n" + *printed;
  if (!changed) return std::string("the passes say that nothing changed");
  AOQ_ASSIGN(std::vector<Tensor> after, interpret(g));
  std::string difference = compare(before, after, c.tolerance);
  if (!difference.empty() || !c.recipe.empty()) return difference;
  AOQ_ASSIGN(bool again, run_passes(g, c.passes, context));
  if (again || print_text(g).text != *printed) return std::string("running the passes again changes the graph");
  return std::string();
}

// Which rewrites have a case that they must change, and one that they must leave alone.
struct Coverage {
  std::set<std::string> fires, stays;

  void note(const Case& c) {
    for (const std::string& pass : c.passes) (c.unchanged ? stays : fires).insert(pass);
  }
  int report_gaps() const {
    int gaps = 0;
    for (const PassDef* pass : all_passes()) {
      if (pass->kind != PassKind::rewrite) continue;
      const char* missing = !fires.contains(pass->name)   ? "fires"
                            : !stays.contains(pass->name) ? "must not fire"
                                                          : nullptr;
      if (missing == nullptr) continue;
      std::cout << pass->name << ": no golden case where it " << missing << "\n";
      ++gaps;
    }
    return gaps;
  }
};

bool check_file(const std::filesystem::path& path, Coverage& coverage) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  Case c = read_case(text.str());
  coverage.note(c);
  std::string printed;
  Result<std::string> r = run_case(c, &printed);
  if (!r.ok()) {
    std::cout << path.filename().string() << ": " << r.status().message() << "\n";
    return false;
  }
  if (r->empty()) return true;
  if (std::getenv("AOQ_UPDATE") != nullptr && !c.unchanged) {
    std::string all = text.str();
    std::ofstream(path) << all.substr(0, all.find("// EXPECT")) + "// EXPECT\n" + printed;
    std::cout << path.filename().string() << ": updated\n";
    return true;
  }
  std::cout << path.filename().string() << ": " << *r << "\n";
  return false;
}

}  // namespace
}  // namespace aoq

int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      if (entry.path().extension() == ".aoqir") files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  aoq::Coverage coverage;
  for (const auto& f : files) (aoq::check_file(f, coverage) ? passed : failed) += 1;
  failed += coverage.report_gaps();
  std::cout << passed << " passed, " << failed << " failed\n";
  return failed > 0 || passed == 0 ? 1 : 0;
}
