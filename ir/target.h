// TargetInfo: what a target can do, as passes see it.
#pragma once

#include <string_view>

#include "ir/graph.h"

namespace aoq {

class TargetInfo {
 public:
  virtual ~TargetInfo() = default;
  virtual std::string_view name() const = 0;
  // Ok when the target has an integer kernel (other than the reference) for this lowered node; otherwise unsupported
  // with the reason. Thread-safe.
  virtual Status supports(const Node& lowered) const = 0;
};

}  // namespace aoq
