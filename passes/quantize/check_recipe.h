// Recipes and ranges that cannot do what they say, told as early as it can be known and with the module's name.
//
//   parse_recipe     kinds and options of observers; activations that no stub can hold (the rule is named)
//   pipeline         names that match nothing, before rewrites fuse modules away
//   prepare          qconfigs of weighted ops that cannot run (the module is named)
//   from_json        ranges that are not finite (the observer is named)
//   convert          observers that saw nothing, scales that do not fit (module and observer are named)
//
// What matches nothing is an error in module_name and keep_float, where a typing error would quietly quantize what was
// to stay in float or the reverse. It is a warning in module_name_regex, object_type and module_name_object_type_order,
// and for a keep_float that is the name of an op: recipes are shared between models, and not every model has every
// type. An FX recipe's object types are not looked at: the default mappings name all that a model might have.
#pragma once

#include <string>
#include <vector>

#include "passes/quantize/calibration.h"
#include "passes/quantize/recipe.h"

namespace aoq {

// What a recipe says by itself. AOQ-0705, AOQ-0707 or invalid_argument, behind the name of the rule.
Status check_recipe(const Recipe& recipe);

// AOQ-0706 for the errors above; warnings are added to `warnings`, which may be null.
Status check_names(const Graph& graph, const Recipe& recipe, std::vector<std::string>* warnings);

// The qconfigs of the ops that a recipe can quantize. A recipe with a backend leaves to it which qconfigs it takes.
Status check_qconfigs(const Graph& graph, const Recipe& recipe);

// AOQ-0605 for a state that is not finite.
Status check_finite_state(const ObserverState& state);

// Whether the observers of a prepared graph have seen finite data. One that is missing is left to convert.
Status check_ranges(const Graph& graph, const Ranges& ranges);

// One scale and zero point that the stubs of an activation can hold.
Status check_activation_qparams(const QParams& qparams);
// Symmetric, and one scale or one for each output channel.
Status check_weight_qparams(const QParams& qparams, std::int64_t output_channels);

}  // namespace aoq
