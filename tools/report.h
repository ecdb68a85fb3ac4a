// The page that `compile --report` writes: one HTML file without anything outside it.
#pragma once

#include "tools/op_list.h"

namespace aoq::tools {

// `summary` is the document of compile --json.
std::string html_report(const std::string& model, const std::vector<OpEntry>& ops, const Json& summary,
                        const std::string& provenance);

}  // namespace aoq::tools
