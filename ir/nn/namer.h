// Names for traced values, as PyTorch FX makes them: unique identifiers.
//
//   "fc1" -> fc1, "2.0" -> _2_0, "input" -> input_1 (a Python builtin), "relu" again -> relu_1
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace aoq::nn {

class Namer {
 public:
  // The first free name for a candidate: characters that no identifier has become '_', a number is counted up.
  std::string create(std::string_view candidate);

 private:
  std::set<std::string, std::less<>> used_;
  std::map<std::string, std::int64_t, std::less<>> last_;  // the last number given, by name without number
};

}  // namespace aoq::nn
