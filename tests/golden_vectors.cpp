// golden_vectors DIR [SECTION ...]: compares the product with what PyTorch and torchao computed.
//
// Reads DIR/index.json and runs every case of every section, or of those named. Prints a line per failing case, one per
// kind of case that is skipped, the counts of each section and the total. Exit: 0 all passed, 1 a case failed, 2 usage,
// 3 unreadable.
#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "formats/io/file.h"
#include "tests/golden/golden.h"

namespace aoq::golden {
namespace {

struct Counts {
  std::int64_t passed = 0, failed = 0, skipped = 0;

  void add(const Counts& other) {
    passed += other.passed;
    failed += other.failed;
    skipped += other.skipped;
  }
  void print(std::string_view name) const {
    fmt::print("{}: {} passed, {} failed, {} skipped\n", name, passed, failed, skipped);
  }
};

Result<Json> read_json_file(const std::string& path) {
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  Result<Json> json = parse_json(file->bytes());
  if (!json.ok()) return std::move(json).status().with_context(path);
  return json;
}

const Section* section_named(std::string_view name) {
  for (const Section& s : sections()) {
    if (s.name == name) return &s;
  }
  return nullptr;
}

const OpRunner* runner_of(const Section* section, std::string_view op) {
  if (section == nullptr) return nullptr;
  for (const OpRunner& r : section->ops) {
    if (r.op == op) return &r;
  }
  return nullptr;
}

// Skipped cases by kind and reason, so that each is told once.
using Skips = std::map<std::pair<std::string, std::string>, std::int64_t>;

void run_case(Case& c, RunCase run, Counts& counts, Skips& skips) {
  const Status status = run(c);
  if (!status.ok()) c.fail(fmt::format("expected a result, found {}: {}", code_name(status.code()), status.message()));
  if (!c.skipped().empty()) {
    ++counts.skipped;
    ++skips[{c.op(), c.skipped()}];
    return;
  }
  if (c.failures().empty()) {
    ++counts.passed;
    return;
  }
  ++counts.failed;
  fmt::print("{} {}: {}\n", c.id(), c.op(), c.failures());
}

Result<Counts> run_section(const std::string& directory, const Json& entry) {
  AOQ_ASSIGN(const std::string name, json_string(entry, "name"));
  AOQ_ASSIGN(const std::string index, json_string(entry, "index"));
  AOQ_ASSIGN(const std::string archive_name, json_string(entry, "archive"));
  AOQ_ASSIGN(const Json json, read_json_file(directory + "/" + index));
  const Json* cases = json_find(json, "cases");
  if (cases == nullptr || !cases->is_array()) return error(Code::invalid_data, "{}: no cases", index);
  AOQ_ASSIGN(const std::shared_ptr<const MappedFile> file, MappedFile::open(directory + "/" + archive_name));
  AOQ_ASSIGN(const NpzReader archive, NpzReader::open(file->bytes(), file));
  const Section* section = section_named(name);
  Counts counts;
  Skips skips;
  for (const Json& item : *cases) {
    Case c(item, archive, directory);
    const OpRunner* runner = runner_of(section, c.op());
    if (runner != nullptr && runner->run != nullptr) {
      run_case(c, runner->run, counts, skips);
      continue;
    }
    const std::string_view reason = runner != nullptr    ? runner->missing
                                    : section != nullptr ? section->missing
                                                         : "the section is unknown";
    ++skips[{c.op(), std::string(reason)}];
    ++counts.skipped;
  }
  for (const auto& [kind, count] : skips) fmt::print("[SKIP] {}: {} x {}: {}\n", name, count, kind.first, kind.second);
  counts.print(name);
  return counts;
}

Status check_wanted(const Json& index_sections, std::span<const std::string> wanted) {
  for (const std::string& name : wanted) {
    const bool is_known = std::any_of(index_sections.begin(), index_sections.end(),
                                      [&](const Json& s) { return s.is_object() && s.value("name", "") == name; });
    if (!is_known) return error(Code::not_found, "the index has no section \"{}\"", name);
  }
  return {};
}

Result<Counts> run_all(const std::string& directory, std::span<const std::string> wanted) {
  AOQ_ASSIGN(const Json index, read_json_file(directory + "/index.json"));
  const Json* index_sections = json_find(index, "sections");
  if (index_sections == nullptr || !index_sections->is_array())
    return error(Code::invalid_data, "index.json: no sections");
  AOQ_TRY(check_wanted(*index_sections, wanted));
  Counts total;
  for (const Json& entry : *index_sections) {
    AOQ_ASSIGN(const std::string name, json_string(entry, "name"));
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
    AOQ_ASSIGN(const Counts counts, run_section(directory, entry));
    total.add(counts);
  }
  total.print("total");
  return total;
}

int main_of(std::span<char*> arguments) {
  if (arguments.size() < 2 || std::string_view(arguments[1]).starts_with("-")) {
    fmt::print(stderr, "usage: golden_vectors DIR [SECTION ...]\n");
    return 2;
  }
  const std::vector<std::string> wanted(arguments.begin() + 2, arguments.end());
  const Result<Counts> counts = run_all(arguments[1], wanted);
  if (!counts.ok()) {
    fmt::print(stderr, "golden_vectors: {}\n", counts.status().message());
    return 3;
  }
  return counts->failed > 0 ? 1 : 0;
}

}  // namespace
}  // namespace aoq::golden

int main(int argc, char** argv) {
  return aoq::golden::main_of({argv, static_cast<std::size_t>(argc)});
}
