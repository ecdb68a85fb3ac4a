// A graph in FX's terms, for people and for comparison with what PyTorch prints.
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "ir/nn/namer.h"
#include "passes/fx/standalone.h"
#include "passes/fx/units.h"
#include "passes/fx/workflow.h"
#include "passes/rewrite/common.h"

namespace aoq::fx {

namespace {

using rewrite::is_one_of;

const char* kind_name(UnitKind kind) {
  constexpr const char* kNames[] = {"placeholder", "get_attr", "call_module", "call_function", "call_method", "output"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string_view last_part(std::string_view callee) {
  const std::size_t dot = callee.find_last_of('.');
  return dot == std::string_view::npos ? callee : callee.substr(dot + 1);
}

// Numbers as Python writes them, whole ones without a fraction.
std::string number_text(double x) {
  return std::nearbyint(x) == x && std::fabs(x) < 1e15 ? fmt::format("{}", static_cast<std::int64_t>(x))
                                                       : fmt::format("{}", static_cast<float>(x));
}

std::string type_text(DType dtype) {
  return fmt::format("torch.{}", dtype == DType::u8 ? "quint8" : dtype == DType::i8 ? "qint8" : dtype_name(dtype));
}

// What a function or method takes behind its tensors, where the node still says it.
std::string literals(const Unit& u) {
  const Node& n = *u.main();
  const std::string_view name = last_part(u.scope().callee);
  if (u.scope().callee.empty() || n.input(0) == nullptr) return {};
  if (n.is(Op::concat) && name == "cat") return fmt::format(", {}", n.attributes().integer("axis"));
  if (n.is(Op::reduce_mean) && name == "mean") {
    const std::vector<std::int64_t> axes = n.attributes().integers("axes");
    return axes.size() == 1 ? fmt::format(", {}", axes[0]) : fmt::format(", [{}]", fmt::join(axes, ", "));
  }
  if (n.is(Op::permute) && name == "permute") {
    return fmt::format(", {}", fmt::join(n.attributes().integers("perm"), ", "));
  }
  if (n.is(Op::reshape) && name == "flatten") return fmt::format(", {}", n.output()->type().rank() - 1);
  return {};
}

class Printer {
 public:
  explicit Printer(const Graph& graph) : units_(graph) {}

  std::string print() {
    // Names that were there before any stub was made.
    for (const Unit& u : units_.all()) {
      if (!is_stub(u))
        names_.create(u.kind == UnitKind::placeholder ? u.nodes[0]->attributes().string("name") : u.name);
    }
    for (const Unit& u : units_.all()) unit(u);
    return std::move(out_);
  }

 private:
  static bool is_stub(const Unit& u) {
    return is_one_of(*u.nodes[0], {Op::quantize, Op::dequantize, Op::choose_qparams}) || is_half_stub(*u.nodes[0]);
  }
  static bool is_half_stub(const Node& n) { return n.is(Op::cast) && n.scope.type == "Observer"; }

  void line(std::string_view kind, const std::string& name, std::string_view target, const std::string& arguments) {
    out_ += fmt::format("{} | {} | {} | ({})\n", kind, name, target, arguments);
  }

  std::string name_of(const Value* v) const {
    const auto found = values_.find(v);
    if (found != values_.end()) return found->second;
    const int i = units_.of(v);
    return i >= 0 ? units_.all()[static_cast<std::size_t>(i)].name : std::string();
  }

  std::string operands(const Unit& u) const {
    const Node& n = *u.main();
    const bool has_numbers =
        u.nodes.size() == 1 && !u.scope().callee.empty() && is_one_of(n, {Op::add, Op::sub, Op::mul, Op::div});
    std::string out;
    for (const Value* v : has_numbers ? n.inputs() : u.inputs) {
      double number = 0;
      const bool is_number = units_.of(v) < 0 && rewrite::scalar_constant(v, &number);
      out += (out.empty() ? "" : ", ") + (is_number ? number_text(number) : name_of(v));
    }
    return out;
  }

  void unit(const Unit& u) {
    Node* n = u.nodes[0];
    if (n->is(Op::choose_qparams)) return;
    if (n->is(Op::quantize) || (is_half_stub(*n) && n->output()->type().dtype == DType::f16)) return quantize(n);
    if (n->is(Op::dequantize) || is_half_stub(*n)) return dequantize(n);
    std::string arguments = operands(u);
    if (u.nodes[0]->is(Op::concat)) arguments = "[" + arguments + "]";
    arguments += literals(u);
    std::string target = u.name;
    if (u.kind == UnitKind::placeholder) target = n->attributes().string("name");
    if (u.kind == UnitKind::call_module && !n->is(Op::observe)) target = u.scope().path;
    if (u.kind == UnitKind::call_function || u.kind == UnitKind::call_method) target = last_part(u.scope().callee);
    if (u.kind == UnitKind::get_attr) target = n->label();
    line(kind_name(u.kind), u.name, target, arguments);
  }

  // Where an observer was: the attributes that hold its scale and zero point.
  std::string scales(const Scope& scope) {
    std::string prefix = scope.path + (scope.callee == "input" ? "_input" : "");
    for (char& c : prefix) c = c == '.' ? '_' : c;
    const int index = indexes_[prefix]++;
    std::string arguments;
    for (const char* what : {"scale", "zero_point"}) {
      const std::string attribute = fmt::format("{}_{}_{}", prefix, what, index);
      const std::string name = names_.create(attribute);
      line("get_attr", name, attribute, "");
      arguments += ", " + name;
    }
    return arguments;
  }

  void quantize(const Node* n) {
    const bool is_dynamic = n->is(Op::cast) || n->inputs().size() > 1;
    const std::string parameters = is_dynamic ? std::string() : scales(n->scope);
    const std::string function = is_dynamic ? "quantize_per_tensor_dynamic" : "quantize_per_tensor";
    const std::string name = names_.create(function);
    std::string literal = n->is(Op::cast) ? ", torch.float16" : ", " + type_text(n->output()->type().dtype);
    if (is_dynamic && !n->is(Op::cast)) {
      literal += n->input(1)->def()->attributes().boolean("reduce_range") ? ", True" : ", False";
    }
    line("call_function", name, function, name_of(n->input(0)) + parameters + literal);
    values_[n->output()] = name;
    dequantized_[n->output()] = names_.create("dequantize");
  }

  void dequantize(const Node* n) {
    const Value* codes = n->input(0);
    if (codes->def()->is(Op::constant)) {
      const std::string parameters = scales(n->scope);
      const std::string function =
          n->attributes().string("granularity") == "axis" ? "quantize_per_channel" : "quantize_per_tensor";
      const std::string quantized = names_.create(function);
      const std::string axis = n->attributes().string("granularity") == "axis"
                                   ? fmt::format(", {}", n->attributes().integer("axis"))
                                   : std::string();
      line("call_function", quantized, function,
           fmt::format("{}{}{}, {}", name_of(codes), parameters, axis, type_text(codes->type().dtype)));
      values_[codes] = quantized;
    }
    auto [it, is_new] = dequantized_.try_emplace(codes);
    if (is_new) it->second = names_.create("dequantize");
    line("call_method", it->second, "dequantize", name_of(codes));
    values_[n->output()] = it->second;
  }

  const Units units_;
  nn::Namer names_;
  std::string out_;
  std::map<const Value*, std::string> values_, dequantized_;
  std::map<std::string, int> indexes_;
};

// A graph, then the standalone modules in it.
Result<std::string> print_parts(Graph& graph, const std::string& path) {
  AOQ_ASSIGN(std::vector<StandaloneView> modules, split_standalone(graph));
  std::string text = path.empty() ? std::string() : fmt::format("standalone {}:\n", path);
  text += Printer(graph).print();
  for (StandaloneView& m : modules) {
    AOQ_ASSIGN(const std::string part, print_parts(m.graph, path.empty() ? m.path : path + "." + m.path));
    text += part;
  }
  return text;
}

}  // namespace

std::string print_fx(const Graph& graph) {
  Graph whole = graph.clone();
  Result<std::string> text = print_parts(whole, "");
  return text.ok() ? std::move(*text) : Printer(graph).print();
}

}  // namespace aoq::fx
