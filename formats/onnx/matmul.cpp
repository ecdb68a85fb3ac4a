// MatMul, Gemm and simple Einsum.
#include <algorithm>

#include "formats/onnx/window.h"

namespace aoq::onnx {

Result<Value*> emit_matmul(NodeContext& c, Value* x, Value* w, Value* bias) {
  bool is_linear = constant_tensor(w) != nullptr && w->type().rank() == 2 && x->type().rank() >= 1 &&
                   x->type().dtype == DType::f32 && w->type().dtype == DType::f32;
  if (is_linear) {
    AOQ_ASSIGN(Value * weight, c.permute(w, {1, 0}));
    return c.emit(Op::linear, {x, weight, bias});
  }
  AOQ_ASSIGN(Value * y, c.emit(Op::matmul, {x, w}));
  return bias ? c.emit(Op::add, {y, bias}) : Result<Value*>(y);
}

Status import_matmul(NodeContext& c) {
  AOQ_ASSIGN(Value * a, c.input(0));
  AOQ_ASSIGN(Value * b, c.input(1));
  return c.result(emit_matmul(c, a, b, nullptr));
}

namespace {

Result<Value*> times(NodeContext& c, Value* x, double factor) {
  if (factor == 1.0) return x;
  return c.emit(Op::mul, {x, c.scalar(x->type().dtype, factor)});
}

// A bias of one entry per column, or null when it is not one.
Result<Value*> column_bias(NodeContext& c, Value* bias, const Dim& columns) {
  const std::vector<Dim>& shape = bias->type().shape;
  bool is_row = shape.size() <= 1 || (shape.size() == 2 && shape[0] == Dim(1));
  if (constant_tensor(bias) == nullptr || !is_row) return static_cast<Value*>(nullptr);
  std::vector<Dim> flat{shape.empty() ? Dim(1) : shape.back()};
  AOQ_ASSIGN(Value * v, c.reshape(bias, std::move(flat)));
  return c.expand(v, {columns});
}

}  // namespace

// alpha * a' * b' + beta * c. Factors and transpositions of constants are folded into them.
Status import_gemm(NodeContext& c) {
  double alpha = c.real("alpha", 1.0);
  double beta = c.real("beta", 1.0);
  bool transposes_a = c.integer("transA", 0) != 0;
  bool transposes_b = c.integer("transB", 0) != 0;
  if (c.rank(0) != 2 || c.rank(1) != 2)
    return c.invalid("the operands have rank {} and {}, expected 2", c.rank(0), c.rank(1));
  AOQ_ASSIGN(Value * a, c.input(0));
  AOQ_ASSIGN(Value * b, c.input(1));
  AOQ_ASSIGN(Value * bias, c.optional_input(2));
  if (transposes_a) {
    AOQ_ASSIGN(a, c.permute(a, {1, 0}));
  }
  if (transposes_b) {
    AOQ_ASSIGN(b, c.permute(b, {1, 0}));
  }
  bool scales_b = constant_tensor(b) != nullptr;
  if (scales_b) {
    AOQ_ASSIGN(b, times(c, b, alpha));
  }
  Value* column = nullptr;
  if (beta == 0.0) bias = nullptr;
  if (bias) {
    AOQ_ASSIGN(bias, times(c, bias, beta));
    if (scales_b) {
      AOQ_ASSIGN(column, column_bias(c, bias, b->type().shape[1]));
    }
  }
  AOQ_ASSIGN(Value * y, emit_matmul(c, a, b, column));
  if (!scales_b) {
    AOQ_ASSIGN(y, times(c, y, alpha));
  }
  if (bias == nullptr || column != nullptr) return c.result(y);
  return c.result(c.emit(Op::add, {y, bias}));
}

namespace {

struct Equation {
  std::vector<std::string> inputs;
  std::string output;
};

Result<Equation> parse_equation(std::string text) {
  std::erase(text, ' ');
  Equation e;
  std::size_t arrow = text.find("->");
  std::string left = text.substr(0, arrow);
  for (std::size_t at = 0; at <= left.size();) {
    std::size_t comma = std::min(left.find(',', at), left.size());
    e.inputs.push_back(left.substr(at, comma - at));
    at = comma + 1;
  }
  auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == ','; };
  if (arrow != std::string::npos) {
    e.output = text.substr(arrow + 2);
  } else {
    std::sort(left.begin(), left.end());
    for (char c : left) {
      if (c != ',' && std::count(left.begin(), left.end(), c) == 1) e.output += c;
    }
  }
  bool is_simple =
      std::all_of(left.begin(), left.end(), is_letter) && std::all_of(e.output.begin(), e.output.end(), is_letter);
  for (std::string term : e.inputs) {
    std::sort(term.begin(), term.end());
    is_simple = is_simple && std::adjacent_find(term.begin(), term.end()) == term.end();
  }
  if (!is_simple)
    return error(Code::unsupported, "equation \"{}\": only distinct letters per operand are supported", text);
  return e;
}

bool contains(const std::string& labels, char c) {
  return labels.find(c) != std::string::npos;
}

// Sums over the labels that are not in `kept`, and drops them from `labels`.
Result<Value*> sum_out(NodeContext& c, Value* x, std::string& labels, const std::string& kept) {
  std::vector<std::int64_t> axes;
  std::string left;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (contains(kept, labels[i])) {
      left += labels[i];
    } else {
      axes.push_back(static_cast<std::int64_t>(i));
    }
  }
  labels = left;
  if (axes.empty()) return x;
  return c.emit(Op::reduce_sum, {x}, {{"axes", axes}, {"keepdims", false}});
}

Result<Value*> to_order(NodeContext& c, Value* x, const std::string& from, const std::string& to) {
  std::vector<std::int64_t> perm;
  for (char label : to) perm.push_back(static_cast<std::int64_t>(from.find(label)));
  return c.permute(x, std::move(perm));
}

// Labels of a contraction by where they occur.
struct Roles {
  std::string batch, rows, columns, summed;
};

Result<Value*> contract(NodeContext& c, Value* a, const std::string& la, Value* b, const std::string& lb,
                        const std::string& output) {
  Roles r;
  std::map<char, Dim> size;
  for (std::size_t i = 0; i < lb.size(); ++i) size[lb[i]] = b->type().shape[i];
  for (std::size_t i = 0; i < la.size(); ++i) size[la[i]] = a->type().shape[i];
  for (char l : la) (!contains(lb, l) ? r.rows : contains(output, l) ? r.batch : r.summed) += l;
  for (char l : lb)
    if (!contains(la, l)) r.columns += l;
  auto dims = [&](const std::string& labels) {
    std::vector<Dim> d;
    for (char l : labels) d.push_back(size[l]);
    return d;
  };
  auto matrix = [&](const std::string& first, const std::string& second) {
    std::vector<Dim> d = dims(r.batch);
    d.push_back(product(dims(first)));
    d.push_back(product(dims(second)));
    return d;
  };
  AOQ_ASSIGN(a, to_order(c, a, la, r.batch + r.rows + r.summed));
  AOQ_ASSIGN(a, c.reshape(a, matrix(r.rows, r.summed)));
  AOQ_ASSIGN(b, to_order(c, b, lb, r.batch + r.summed + r.columns));
  AOQ_ASSIGN(b, c.reshape(b, matrix(r.summed, r.columns)));
  AOQ_ASSIGN(Value * y, emit_matmul(c, a, b, nullptr));
  std::string order = r.batch + r.rows + r.columns;
  AOQ_ASSIGN(y, c.reshape(y, dims(order)));
  return to_order(c, y, order, output);
}

}  // namespace

Status import_einsum(NodeContext& c) {
  AOQ_ASSIGN(Equation e, parse_equation(c.string("equation", "")));
  if (e.inputs.size() != c.input_count()) return c.invalid("{} terms for {} inputs", e.inputs.size(), c.input_count());
  if (e.inputs.size() > 2) return c.unsupported("{} operands; split the equation into pairs", e.inputs.size());
  std::vector<Value*> operands;
  for (std::size_t i = 0; i < e.inputs.size(); ++i) {
    AOQ_ASSIGN(Value * x, c.input(i));
    if (x->type().shape.size() != e.inputs[i].size()) {
      return c.invalid("operand {} has rank {} for \"{}\"", i, x->type().rank(), e.inputs[i]);
    }
    operands.push_back(x);
  }
  for (char l : e.output) {
    bool is_known = std::any_of(e.inputs.begin(), e.inputs.end(), [&](const std::string& t) { return contains(t, l); });
    if (!is_known || std::count(e.output.begin(), e.output.end(), l) > 1) return c.invalid("output label \"{}\"", l);
  }
  for (std::size_t i = 0; i < operands.size(); ++i) {
    std::string kept = e.output + (operands.size() == 2 ? e.inputs[1 - i] : "");
    AOQ_ASSIGN(operands[i], sum_out(c, operands[i], e.inputs[i], kept));
  }
  if (operands.size() == 1) return c.result(to_order(c, operands[0], e.inputs[0], e.output));
  return c.result(contract(c, operands[0], e.inputs[0], operands[1], e.inputs[1], e.output));
}

}  // namespace aoq::onnx
