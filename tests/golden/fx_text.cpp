#include "tests/golden/fx_text.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include <fmt/format.h>

namespace aoq::golden {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Result<Item> item() {
    skip();
    if (at_ >= text_.size()) return error(Code::invalid_data, "a literal ends early: {}", text_);
    const char c = text_[at_];
    if (c == '(' || c == '[') return list(c == '(' ? ')' : ']');
    if (c == '\'' || c == '"') return quoted();
    if (c == '-' || (c >= '0' && c <= '9')) return number();
    return word();
  }

  Result<std::map<std::string, Item>> dictionary() {
    std::map<std::string, Item> out;
    skip();
    if (!take('{')) return error(Code::invalid_data, "no dictionary: {}", text_);
    while (!take('}')) {
      AOQ_ASSIGN(const Item key, item());
      if (!take(':')) return error(Code::invalid_data, "no ':' in {}", text_);
      AOQ_ASSIGN(Item value, item());
      out[key.text] = std::move(value);
      take(',');
    }
    return out;
  }

 private:
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size()) return c == '}' || c == ')' || c == ']';  // the end closes what is open
    if (text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Result<Item> list(char end) {
    Item out;
    out.kind = Item::Kind::list;
    ++at_;
    while (!take(end)) {
      AOQ_ASSIGN(Item entry, item());
      out.items.push_back(std::move(entry));
      take(',');
    }
    return out;
  }
  Result<Item> quoted() {
    const char quote = text_[at_++];
    Item out;
    out.kind = Item::Kind::text;
    while (at_ < text_.size() && text_[at_] != quote) out.text += text_[at_++];
    ++at_;
    return out;
  }
  Result<Item> number() {
    const std::string rest(text_.substr(at_));
    char* end = nullptr;
    Item out;
    out.kind = Item::Kind::number;
    out.number = std::strtod(rest.c_str(), &end);
    if (end == rest.c_str()) return error(Code::invalid_data, "no number: {}", rest);
    at_ += static_cast<std::size_t>(end - rest.c_str());
    return out;
  }
  // A name, None, True, False, torch.quint8, slice(None, 2, None), <function ...>.
  Result<Item> word() {
    Item out;
    const std::size_t begin = at_;
    while (at_ < text_.size() && std::string_view(",()[]{}: \n").find(text_[at_]) == std::string_view::npos) ++at_;
    if (at_ == begin) return error(Code::invalid_data, "unexpected '{}' in {}", text_[at_], text_);
    out.text = std::string(text_.substr(begin, at_ - begin));
    if (out.text == "slice" && at_ < text_.size() && text_[at_] == '(') {
      AOQ_ASSIGN(out, list(')'));
      out.text = "slice";
      return out;
    }
    out.kind = Item::Kind::name;
    if (out.text == "None") out.kind = Item::Kind::none;
    if (out.text == "Ellipsis" || out.text.starts_with("torch.")) out.kind = Item::Kind::text;
    if (out.text == "True" || out.text == "False") {
      out.kind = Item::Kind::boolean;
      out.number = out.text == "True" ? 1 : 0;
    }
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::vector<std::string> split(std::string_view line, std::string_view by) {
  std::vector<std::string> parts;
  std::size_t at = 0;
  for (std::size_t next = line.find(by); next != std::string_view::npos; next = line.find(by, at)) {
    parts.emplace_back(line.substr(at, next - at));
    at = next + by.size();
  }
  parts.emplace_back(line.substr(at));
  return parts;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> out;
  for (std::string& line : split(text, "\n")) {
    if (!line.empty()) out.push_back(std::move(line));
  }
  return out;
}

void collect(const Item& item, std::vector<std::string>& out) {
  if (item.kind == Item::Kind::name) out.push_back(item.text);
  for (const Item& inner : item.items) collect(inner, out);
}

// Functions whose every argument print_fx knows; of the others it has the nodes.
bool is_whole(const FxLine& line) {
  constexpr std::string_view kWhole[] = {"quantize_per_tensor",
                                         "quantize_per_channel",
                                         "quantize_per_tensor_dynamic",
                                         "add",
                                         "sub",
                                         "mul",
                                         "truediv",
                                         "cat",
                                         "mean",
                                         "permute",
                                         "flatten"};
  const bool is_call = line.op == "call_function" || line.op == "call_method";
  return is_call && std::ranges::find(kWhole, line.short_target()) != std::end(kWhole);
}

// As print_fx spells it; empty for None. Keywords are given by place.
std::string literal_text(const Item& item) {
  if (item.kind == Item::Kind::none) return {};
  if (item.kind == Item::Kind::boolean) return item.number != 0 ? "True" : "False";
  if (item.kind == Item::Kind::number) {
    const bool is_integer = std::nearbyint(item.number) == item.number;
    return is_integer ? fmt::format("{}", static_cast<std::int64_t>(item.number)) : fmt::format("{}", item.number);
  }
  if (item.kind != Item::Kind::list) return item.text;
  std::vector<std::string> inner;
  for (const Item& i : item.items) inner.push_back(literal_text(i));
  return fmt::format("[{}]", fmt::join(inner, ", "));
}

std::string arguments_of(const FxLine& line) {
  std::vector<std::string> all;
  for (const Item& item : line.args) all.push_back(literal_text(item));
  for (const auto& [key, item] : line.kwargs) all.push_back(literal_text(item));
  std::erase(all, "");
  // Half precision has no range to reduce, whatever the call says.
  if (std::ranges::find(all, "torch.float16") != all.end()) all.pop_back();
  return fmt::format("{}", fmt::join(all, ", "));
}

}  // namespace

std::string FxLine::short_target() const {
  const std::size_t colon = target.find_last_of(':');
  return colon == std::string::npos ? target : target.substr(colon + 1);
}

std::vector<std::string> FxLine::nodes() const {
  std::vector<std::string> out;
  for (const Item& item : args) collect(item, out);
  for (const auto& [key, item] : kwargs) collect(item, out);
  return out;
}

Result<std::vector<FxLine>> parse_fx(std::string_view text) {
  std::vector<FxLine> out;
  for (const std::string& line : lines_of(text)) {
    const std::vector<std::string> parts = split(line, " | ");
    if (parts.size() != 5) return error(Code::invalid_data, "no FX graph: {}", line);
    FxLine fx;
    fx.op = parts[0];
    fx.name = parts[1];
    fx.target = parts[2];
    AOQ_ASSIGN(Item args, Reader(parts[3]).item());
    fx.args = std::move(args.items);
    AOQ_ASSIGN(fx.kwargs, Reader(parts[4]).dictionary());
    out.push_back(std::move(fx));
  }
  return out;
}

std::string structure_of(const std::vector<FxLine>& lines) {
  std::string out;
  // Shapes are no nodes here: they are known while tracing.
  std::set<std::string> sizes;
  for (const FxLine& line : lines) {
    std::vector<std::string> nodes = line.nodes();
    const bool of_size = !nodes.empty() && line.short_target() == "getitem" && sizes.contains(nodes[0]);
    if ((line.op == "call_method" && line.target == "size") || of_size) {
      sizes.insert(line.name);
      continue;
    }
    std::erase_if(nodes, [&](const std::string& n) { return sizes.contains(n); });
    out += fmt::format("{} | {} | {} | ({})\n", line.op, line.name,
                       line.op == "call_function" ? line.short_target() : line.target,
                       is_whole(line) ? arguments_of(line) : fmt::format("{}", fmt::join(nodes, ", ")));
  }
  return out;
}

Result<std::vector<ModuleLine>> parse_modules(std::string_view text) {
  std::vector<ModuleLine> out;
  for (const std::string& line : lines_of(text)) {
    const std::vector<std::string> parts = split(line, " | ");
    if (parts.size() != 3) continue;  // a fact's text that goes on
    ModuleLine module;
    module.name = parts[0];
    module.type = parts[1].substr(parts[1].find_last_of('.') + 1);
    AOQ_ASSIGN(const auto facts, Reader(parts[2]).dictionary());
    for (const auto& [key, value] : facts) module.facts[key] = value.text;
    out.push_back(std::move(module));
  }
  return out;
}

}  // namespace aoq::golden
