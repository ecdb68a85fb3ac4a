#include <string_view>

#include "tests/ir/op_test_support.h"

namespace aoq {
namespace {

TEST_CASE("every op has a whole row") {
  CHECK(all_ops().size() > 100);
  for (std::size_t i = 0; i < all_ops().size(); ++i) {
    const OpDef& def = *all_ops()[i];
    CAPTURE(def.name);
    CHECK(static_cast<std::size_t>(def.op) == i);
    CHECK(op_from_name(def.name) == def.op);
    CHECK(!std::string_view(def.doc).empty());
    CHECK(std::string_view(def.doc).back() == '.');
    CHECK((def.infer != nullptr));
    CHECK((def.reference == nullptr) == def.has_trait(kStructural));
    CHECK((def.rule == QuantRule::fixed_qparams) == (def.fixed_scale > 0.0f));
    bool optional = false;
    for (std::size_t k = 0; k < def.inputs.size() && def.inputs[k].name != nullptr; ++k) {
      CHECK(def.input_index(def.inputs[k].name) == static_cast<int>(k));
      // Required inputs come first, a variadic one last.
      CHECK(!(optional && def.inputs[k].arity != Arity::optional));
      optional = def.inputs[k].arity != Arity::required;
    }
  }
}

TEST_CASE("attribute defaults are values of their kind") {
  for (const OpDef* def : all_ops()) {
    for (const AttributeDef& a : def->attributes) {
      if (a.name == nullptr) break;
      CAPTURE(def->name);
      CAPTURE(a.name);
      CHECK(def->attribute(a.name) == &a);
      if (a.default_text == nullptr || std::string_view(a.default_text) == "absent") continue;
      std::optional<Attribute> value = default_value(a);
      REQUIRE(value.has_value());
      CHECK(kind_of(*value) == a.kind);
      if (a.kind == AttributeKind::boolean) {
        CHECK((std::string_view(a.default_text) == "true" || std::string_view(a.default_text) == "false"));
      }
    }
  }
}

}  // namespace
}  // namespace aoq
