#include "ir/region.h"

#include "ir/error_id.h"
#include "ir/ops/common.h"

namespace aoq {

namespace {

Result<const RegionClass*> class_of(const Attributes& attributes) {
  const std::string& name = attributes.string("class");
  if (const RegionClass* found = find_region(name)) return found;
  return error(ErrorId::region_unknown,
               "the region class \"{}\" is not registered in this program: register it before the "
               "model is read",
               name);
}

Result<std::vector<Type>> infer(const InferContext& c) {
  AOQ_ASSIGN(const RegionClass* region, class_of(c.attributes));
  Result<std::vector<Type>> types = region->infer(c);
  if (!types.ok()) return std::move(types).status().with_context(region->name);
  if (types->empty()) return error(Code::invalid_model, "{}: has no results", region->name);
  return types;
}

Status reference(const EvalContext& c) {
  AOQ_ASSIGN(const RegionClass* region, class_of(c.attributes));
  return region->reference(c).with_context(region->name);
}

}  // namespace

const OpDef kOpDef_region = {
    .op = Op::region,
    .name = "region",
    .doc = "Code of the program's own, by the name of its class (ir/region.h). Constant inputs are its state.",
    .inputs = {{{"inputs", Arity::variadic}}},
    .attributes = {{{"class", AttributeKind::string, nullptr, "Name of the registered class"},
                    {"settings", AttributeKind::string, "", "Free text that the class reads"}}},
    .rule = QuantRule::float_only,
    .infer = infer,
    .reference = reference,
};

}  // namespace aoq
