// What lowering asks of the device it lowers for.
#pragma once

#include <string_view>

#include "ir/graph.h"

namespace aoq {

// Immutable; safe to use from several threads.
class TargetInfo {
 public:
  virtual ~TargetInfo() = default;
  // Such as "cpu avx2": for reports.
  virtual std::string_view name() const = 0;
  // Ok when the target has an integer kernel for this lowered node, with its operand types and attributes; else
  // unsupported with the reason, and the node stays in float.
  virtual Status supports(const Node& lowered) const = 0;
};

}  // namespace aoq
