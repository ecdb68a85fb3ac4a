// "Did you mean": the known name that is closest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace aoq {

// Empty when nothing is close enough to be what was meant.
std::string nearest_name(std::string_view name, std::span<const std::string> known);
// "; did you mean X?", or nothing.
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

}  // namespace aoq
