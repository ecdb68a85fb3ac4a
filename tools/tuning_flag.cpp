#include "tools/tuning_flag.h"

#include <memory>

#include <fmt/format.h>

#include "ir/hash.h"
#include "runtime/kernel_choice.h"
#include "tools/cost_estimate.h"
#include "tools/model_file.h"
#include "tools/output_file.h"
#include "tools/tuning_file.h"
#include "tools/version.h"

namespace aoq::tools {

namespace {

using Decide = std::function<Result<std::size_t>(Graph&)>;

// Ranges that were learnt with every op in int8 have names for the rest too.
std::function<Status(Graph&, Ranges&)> placing(const Recipe& recipe, Decide decide) {
  return [recipe, decide = std::move(decide)](Graph& traced, Ranges& ranges) -> Status {
    const bool has_ranges = !ranges.observers.empty();
    PlacementModel before;
    if (has_ranges) {
      AOQ_ASSIGN(before, placement_model(traced, recipe));
    }
    AOQ_ASSIGN(const std::size_t declined, decide(traced));
    if (!has_ranges || declined == 0) return {};
    AOQ_ASSIGN(const PlacementModel after, placement_model(traced, recipe));
    return rename_ranges(before, after, ranges);
  };
}

std::string class_of_target(const std::string& cpu_class) {
  return cpu_class == "native" ? machine_info().isa : cpu_class;
}

// Where and with what it was measured.
Status check_origin(const Tuning& tuning, const CompileOptions& options, std::vector<std::string>& warnings) {
  const std::string target = class_of_target(options.cpu_class);
  const std::string here = machine_info().isa;
  if (tuning.isa.empty()) return {};
  if (target != "portable" && target != tuning.isa) {
    return error(Code::invalid_data,
                 "it was measured on {}, --cpu {} is {}: tune on such a machine, or leave out --tuning", tuning.isa,
                 options.cpu_class, target);
  }
  if (tuning.aoq != kVersion && !tuning.aoq.empty()) {
    warnings.push_back(
        fmt::format("tuning: aoq {} measured it, this is {}; kernels may have changed since", tuning.aoq, kVersion));
  }
  if (options.run.deterministic && !tuning.deterministic) {
    warnings.push_back(
        "tuning: inexact kernels were measured too, which --deterministic leaves out; tune with it as well");
  }
  if (target == "portable" && here != tuning.isa) {
    warnings.push_back(
        fmt::format("tuning: it was measured on {}, this machine is {}; figures differ there", tuning.isa, here));
  }
  return {};
}

Status use_file(const std::string& path, const Recipe& recipe, CompileOptions& options,
                std::vector<std::string>& warnings) {
  AOQ_ASSIGN(const std::string text, read_text_file(path));
  Result<Tuning> parsed = Tuning::from_json(text);
  if (!parsed.ok()) return error(Code::invalid_data, "{}: {}", path, parsed.status().message());
  Status fits = check_origin(*parsed, options, warnings);
  if (!fits.ok()) return std::move(fits).with_context(path);
  for (const Tuning::Row& row : parsed->rows) {
    options.rows[fmt::format("{}{}.{}", kKernelChoicePrefix, row.op, row.name)] = row.row;
  }
  options.tuning = {
      {"digest", hash_text(xxh64(std::as_bytes(std::span(text))))}, {"isa", parsed->isa}, {"threads", parsed->threads}};
  if (recipe.mode == QuantMode::none || parsed->ops.empty()) return {};
  if (!recipe.backend.empty() || !recipe.configs.empty()) {
    warnings.push_back("tuning: the recipe says itself which ops run in int8; only kernel rows are taken from " + path);
    return {};
  }
  if (!parsed->quantize.empty() && parsed->quantize != mode_name(recipe.mode)) {
    warnings.push_back(fmt::format("tuning: {} was measured with --quantize {}, this is {}; only kernel rows are taken",
                                   path, parsed->quantize, mode_name(recipe.mode)));
    return {};
  }
  const auto tuning = std::make_shared<const Tuning>(std::move(*parsed));  // owner: the compiler's callback
  options.place = placing(recipe, [tuning, path, &warnings](Graph& traced) -> Result<std::size_t> {
    Status applied = apply_tuning(*tuning, traced, warnings);
    if (!applied.ok()) return std::move(applied).with_context(path);
    return tuning->ops.size();
  });
  return {};
}

}  // namespace

Status use_tuning(const std::string& choice, const QuantizeFlags& flags, CompileOptions& options,
                  std::vector<std::string>& warnings) {
  if (choice == "none") return {};
  AOQ_ASSIGN(const Recipe recipe, read_recipe(flags));
  const bool is_own = flags.recipe.empty() && recipe.mode == QuantMode::static_quantization;
  options.run.deterministic = flags.run.deterministic;
  if (!choice.empty() && choice != "estimate") return use_file(choice, recipe, options, warnings);
  if (choice.empty() && !is_own) return {};
  const std::string target = class_of_target(options.cpu_class);
  options.place =
      placing(recipe, [recipe, target](Graph& traced) { return decline_by_estimate(traced, recipe, target); });
  return {};
}

}  // namespace aoq::tools
