#include "ir/region.h"

#include <map>
#include <mutex>

namespace aoq {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, RegionClass, std::less<>> classes;  // a map's entries stay where they are
};

Registry& registry() {
  static Registry r;
  return r;
}

}  // namespace

Status register_region(RegionClass region) {
  if (region.name.empty() || region.infer == nullptr || region.reference == nullptr) {
    return error(Code::invalid_argument, "region class \"{}\": name, infer and reference are required", region.name);
  }
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  std::string name = region.name;
  if (!r.classes.emplace(name, std::move(region)).second) {
    return error(Code::invalid_argument, "region class \"{}\" is registered already", name);
  }
  return {};
}

const RegionClass* find_region(std::string_view name) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto it = r.classes.find(name);
  return it == r.classes.end() ? nullptr : &it->second;
}

}  // namespace aoq
