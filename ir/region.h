// Custom regions: code that cannot be traced, as one node.
//
// A node of op `region` names a class and carries settings; constants among its inputs are its state. The class, which
// a program registers, supplies the rest. A file holds name and state only: a program that has not registered the class
// cannot read it (AOQ-0305).
#pragma once

#include <string>
#include <string_view>

#include "ir/op.h"

namespace aoq {

struct RegionClass {
  std::string name;  // as in the file; by convention with a prefix of the owner's, such as "acme.tokenize"
  std::string doc;
  // The types of the results. `settings` is the attribute of this name; whatever the file says may be in it. Required.
  Result<std::vector<Type>> (*infer)(const InferContext&) = nullptr;
  // Computes the results from the inputs and nothing else, so that it may be called from any thread, folded and
  // repeated. Required: it is what runs where no backend has a kernel of its own for the class.
  Status (*reference)(const EvalContext&) = nullptr;
};

// Makes a class known to this process. invalid_argument when the name is taken or something required is missing.
// Thread-safe; a class stays until the process ends.
Status register_region(RegionClass region);
// Null when there is none. Thread-safe.
const RegionClass* find_region(std::string_view name);

}  // namespace aoq
