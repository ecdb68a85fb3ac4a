// reference_pages DIR: checks that DIR/ops.md, passes.md, configurations.md and errors.md are what the tables say; with
// --write it writes them.
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

#include "backends/cpu/kernel_table.h"
#include "ir/attribute.h"
#include "ir/error_id.h"
#include "passes/pass.h"
#include "passes/torchao/quantize_model.h"
#include "tools/console.h"

namespace aoq {
namespace {

constexpr const char* kMade = "Made by `reference_pages --write docs`; a test compares it with the tables.\n\n";

std::string inputs_of(const OpDef& def) {
  std::string text;
  for (const InputDef& in : def.inputs) {
    if (in.name == nullptr) break;
    const char* mark = in.arity == Arity::optional ? "?" : in.arity == Arity::variadic ? "..." : "";
    text += fmt::format("{}{}{}", text.empty() ? "" : ", ", in.name, mark);
  }
  return text;
}

std::string attributes_of(std::span<const AttributeDef> defs) {
  std::string text;
  for (const AttributeDef& a : defs) {
    if (a.name == nullptr) break;
    std::string value = a.default_text == nullptr                      ? "required"
                        : std::string_view(a.default_text) == "absent" ? "may be absent"
                                                                       : fmt::format("default `{}`", a.default_text);
    text += fmt::format("- `{}` ({}, {}){}{}\n", a.name, attribute_kind_name(a.kind), value, *a.doc ? ": " : "", a.doc);
  }
  return text;
}

std::string kernels_of(Op op) {
  std::string text;
  for (const cpu::KernelRow& row : cpu::kernel_rows()) {
    // oneDNN's rows depend on the build.
    if (row.op != op || row.name.find("onednn") != std::string_view::npos) continue;
    text += fmt::format("{}`{}` ({}{})", text.empty() ? "" : ", ", row.name, cpu::isa_name(row.isa),
                        row.exactness == cpu::Exactness::exact ? "" : ", inexact");
  }
  return text.empty() ? "the reference" : text;
}

std::string ops_page() {
  std::string text = fmt::format(
      "# Ops\n\n{}Every op of `ir/ops.def`. `?` marks optional inputs, `...` one or more. Kernels: the rows of the "
      "CPU backend, best first,\nwith the least class that has them; after them comes the reference. oneDNN's rows "
      "are left out.\n",
      kMade);
  for (const OpDef* def : all_ops()) {
    text += fmt::format("\n## {}\n\n{}\n\nInputs: {}. Results: {}. Quantization: {}.\n", def->name, def->doc,
                        inputs_of(*def).empty() ? "none" : inputs_of(*def), def->outputs, quant_rule_name(def->rule));
    if (std::string attributes = attributes_of(def->attributes); !attributes.empty()) text += "\n" + attributes;
    if (!def->has_trait(kStructural)) text += fmt::format("\nKernels: {}.\n", kernels_of(def->op));
  }
  return text;
}

std::string passes_page() {
  std::string text = fmt::format("# Passes\n\n{}| pass | kind | what it does |\n|---|---|---|\n", kMade);
  for (const PassDef* pass : all_passes()) {
    text += fmt::format("| `{}` | {} | {} |\n", pass->name, pass->kind == PassKind::stage ? "stage" : "rewrite",
                        pass->summary);
  }
  text += fmt::format("\n`standard` stands for: {}.\n\n`lowered` stands for: {}.\n",
                      fmt::join(standard_rewrites(), ", "), fmt::join(lowered_rewrites(), ", "));
  return text;
}

std::string configurations_page() {
  std::string text = fmt::format(
      "# Configurations of linear layers\n\n{}What `\"configs\"` of a recipe may name (docs/torchao.md). dtypes are "
      "ours "
      "(`i4`) or torch's (`int4`).\n\nShort names for `--recipe`: {}.\n",
      kMade, fmt::join(torchao::rule_names(), ", "));
  for (const torchao::Handler* h : torchao::all_handlers()) {
    text += fmt::format("\n## {}\n\n{}.{}{}\n", h->type, h->doc, h->has_base ? " Works for a `base_config`." : "",
                        h->observe != nullptr ? " Learns from data." : "");
    if (std::string fields = attributes_of(h->fields); !fields.empty()) text += "\n" + fields;
  }
  return text;
}

std::string errors_page() {
  std::string text = fmt::format("# Error codes\n\n{}`aoq explain AOQ-0301` prints an entry.\n", kMade);
  for (const ErrorInfo& e : all_errors()) {
    text += fmt::format("\n## {} {}\n\n{}\n\nWhat to do: {} (Kind `{}`, exit code {}.)\n", error_number(e.id), e.title,
                        e.cause, e.remedy, code_name(e.code), tools::exit_code(e.code));
  }
  return text;
}

}  // namespace
}  // namespace aoq

int main(int argc, char** argv) {
  const bool is_writing = argc == 3 && std::strcmp(argv[1], "--write") == 0;
  if (argc != 2 && !is_writing) {
    std::cerr << "usage: reference_pages [--write] DIR\n";
    return 2;
  }
  const std::string directory = argv[argc - 1];
  const std::pair<const char*, std::string> pages[] = {{"ops.md", aoq::ops_page()},
                                                       {"passes.md", aoq::passes_page()},
                                                       {"configurations.md", aoq::configurations_page()},
                                                       {"errors.md", aoq::errors_page()}};
  int stale = 0;
  for (const auto& [name, text] : pages) {
    const std::string path = directory + "/" + name;
    if (is_writing) {
      if (!(std::ofstream(path) << text).flush()) {
        std::cerr << path << ": cannot be written\n";
        return 1;
      }
      continue;
    }
    std::ifstream in(path);
    std::stringstream found;
    found << in.rdbuf();
    if (found.str() == text) continue;
    std::cout << path << " is not what the tables say; run: reference_pages --write " << directory << "\n";
    ++stale;
  }
  return stale > 0 ? 1 : 0;
}
