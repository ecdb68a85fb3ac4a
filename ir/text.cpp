#include "ir/text.h"

#include <unordered_map>

#include "ir/hash.h"

namespace aoq {

namespace {

constexpr std::int64_t kInlineElements = 16;

std::string quoted(std::string_view s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string tensor_type(const Tensor& t) {
  return std::string(dtype_name(t.dtype())) + shape_to_string(t.shape());
}

bool is_inline(const Tensor& t) {
  return t.element_count() <= kInlineElements;
}

std::string inline_tensor(const Tensor& t) {
  std::string out = tensor_type(t) + "{";
  for (std::int64_t i = 0; i < t.element_count(); ++i) {
    if (i) out += ", ";
    DTypeKind kind = dtype_info(t.dtype()).kind;
    if (kind == DTypeKind::floating || kind == DTypeKind::scale) {
      out += hex_float(load_as_double(t.dtype(), t.bytes().data(), i));
    } else {
      std::int64_t v = load_integer(t.dtype(), t.bytes().data(), i);
      out += t.dtype() == DType::u64 ? std::to_string(static_cast<std::uint64_t>(v)) : std::to_string(v);
    }
  }
  return out + "}";
}

template <typename T, typename F>
std::string list(const std::vector<T>& items, F&& text) {
  std::string out = "[";
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    out += text(items[i]);
  }
  return out + "]";
}

// Prints one graph. Values are numbered in order.
class Printer {
 public:
  explicit Printer(const Graph& graph) : graph_(graph) {}

  GraphText print() {
    for (const Node* n : graph_.nodes()) print_node(*n);
    std::string head = fmt::format("aoqir 1 {}\ngraph {}\n", stage_name(graph_.stage), quoted(graph_.name));
    for (const auto& [name, range] : graph_.symbols) {
      head += range.max == INT64_MAX ? fmt::format("symbol {} [{}, ]\n", name, range.min)
                                     : fmt::format("symbol {} [{}, {}]\n", name, range.min, range.max);
    }
    for (const auto& [key, value] : graph_.metadata) head += fmt::format("meta {} {}\n", quoted(key), quoted(value));
    if (!result_.constants.empty()) head += fmt::format("weights {:#018x}\n", hash_constants(result_.constants));
    result_.text = head + result_.text;
    return std::move(result_);
  }

 private:
  void print_node(const Node& n) {
    std::string& out = result_.text;
    for (std::size_t i = 0; i < n.output_count(); ++i) {
      ids_[n.output(i)] = ids_.size();
      out += fmt::format("{}%{}", i ? ", " : "", ids_[n.output(i)]);
    }
    if (n.output_count() > 0) out += " = ";
    out += std::string(n.def().name) + "(";
    for (std::size_t i = 0; i < n.inputs().size(); ++i) {
      if (i) out += ", ";
      out += n.inputs()[i] ? fmt::format("%{}", ids_.at(n.inputs()[i])) : "_";
    }
    out += ")";
    out += attributes(n);
    for (std::size_t i = 0; i < n.output_count(); ++i)
      out += fmt::format("{}{}", i ? ", " : " : ", to_string(n.output(i)->type()));
    if (n.scope != Scope{}) {
      out += fmt::format(" scope({}, {}", quoted(n.scope.path), quoted(n.scope.type));
      out += n.scope.callee.empty() ? ")" : fmt::format(", {})", quoted(n.scope.callee));
    }
    if (!n.origins.empty()) {
      std::string names = list(n.origins, [](const std::string& s) { return quoted(s); });
      out += fmt::format(" origins({})", names.substr(1, names.size() - 2));
    }
    if (!n.requested.empty()) out += fmt::format(" requested({})", quoted(n.requested));
    if (!n.reason.empty()) out += fmt::format(" reason({})", quoted(n.reason));
    out += "\n";
  }

  std::string attributes(const Node& n) {
    std::string out;
    for (const auto& [name, value] : n.attributes()) {
      const AttributeDef* def = n.def().attribute(name);
      std::optional<Attribute> standard = def ? default_value(*def) : std::nullopt;
      if (standard && equal(*standard, value)) continue;
      out += (out.empty() ? " {" : ", ") + name + "=";
      const auto* tensor = std::get_if<Tensor>(&value);
      out += tensor && !is_inline(*tensor) ? tensor_type(*tensor) + "@" + quoted(constant_name(n, *tensor))
                                           : attribute_text(value);
    }
    return out.empty() ? out : out + "}";
  }

  std::string constant_name(const Node& n, const Tensor& t) {
    std::string base = n.origins.empty() ? fmt::format("c{}", result_.constants.size()) : n.origins.front();
    std::string name = base;
    for (int k = 1; result_.constants.contains(name); ++k) name = fmt::format("{}#{}", base, k);
    result_.constants.emplace(name, t);
    return name;
  }

  const Graph& graph_;
  GraphText result_;
  std::unordered_map<const Value*, std::size_t> ids_;
};

}  // namespace

std::string attribute_text(const Attribute& a) {
  switch (kind_of(a)) {
    case AttributeKind::boolean:
      return std::get<bool>(a) ? "true" : "false";
    case AttributeKind::integer:
      return std::to_string(std::get<std::int64_t>(a));
    case AttributeKind::real:
      return hex_float(std::get<double>(a));
    case AttributeKind::string:
      return quoted(std::get<std::string>(a));
    case AttributeKind::dtype:
      return std::string(dtype_name(std::get<DType>(a)));
    case AttributeKind::integers:
      return list(std::get<std::vector<std::int64_t>>(a), [](std::int64_t v) { return std::to_string(v); });
    case AttributeKind::reals:
      return list(std::get<std::vector<double>>(a), [](double v) { return hex_float(v); });
    case AttributeKind::strings:
      return list(std::get<std::vector<std::string>>(a), [](const std::string& s) { return quoted(s); });
    case AttributeKind::dims:
      return to_string(std::span<const Dim>(std::get<std::vector<Dim>>(a)));
    case AttributeKind::tensor:
      break;
  }
  const auto& t = std::get<Tensor>(a);
  return is_inline(t) ? inline_tensor(t) : tensor_type(t);
}

GraphText print_text(const Graph& graph) {
  return Printer(graph).print();
}

std::uint64_t hash_constants(const std::map<std::string, Tensor>& constants) {
  std::uint64_t h = 0;
  for (const auto& [name, t] : constants) {
    std::string key = name + "\n" + tensor_type(t);
    h = xxh64(std::as_bytes(std::span(key)), h);
    h = xxh64(t.bytes(), h);
  }
  return h;
}

}  // namespace aoq
