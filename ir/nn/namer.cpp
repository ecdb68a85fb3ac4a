#include "ir/nn/namer.h"

#include <algorithm>
#include <charconv>
#include <iterator>

namespace aoq::nn {

namespace {

// Python's keywords and builtins that a model may use as a name: FX never shadows them.
constexpr std::string_view kReserved[] = {
    "abs",     "all",      "and",      "any",     "as",           "assert",  "bin",        "bool",       "break",
    "bytes",   "callable", "chr",      "class",   "compile",      "complex", "continue",   "def",        "del",
    "delattr", "device",   "dict",     "dir",     "divmod",       "elif",    "else",       "enumerate",  "eval",
    "except",  "exec",     "filter",   "finally", "float",        "for",     "format",     "from",       "frozenset",
    "getattr", "global",   "globals",  "hasattr", "hash",         "help",    "hex",        "id",         "if",
    "import",  "in",       "inf",      "input",   "int",          "is",      "isinstance", "issubclass", "iter",
    "lambda",  "len",      "list",     "locals",  "map",          "max",     "memoryview", "min",        "nan",
    "next",    "nonlocal", "not",      "object",  "oct",          "open",    "or",         "ord",        "pass",
    "pow",     "print",    "property", "raise",   "range",        "repr",    "return",     "reversed",   "round",
    "set",     "setattr",  "slice",    "sorted",  "staticmethod", "str",     "sum",        "super",      "torch",
    "try",     "tuple",    "type",     "vars",    "while",        "with",    "yield",      "zip"};

bool is_identifier_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_reserved(std::string_view name) {
  return std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved);
}

struct Parts {
  std::string base;
  std::int64_t number = -1;  // of a trailing _<number>; -1: none
};

Parts split_number(const std::string& name) {
  const std::size_t at = name.find_last_of('_');
  if (at == std::string::npos || at + 1 == name.size() || name.size() - at > 10) return {name, -1};
  std::int64_t number = 0;
  const char* end = name.data() + name.size();
  if (std::from_chars(name.data() + at + 1, end, number).ptr != end) return {name, -1};
  return {name.substr(0, at), number};
}

}  // namespace

std::string Namer::create(std::string_view candidate) {
  std::string name(candidate);
  for (char& c : name) c = is_identifier_character(c) ? c : '_';
  if (name.empty()) name = "_unnamed";
  if (name[0] >= '0' && name[0] <= '9') name.insert(0, "_");
  const Parts parts = split_number(name);
  auto numbered = [&](std::int64_t number) { return parts.base + "_" + std::to_string(number); };
  if (parts.number >= 0) name = numbered(parts.number);
  std::int64_t number = parts.number > 0 ? parts.number : last_[parts.base];
  while (used_.contains(name) || is_reserved(name)) name = numbered(++number);
  used_.insert(name);
  last_[parts.base] = number;
  return name;
}

}  // namespace aoq::nn
