// Configurations under short names.
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "passes/torchao/quantize_model.h"

namespace aoq::torchao {

namespace {

struct Named {
  const char* name;
  const char* config;
};

constexpr Named kNamed[] = {
    {"int8-weight-only", R"({"type": "Int8WeightOnlyConfig"})"},
    {"int4-weight-only", R"({"type": "Int4WeightOnlyConfig", "group_size": 32})"},
    {"int8-dynamic", R"({"type": "Int8DynamicActivationInt8WeightConfig"})"},
    {"int8-static", R"({"type": "Int8StaticActivationInt8WeightConfig"})"},
    {"float8-weight-only", R"({"type": "Float8WeightOnlyConfig"})"},
    {"float8-dynamic", R"({"type": "Float8DynamicActivationFloat8WeightConfig", "granularity": "PerRow"})"},
    {"mxfp4", R"({"type": "MXWeightOnlyConfig"})"},
    {"nvfp4", R"({"type": "NVFP4WeightOnlyConfig"})"},
    {"hqq-int4", R"({"type": "Int4WeightOnlyConfig", "group_size": 32, "int4_choose_qparams_algorithm": "hqq"})"},
    {"awq-int4", R"({"type": "AWQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 32}})"},
    {"gptq-int4", R"({"type": "GPTQConfig", "base_config": {"type": "Int4WeightOnlyConfig", "group_size": 32}})"},
    {"gptq-int8", R"({"type": "GPTQConfig", "base_config": {"type": "Int8WeightOnlyConfig"}})"},
    {"smoothquant-int8",
     R"({"type": "SmoothQuantConfig", "base_config": {"type": "Int8DynamicActivationInt8WeightConfig"}})"},
    {"8da4w", R"({"type": "Int8DynamicActivationIntxWeightConfig", "weight_dtype": "int4"})"},
};

const Named* find(const std::string& name) {
  const auto* found = std::ranges::find_if(kNamed, [&](const Named& n) { return name == n.name; });
  return found == std::end(kNamed) ? nullptr : found;
}

}  // namespace

Result<ConfigRules> named_rules(const std::string& name) {
  const Named* found = find(name);
  if (found == nullptr) {
    return error(Code::not_found, "no configuration is named \"{}\"; known: {}", name, fmt::join(rule_names(), ", "));
  }
  AOQ_ASSIGN(Config config, parse_config(found->config));
  return ConfigRules{{"_default", std::move(config)}};
}

bool has_named_rules(const std::string& name) {
  return find(name) != nullptr;
}

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const Named& n : kNamed) names.emplace_back(n.name);
  return names;
}

}  // namespace aoq::torchao
