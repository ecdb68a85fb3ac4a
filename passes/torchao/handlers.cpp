#include "passes/torchao/handlers.h"

namespace aoq::torchao {

std::optional<Quantized> misfit(const LinearSite& site, std::int64_t group, const char* field) {
  const std::int64_t depth = site.weight.shape.back();
  if (group < 1 || depth % group == 0) return std::nullopt;
  return does_not_fit(fmt::format("{} inputs are no multiple of {} {}", depth, field, group));
}

std::optional<Quantized> misfit(const LinearSite& site, const Granularity& granularity) {
  if (granularity.kind == Granularity::Kind::group) return misfit(site, granularity.value, "group_size");
  if (granularity.kind != Granularity::Kind::block) return std::nullopt;
  const std::int64_t rows = site.weight.shape.front();
  if (granularity.value >= 1 && rows % granularity.value != 0) {
    return does_not_fit(fmt::format("{} outputs are no multiple of blocks of {}", rows, granularity.value));
  }
  return misfit(site, granularity.columns, "blocks of");
}

std::vector<Handler> built_in_handlers() {
  std::vector<Handler> handlers;
  add_weight_only_handlers(handlers);
  add_activation_handlers(handlers);
  add_algorithm_handlers(handlers);
  add_float_handlers(handlers);
  return handlers;
}

}  // namespace aoq::torchao
