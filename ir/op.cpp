#include "ir/op.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "ir/ops/common.h"

namespace aoq {

namespace {

constexpr const OpDef* kTable[] = {
#define AOQ_OP(name) &kOpDef_##name,
#include "ir/ops.def"
#undef AOQ_OP
};

}  // namespace

const char* stage_name(Stage stage) {
  constexpr const char* kNames[] = {"traced", "prepared", "quantized", "lowered"};
  return kNames[static_cast<int>(stage)];
}

std::optional<Stage> stage_from_name(std::string_view name) {
  for (Stage s : {Stage::traced, Stage::prepared, Stage::quantized, Stage::lowered}) {
    if (name == stage_name(s)) return s;
  }
  return std::nullopt;
}

const char* quant_rule_name(QuantRule rule) {
  constexpr const char* kNames[] = {"passthrough",   "same_scale", "zero_point", "requantize",
                                    "fixed_qparams", "float_only", "boundary"};
  return kNames[static_cast<int>(rule)];
}

int OpDef::input_index(std::string_view input_name) const {
  for (int i = 0; i < static_cast<int>(inputs.size()) && inputs[static_cast<std::size_t>(i)].name; ++i) {
    if (input_name == inputs[static_cast<std::size_t>(i)].name) return i;
  }
  return -1;
}

const AttributeDef* OpDef::attribute(std::string_view attribute_name) const {
  for (const AttributeDef& a : attributes) {
    if (a.name == nullptr) break;
    if (attribute_name == a.name) return &a;
  }
  return nullptr;
}

const OpDef& op_def(Op op) {
  return *kTable[static_cast<std::size_t>(op)];
}
std::span<const OpDef* const> all_ops() {
  return kTable;
}

std::optional<Op> op_from_name(std::string_view name) {
  static const std::unordered_map<std::string_view, Op> names = [] {
    std::unordered_map<std::string_view, Op> m;
    for (const OpDef* d : kTable) m.emplace(d->name, d->op);
    return m;
  }();
  auto it = names.find(name);
  return it == names.end() ? std::nullopt : std::optional<Op>(it->second);
}

namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t next = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = std::exchange(row[j], next);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view nearest_op_name(std::string_view name) {
  name = name.substr(0, 64);
  std::string_view best;
  std::size_t best_distance = std::numeric_limits<std::size_t>::max();
  for (const OpDef* d : kTable) {
    std::size_t distance = edit_distance(name, d->name);
    if (distance < best_distance) {
      best = d->name;
      best_distance = distance;
    }
  }
  return best;
}

std::optional<Attribute> default_value(const AttributeDef& def) {
  if (def.default_text == nullptr || std::string_view(def.default_text) == "absent") return std::nullopt;
  std::string_view text = def.default_text;
  switch (def.kind) {
    case AttributeKind::boolean:
      return Attribute(text == "true");
    case AttributeKind::integer: {
      std::int64_t v = 0;
      std::from_chars(text.data(), text.data() + text.size(), v);
      return Attribute(v);
    }
    case AttributeKind::real:
      return Attribute(std::strtod(def.default_text, nullptr));
    case AttributeKind::string:
      return Attribute(std::string(text));
    case AttributeKind::dtype: {
      std::optional<DType> d = dtype_from_name(text);
      AOQ_CHECK(d.has_value());
      return Attribute(*d);
    }
    case AttributeKind::integers:
      return Attribute(std::vector<std::int64_t>{});
    case AttributeKind::reals:
      return Attribute(std::vector<double>{});
    case AttributeKind::strings:
      return Attribute(std::vector<std::string>{});
    case AttributeKind::dims:
      return Attribute(std::vector<Dim>{});
    case AttributeKind::tensor:
      break;
  }
  return std::nullopt;
}

Status complete_attributes(const OpDef& def, Attributes& attributes) {
  for (const auto& [name, value] : attributes) {
    const AttributeDef* a = def.attribute(name);
    if (a == nullptr) return error(Code::invalid_model, "unknown attribute \"{}\"", name);
    if (kind_of(value) != a->kind) {
      return error(Code::invalid_model, "attribute {} is of kind {}, expected {}", name,
                   attribute_kind_name(kind_of(value)), attribute_kind_name(a->kind));
    }
  }
  for (const AttributeDef& a : def.attributes) {
    if (a.name == nullptr) break;
    if (attributes.has(a.name)) continue;
    if (a.default_text == nullptr) return error(Code::invalid_model, "attribute {} is missing", a.name);
    if (std::optional<Attribute> value = default_value(a)) attributes.set(a.name, std::move(*value));
  }
  return {};
}

Status check_arity(const OpDef& def, std::span<const Type* const> inputs) {
  std::size_t known = 0;
  bool variadic = false;
  for (const InputDef& in : def.inputs) {
    if (in.name == nullptr) break;
    if (in.arity != Arity::optional && (known >= inputs.size() || inputs[known] == nullptr)) {
      return error(Code::invalid_model, "input {} ({}) is missing", known, in.name);
    }
    ++known;
    variadic = in.arity == Arity::variadic;
  }
  if (!variadic && inputs.size() > known) {
    return error(Code::invalid_model, "has {} inputs, at most {} are allowed", inputs.size(), known);
  }
  for (std::size_t i = known; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) return error(Code::invalid_model, "input {} is missing", i);
  }
  return {};
}

}  // namespace aoq
