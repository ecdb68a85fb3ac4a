#include "passes/quantize/recipe.h"

#include <regex>

#include "formats/json/json.h"

namespace aoq {

namespace {

bool is_name_or_ancestor(std::string_view pattern, std::string_view name) {
  return name == pattern || (name.size() > pattern.size() && name.substr(0, pattern.size()) == pattern &&
                             name[pattern.size()] == '.');
}

QConfigMatch found(const QConfigRule& rule, std::string_view kind) {
  return {rule.second ? &*rule.second : nullptr, fmt::format("{} \"{}\"", kind, rule.first)};
}

// The longest rule that names the scope or one of its ancestors.
const QConfigRule* nearest(const std::vector<QConfigRule>& rules, std::string_view scope) {
  const QConfigRule* best = nullptr;
  for (const QConfigRule& rule : rules) {
    if (is_name_or_ancestor(rule.first, scope) && (!best || rule.first.size() > best->first.size())) best = &rule;
  }
  return best;
}

bool is_kept_float(const std::string& entry, const Node& n) {
  if (entry == n.def().name || entry == n.scope.type || is_name_or_ancestor(entry, n.scope.path)) return true;
  return std::find(n.origins.begin(), n.origins.end(), entry) != n.origins.end();
}

}  // namespace

QConfigMatch match_qconfig(const Recipe& recipe, const Node& node) {
  for (const std::string& entry : recipe.keep_float) {
    if (is_kept_float(entry, node)) return {nullptr, fmt::format("kept in float by \"{}\"", entry)};
  }
  if (const QConfigRule* rule = nearest(recipe.module_name, node.scope.path)) return found(*rule, "module_name");
  for (const QConfigRule& rule : recipe.module_name_regex) {
    // The pattern was compiled once when the recipe was read, so it is valid.
    if (std::regex_search(node.scope.path, std::regex(rule.first), std::regex_constants::match_continuous)) {
      return found(rule, "module_name_regex");
    }
  }
  for (const QConfigRule& rule : recipe.object_type) {
    if (rule.first == node.def().name || rule.first == node.scope.type) return found(rule, "object_type");
  }
  return {recipe.global ? &*recipe.global : nullptr, "global"};
}

}  // namespace aoq
