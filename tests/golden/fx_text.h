// FX graphs as the golden files print them: "op | name | target | args | kwargs", one node a line.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ir/status.h"

namespace aoq::golden {

// A Python literal, or the name of a node.
struct Item {
  enum class Kind : std::uint8_t { none, boolean, number, text, name, list };
  Kind kind = Kind::none;
  double number = 0;  // also of booleans
  std::string text;   // of texts and names
  std::vector<Item> items;
};

struct FxLine {
  std::string op, name, target;
  std::vector<Item> args;
  std::map<std::string, Item> kwargs;

  // "torch.nn.functional.relu:relu" -> "relu".
  std::string short_target() const;
  // The names among the arguments, in order.
  std::vector<std::string> nodes() const;
};

Result<std::vector<FxLine>> parse_fx(std::string_view text);
// As fx::print_fx writes it.
std::string structure_of(const std::vector<FxLine>& lines);

// "name | class | {'fact': 'text', ...}", one module a line.
struct ModuleLine {
  std::string name, type;  // the class without its package
  std::map<std::string, std::string> facts;
};
Result<std::vector<ModuleLine>> parse_modules(std::string_view text);

}  // namespace aoq::golden
