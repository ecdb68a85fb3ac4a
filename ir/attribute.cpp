#include "ir/attribute.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace aoq {

const char* attribute_kind_name(AttributeKind kind) {
  constexpr const char* kNames[] = {"boolean",  "integer", "real",    "string", "dtype",
                                    "integers", "reals",   "strings", "dims",   "tensor"};
  return kNames[static_cast<int>(kind)];
}

Attributes::Attributes(std::initializer_list<std::pair<std::string, Attribute>> entries) {
  for (const auto& [name, value] : entries) set(name, value);
}

namespace {
template <typename Entries>
auto lower_bound(Entries& entries, std::string_view name) {
  return std::lower_bound(entries.begin(), entries.end(), name,
                          [](const auto& entry, std::string_view n) { return entry.first < n; });
}
}  // namespace

const Attribute* Attributes::find(std::string_view name) const {
  auto it = lower_bound(entries_, name);
  return it != entries_.end() && it->first == name ? &it->second : nullptr;
}

void Attributes::set(std::string_view name, Attribute value) {
  auto it = lower_bound(entries_, name);
  if (it != entries_.end() && it->first == name) {
    it->second = std::move(value);
  } else {
    entries_.emplace(it, std::string(name), std::move(value));
  }
}

void Attributes::erase(std::string_view name) {
  auto it = lower_bound(entries_, name);
  if (it != entries_.end() && it->first == name) entries_.erase(it);
}

bool equal(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  auto same_bits = [](double x, double y) {
    return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y);
  };
  if (const auto* x = std::get_if<double>(&a)) return same_bits(*x, std::get<double>(b));
  if (const auto* x = std::get_if<std::vector<double>>(&a)) {
    const auto& y = std::get<std::vector<double>>(b);
    return std::equal(x->begin(), x->end(), y.begin(), y.end(), same_bits);
  }
  if (const auto* x = std::get_if<Tensor>(&a)) {
    const auto& y = std::get<Tensor>(b);
    if (x->dtype() != y.dtype() || !std::ranges::equal(x->shape(), y.shape())) return false;
    return x->bytes().data() == y.bytes().data() || std::ranges::equal(x->bytes(), y.bytes());
  }
  return std::visit(
      [&](const auto& x) {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<T, Tensor>) {
          return false;  // handled above
        } else {
          return x == std::get<T>(b);
        }
      },
      a);
}

}  // namespace aoq
